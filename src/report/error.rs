//! Why a study's results could not be told. Each variant names the action, the object and the
//! remedy.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why results could not be read, shown or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file or directory.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("read {}: {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A document could not be written as JSON.
    #[error("write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl ReportError {
    /// For `map_err`: a failed call that does something (`read`) to a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| ReportError::Io { action, path, source }
    }

    /// A file that holds something else.
    pub(crate) fn content(path: &Path, problem: impl ToString) -> Self {
        ReportError::Content { path: path.to_owned(), problem: problem.to_string() }
    }
}
