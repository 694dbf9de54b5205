//! Where a study is measured: a directory natively, one beside it for material that is not shown, and
//! an empty mount point for each system in its turn.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::environment;
use super::super::error::StudyError;
use super::super::file::{Backing, BackingKind};
use super::super::image::{Image, Make};
use super::super::mounts;
use super::super::preflight::tell_leftovers_on;
use super::super::process::run_tool;
use super::super::scratch::{STUDY, Scratch, complain};
use super::neutral::Neutral;

/// Size of the file that `fusewire null` shows.
const ZEROS_BYTES: u64 = 1 << 30;

/// The place of a study. The fields are dropped in this order: a subdirectory of the user's first, then
/// the mount it lies on, then the directory that holds image and mount points.
#[derive(Debug)]
pub(crate) struct Place {
    subdirectory: Option<Scratch>,
    mount: Option<Image>,
    scratch: Scratch,
    source: PathBuf,
    material: PathBuf,
    mountpoint: PathBuf,
    description: String,
    mkfs_options: Option<String>,
    image_on: Option<String>,
}

impl Place {
    /// Makes it; what has been made is undone if the rest fails.
    pub(crate) fn make(backing: &Backing, temporary: &Path) -> Result<Self, StudyError> {
        let parent = backing.image_dir.as_deref().unwrap_or(temporary);
        let scratch = Scratch::new(parent, STUDY, false)?;
        // As deep below the root as the source is, so that paths are walked equally far.
        scratch.subdirectory("mnt")?;
        let mountpoint = scratch.subdirectory("mnt/fs")?;
        let mut place = Place {
            subdirectory: None,
            mount: None,
            source: PathBuf::new(),
            material: PathBuf::new(),
            mountpoint,
            description: String::new(),
            mkfs_options: None,
            image_on: None,
            scratch,
        };
        let base = place.found(backing)?;
        place.source = base.join("source");
        place.material = base.join("material");
        for path in [&place.source, &place.material] {
            fs::create_dir(path).map_err(StudyError::io("create", path))?;
        }
        if backing.kind == BackingKind::Null {
            let zeros = place.source.join("zeros");
            File::create_new(&zeros)
                .and_then(|file| file.set_len(ZEROS_BYTES))
                .and_then(|()| fs::create_dir(place.source.join("empty")))
                .map_err(StudyError::io("create", &zeros))?;
        }
        let fstype = place.fstype()?;
        place.description = match backing.kind {
            BackingKind::Directory => format!("a directory on {fstype}"),
            BackingKind::Distributed => {
                format!("a directory on {fstype}, the own mount of a distributed file system")
            }
            BackingKind::Device => format!("a directory on {fstype} on a block device"),
            BackingKind::Image => {
                let floor = place.image_on.as_deref().unwrap_or("another file system");
                format!("{fstype} in a sparse file on {floor}, on a loop device")
            }
            BackingKind::Tmpfs => "tmpfs".to_owned(),
            BackingKind::Null => "tmpfs with the names of `fusewire null`".to_owned(),
        };
        Ok(place)
    }

