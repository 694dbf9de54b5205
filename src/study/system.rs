//! What is measured: something that shows the same directory at some path.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::StudyError;
use crate::metrics::snapshot::Snapshot;

/// A way to reach the directory under study.
pub trait System: fmt::Debug + Send + Sync {
    /// Its root: the directory itself, or where it is mounted.
    fn root(&self) -> &Path;

    /// The daemon's counters now; `None` for a system without a daemon.
    fn snapshot(&self) -> Result<Option<Snapshot>, StudyError> {
        Ok(None)
    }

    /// An error if it can no longer answer.
    fn check_alive(&self) -> Result<(), StudyError> {
        Ok(())
    }

    /// Ends it by force, so that whoever waits for it gets an error instead of waiting on.
    fn abort(&self) {}
}

/// The directory itself.
#[derive(Debug)]
pub struct Native {
    root: PathBuf,
}

impl Native {
    /// The directory itself.
    pub fn new(root: &Path) -> Self {
        Native { root: root.to_owned() }
    }
}

impl System for Native {
    fn root(&self) -> &Path {
        &self.root
    }
}
