//! Two hundred mounts in a row.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fusewire::mountinfo::MountTable;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::Ground;
use crate::common::disk::Mounted;
use crate::launch::{ENDS_WITHIN, Ender, Launch, Served, eventually};
use crate::tool::{fusewire, tool};

const CYCLES: usize = 200;

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
    use_it(mountpoint, cycle)?;
    ENDERS[cycle % 4](&served)?;
    // The signal's sender does not wait; the two commands must have.
    if cycle % 4 >= 2 {
        eventually(ENDS_WITHIN, || served.is_gone().is_ok());
    }
    served.is_gone()?;
    served.ends_well(ENDS_WITHIN)
}

/// In a process of its own: what this one has open, any process that is being started has too for
/// a moment, and then the mount would be busy.
fn use_it(at: &Path, cycle: usize) -> Result<(), String> {
    let script =
        "cd \"$0\"; echo \"cycle $1\" > new; mv new \"kept-$1\"; cat \"kept-$1\"; ls | wc -l";
    let bash = tool("bash", "bash").args(["-euc", script]).arg(at).arg(cycle.to_string());
    let said = bash.run()?;
    let expected = format!("cycle {cycle}\n{}\n", cycle + 1);
    if said == expected { Ok(()) } else { Err(format!("{said:?}, not {expected:?}")) }
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
        tool("touch", "coreutils").arg(mountpoint.join("file")).run()?;
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
    given_away(ground, &ground.pair(), &ground.pair())
}

/// The new owner is even mounted at the same place: a daemon that ends late must not take the mount
/// of its successor away.
pub(crate) fn place_given_away(ground: &Ground) -> Result<(), String> {
    let (first, second) = (ground.pair(), ground.pair());
    given_away(ground, &first, &(second.0, first.1.clone()))
}

fn given_away(
    ground: &Ground,
    first: &(PathBuf, PathBuf),
    second: &(PathBuf, PathBuf),
) -> Result<(), String> {
    /// The number that one waits for is not to be another's that does the same.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (aside, _) = ground.pair();
    for _ in 0..20 {
        let before = Launch::new(&first.0, &first.1, "copy").go()?;
        before.signal(Signal::SIGSTOP)?;
        umount2(&first.1, MntFlags::empty()).map_err(|errno| format!("umount: {errno}"))?;
        let below = occupy_below(before.minor, &aside)?;
        let after = fusewire().args(["mount", "--data", "copy"]).args([&second.0, &second.1]);
        after.run()?;
        drop(below);
        let minor = || MountTable::read().ok()?.top_at(&second.1).map(|mount| mount.minor);
        // Somebody else may be faster and have the number.
        let shown = minor() == Some(before.minor);
        before.signal(Signal::SIGCONT)?;
        let before = before.ends_well(ENDS_WITHIN);
        let figures = || fusewire().arg("stats").arg(&second.1).arg("--json").run();
        eventually(ENDS_WITHIN, || minor().is_none() || figures().is_ok());
        let (still_there, figures) = (minor().is_some(), figures());
        let ended = fusewire().arg("umount").arg(&second.1).run();
        before?;
        if !still_there {
            return Err("the mount went away with the daemon before it".to_owned());
        }
        if !figures?.contains(&*second.0.to_string_lossy()) {
            return Err("the figures are another mount's".to_owned());
        }
        ended?;
        if shown {
            return Ok(());
        }
    }
    Err("the number was never given away: this showed nothing".to_owned())
}

/// Takes every number of a device that is free and lower than `minor`: the kernel gives the lowest
/// away, and that is `minor` itself then, unless somebody else has it.
fn occupy_below(minor: u32, at: &Path) -> Result<Vec<Mounted>, String> {
    let mut below = Vec::new();
    loop {
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .map_err(|errno| format!("mount a tmpfs: {errno}"))?;
        below.push(Mounted::of(at));
        let table = MountTable::read().map_err(|error| error.to_string())?;
        let got = table.top_at(at).ok_or("a tmpfs that is not there")?.minor;
        if got >= minor {
            below.pop();
            return Ok(below);
        }
    }
}
