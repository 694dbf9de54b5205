//! `fusewire doctor`: what this kernel, this user and this source offer, what is missing, and the
//! command that enables it.
//!
//! It tries things instead of deriving them from versions, changes nothing, and leaves nothing
//! behind. Facts are gathered first and judged by pure functions after.

mod check;
mod kernel;
mod limits;
mod probe;
mod render;
mod source;
mod user;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

pub use check::{Check, Group, Status};
pub use limits::{Limit, limits};
pub use probe::{Probe, Tried};
pub use render::text;

/// Say what this kernel, this user and SOURCE offer, and the commands that enable more
///
/// Exit status 0 if mounting is possible, 1 if not.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_override_self = true)]
pub struct Options {
    /// A directory that you mean to show
    pub source: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print what a throw-away mount finds out; needs a process of its own
    #[arg(long, hide = true)]
    pub probe_kernel: bool,
}

/// Everything the doctor found; the document of `--json`. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of fusewire.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Who asked.
    pub user: String,
    /// The directory that was looked at.
    pub source: Option<PathBuf>,
    /// Whether this user can mount (this source) at all.
    pub can_mount: bool,
    /// All findings.
    pub checks: Vec<Check>,
    /// What the throw-away mount found out, if it could be made.
    pub probe: Option<Probe>,
    /// What FUSE can not do.
    pub limits: Vec<Limit>,
}

/// Examines and prints; the answer is whether mounting is possible.
///
/// # Errors
/// The probe's reason, for the child that makes it, or a standard output that takes no more.
pub fn run(options: &Options) -> io::Result<bool> {
    let source = options.source.as_deref();
    let (possible, text) = if options.probe_kernel {
        let probe = probe::in_this_process(source).map_err(io::Error::other)?;
        (true, serde_json::to_string(&probe)? + "\n")
    } else {
        let report = examine(source);
        let text = match options.json {
            true => serde_json::to_string_pretty(&report)? + "\n",
            false => text(&report),
        };
        (report.can_mount, text)
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(possible),
    }
}

/// Examines; starts this program once more for the throw-away mount.
fn examine(source: Option<&Path>) -> Report {
    let user = user::Facts::gather();
    let kernel = kernel::Facts::gather(probe::run(source), user.may_mount());
    let mut checks = kernel.checks();
    checks.extend(user.checks());
    let mut can_mount = kernel.can_mount() && user.can_mount();
    if let Some(source) = source {
        let (usable, found) = source::checks(source, kernel.probe.as_ref());
        can_mount &= usable;
        checks.extend(found);
    }
    Report {
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: kernel.release.clone(),
        user: user.who(),
        source: source.map(Into::into),
        can_mount,
        checks,
        probe: kernel.probe.ok(),
        limits: limits(),
    }
}
