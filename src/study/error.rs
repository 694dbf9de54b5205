//! Why a study could not be done. Each variant names the action, the object and the remedy.

use std::io;
use std::path::{Path, PathBuf};

use crate::report::error::ReportError;

/// Why `fusewire demo` or a study failed.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A signal asked us to stop.
    #[error("interrupted by {}; no results were written", signal_name(*.signal))]
    Interrupted {
        /// Signal number.
        signal: i32,
    },
    /// A signal asked a study to stop, which keeps what it has.
    #[error(
        "interrupted by {}; {kept} of {of} runs are kept: fusewire study run --resume {} goes on",
        signal_name(*.signal), .folder.display()
    )]
    Paused {
        /// Signal number.
        signal: i32,
        /// Runs in the folder.
        kept: usize,
        /// Runs of the study.
        of: usize,
        /// The result folder.
        folder: PathBuf,
    },
    /// A precondition does not hold.
    #[error("{0}")]
    Preflight(String),
    /// A system call failed.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted, on what.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{action}: {problem}")]
    Tool {
        /// What was attempted, on what.
        action: String,
        /// Its status and what it said.
        problem: String,
    },
    /// The daemon did not come up, died, or does not answer.
    #[error("the daemon of {name} {problem}{}", said(.stderr))]
    Daemon {
        /// The system it serves.
        name: String,
        /// What happened.
        problem: String,
        /// The end of what it wrote.
        stderr: String,
    },
    /// A cell took longer than its limit and had to be aborted.
    #[error("{cell}: no end after {seconds} s; the mount was aborted")]
    Hung {
        /// The cell.
        cell: String,
        /// The limit.
        seconds: u64,
    },
    /// It was measured, and could not be told.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Some cells have no figure; the others were reported.
    #[error("{count} of the cells failed{}: {first}", if *.others { " (the others have figures)" } else { "" })]
    CellsFailed {
        /// How many.
        count: usize,
        /// Whether there are any that have one.
        others: bool,
        /// The first of them, with its reason.
        first: String,
    },
    /// There are systems of which nothing is known.
    #[error("systems without figures: {}: {first}", .systems.join(", "))]
    NoFigures {
        /// Their ids.
        systems: Vec<String>,
        /// Why the first of them has none.
        first: String,
    },
    /// Something could not be removed.
    #[error("{what} is left behind: {remedy}")]
    LeftBehind {
        /// What.
        what: String,
        /// The command which removes it.
        remedy: String,
    },
}

impl StudyError {
    /// The exit code a shell expects: 128 + signal after an interruption, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            StudyError::Interrupted { signal } | StudyError::Paused { signal, .. } => {
                128_u8.saturating_add(u8::try_from(*signal).unwrap_or(0))
            }
            _ => 1,
        }
    }

    /// For `map_err`: a failed call that does something (`create`) to a path.
    pub(crate) fn io<E: Into<io::Error>>(action: &str, path: &Path) -> impl FnOnce(E) -> Self {
        let action = format!("{action} {}", path.display());
        move |error| StudyError::Io { action, source: error.into() }
    }

    /// A mount that could not be removed.
    pub(crate) fn still_mounted(path: PathBuf, problem: &str) -> Self {
        StudyError::LeftBehind {
            what: format!("the mount {} ({problem})", path.display()),
            remedy: format!("umount -l {}", path.display()),
        }
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

fn said(stderr: &str) -> String {
    let stderr = stderr.trim();
    if stderr.is_empty() { String::new() } else { format!("; it said: {stderr}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(StudyError::Interrupted { signal: 2 }.exit_code(), 130);
        assert_eq!(StudyError::Interrupted { signal: 15 }.exit_code(), 143);
        assert_eq!(StudyError::Preflight(String::new()).exit_code(), 1);
    }

    #[test]
    fn messages_name_signal_and_stderr() {
        let error = StudyError::Interrupted { signal: 2 }.to_string();
        assert!(error.starts_with("interrupted by SIGINT"), "{error}");
        let (name, problem) = ("bindfs".into(), "died".into());
        let error = StudyError::Daemon { name, problem, stderr: "no fuse\n".into() };
        assert_eq!(error.to_string(), "the daemon of bindfs died; it said: no fuse");
    }
}
