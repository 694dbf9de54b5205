//! Temporary directories that are never removed through a mount: if anything is still mounted
//! beneath one, it is left in place and said, because a recursive removal would reach into what
//! the mount shows.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::error::StudyError;
use super::mounts;
use super::say;

/// What the names of our directories start with; the process id follows.
pub(crate) const PREFIXES: [&str; 2] = [DEMO, STUDY];
/// Those of a demo, and of what else measures on the same backing.
pub(crate) const DEMO: &str = "fusewire-demo-";
/// Those of a study.
pub(crate) const STUDY: &str = "fusewire-study-";

/// A temporary directory, removed on drop.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// Makes one in `parent`, whose name starts with `prefix`; `hidden` puts a dot before that.
    pub(crate) fn new(parent: &Path, prefix: &str, hidden: bool) -> Result<Self, StudyError> {
        let dot = if hidden { "." } else { "" };
        let dir = tempfile::Builder::new()
            .prefix(&format!("{dot}{prefix}{}-", std::process::id()))
            .tempdir_in(parent)
            .map_err(StudyError::io("create a temporary directory in", parent))?;
        // mountinfo shows real paths, and we compare with those.
        let path = fs::canonicalize(dir.path()).map_err(StudyError::io("resolve", dir.path()))?;
        Ok(Scratch { dir: Some(dir), path })
    }

    /// Its real path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A fresh subdirectory.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<PathBuf, StudyError> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(StudyError::io("create", &path))?;
        Ok(path)
    }

    /// Removes it now.
    pub(crate) fn release(&mut self) -> Result<(), StudyError> {
        let Some(dir) = self.dir.take() else { return Ok(()) };
        let beneath = mounts::table().map(|table| table.below(&self.path).next().cloned());
        match beneath {
            Ok(None) => dir.close().map_err(StudyError::io("remove", &self.path)),
            Ok(Some(mount)) => {
                let _ = dir.keep();
                Err(StudyError::still_mounted(mount.mount_point, "it could not be unmounted"))
            }
            Err(error) => {
                let _ = dir.keep();
                Err(error)
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        complain(self.release());
    }
}

/// In a `drop` there is nobody to hand an error to but the user.
pub(crate) fn complain(result: Result<(), StudyError>) {
    if let Err(error) = result {
        say::line(format_args!("fusewire: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_with_what_is_in_it() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let scratch = Scratch::new(parent.path(), STUDY, true).expect("can be made");
        let sub = scratch.subdirectory("sub").expect("can be made");
        fs::write(sub.join("file"), b"x").expect("can be written");
        let path = scratch.path().to_owned();
        assert!(path.file_name().expect("named").to_string_lossy().starts_with(".fusewire-study-"));
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_parent_is_named() {
        let error = Scratch::new(Path::new("/no/such"), DEMO, false).expect_err("no parent");
        assert!(error.to_string().contains("/no/such"), "{error}");
    }
}
