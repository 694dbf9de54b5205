//! A file system in a sparse file on a loop device: made, mounted, and undone in the opposite order.
//! Needs root; the backing of the demo without DIR, and of most studies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::StudyError;
use super::mounts;
use super::process::run_tool;
use super::scratch::complain;

/// What mkfs.ext4 is told: without lazy initialization no kernel thread writes inode tables and
/// the journal behind the measurement's back.
pub(crate) const MKFS_OPTIONS: &str = "lazy_itable_init=0,lazy_journal_init=0";

/// What to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Make<'a> {
    /// `ext4`, `xfs` or `btrfs`.
    pub(crate) fstype: &'a str,
    /// Size of the sparse file.
    pub(crate) bytes: u64,
    /// Arguments of mkfs beyond ours.
    pub(crate) mkfs_options: &'a [String],
    /// Options of the mount.
    pub(crate) mount_options: Option<&'a str>,
}

impl Make<'_> {
    /// An ext4 without wishes.
    pub(crate) fn ext4(bytes: u64) -> Self {
        Make { fstype: "ext4", bytes, mkfs_options: &[], mount_options: None }
    }

    /// All arguments of mkfs but the file.
    pub(crate) fn mkfs_arguments(&self) -> Vec<String> {
        let ours: &[&str] = match self.fstype {
            "ext4" => &["-q", "-F", "-E", MKFS_OPTIONS],
            _ => &["-q", "-f"],
        };
        ours.iter()
            .map(|word| (*word).to_owned())
            .chain(self.mkfs_options.iter().cloned())
            .collect()
    }
}

/// A mounted image. The file itself belongs to the caller's scratch directory, which outlives this
/// value.
#[derive(Debug)]
pub(crate) struct Image {
    point: Option<PathBuf>,
}

impl Image {
    /// Makes `file` and mounts it at `point`. An error half-way undoes the first half.
    pub(crate) fn mount(file: &Path, make: &Make<'_>, point: &Path) -> Result<Self, StudyError> {
        File::create_new(file)
            .and_then(|image| image.set_len(make.bytes))
            .map_err(StudyError::io("create the image", file))?;
        run_tool(
            &format!("make a file system of type {} in a file", make.fstype),
            Command::new(format!("mkfs.{}", make.fstype)).args(make.mkfs_arguments()).arg(file),
        )?;
        let device = attach(file)?;
        let mounted = mount_device(&device, make, point);
        // Either way: a device that is not mounted goes at once, a mounted one when it is
        // unmounted, whoever does that and even if this process is killed (the kernel's
        // lo_clr_fd turns into autoclear while the device is open).
        let image = Image { point: mounted.is_ok().then(|| point.to_owned()) };
        run_tool("detach the loop device", Command::new("losetup").arg("-d").arg(&device))?;
        mounted?;
        Ok(image)
    }

    /// Takes charge of another mount that is to be undone.
    pub(crate) fn adopt(point: &Path) -> Self {
        Image { point: Some(point.to_owned()) }
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

/// Through mount(8), which knows what is an option of the file system and what is a flag.
fn mount_device(device: &Path, make: &Make<'_>, point: &Path) -> Result<(), StudyError> {
    let options = make.mount_options.map_or(Vec::new(), |options| vec!["-o", options]);
    let mut command = Command::new("mount");
    command.args(["-t", make.fstype]).args(options).arg(device).arg(point);
    run_tool(&format!("mount the image on {}", point.display()), &mut command).map(drop)
}

fn attach(file: &Path) -> Result<PathBuf, StudyError> {
    let stdout = run_tool(
        "attach a loop device (in a container: it needs --privileged, or use `fusewire demo DIR`)",
        Command::new("losetup").args(["--find", "--show"]).arg(file),
    )?;
    Ok(PathBuf::from(stdout.trim()))
}
