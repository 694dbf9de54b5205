//! What is mounted where, and how to unmount it. Reads /proc/self/mountinfo; knows no study.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::error::DemoError;
use super::process::run_tool;

/// One line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where.
    pub(crate) point: PathBuf,
    /// Type, as `ext4` or `fuse.fusewire`.
    pub(crate) fstype: String,
    /// Options of the mount and of the file system.
    pub(crate) options: String,
    /// Device or name.
    pub(crate) source: String,
}

/// All mounts of this namespace, in the kernel's order: a later one covers an earlier one.
pub(crate) fn mounts() -> Result<Vec<Mount>, DemoError> {
    let path = Path::new("/proc/self/mountinfo");
    let bytes = std::fs::read(path).map_err(DemoError::io("read", path))?;
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// What is mounted exactly at `point` (uppermost), if anything.
pub(crate) fn mounted_at(point: &Path) -> Result<Option<Mount>, DemoError> {
    Ok(mounts()?.into_iter().rev().find(|mount| mount.point == point))
}

/// The mount that holds `path`.
pub(crate) fn mount_of(path: &Path) -> Result<Option<Mount>, DemoError> {
    let mut holder: Option<Mount> = None;
    for mount in mounts()? {
        let deeper = holder.as_ref().is_none_or(|holder| {
            mount.point.components().count() >= holder.point.components().count()
        });
        if deeper && path.starts_with(&mount.point) {
            holder = Some(mount);
        }
    }
    Ok(holder)
}

/// Unmounts `point`: politely for `patience` (what still closes files there gets its time), then
/// lazily. Nothing mounted there is success.
pub(crate) fn unmount(point: &Path, patience: Duration) -> Result<(), DemoError> {
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
        Err(errno) => Err(DemoError::still_mounted(point.to_owned(), errno.desc())),
    }
}

/// An ordinary user may only unmount through the set-user-id helper.
fn unmount_as_user(point: &Path) -> Result<(), DemoError> {
    let attempt = |flags: &str| {
        run_tool("unmount", Command::new("fusermount3").args([flags, "--"]).arg(point))
    };
    attempt("-u").or_else(|_| attempt("-uz")).map(|_| ()).or_else(|error| {
        match mounted_at(point)? {
            None => Ok(()),
            Some(_) => Err(DemoError::still_mounted(point.to_owned(), &error.to_string())),
        }
    })
}

fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let (fstype, source, super_options) =
        (fields.get(dash + 1)?, fields.get(dash + 2)?, fields.get(dash + 3)?);
    Some(Mount {
        point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        fstype: text(fstype),
        options: format!("{};{}", text(fields.get(5)?), text(super_options)),
        source: text(source),
    })
}

/// Undoes the kernel's octal escapes of blank, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *byte == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(value) => {
                plain.push(value);
                rest = &tail[3..];
            }
            None => {
                plain.push(*byte);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed_with_and_without_optional_fields() {
        let line = b"36 35 98:0 /a /mnt/two\\040words rw,noatime shared:1 - fuse.fusewire src rw,user_id=0";
        let mount = parse(line).expect("well-formed");
        assert_eq!(mount.point, Path::new("/mnt/two words"));
        assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("fuse.fusewire", "src"));
        assert_eq!(mount.options, "rw,noatime;rw,user_id=0");
        assert!(parse(b"36 35 98:0 / /mnt rw - ext4 /dev/loop0 rw").is_some());
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn escapes_are_undone_and_lies_left_alone() {
        assert_eq!(unescape(b"a\\134b"), b"a\\b");
        assert_eq!(unescape(b"a\\9zz"), b"a\\9zz");
        assert_eq!(unescape(b"a\\"), b"a\\");
    }

    #[test]
    fn the_root_holds_everything_and_no_mount_is_no_error() {
        assert!(mount_of(Path::new("/no/such")).expect("readable").is_some());
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(mounted_at(dir.path()).expect("readable"), None);
    }
}
