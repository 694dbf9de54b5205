//! Operations that only look, in a form that two places can be compared by.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::{Args, Outcome, Shell, kind_of, show};
use crate::common::raw;

pub(super) fn call(shell: &mut Shell, args: &Args) -> Option<Outcome> {
    let here = Path::new("");
    Some(match args.text(0) {
        "look" => look(raw::statx(&args.path(shell, 1), libc::AT_SYMLINK_NOFOLLOW, MASK)),
        "flook" => look(raw::statx_at(shell.fd(args.text(1)), here, libc::AT_EMPTY_PATH, MASK)),
        "relist" => relist(shell.fd(args.text(1)), args.size(2), args.size(3)),
        _ => return None,
    })
}

const MASK: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

/// `look PATH`, `flook FD`: kind, mode, owner, links, size or device, times of modification and change
/// as `mSECONDS.NANOSECONDS`, and whether there is a time of birth.
fn look(found: Result<libc::statx, Errno>) -> Outcome {
    let found = found?;
    let kind = kind_of(u32::from(found.stx_mode));
    let tail = match kind {
        "chr" | "blk" => format!("r{}:{}", found.stx_rdev_major, found.stx_rdev_minor),
        _ => format!("s{}", found.stx_size),
    };
    let time = |time: libc::statx_timestamp| format!("{}.{:09}", time.tv_sec, time.tv_nsec);
    let born = if found.stx_mask & libc::STATX_BTIME == 0 { "ageless" } else { "born" };
    let (mode, uid, gid) = (found.stx_mode & 0o7777, found.stx_uid, found.stx_gid);
    let (links, mtime, ctime) = (found.stx_nlink, time(found.stx_mtime), time(found.stx_ctime));
    Ok(format!("{kind} {mode:o} {uid}:{gid} n{links} {tail} m{mtime} c{ctime} {born}"))
}

/// `relist FD ROOM AT`: the entries of an open directory from its start, read with a buffer of ROOM
/// bytes; then how many of them follow the place of entry number AT.
fn relist(fd: impl AsFd, room: usize, at: usize) -> Outcome {
    lseek(&fd, 0, Whence::SeekSet)?;
    let mut places = vec![0];
    let mut words = Vec::new();
    loop {
        let entries = raw::getdents(&fd, room)?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            places.push(entry.next);
            words.push(format!("{}/{}", show(&entry.name), kind_of(u32::from(entry.kind) << 12)));
        }
    }
    let at = at % places.len();
    lseek(&fd, places[at], Whence::SeekSet)?;
    let mut rest = Vec::new();
    loop {
        let entries = raw::getdents(&fd, room)?;
        if entries.is_empty() {
            break;
        }
        rest.extend(entries.iter().map(|entry| show(&entry.name)));
    }
    // What a position looks like is the file system's own affair.
    lseek(&fd, 0, Whence::SeekSet)?;
    Ok(format!("{} then {}", words.join(" "), rest.len()))
}
