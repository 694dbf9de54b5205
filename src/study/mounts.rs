//! What is mounted where, and how to unmount it whatever its state. Knows no study.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::error::StudyError;
use super::process::run_tool;
use crate::mountinfo::{Mount, MountTable};

/// All mounts of this namespace.
pub(crate) fn table() -> Result<MountTable, StudyError> {
    MountTable::read().map_err(StudyError::io("read", Path::new("/proc/self/mountinfo")))
}

/// What is mounted exactly at `point` (uppermost), if anything.
pub(crate) fn mounted_at(point: &Path) -> Result<Option<Mount>, StudyError> {
    Ok(table()?.top_at(point).cloned())
}

/// What has been mounted since `earlier`, wherever.
pub(crate) fn since(earlier: &MountTable) -> Result<Vec<Mount>, StudyError> {
    let is_new = |mount: &&Mount| !earlier.iter().any(|other| other.id == mount.id);
    Ok(table()?.iter().filter(is_new).cloned().collect())
}

/// The mount that holds `path`.
pub(crate) fn mount_of(path: &Path) -> Result<Option<Mount>, StudyError> {
    Ok(table()?.covering(path).cloned())
}

/// Unmounts `point`: politely for `patience` (what still closes files there gets its time), then
/// lazily. Nothing mounted there is success.
pub(crate) fn unmount(point: &Path, patience: Duration) -> Result<(), StudyError> {
    let deadline = Instant::now() + patience;
    loop {
        match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(Errno::EPERM) => return unmount_as_user(point),
            // EBUSY for too long, or ENOTCONN of a dead daemon on some kernels.
            Err(_) => break,
        }
    }
    match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(StudyError::still_mounted(point.to_owned(), errno.desc())),
    }
}

/// An ordinary user may only unmount through the set-user-id helper.
fn unmount_as_user(point: &Path) -> Result<(), StudyError> {
    let attempt = |flags: &str| {
        run_tool("unmount", Command::new("fusermount3").args([flags, "--"]).arg(point))
    };
    attempt("-u").or_else(|_| attempt("-uz")).map(|_| ()).or_else(|error| {
        match mounted_at(point)? {
            None => Ok(()),
            Some(_) => Err(StudyError::still_mounted(point.to_owned(), &error.to_string())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mounted_is_unmounted_already() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        unmount(dir.path(), Duration::ZERO).expect("nothing to do");
        unmount(&dir.path().join("none"), Duration::ZERO).expect("nothing to do");
    }

    #[test]
    fn what_was_there_before_is_not_new() {
        let now = table().expect("readable");
        let root = mounted_at(Path::new("/")).expect("readable").expect("there is one");
        assert!(!since(&now).expect("readable").contains(&root));
        assert!(since(&MountTable::default()).expect("readable").contains(&root));
    }

    #[test]
    fn the_root_holds_everything_and_no_mount_is_no_error() {
        assert!(mount_of(Path::new("/no/such")).expect("readable").is_some());
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(mounted_at(dir.path()).expect("readable"), None);
    }
}