    /// The directory in which the study has its own.
    fn found(&mut self, backing: &Backing) -> Result<PathBuf, StudyError> {
        let path = || {
            backing.path.as_deref().ok_or_else(|| {
                StudyError::Preflight(
                    "the backing needs a `path`: write it into the file or give --dir".to_owned(),
                )
            })
        };
        match backing.kind {
            BackingKind::Directory | BackingKind::Distributed => self.subdirectory_of(path()?),
            BackingKind::Device => {
                let point = self.scratch.subdirectory("disk")?;
                let device = path()?;
                let action = format!("mount {} (it needs a file system: mkfs)", device.display());
                let options = backing.mount_options.iter().flat_map(|options| ["-o", options]);
                run_tool(&action, Command::new("mount").args(options).arg(device).arg(&point))?;
                self.mount = Some(Image::adopt(&point));
                tell_leftovers_on(device, &point);
                self.subdirectory_of(&point)
            }
            BackingKind::Image => {
                let point = self.scratch.subdirectory("disk")?;
                let file = self.scratch.path().join("disk.img");
                let make = Make {
                    fstype: &backing.filesystem,
                    bytes: backing.size_mib << 20,
                    mkfs_options: &backing.mkfs_options,
                    mount_options: backing.mount_options.as_deref(),
                };
                self.mkfs_options = Some(make.mkfs_arguments().join(" "));
                self.image_on = mounts::mount_of(self.scratch.path())?.map(|mount| mount.fs_type);
                self.mount = Some(Image::mount(&file, &make, &point)?);
                Ok(point)
            }
            BackingKind::Tmpfs | BackingKind::Null => {
                let point = self.scratch.subdirectory("disk")?;
                let size = format!("size={}m", backing.size_mib.max(16));
                let options =
                    [Some(size.as_str()), backing.mount_options.as_deref()].into_iter().flatten();
                let options = options.collect::<Vec<_>>().join(",");
                let mut command = Command::new("mount");
                command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&point);
                run_tool("mount a tmpfs", &mut command)?;
                self.mount = Some(Image::adopt(&point));
                Ok(point)
            }
        }
    }

    fn subdirectory_of(&mut self, dir: &Path) -> Result<PathBuf, StudyError> {
        let subdirectory = Scratch::new(dir, STUDY, true)?;
        let path = subdirectory.path().to_owned();
        self.subdirectory = Some(subdirectory);
        Ok(path)
    }

    fn fstype(&self) -> Result<String, StudyError> {
        Ok(mounts::mount_of(&self.source)?.map_or_else(String::new, |mount| mount.fs_type))
    }

    /// The native directory.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// A directory on the same file system that no system shows.
    pub(crate) fn material(&self) -> &Path {
        &self.material
    }

    /// Where a system is to be mounted.
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The words that stand for its paths.
    pub(crate) fn neutral(&self) -> Neutral {
        Neutral::new(&[
            (&self.source, "{source}"),
            (&self.material, "{material}"),
            (&self.mountpoint, "{mountpoint}"),
            (self.scratch.path(), "{temporary}"),
        ])
    }

    /// As it is recorded.
    pub(crate) fn describe(&self) -> Result<environment::Backing, StudyError> {
        let mount = mounts::mount_of(&self.source)?;
        let (fstype, mount_options) = mount.map_or_else(Default::default, |mount| {
            (mount.fs_type, format!("{};{}", mount.options, mount.super_options))
        });
        Ok(environment::Backing {
            description: self.description.clone(),
            fstype,
            mount_options,
            mkfs_options: self.mkfs_options.clone(),
            image_on: self.image_on.clone(),
            scheduler: environment::scheduler(&self.source),
        })
    }

    /// Undoes everything now; the first error is kept, the rest is still undone.
    pub(crate) fn release(&mut self) -> Result<(), StudyError> {
        let subdirectory = self.subdirectory.as_mut().map_or(Ok(()), Scratch::release);
        let mount = self.mount.as_mut().map_or(Ok(()), Image::release);
        subdirectory.and(mount).and(self.scratch.release())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        complain(self.release());
    }
}

/// What a path that the user names is.
pub(crate) fn kind_of(path: &Path) -> Result<BackingKind, StudyError> {
    let found = fs::metadata(path).map_err(StudyError::io("use", path))?;
    match (found.is_dir(), found.file_type().is_block_device()) {
        (true, _) => Ok(BackingKind::Directory),
        (_, true) => Ok(BackingKind::Device),
        _ => Err(StudyError::Preflight(format!(
            "{} is neither a directory nor a block device",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_directory_is_as_it_was_afterwards() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let parent = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("theirs"), b"x").expect("can be written");
        let backing = Backing {
            kind: kind_of(dir.path()).expect("a directory"),
            path: Some(dir.path().to_owned()),
            ..Backing::default()
        };
        let mut place = Place::make(&backing, parent.path()).expect("can be made");
        assert!(place.source().starts_with(dir.path().canonicalize().expect("exists")));
        assert!(place.describe().expect("readable").description.starts_with("a directory on "));
        fs::write(place.material().join("data"), b"x").expect("can be written");
        place.release().expect("can be removed");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
        assert_eq!(fs::read_dir(parent.path()).expect("readable").count(), 0);
    }

    #[test]
    fn what_is_no_place_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = kind_of(file.path()).expect_err("a file").to_string();
        assert!(error.contains("neither a directory nor a block device"), "{error}");
        assert!(kind_of(Path::new("/no/such")).is_err());
    }
}
