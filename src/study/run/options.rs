//! What the user asks of `fusewire study run`.

use std::path::PathBuf;

use clap::Args;

/// Measure a study: systems x workloads x cache states, in interleaved rounds with native twice
///
/// STUDY is a file (see scripts/studies/ for commented ones) or a preset: `--list` names them. Results
/// are written after every run; ^C leaves nothing mounted, and `--resume` goes on.
///
/// Exit status 0 if all was measured, 1 if not, if a cell has no figures on native or fusewire, or a system
/// none at all (that another program can not do some of it is a result), 128 + signal after an
/// interruption.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(args_override_self = true)]
pub struct RunOptions {
    /// A file, or the name of a preset
    #[arg(value_name = "STUDY", required_unless_present_any = ["list", "resume"])]
    pub study: Option<String>,

    /// Measure in a fresh subdirectory of this directory, or on this block device, instead of where the
    /// study says
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Folder under which the results get a folder of their own
    #[arg(long, value_name = "FOLDER", default_value = "perf-results")]
    pub results: PathBuf,

    /// Rounds instead of as many as the study says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,

    /// Seed of orders, offsets and arrivals [default: from the clock]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Only cells whose id contains TEXT (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,

    /// Go on with the interrupted study of this result folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["study", "rounds", "seed", "only"])]
    pub resume: Option<PathBuf>,

    /// Switch FUSE over io_uring on for the length of the study, where it is off
    #[arg(long)]
    pub enable_uring: bool,

    /// Let the kernel trace more runs of each metadata cell of one thread: where the time of an
    /// operation goes, layer by layer (needs root and tracefs)
    #[arg(long)]
    pub layers: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// List the presets; with STUDY: its cells and systems. Nothing is measured
    #[arg(long)]
    pub list: bool,

    /// The binary to measure instead of this one.
    #[arg(long, hide = true)]
    pub exe: Option<PathBuf>,
}
