//! What was removed behind the mount: it is not kept in memory, unless somebody uses it, and not taken for
//! what has its name now.

use std::fs::{self, File};
use std::io;

use crate::common::daemon::Daemon;
use crate::{Ground, undisturbed, until};

/// Files of each directory.
const FILES: usize = 100;
/// The root, a file that has another name, and one that is open with the directory that it was in.
const LEFT: u64 = 4;

/// The kernel forgets files and the directories that they were in, and with it the daemon; what is open
/// stays what it is, and what has another name is found by that.
pub(crate) fn is_forgotten(ground: &Ground) -> Result<(), String> {
    undisturbed(|| remove(ground))
}

fn remove(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    let protocol = daemon.stats()?.negotiated.protocol;
    let minor = protocol.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < 45) {
        eprintln!("this kernel, which speaks FUSE {protocol}, can not be told to forget");
        return Ok(());
    }
    let (behind, here) = (&daemon.source, &daemon.mountpoint);
    let failed = |error: io::Error| error.to_string();
    let directories = ["outer", "outer/inner"];
    fs::create_dir_all(behind.join("outer/inner")).map_err(failed)?;
    for directory in directories {
        for number in 0..FILES {
            fs::write(behind.join(directory).join(number.to_string()), "").map_err(failed)?;
        }
    }
    fs::write(behind.join("outer/held"), "held").map_err(failed)?;
    fs::write(behind.join("kept"), "kept").map_err(failed)?;
    fs::hard_link(behind.join("kept"), behind.join("outer/kept")).map_err(failed)?;
    let held = File::open(here.join("outer/held")).map_err(failed)?;
    for directory in directories {
        for entry in fs::read_dir(here.join(directory)).map_err(failed)? {
            entry.and_then(|entry| fs::symlink_metadata(entry.path())).map_err(failed)?;
        }
    }
    let inodes = || daemon.stats().map_or(0, |now| now.live.inodes);
    let known = inodes();
    if known < 2 * FILES as u64 + LEFT {
        return Err(format!("the kernel knows no more than {known} inodes"));
    }
    fs::remove_dir_all(behind.join("outer")).map_err(failed)?;
    until("what was removed is forgotten", || inodes() <= LEFT)?;
    let (held, kept) = (io::read_to_string(held), fs::read_to_string(here.join("kept")));
    match (held.as_deref(), kept.as_deref(), here.join("outer").exists()) {
        (Ok("held"), Ok("kept"), false) => Ok(()),
        found => Err(format!("what is in use, what has another name, what is gone: {found:?}")),
    }
}

/// Where nobody tells, and names are trusted for long, an open of a file that is another by now says
/// ESTALE, upon which the kernel looks once more: its user sees the new one.
pub(crate) fn is_looked_for_again(ground: &Ground) -> Result<(), String> {
    undisturbed(|| replace(ground))
}

fn replace(ground: &Ground) -> Result<(), String> {
    // More than the daemon keeps descriptors, which would lead to the old one.
    const OTHERS: usize = 200;
    let (source, mountpoint) = ground.pair();
    let failed = |error: io::Error| error.to_string();
    let make = |text: &str| {
        fs::create_dir(source.join("d")).and_then(|()| fs::write(source.join("d/f"), text))
    };
    make("old").map_err(failed)?;
    for number in 0..OTHERS {
        fs::write(source.join(number.to_string()), "").map_err(failed)?;
    }
    let options = "coherence=timeout=600,fd_cache=16";
    let daemon = Daemon::start(&source, &mountpoint, "auto", options)?;
    fs::metadata(mountpoint.join("d/f")).map_err(failed)?;
    for number in 0..OTHERS {
        fs::metadata(mountpoint.join(number.to_string())).map_err(failed)?;
    }
    fs::remove_dir_all(source.join("d")).and_then(|()| make("new")).map_err(failed)?;
    let read = fs::read_to_string(mountpoint.join("d/f")).map_err(failed)?;
    let requests = daemon.stats()?.requests;
    let stale = requests.get("OPEN").and_then(|open| open.errors.get("ESTALE").copied());
    match (&*read, stale) {
        ("new", Some(1)) => Ok(()),
        found => Err(format!("what is read, and OPENs that said ESTALE: {found:?}")),
    }
}
