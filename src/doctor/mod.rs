//! `fusewire doctor`.
use std::path::PathBuf;

/// What `fusewire doctor` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The directory to look at.
    pub source: Option<PathBuf>,
    /// One JSON document instead of text.
    pub json: bool,
    /// Be the child that makes the throw-away mount.
    pub probe_kernel: bool,
}
