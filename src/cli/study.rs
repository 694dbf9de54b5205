//! `fusewire study`: one sub-command per thing to do with a study.

use clap::Subcommand;

use crate::report::{compare, ls, study as report};
use crate::study::{RequestsOptions, RunOptions};

/// What `fusewire study` was asked for; the options of each say what it is.
#[derive(Debug, Clone, PartialEq, Subcommand)]
#[expect(missing_docs, reason = "a variant's would stand in --help in place of its options'")]
pub enum Study {
    Run(Box<RunOptions>),
    Requests(RequestsOptions),
    Report(report::Options),
    Compare(compare::Options),
    Ls(ls::Options),
}
