//! The disks, the mounts, and what a disk has after a power cut.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use nix::unistd::syncfs;
use tempfile::TempDir;

use crate::cases::{Case, End};
use crate::common::daemon::Daemon;
use crate::common::disk::{Disk, mount_at};
use crate::common::shell::Shell;
use crate::tool::{exclusively, fusewire, tool};

const DISK_BYTES: u64 = 32 << 20;
/// Nothing gets to the disk only because time passes: not within what a case takes.
const DISK_OPTIONS: &str = "loop,commit=600";
const TRIES: usize = 3;
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// What is between the case and the disk: nothing, or a mount by transport and data mode.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) mount: Option<(&'static str, &'static str)>,
}

/// A disk, and the mount that shows it. The mount is dropped first.
struct Ground {
    daemon: Option<Daemon>,
    source: PathBuf,
    disk: Disk,
}

impl Ground {
    fn new(setting: Setting) -> Result<Self, String> {
        let disk = exclusively(|| Disk::with_options(DISK_BYTES, DISK_OPTIONS))?;
        disk.image()?;
        let source = disk.directory("source");
        let daemon = match setting.mount {
            None => None,
            Some((transport, data)) => {
                let options = format!("transport={transport}");
                let at = disk.mountpoint("mount");
                Some(exclusively(|| Daemon::start(&source, &at, data, &options))?)
            }
        };
        Ok(Ground { daemon, source, disk })
    }

    /// Plays `case` in its own directory `name`, cuts the power, and compares.
    fn play(&self, case: &Case, name: &str) -> Result<(), String> {
        let behind = self.source.join(name);
        let through = match &self.daemon {
            Some(daemon) => daemon.mountpoint.join(name),
            None => behind.clone(),
        };
        fs::create_dir(&behind).map_err(|error| format!("{}: {error}", behind.display()))?;
        let mut shell = Shell::at(&through);
        run(&mut shell, case.before)?;
        let directory = File::open(&behind).map_err(|error| error.to_string())?;
        syncfs(&directory).map_err(|errno| format!("sync the disk: {errno}"))?;
        drop(directory);
        run(&mut shell, case.lines)?;
        let wreck = match case.end {
            End::Cut | End::CutUnsynced | End::CutSyncedNatively => {
                let wreck = Wreck::of(&self.disk)?;
                drop(shell);
                wreck
            }
            End::Unmount | End::Terminate => {
                drop(shell);
                self.end(case.end)?;
                Wreck::of(&self.disk)?
            }
        };
        let alive = answers(&behind, case.looks);
        let found = wreck.answers(&format!("source/{name}"), case.looks)?;
        let lost = match case.end {
            End::CutUnsynced => true,
            End::CutSyncedNatively => self.daemon.is_some(),
            _ => false,
        };
        match (alive == found, lost) {
            (true, true) => Err("what nobody synced survived the cut".to_owned()),
            (false, false) => Err(format!("before the cut: {alive:#?}\nafter it: {found:#?}")),
            _ => Ok(()),
        }
    }

    /// Has the mount go, and waits for its daemon.
    fn end(&self, how: End) -> Result<(), String> {
        let daemon = self.daemon.as_ref().ok_or("nothing is mounted")?;
        match how {
            End::Terminate => daemon.signal(Signal::SIGTERM).map_err(|errno| errno.to_string())?,
            _ => fusewire().arg("umount").arg(&daemon.mountpoint).run().map(drop)?,
        }
        let deadline = Instant::now() + ENDS_WITHIN;
        while daemon.exit_status().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        match daemon.exit_status() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the daemon ended: {status}\n{}", daemon.report())),
            None => Err(format!("the daemon does not end\n{}", daemon.report())),
        }
    }
}

fn run(shell: &mut Shell, lines: &[&str]) -> Result<(), String> {
    for line in lines {
        shell.run(line).map_err(|errno| format!("{line}: {errno}"))?;
    }
    Ok(())
}

/// What each look answers in `directory`.
fn answers(directory: &Path, looks: &[&str]) -> Vec<String> {
    let mut shell = Shell::at(directory);
    let answer = |look: &&str| format!("{look} -> {:?}", shell.run(look));
    looks.iter().map(answer).collect()
}

/// What a disk has when the power fails.
struct Wreck {
    folder: TempDir,
}

impl Wreck {
    /// Copies all that the loop device of `disk` has been given.
    fn of(disk: &Disk) -> Result<Self, String> {
        let text = |error: io::Error| format!("copy the image: {error}");
        let folder = TempDir::with_prefix("fusewire-test-").map_err(text)?;
        let mut copy = File::create(folder.path().join("image")).map_err(text)?;
        let mut image = disk.image()?.try_clone().map_err(text)?;
        io::Seek::rewind(&mut image).map_err(text)?;
        io::copy(&mut image, &mut copy).map_err(text)?;
        fs::create_dir(folder.path().join("disk")).map_err(text)?;
        Ok(Wreck { folder })
    }

    /// Mounts it, which replays the journal, and asks in `directory`; then has e2fsck look at it.
    fn answers(&self, directory: &str, looks: &[&str]) -> Result<Vec<String>, String> {
        let (image, at) = (self.folder.path().join("image"), self.folder.path().join("disk"));
        let mounted = exclusively(|| mount_at(&image, &at, "loop"))
            .map_err(|reason| format!("after the cut: {reason}"))?;
        let answers = answers(&at.join(directory), looks);
        let deadline = Instant::now() + ENDS_WITHIN;
        while exclusively(|| umount2(&at, MntFlags::empty())).is_err() {
            if Instant::now() > deadline {
                return Err("what was mounted after the cut is busy".to_owned());
            }
            thread::sleep(Duration::from_millis(5));
        }
        drop(mounted);
        tool("e2fsck", "e2fsprogs").args(["-f", "-n"]).arg(&image).run()?;
        Ok(answers)
    }
}

type Slot = Arc<Mutex<Option<Ground>>>;

/// A disk for each setting, which its cases use one after the other.
#[derive(Default)]
pub(crate) struct World {
    grounds: Mutex<HashMap<&'static str, Slot>>,
}

impl World {
    /// Ends every mount.
    pub(crate) fn close(&self) {
        self.grounds.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Plays `case`. A copy is not made in one moment: what the disk is given meanwhile may tear it,
    /// so a case that fails is played again, in another directory.
    pub(crate) fn judge(&self, setting: Setting, case: &Case) -> Result<(), String> {
        let ends = matches!(case.end, End::Unmount | End::Terminate);
        if ends && setting.mount.is_none() {
            return Ok(());
        }
        let slot = self.grounds.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = { slot }.entry(setting.name).or_default().clone();
        let mut ground = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = Ok(());
        for number in 0..TRIES {
            let standing = match ground.take() {
                Some(ground) => ground,
                None => Ground::new(setting)?,
            };
            result = standing.play(case, &format!("{}-{number}", case.name));
            if !ends {
                *ground = Some(standing);
            }
            match &result {
                Ok(()) => break,
                Err(reason) => eprintln!("{}::{}: {reason}", setting.name, case.name),
            }
        }
        result
    }
}
