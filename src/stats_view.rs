//! `fusewire stats`.
use std::path::PathBuf;
use std::time::Duration;

/// What `fusewire stats` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where fusewire shows a directory.
    pub mountpoint: PathBuf,
    /// The document itself instead of a view of it.
    pub json: bool,
    /// Again and again, this often.
    pub interval: Option<Duration>,
}
