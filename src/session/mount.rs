//! The mount of a session, and how it goes away.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Device, MountError, system};
use crate::mountinfo::{self, MountTable};
use crate::sys::{apart, mount};

/// How long an unmount takes at most from the end of the connection to that of the mount.
const UNMOUNTED_WITHIN: Duration = Duration::from_millis(500);

/// Takes a session's mount away.
#[derive(Debug, Clone)]
pub struct Unmounter {
    mountpoint: PathBuf,
    device: Device,
}

impl Unmounter {
    /// Unmounts; EBUSY while it is in use, unless `lazy`. Nothing is touched if another file
    /// system was mounted over it.
    pub fn unmount(&self, lazy: bool) -> io::Result<()> {
        match mountinfo::find_top(&self.mountpoint)?.1 {
            None => Ok(()),
            Some(top) if (top.major, top.minor) != self.device => Err(io::Error::other(format!(
                "another file system ({}) is mounted over {}; unmount that first",
                top.fs_type,
                self.mountpoint.display()
            ))),
            // Detaching would take along what others have mounted inside.
            Some(_) if lazy && self.inner_mount()?.is_some() => Err(io::Error::other(format!(
                "something else is mounted inside {}; unmount that first",
                self.mountpoint.display()
            ))),
            Some(_) => mount::unmount(&self.mountpoint, lazy),
        }
    }

    fn is_on_top(&self) -> io::Result<bool> {
        let top = mountinfo::find_top(&self.mountpoint)?.1;
        Ok(top.is_some_and(|top| (top.major, top.minor) == self.device))
    }

    fn inner_mount(&self) -> io::Result<Option<PathBuf>> {
        let table = MountTable::read()?;
        Ok(table.below(&self.mountpoint).next().map(|mount| mount.mount_point.clone()))
    }
}

/// How long the first answer may take: it is the file system's, and that may have to ask others.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// The mount itself, taken away on drop unless it is gone already.
#[derive(Debug)]
pub(crate) struct Mount {
    mountpoint: PathBuf,
    pub(crate) device: Device,
    /// It works, so that others may use it.
    works: bool,
    /// What no other mount is ever given (Linux 6.8).
    unique: Option<u64>,
    gone: bool,
}

impl Mount {
    pub(crate) fn new(mountpoint: &Path) -> Result<Self, MountError> {
        let found = mountinfo::find_top(mountpoint).map_err(system("read /proc/self/mountinfo"))?;
        let device = found.1.map(|mount| (mount.major, mount.minor)).unwrap_or_default();
        Ok(Mount { mountpoint: found.0, device, works: false, unique: None, gone: false })
    }

    /// One round trip through the mount, so that "mounted" means "works". Not by a thread of this
    /// process: if that was killed just then, nobody would be left to answer, and it could not end.
    pub(crate) fn probe(&mut self) -> io::Result<()> {
        apart::ask(&self.mountpoint, ANSWERS_WITHIN)?;
        self.works = true;
        self.unique = mount::unique_id(&self.mountpoint);
        Ok(())
    }

    pub(crate) fn unmounter(&self) -> Unmounter {
        Unmounter { mountpoint: self.mountpoint.clone(), device: self.device }
    }

    /// Takes it away. Whoever uses it goes on, or is told if it never worked.
    pub(crate) fn unmount_or_detach(&mut self) {
        match self.works {
            _ if self.gone => {}
            true if self.unmounter().unmount(false).is_ok() => {}
            true => self.detach(),
            false => self.abort(),
        }
        self.gone = true;
    }

    /// Takes it away along with the connection: whoever waits for an answer gets an error.
    pub(crate) fn abort(&mut self) {
        if !self.gone {
            let unmounter = self.unmounter();
            match unmounter.is_on_top().map(|there| there.then(|| mount::abort(&self.mountpoint))) {
                Ok(Some(Ok(()))) => self.gone = true,
                // An ordinary user's: its connection ends with the descriptors of this process.
                _ => self.detach(),
            }
        }
    }

    /// The connection is over, mostly because the mount is gone: another may have its place, and even
    /// its device number. But `umount --force` ends the connection of a mount that is in use, and
    /// leaves it where it is, good for nothing.
    pub(crate) fn settle(&mut self) {
        if self.is_left() {
            warn!("the connection was ended while the mount was in use: it is detached");
            self.detach();
        }
        self.gone = true;
    }

    /// Whether it is there still, and whoever has ended the connection does not take it away.
    fn is_left(&self) -> bool {
        let began = Instant::now();
        while self.is_there() {
            if began.elapsed() > UNMOUNTED_WITHIN {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Asked of nobody but the kernel, and without a step towards the mount, or the one that it lies on:
    /// somebody may be about to unmount them, and would find them busy. False where mounts have no
    /// number of their own.
    fn is_there(&self) -> bool {
        let table = MountTable::read().unwrap_or_default();
        let top = table.top_at(&self.mountpoint).map(|top| (top.major, top.minor));
        let by_path = |unique| mount::unique_id(&self.mountpoint) == Some(unique);
        let exists = |unique| mount::exists(unique).unwrap_or_else(|_| by_path(unique));
        top == Some(self.device) && self.unique.is_some_and(exists)
    }

    pub(crate) fn detach(&mut self) {
        if !self.gone
            && let Err(error) = self.unmounter().unmount(true)
        {
            warn!(%error, mountpoint = %self.mountpoint.display(), "could not unmount");
        }
        self.gone = true;
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount_or_detach();
    }
}
