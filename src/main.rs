//! The `fusewire` command: parses, runs, and turns errors into exit codes.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use fusewire::cli::{self, Command, Study};
use fusewire::coherence::notifier;
use fusewire::locality;
use fusewire::study::StudyError;
use fusewire::{daemon, doctor, report, stats_view, study, umount};

/// What `study compare` ends with if something became worse.
const REGRESSION: u8 = 3;

fn main() -> ExitCode {
    let command = cli::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match command {
        Command::Mount(mount) => exit(daemon::run(*mount)),
        Command::Null(null) => exit(daemon::run_null(*null)),
        Command::Umount(options) => exit(umount::run(&options)),
        Command::Notify(connection) => exit(notifier::run(connection)),
        Command::AskGfarm { root, host } => exit(locality::ask_gfarm(&root, &host)),
        Command::Stats(options) => exit(stats_view::run(&options)),
        Command::Doctor(options) => match doctor::run(&options) {
            Ok(false) => ExitCode::FAILURE,
            result => exit(result),
        },
        Command::Demo(options) => measured(study::run(&options)),
        Command::Study(study) => match *study {
            Study::Run(options) => measured(study::run_study(&options)),
            Study::Requests(options) => measured(study::count_requests(&options)),
            Study::Report(options) => exit(report::study::run(&options)),
            Study::Compare(options) => match report::compare::run(&options) {
                Ok(false) => ExitCode::from(REGRESSION),
                result => exit(result),
            },
            Study::Ls(options) => exit(report::ls::run(&options)),
        },
    }
}

/// An interruption has the exit code that a shell expects.
fn measured(result: Result<(), StudyError>) -> ExitCode {
    match result {
        Err(error) => {
            complain(&error);
            error.exit_code().into()
        }
        done => exit(done),
    }
}

fn exit<T, E: Display>(result: Result<T, E>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whoever listened may be gone, which changes nothing about how the command ended.
fn complain(error: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "fusewire: {error}");
}
