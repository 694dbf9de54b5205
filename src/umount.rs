//! `fusewire umount`.
use std::path::PathBuf;

/// What `fusewire umount` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where fusewire shows a directory.
    pub mountpoint: PathBuf,
    /// Detach even if it is in use.
    pub lazy: bool,
}
