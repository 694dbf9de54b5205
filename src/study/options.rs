//! What the user asks of `fusewire demo`.

use std::path::PathBuf;

use clap::Args;

use crate::config::seconds;

/// Compare a directory with itself seen through fusewire: fio and metadata, native against the
/// mount, in interleaved rounds. Takes about two minutes and leaves nothing behind but its
/// results.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct DemoOptions {
    /// Measure in a fresh subdirectory of DIR, removed at the end. Without DIR: on an ext4 image on
    /// a loop device, which needs root
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Folder under which the results get a folder of their own
    #[arg(long, value_name = "FOLDER", default_value = "perf-results")]
    pub results: PathBuf,

    /// Rounds; each runs every cell natively, through fusewire, and natively again
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Length of one fio job
    #[arg(long, value_name = "SECONDS", default_value_t = 0.25, value_parser = parse_seconds)]
    pub seconds: f64,

    /// Size of the test file of the fio jobs
    #[arg(long, value_name = "MIB", default_value_t = 128,
          value_parser = clap::value_parser!(u32).range(4..=1_048_576))]
    pub size_mib: u32,

    /// Only cells whose name contains TEXT, as `qd32`, `rename` (repeatable; names: see
    /// summary.json of any result)
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,

    /// Seed of the order of turns and of random offsets [default: from the clock]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Switch FUSE over io_uring on for as long as the demo takes
    #[arg(long)]
    pub enable_uring: bool,

    /// Print the summary as JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Arguments for `fusewire mount`, as `-- --data copy`
    #[arg(last = true, value_name = "MOUNT_ARGS")]
    pub mount_args: Vec<String>,

    /// The binary to measure instead of this one.
    #[arg(long, hide = true)]
    pub exe: Option<PathBuf>,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match seconds(text).map(|length| length.as_secs_f64()) {
        Some(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.05 to 3600 is expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        options: DemoOptions,
    }

    #[test]
    fn defaults_and_mount_arguments() {
        Wrapper::command().debug_assert();
        let parse = |line: &str| Wrapper::try_parse_from(line.split(' '));
        let options = parse("demo").expect("no argument is needed").options;
        assert_eq!((options.rounds, options.dir), (5, None));
        let options =
            parse("demo /d --only stat --only qd1 -- --data copy").expect("valid").options;
        assert_eq!(options.mount_args, ["--data", "copy"]);
        assert_eq!(options.only, ["stat", "qd1"]);
        for wrong in
            ["demo --rounds 0", "demo --seconds 0", "demo --seconds x", "demo --size-mib 1"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
