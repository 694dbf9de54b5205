//! More changes than can be followed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

use crate::{Ground, until};

/// More than the kernel keeps for a reader (fs.fanotify.max_queued_events, 16384 unless it was
/// changed); of different names, as it puts those of one together.
fn too_many() -> usize {
    let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap_or_default();
    limit.trim().parse().unwrap_or(16384) / 2 + 1000
}

/// Whatever was cached is asked for again, the second time as the first.
pub(crate) fn every_time(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    let elsewhere = ground.disk.directory("overflow");
    let (behind, here) = (&daemon.source, &daemon.mountpoint);
    for round in 1..=2 {
        let failed = |error: std::io::Error| format!("round {round}: {error}");
        let write = |name: &str, text: &str| fs::write(behind.join(name), text).map_err(failed);
        let size = |name: &str| here.join(name).metadata().map(|found| found.size()).ok();
        let names = || fs::read_dir(here).into_iter().flatten().count();
        let (gone, new) = (format!("gone-{round}"), format!("new-{round}"));
        write("grows", "x")?;
        write(&gone, "")?;
        until("what is written before", || size("grows") == Some(1) && size(&gone) == Some(0))?;
        let count = names();
        assert_eq!((size(&new), names()), (None, count));
        daemon.signal(Signal::SIGSTOP).map_err(|errno| format!("stop the daemon: {errno}"))?;
        let storm = || -> std::io::Result<()> {
            for number in 0..too_many() {
                let path = elsewhere.join(format!("{number}"));
                fs::write(&path, "")?;
                fs::remove_file(&path)?;
            }
            fs::write(behind.join("grows"), "longer")?;
            fs::write(behind.join(&new), "")?;
            fs::write(behind.join(format!("{new}-too")), "")?;
            fs::remove_file(behind.join(&gone))
        };
        let stormed = storm();
        daemon.signal(Signal::SIGCONT).map_err(|errno| format!("continue it: {errno}"))?;
        stormed.map_err(failed)?;
        until("a new size", || size("grows") == Some(6))?;
        until("a new name", || size(&new) == Some(0))?;
        until("a removed name", || size(&gone).is_none())?;
        until("a new listing", || names() == count + 1)?;
        until(&format!("overflow {round}"), || {
            daemon.stats().is_ok_and(|now| now.coherence.overflows >= round)
        })?;
    }
    Ok(())
}
