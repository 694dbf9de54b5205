//! `fusewire study`: one sub-command per thing to do with a study.

use clap::Subcommand;

use crate::report::{compare, ls, study as report};
use crate::study::{RequestsOptions, RunOptions};

/// What `fusewire study` was asked for.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Study {
    /// Measure.
    Run(Box<RunOptions>),
    /// Count requests.
    Requests(RequestsOptions),
    /// The report of one.
    Report(report::Options),
    /// Two of them beside each other.
    Compare(compare::Options),
    /// The results there are.
    Ls(ls::Options),
}
