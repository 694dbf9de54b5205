//! Cache states of the shared test file: written once, then warmed or dropped before each cell.
//! All of it outside the timing.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::error::StudyError;
use super::supervise::Cancel;

/// Name of the test file of the data cells.
const NAME: &str = "data";
const CHUNK: usize = 1 << 20;

/// The test file as a system shows it.
pub(crate) fn data_file(root: &Path) -> PathBuf {
    root.join(NAME)
}

/// Writes the test file in full, natively, and makes it durable: every block is allocated and
/// written, so that no cell meets an unwritten extent.
pub(crate) fn lay_out(
    root: &Path,
    mib: u32,
    check: &dyn Fn() -> Result<(), StudyError>,
) -> Result<(), StudyError> {
    let path = data_file(root);
    let mut file = File::create_new(&path).map_err(StudyError::io("create", &path))?;
    let mut chunk = vec![0; CHUNK];
    let mut rng = StdRng::seed_from_u64(0);
    for _ in 0..mib {
        check()?;
        rng.fill_bytes(&mut chunk);
        file.write_all(&chunk).map_err(StudyError::io("write", &path))?;
    }
    file.sync_all().map_err(StudyError::io("sync", &path))
}

/// Writes back everything dirty of the file system that holds `root`.
pub(crate) fn sync(root: &Path) -> Result<(), StudyError> {
    let dir = File::open(root).map_err(StudyError::io("open", root))?;
    nix::unistd::syncfs(&dir).map_err(StudyError::io("sync the file system of", root))
}

/// Reads a file whole.
pub(crate) fn warm(path: &Path, cancel: &Cancel) -> Result<(), StudyError> {
    let mut file = File::open(path).map_err(StudyError::io("open", path))?;
    let mut chunk = vec![0; CHUNK];
    while !cancel.is_set() && file.read(&mut chunk).map_err(StudyError::io("read", path))? > 0 {}
    Ok(())
}

/// Drops the cached pages of a file.
pub(crate) fn drop_pages(path: &Path) -> Result<(), StudyError> {
    let file = OpenOptions::new().read(true).open(path).map_err(StudyError::io("open", path))?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(StudyError::io("drop the cached pages of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_its_size_and_can_be_prepared() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        lay_out(dir.path(), 2, &|| Ok(())).expect("can be written");
        let length = data_file(dir.path()).metadata().expect("exists").len();
        assert_eq!(length, 2 << 20);
        let file = data_file(dir.path());
        warm(&file, &Cancel::default()).and_then(|()| drop_pages(&file)).expect("can be prepared");
        sync(dir.path()).expect("can be synced");
        assert!(lay_out(dir.path(), 2, &|| Ok(())).is_err(), "it is never overwritten");
    }

    #[test]
    fn laying_out_can_be_interrupted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = lay_out(dir.path(), 2, &|| Err(StudyError::Interrupted { signal: 2 }));
        assert!(matches!(error, Err(StudyError::Interrupted { signal: 2 })));
    }
}
