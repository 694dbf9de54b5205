//! One finding of the doctor: what was looked at, what was found, why it matters, what helps.

use serde::{Deserialize, Serialize};

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The FUSE of this kernel.
    Kernel,
    /// What this user may do.
    User,
    /// The directory that is to be shown.
    Source,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to gain.
    Ok,
    /// Not there.
    Missing,
    /// There, but less than it could be.
    Degraded,
    /// Could not be found out.
    Unknown,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it is about.
    pub group: Group,
    /// What was looked at; stable, for scripts.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub finding: String,
    /// Why it matters.
    pub why: String,
    /// The command that enables or repairs it, if there is one and it is needed.
    pub fix: Option<String>,
}

/// A check whose answer is still open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    group: Group,
    name: &'static str,
    why: &'static str,
}

impl Group {
    pub(super) fn ask(self, name: &'static str, why: &'static str) -> Question {
        Question { group: self, name, why }
    }
}

impl Question {
    fn answer(self, status: Status, finding: impl Into<String>, fix: Option<&str>) -> Check {
        let Question { group, name, why } = self;
        let (name, why, fix) = (name.into(), why.into(), fix.map(Into::into));
        Check { group, name, status, finding: finding.into(), why, fix }
    }

    pub(super) fn ok(self, finding: impl Into<String>) -> Check {
        self.answer(Status::Ok, finding, None)
    }

    pub(super) fn missing(self, finding: impl Into<String>, fix: &str) -> Check {
        self.answer(Status::Missing, finding, Some(fix))
    }

    pub(super) fn degraded(self, finding: impl Into<String>, fix: Option<&str>) -> Check {
        self.answer(Status::Degraded, finding, fix)
    }

    /// Not there, and nothing that the user can do brings it.
    pub(super) fn absent(self, finding: impl Into<String>) -> Check {
        self.answer(Status::Missing, finding, None)
    }

    pub(super) fn unknown(self, finding: impl Into<String>) -> Check {
        self.answer(Status::Unknown, finding, None)
    }
}
