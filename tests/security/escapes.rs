//! A source whose directories turn into links that lead outside, as fast as they can, under clients
//! that walk and change it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::canary::Canary;
use crate::common::daemon::Daemon;
use crate::common::disk::Disk;
use crate::racers::{DIRECTORIES, FILES, Kind, Racer};

/// How long a race takes.
pub(crate) fn seconds() -> Duration {
    let given = std::env::var("FUSEWIRE_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(2))
}

/// Nothing outside the source is read, changed, made or removed by the daemon.
///
/// The clients live in a chroot of the mount, those who swap in one of the source: no link leads them
/// anywhere else, so what is touched outside was touched by the daemon. The links are absolute and relative, and what they lead to
/// has the names that the clients ask for.
pub(crate) fn swapped_directories_and_links(disk: &Disk, daemon: &Daemon) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let outside = disk.path().join("around/outside");
    let canary = Canary::new(&outside, DIRECTORIES, FILES).map_err(text)?;
    prepare(&daemon.source).map_err(text)?;
    let limit = seconds() + Duration::from_secs(40);
    let start = |kind, number: u64, at: &Path| Racer::start(kind, number, at, seconds(), limit);
    let attackers = [
        start(Kind::SwapDirectories, 1, &daemon.source)?,
        start(Kind::SwapFiles, 2, &daemon.source)?,
    ];
    let clients = [
        start(Kind::Walk, 3, &daemon.mountpoint)?,
        start(Kind::Change, 4, &daemon.mountpoint)?,
        start(Kind::Change, 5, &daemon.mountpoint)?,
        start(Kind::Rename, 6, &daemon.mountpoint)?,
    ];
    let mut done = Vec::new();
    for racer in attackers.into_iter().chain(clients) {
        done.push(racer.finish()?);
    }
    eprintln!("swaps and changes of the source, and what clients did: {done:?}");
    canary.is_untouched()?;
    if let Some(status) = daemon.exit_status() {
        return Err(format!("the daemon ended: {status}"));
    }
    // What did nothing, or was refused everything, has shown nothing.
    match done.iter().all(|done| *done >= 20) {
        true => Ok(()),
        false => Err(format!("too little was done: {done:?}")),
    }
}

/// In the source, each directory and each file in it, and links that lead outside.
fn prepare(source: &Path) -> std::io::Result<()> {
    for directory in DIRECTORIES {
        let at = source.join(directory);
        fs::create_dir(&at)?;
        for file in FILES {
            fs::write(at.join(file), "inside")?;
        }
    }
    Ok(())
}
