//! `fusewire stats`: shows the document of a live mount, once or again and again.
//!
//! It owns when to ask and how to stop; `render` owns what it looks like. Everything it knows
//! comes through the control socket; the mount is never touched, so a hung one can be looked at.

mod options;
mod render;

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use thiserror::Error;

pub use options::Options;
pub(crate) use options::StatsArgs;
pub(crate) use render::counted;
pub use render::{line, line_header, page, refusals};

use crate::control::client::{self, ClientError, Target};
use crate::metrics::snapshot::Snapshot;
use crate::mountinfo::MountTable;

/// Why there is nothing to show.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The daemon.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output or signals.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Shows the figures of a mount. Ends well when interrupted, when the mount goes away while it is
/// watched, and when nobody reads on.
///
/// # Errors
/// [`StatsError`].
pub fn run(options: &Options) -> Result<(), StatsError> {
    let target = client::find(&options.mountpoint)?;
    let shown = match options.interval {
        None => once(&target, options.json),
        Some(interval) => watch(&target, options.json, interval),
    };
    match shown {
        Err(StatsError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn print(text: &str) -> Result<(), StatsError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| StatsError::Io { action: "write to standard output", source })
}

/// The document as the daemon sent it, with fields that this version may not know.
fn json(target: &Target, document: &str, pretty: bool) -> Result<String, StatsError> {
    let value: serde_json::Value = target.parse(document)?;
    Ok(if pretty { format!("{value:#}\n") } else { format!("{value}\n") })
}

fn once(target: &Target, as_json: bool) -> Result<(), StatsError> {
    let document = target.document()?;
    if as_json {
        print(&json(target, &document, true)?)
    } else {
        let snapshot = target.parse(&document)?;
        print(&(page(&snapshot, None) + &refusals(&snapshot)))
    }
}

fn watch(target: &Target, as_json: bool, interval: Duration) -> Result<(), StatsError> {
    let interrupted = Interrupt::new()
        .map_err(|source| StatsError::Io { action: "prepare for signals", source })?;
    let on_terminal = io::stdout().is_terminal();
    let mut earlier: Option<Snapshot> = None;
    loop {
        let document = match target.document() {
            Ok(document) => document,
            Err(_) if earlier.is_some() && has_gone(target) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now: Snapshot = target.parse(&document)?;
        if as_json {
            print(&json(target, &document, false)?)?;
        } else if on_terminal {
            print(&in_place(&page(&now, earlier.as_ref())))?;
        } else {
            if earlier.is_none() {
                print(&line_header())?;
            }
            print(&line(&now, earlier.as_ref()))?;
        }
        earlier = Some(now);
        if interrupted.within(interval) || !is_mounted(target) {
            return Ok(());
        }
    }
}

/// Over the page before, without the flicker of clearing it first.
fn in_place(page: &str) -> String {
    format!("\x1b[H{}\x1b[J", page.replace('\n', "\x1b[K\n"))
}

/// Whether it is still this mount that one finds there.
fn is_mounted(target: &Target) -> bool {
    let table = MountTable::read().unwrap_or_default();
    table.iter().any(|mount| mount.id == target.mount.id && mount.mount_point == target.path)
}

/// A daemon that unmounts hangs up a moment before its mount has gone.
fn has_gone(target: &Target) -> bool {
    let deadline = Instant::now() + client::TIMEOUT;
    while is_mounted(target) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// SIGINT and SIGTERM as something to wait for.
struct Interrupt(UnixStream);

impl Interrupt {
    fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGINT, write.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGTERM, write)?;
        read.set_nonblocking(true)?;
        Ok(Interrupt(read))
    }

    /// Waits for a signal, at most this long.
    fn within(&self, interval: Duration) -> bool {
        let deadline = Instant::now() + interval;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            // Rounded up, or the last part of a millisecond would be polled away.
            let millis = left.as_millis().saturating_add(1);
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(ready) if ready > 0 => return (&self.0).read(&mut [0]).is_ok(),
                _ if left.is_zero() => return false,
                _ => {}
            }
        }
    }
}
