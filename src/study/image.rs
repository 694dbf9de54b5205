//! An ext4 file system in a sparse file on a loop device: made, mounted, and undone in the
//! opposite order. Needs root; the backing of the demo without DIR.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use super::error::DemoError;
use super::mounts;
use super::process::run_tool;
use super::scratch::complain;

/// What mkfs.ext4 is told: without lazy initialization no kernel thread writes inode tables and
/// the journal behind the measurement's back.
pub(crate) const MKFS_OPTIONS: &str = "lazy_itable_init=0,lazy_journal_init=0";

/// A loop device.
#[derive(Debug)]
struct LoopDevice(Option<PathBuf>);

/// A mounted image. Fields are dropped in this order: the mount before the device under it. The
/// file itself belongs to the caller's scratch directory, which outlives this value.
#[derive(Debug)]
pub(crate) struct Image {
    point: Option<PathBuf>,
    device: LoopDevice,
}

impl Image {
    /// Makes `file` of `bytes` and mounts it at `point`. An error half-way undoes the first half.
    pub(crate) fn mount(file: &Path, bytes: u64, point: &Path) -> Result<Self, DemoError> {
        File::create_new(file)
            .and_then(|image| image.set_len(bytes))
            .map_err(DemoError::io("create the image", file))?;
        run_tool(
            "make an ext4 file system in a file",
            Command::new("mkfs.ext4").args(["-q", "-F", "-E", MKFS_OPTIONS]).arg(file),
        )?;
        let device = LoopDevice::attach(file)?;
        let path = device.path();
        mount(Some(path), point, Some("ext4"), MsFlags::empty(), None::<&str>).map_err(
            |errno| DemoError::Io {
                action: format!("mount ext4 from {} on {}", path.display(), point.display()),
                source: errno.into(),
            },
        )?;
        Ok(Image { point: Some(point.to_owned()), device })
    }

    /// Unmounts and detaches now.
    pub(crate) fn release(&mut self) -> Result<(), DemoError> {
        let unmounted = match self.point.take() {
            Some(point) => mounts::unmount(&point, Duration::from_secs(5)),
            None => Ok(()),
        };
        // Also after a failed unmount: the kernel then frees the device with its last user.
        self.device.release().and(unmounted)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        complain(self.release());
    }
}

impl LoopDevice {
    fn attach(file: &Path) -> Result<Self, DemoError> {
        let stdout = run_tool(
            "attach a loop device (in a container: it needs --privileged, or use `fusewire demo DIR`)",
            Command::new("losetup").args(["--find", "--show"]).arg(file),
        )?;
        Ok(LoopDevice(Some(PathBuf::from(stdout.trim()))))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn release(&mut self) -> Result<(), DemoError> {
        let Some(path) = self.0.take() else { return Ok(()) };
        run_tool("detach the loop device", Command::new("losetup").arg("-d").arg(&path))
            .map(|_| ())
            .map_err(|error| DemoError::LeftBehind {
                what: format!("{} ({error})", path.display()),
                remedy: format!("losetup -d {}", path.display()),
            })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        complain(self.release());
    }
}
