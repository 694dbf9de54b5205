//! `fusewire study`: one sub-command per thing to do with a study.

use clap::Subcommand;

use crate::report::ls;

/// What `fusewire study` was asked for.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Study {
    /// The results there are.
    Ls(ls::Options),
}
