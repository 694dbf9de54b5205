//! What is measured upon: a fresh directory, natively reachable, and an empty mount point for
//! fusewire. Either on an ext4 image of our own or in a directory of the user's.

use std::path::{Path, PathBuf};

use super::error::StudyError;
use super::image::{Image, Make};
use super::mounts;
use super::scratch::{DEMO, Scratch, complain};

/// Size of the sparse image.
pub(crate) const IMAGE_BYTES: u64 = 2 << 30;

/// The place of a study. The fields are dropped in this order: the user's subdirectory or the
/// image's mount and loop device first, then the directory which holds the image file and the
/// mount points. The daemon's mount is not here: it must be gone before (see `demo`).
#[derive(Debug)]
pub(crate) struct Backing {
    subdirectory: Option<Scratch>,
    image: Option<Image>,
    scratch: Scratch,
    source: PathBuf,
    mountpoint: PathBuf,
}

impl Backing {
    /// An ext4 image in a new directory under `parent`.
    pub(crate) fn image(parent: &Path) -> Result<Self, StudyError> {
        let scratch = Scratch::new(parent, DEMO, false)?;
        let ext4 = scratch.subdirectory("ext4")?;
        let mountpoint = scratch.subdirectory("mnt")?;
        let image =
            Image::mount(&scratch.path().join("ext4.img"), &Make::ext4(IMAGE_BYTES), &ext4)?;
        let source = ext4.join("src");
        std::fs::create_dir(&source).map_err(StudyError::io("create", &source))?;
        Ok(Backing { subdirectory: None, image: Some(image), scratch, source, mountpoint })
    }

    /// A subdirectory of the user's `dir`; the mount point lies under `parent`.
    pub(crate) fn directory(dir: &Path, parent: &Path) -> Result<Self, StudyError> {
        let subdirectory = Scratch::new(dir, DEMO, true)?;
        let scratch = Scratch::new(parent, DEMO, false)?;
        let mountpoint = scratch.subdirectory("mnt")?;
        let source = subdirectory.path().to_owned();
        Ok(Backing { subdirectory: Some(subdirectory), image: None, scratch, source, mountpoint })
    }

    /// The native directory.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// Where fusewire is to be mounted.
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Whether it is an image of our own.
    pub(crate) fn is_image(&self) -> bool {
        self.image.is_some()
    }

    /// Type of the file system that holds our temporary directory: under an image, its floor.
    pub(crate) fn scratch_fstype(&self) -> Result<String, StudyError> {
        Ok(mounts::mount_of(self.scratch.path())?.map_or_else(String::new, |mount| mount.fs_type))
    }

    /// Undoes everything now; the first error is kept, the rest is still undone.
    pub(crate) fn release(&mut self) -> Result<(), StudyError> {
        let subdirectory = self.subdirectory.as_mut().map_or(Ok(()), Scratch::release);
        let image = self.image.as_mut().map_or(Ok(()), Image::release);
        let scratch = self.scratch.release();
        subdirectory.and(image).and(scratch)
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        complain(self.release());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_directory_is_as_it_was_afterwards() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let parent = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("theirs"), b"x").expect("can be written");
        let mut backing = Backing::directory(dir.path(), parent.path()).expect("can be made");
        assert!(backing.source().starts_with(dir.path().canonicalize().expect("exists")));
        std::fs::write(backing.source().join("data"), b"x").expect("can be written");
        backing.release().expect("can be removed");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
        assert_eq!(std::fs::read_dir(parent.path()).expect("readable").count(), 0);
    }
}
