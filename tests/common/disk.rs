//! The file systems that tests stand on: an ext4 image on a loop device, made for one process.
//!
//! The image is unlinked as soon as it is mounted and its loop device clears itself, so what is left
//! after the last unmount is nothing, however the process ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Gives the process a mount namespace of its own: every mount in it ends with the process. Call it
/// before the first thread is started.
pub(crate) fn private_mounts() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare the mounts: {errno}"))?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|errno| format!("make the mounts private: {errno}"))
}

/// A mount that is undone when dropped.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Undoes what was mounted on `target`.
    pub(crate) fn new(target: PathBuf) -> Self {
        Mounted(target)
    }
}

impl Mounted {
    /// What is mounted on `target` already.
    pub(crate) fn of(target: &Path) -> Self {
        Mounted(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A file system to work on.
#[derive(Debug)]
pub(crate) struct Disk {
    // Dropped in this order: first the mount, then the directory that holds it.
    mounted: Option<Mounted>,
    folder: TempDir,
    /// The image's bytes, by now without a name.
    image: Option<File>,
    /// Why it is not an ext4 image, if it is not.
    pub(crate) fallback: Option<String>,
}

impl Disk {
    /// An ext4 of `bytes`, or the temporary folder itself where loop devices are not to be had.
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        Self::with_options(bytes, "loop")
    }

    /// The same under these options of mount(8), among them `loop`.
    pub(crate) fn with_options(bytes: u64, options: &str) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("fusewire-test-").tempdir();
        let folder = folder.map_err(|error| format!("make a temporary folder: {error}"))?;
        let (mounted, image, fallback) = match mount_image(folder.path(), bytes, options) {
            Ok((mounted, image)) => (Some(mounted), Some(image), None),
            Err(reason) => (None, None, Some(reason)),
        };
        Ok(Disk { mounted, folder, image, fallback })
    }

    /// The image under it: what the loop device has been given, and nothing else.
    pub(crate) fn image(&self) -> Result<&File, String> {
        let missing = || self.fallback.clone().unwrap_or_default();
        self.image.as_ref().ok_or_else(|| format!("an ext4 image is needed: {}", missing()))
    }

    /// Its root.
    pub(crate) fn path(&self) -> PathBuf {
        match self.mounted {
            Some(_) => self.folder.path().join("disk"),
            None => self.folder.path().to_owned(),
        }
    }

    /// A new directory of it, which everyone may enter.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        path
    }

    /// A new directory beside it, to mount on.
    pub(crate) fn mountpoint(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        path
    }
}

fn mount_image(folder: &Path, bytes: u64, options: &str) -> Result<(Mounted, File), String> {
    let (image, target) = (folder.join("ext4.image"), folder.join("disk"));
    let file = fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .and_then(|()| fs::create_dir(&target))
        .and_then(|()| File::create_new(&image))
        .and_then(|file| file.set_len(bytes))
        .and_then(|()| File::open(&image))
        .map_err(|error| format!("make an image in {}: {error}", folder.display()))?;
    let complete = "lazy_itable_init=0,lazy_journal_init=0";
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", complete]).arg(&image))?;
    let mounted = mount_at(&image, &target, options)?;
    fs::remove_file(&image).map_err(|error| format!("unlink the image: {error}"))?;
    Ok((mounted, file))
}

/// Mounts `what` on `target` as mount(8) does.
pub(crate) fn mount_at(what: &Path, target: &Path, options: &str) -> Result<Mounted, String> {
    run(Command::new("mount").args(["-o", options]).args([what, target]))?;
    Ok(Mounted(target.to_owned()))
}

/// Mounts `source` on `target` once more, under `options` of the mount: what a plain directory looks
/// like under `-o ro` and its like.
pub(crate) fn bind(source: &Path, target: &Path, options: &str) -> Result<Mounted, String> {
    let fail = |errno| format!("bind {} on {}: {errno}", source.display(), target.display());
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none).map_err(fail)?;
    let mounted = Mounted(target.to_owned());
    let flags = options.split(',').fold(MsFlags::MS_BIND | MsFlags::MS_REMOUNT, |flags, option| {
        flags
            | match option {
                "ro" => MsFlags::MS_RDONLY,
                "nosuid" => MsFlags::MS_NOSUID,
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                _ => MsFlags::empty(),
            }
    });
    mount(none, target, none, flags, none).map_err(fail)?;
    Ok(mounted)
}

/// Runs a command; its standard error is the reason if it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
