//! The `fusewire` command.

use std::fmt::Display;
use std::process::ExitCode;

use fusewire::cli::{self, Command};
use fusewire::{doctor, stats_view, umount};

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    match command {
        Command::Umount(options) => done(umount::run(&options)),
        Command::Stats(options) => done(stats_view::run(&options)),
        Command::Doctor(options) => match doctor::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => failed(&error),
        },
        _ => failed(&"not built yet"),
    }
}

fn done<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn Display) -> ExitCode {
    eprintln!("fusewire: {error}");
    ExitCode::FAILURE
}
