//! An ext4 file system in a sparse file on a loop device: made, mounted, and undone in the
//! opposite order. Needs root; the backing of the demo without DIR.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use super::error::StudyError;
use super::mounts;
use super::process::run_tool;
use super::scratch::complain;

/// What mkfs.ext4 is told: without lazy initialization no kernel thread writes inode tables and
/// the journal behind the measurement's back.
pub(crate) const MKFS_OPTIONS: &str = "lazy_itable_init=0,lazy_journal_init=0";

/// A mounted image. The file itself belongs to the caller's scratch directory, which outlives this
/// value.
#[derive(Debug)]
pub(crate) struct Image {
    point: Option<PathBuf>,
}

impl Image {
    /// Makes `file` of `bytes` and mounts it at `point`. An error half-way undoes the first half.
    pub(crate) fn mount(file: &Path, bytes: u64, point: &Path) -> Result<Self, StudyError> {
        File::create_new(file)
            .and_then(|image| image.set_len(bytes))
            .map_err(StudyError::io("create the image", file))?;
        run_tool(
            "make an ext4 file system in a file",
            Command::new("mkfs.ext4").args(["-q", "-F", "-E", MKFS_OPTIONS]).arg(file),
        )?;
        let device = attach(file)?;
        let mounted = mount(Some(&device), point, Some("ext4"), MsFlags::empty(), None::<&str>);
        // Either way: a device that is not mounted goes at once, a mounted one when it is
        // unmounted, whoever does that and even if this process is killed (the kernel's
        // lo_clr_fd turns into autoclear while the device is open).
        let image = Image { point: mounted.is_ok().then(|| point.to_owned()) };
        run_tool("detach the loop device", Command::new("losetup").arg("-d").arg(&device))?;
        mounted.map_err(|errno| StudyError::Io {
            action: format!("mount ext4 from {} on {}", device.display(), point.display()),
            source: errno.into(),
        })?;
        Ok(image)
    }

    /// Unmounts now, and with that frees the loop device.
    pub(crate) fn release(&mut self) -> Result<(), StudyError> {
        match self.point.take() {
            Some(point) => mounts::unmount(&point, Duration::from_secs(5)),
            None => Ok(()),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        complain(self.release());
    }
}

fn attach(file: &Path) -> Result<PathBuf, StudyError> {
    let stdout = run_tool(
        "attach a loop device (in a container: it needs --privileged, or use `fusewire demo DIR`)",
        Command::new("losetup").args(["--find", "--show"]).arg(file),
    )?;
    Ok(PathBuf::from(stdout.trim()))
}
