//! The mount that fuser's loop serves: made and taken away here, as fuser's own mounting knows
//! neither our options nor who else mounts in the same place.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use tracing::warn;

use super::system;
use crate::mountinfo;
use crate::session::{Device, MountError, Options};
use crate::sys::mount::{self, FuseMount};

/// Mounts by mount(2), or through fusermount3 where that is not allowed.
pub(super) fn attach(options: &Options) -> Result<OwnedFd, MountError> {
    let subtype = options.mount.subtype.as_deref().unwrap_or("fusewire");
    let mountpoint = options.mountpoint.as_path();
    let fuse = FuseMount { mountpoint, fsname: &options.fsname, subtype, options: &options.mount };
    match mount::direct(&fuse) {
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
            mount::via_fusermount(&fuse)
        }
        result => result,
    }
    .map_err(|source| MountError::Mount {
        mountpoint: mountpoint.to_owned(),
        source,
        hint: "",
    })
}

/// Takes the mount away.
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
            Some(top) if (top.major, top.minor) == self.device => {
                mount::unmount(&self.mountpoint, lazy)
            }
            Some(top) => Err(io::Error::other(format!(
                "another file system ({}) is mounted over {}; unmount that first",
                top.fs_type,
                self.mountpoint.display()
            ))),
        }
    }
}

/// The mount itself, taken away on drop unless it is gone already.
#[derive(Debug)]
pub(super) struct Mounted {
    mountpoint: PathBuf,
    pub(super) device: Device,
    gone: bool,
}

impl Mounted {
    pub(super) fn new(mountpoint: &Path) -> Result<Self, MountError> {
        let found = mountinfo::find_top(mountpoint).map_err(system("read /proc/self/mountinfo"))?;
        let device = found.1.map(|mount| (mount.major, mount.minor)).unwrap_or_default();
        Ok(Mounted { mountpoint: found.0, device, gone: false })
    }

    /// One round trip through the mount, so that "mounted" means "works".
    pub(super) fn probe(&self) -> io::Result<()> {
        nix::sys::statfs::statfs(&self.mountpoint)?;
        Ok(())
    }

    pub(super) fn unmounter(&self) -> Unmounter {
        Unmounter { mountpoint: self.mountpoint.clone(), device: self.device }
    }

    pub(super) fn unmount_or_detach(&mut self) {
        if !self.gone && self.unmounter().unmount(false).is_err() {
            self.detach();
        }
        self.gone = true;
    }

    pub(super) fn forget(&mut self) {
        self.gone = true;
    }

    pub(super) fn detach(&mut self) {
        if !self.gone
            && let Err(error) = self.unmounter().unmount(true)
        {
            warn!(%error, mountpoint = %self.mountpoint.display(), "could not unmount");
        }
        self.gone = true;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount_or_detach();
    }
}
