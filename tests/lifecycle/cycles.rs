//! Two hundred mounts in a row.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use fusewire::mountinfo::MountTable;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::Ground;
use crate::launch::{Ender, Launch, Served, eventually};
use crate::tool::{fusewire, settle, tool};

const CYCLES: usize = 200;
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Who takes the mount away.
const ENDERS: [Ender; 4] = [
    |served| served.umount(&[]),
    |served| tool("umount", "mount").arg(&served.mountpoint).run().map(drop),
    |served| served.signal(Signal::SIGTERM),
    |served| served.signal(Signal::SIGINT),
];

/// Mounted, used, unmounted at one place: each daemon ends with 0, each mount is gone, whoever ends
/// it, in the background and in the foreground, in each data mode.
pub(crate) fn two_hundred(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    for cycle in 0..CYCLES {
        cycle_once(cycle, &source, &mountpoint)
            .map_err(|reason| format!("cycle {cycle}: {reason}"))?;
    }
    let left = fs::read_dir(&source).map_err(|error| error.to_string())?.count();
    if left == CYCLES { Ok(()) } else { Err(format!("{left} files of {CYCLES} are there")) }
}

fn cycle_once(cycle: usize, source: &Path, mountpoint: &Path) -> Result<(), String> {
    let data = ["passthrough", "copy", "auto"][cycle % 3];
    let foreground = cycle / 4 % 2 == 1;
    let served = Launch { foreground, ..Launch::new(source, mountpoint, data) }.go()?;
    use_it(mountpoint, cycle).map_err(|error| format!("use it: {error}"))?;
    ENDERS[cycle % 4](&served)?;
    // The signal's sender does not wait; the two commands must have.
    if cycle % 4 >= 2 {
        eventually(ENDS_WITHIN, || served.is_gone().is_ok());
    }
    served.is_gone()?;
    served.ends_well(ENDS_WITHIN)
}

fn use_it(at: &Path, cycle: usize) -> io::Result<()> {
    let (new, kept) = (at.join("new"), at.join(format!("kept-{cycle}")));
    fs::write(&new, format!("cycle {cycle}"))?;
    fs::rename(&new, &kept)?;
    let content = fs::read_to_string(&kept)?;
    let listed = fs::read_dir(at)?.count();
    match content == format!("cycle {cycle}") && listed == cycle + 1 {
        true => Ok(()),
        false => Err(io::Error::other(format!("{content:?}, {listed} names"))),
    }
}

/// A new mount at the place where another was unmounted this moment, whose daemon may still be on
/// its way out.
pub(crate) fn at_once(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let mut before: Option<Served> = None;
    for cycle in 0..40 {
        let served = Launch::new(&source, &mountpoint, "auto").go();
        let served = served.map_err(|reason| format!("mount {cycle}: {reason}"))?;
        if let Some(before) = before.take() {
            before.ends_well(ENDS_WITHIN)?;
        }
        fs::write(mountpoint.join("file"), "text").map_err(|error| error.to_string())?;
        match cycle % 2 {
            0 => tool("umount", "mount").arg(&mountpoint).run().map(drop)?,
            _ => served.umount(&[])?,
        }
        before = Some(served);
    }
    Ok(())
}

/// The kernel gives a mount's device number away while the daemon that had it is still ending: the
/// new owner must be found by that number all the same.
pub(crate) fn number_given_away(ground: &Ground) -> Result<(), String> {
    let (first, second) = (ground.pair(), ground.pair());
    for _ in 0..10 {
        let before = Launch::new(&first.0, &first.1, "copy").go()?;
        before.signal(Signal::SIGSTOP)?;
        settle();
        umount2(&first.1, MntFlags::empty()).map_err(|errno| format!("umount: {errno}"))?;
        let after = fusewire().args(["mount", "--data", "copy"]).args([&second.0, &second.1]);
        let after = after.output()?;
        let table = MountTable::read().map_err(|error| error.to_string())?;
        let minor = table.top_at(&second.1).map(|mount| mount.minor);
        before.signal(Signal::SIGCONT)?;
        before.ends_well(ENDS_WITHIN)?;
        // Another test was faster and has the number.
        let shown = minor == Some(before.minor);
        let figures = || fusewire().arg("stats").arg(&second.1).arg("--json").run();
        let found = eventually(ENDS_WITHIN, || figures().is_ok());
        let said = figures();
        let ended = fusewire().arg("umount").arg(&second.1).run();
        if !after.status.success() || !found {
            return Err(format!("the mount that got its number: {after:?}; its figures: {said:?}"));
        }
        if !said?.contains(&*second.0.to_string_lossy()) {
            return Err("the figures are another mount's".to_owned());
        }
        ended?;
        if shown {
            return Ok(());
        }
    }
    Err("the number was never given away: this showed nothing".to_owned())
}
