//! Where a suite is played: a directory of an ext4 image, plain or behind a mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::daemon::Daemon;
use crate::common::disk::Disk;
use crate::tool::{exclusively, fusewire};

const DISK_BYTES: u64 = 1 << 30;
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What is between the suite and the disk: nothing, or a mount.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) mount: Option<Mount>,
}

/// How it is mounted.
#[derive(Clone, Copy)]
pub(crate) struct Mount {
    pub(crate) transport: &'static str,
    pub(crate) data: &'static str,
    /// With `allow_other`.
    pub(crate) shared: bool,
}

/// A disk, and the mount that shows it. The mount is dropped first.
pub(crate) struct Ground {
    daemon: Option<Daemon>,
    source: PathBuf,
    disk: Disk,
}

impl Ground {
    pub(crate) fn new(setting: Setting) -> Result<Self, String> {
        let disk = exclusively(|| Disk::new(DISK_BYTES))?;
        disk.image()?;
        let source = disk.directory("source");
        let daemon = match setting.mount {
            None => None,
            Some(Mount { transport, data, shared }) => {
                let others = if shared { ",allow_other" } else { "" };
                let options = format!("transport={transport}{others}");
                let at = disk.mountpoint("mount");
                Some(exclusively(|| Daemon::start(&source, &at, data, &options))?)
            }
        };
        Ok(Ground { daemon, source, disk })
    }

    /// The directory to play in.
    pub(crate) fn path(&self) -> &Path {
        self.daemon.as_ref().map_or(&self.source, |daemon| &daemon.mountpoint)
    }

    /// A directory on another file system.
    pub(crate) fn elsewhere(&self) -> PathBuf {
        self.disk.mountpoint("elsewhere")
    }

    /// A reason, with what the daemon has to say about it.
    pub(crate) fn explain(&self, reason: &str) -> String {
        let report = self.daemon.as_ref().map(Daemon::report).unwrap_or_default();
        format!("{reason}\n{report}")
    }

    /// Checks that the suite's leavings can be removed and that the daemon serves and ends as it
    /// should.
    pub(crate) fn close(self) -> Result<(), String> {
        let fail = |error| format!("remove what the suite left: {error}");
        // A stressor that is ended at its limit leaves files immutable, natively as well.
        let _ = Command::new("chattr").args(["-R", "-f", "-i", "-a"]).arg(self.path()).status();
        for entry in fs::read_dir(self.path()).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.file_type().map_err(fail)?.is_dir() {
                fs::remove_dir_all(entry.path()).map_err(fail)?;
            } else {
                fs::remove_file(entry.path()).map_err(fail)?;
            }
        }
        if let Some(left) = fs::read_dir(&self.source).map_err(fail)?.next() {
            return Err(format!("removed on the mount, and still in the source: {left:?}"));
        }
        let Some(daemon) = &self.daemon else { return Ok(()) };
        fusewire().arg("umount").arg(&daemon.mountpoint).run()?;
        let deadline = Instant::now() + ENDS_WITHIN;
        while daemon.exit_status().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        match daemon.exit_status() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.explain(&format!("the daemon ended: {status}"))),
            None => Err(self.explain("the daemon does not end")),
        }
    }
}
