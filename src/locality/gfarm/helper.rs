//! `fusewire ask-gfarm`: the process that asks Gfarm's servers for a daemon.
//!
//! Gfarm's client library waits half a minute for a server that does not answer, and whoever loads a
//! library shares its faults. So another process calls it, which the daemon can give up at any time.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::wire::{Answer, PACKET_MAX, Question};
use crate::sys::libgfarm::{Gfarm, GfarmError};
use crate::sys::process::{close_inherited, ignore_requests_to_end};

/// Serves the daemon that started it, at its standard input, until the daemon is gone: about the
/// file system of which `root` is a URL, and the storage node `host`.
///
/// # Errors
/// What keeps it from its work. The daemon is told, too.
pub fn run(root: &CStr, host: &CStr) -> io::Result<()> {
    // A daemon in the foreground has what its shell had open, and this process must have one file open only.
    close_inherited();
    ignore_requests_to_end();
    let prepared = prepare(root, host);
    let ready = match &prepared {
        Ok(_) => Answer::Ready,
        Err(GfarmError(reason)) => Answer::Error(reason.clone()),
    };
    say(&ready)?;
    let gfarm = prepared.map_err(|GfarmError(reason)| io::Error::other(reason))?;
    let mut packet = vec![0; PACKET_MAX];
    loop {
        let len = match recv(io::stdin().as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let question = Question::decode(&packet[..len]);
        let question = question.ok_or_else(|| io::Error::other("the daemon makes no sense"))?;
        let answer = answer(&gfarm, host, question);
        say(&answer.unwrap_or_else(|GfarmError(reason)| Answer::Error(reason)))?;
    }
}

fn prepare(root: &CStr, host: &CStr) -> Result<Gfarm, GfarmError> {
    let gfarm = Gfarm::initialize()?;
    gfarm.version(root)?;
    match gfarm.knows(root, host)? {
        true => Ok(gfarm),
        false => Err(GfarmError(format!(
            "{} is no storage node of it: gfhost names them, gfarm_host=NAME says which one is this machine",
            host.to_string_lossy()
        ))),
    }
}

fn answer(gfarm: &Gfarm, host: &CStr, question: Question<'_>) -> Result<Answer, GfarmError> {
    let url = |bytes| CString::new(bytes).map_err(|_| GfarmError("a NUL in a URL".to_owned()));
    match question {
        Question::Version(bytes) => {
            let url = url(bytes)?;
            let version = gfarm.version(&url)?;
            let held = gfarm.holds(&url, host, version.generation)?;
            Ok(Answer::Version { version, held })
        }
        Question::Opened(bytes) => {
            Ok(Answer::Opened(gfarm.with_open(&url(bytes)?, host, regular_file)?))
        }
    }
}

/// The one file that this process has open: a storage node of this machine hands the library a
/// descriptor of what it has opened.
fn regular_file() -> Option<(u64, u64)> {
    let mut files = fs::read_dir("/proc/self/fd").ok()?.flatten().filter_map(|entry| {
        let file = fs::metadata(entry.path()).ok()?;
        file.is_file().then_some((file.dev(), file.ino()))
    });
    files.next().filter(|_| files.next().is_none())
}

fn say(answer: &Answer) -> Result<(), Errno> {
    send(io::stdin().as_raw_fd(), &answer.encode(), MsgFlags::MSG_NOSIGNAL).map(drop)
}
