//! What the source directory's file system offers. Every answer is tried on the directory itself;
//! nothing that has a name is made in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::check::{Check, Group};
use super::probe::{Probe, Tried};
use crate::coherence::cause;
use crate::mountinfo::MountTable;
use crate::protocol::notify::EPOCH_MINOR;
use crate::sys::fanotify::Watch;
use crate::sys::handle::FileHandle;

const ASK: Group = Group::Source;

/// Everything about `source`; the answer is false if it can not be shown at all.
pub(super) fn checks(source: &Path, probe: Result<&Probe, &String>) -> (bool, Vec<Check>) {
    let directory = match open_directory(source) {
        Ok(directory) => directory,
        Err(check) => return (false, vec![check]),
    };
    let fs_type = fs_type(source);
    let mut checks = vec![
        ASK.ask("directory", "what is shown")
            .ok(format!("{}, a directory on {fs_type}", source.display())),
    ];
    checks.push(passthrough(&fs_type, probe));
    checks.extend(handles(&directory));
    let watch = Watch::new(directory.as_fd()).map(drop);
    let protocol = probe.ok().map(|probe| probe.protocol.as_str());
    checks.push(watching(watch, keeps_handles(&directory, &fs_type), protocol));
    checks.push(xattrs(&directory));
    checks.extend(unnamed_files(source));
    (true, checks)
}

fn open_directory(source: &Path) -> Result<OwnedFd, Check> {
    let ask = ASK.ask("directory", "what is shown");
    let name = source.display();
    match std::fs::metadata(source) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(ask.absent(format!("{name} is not a directory")));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ask.absent(format!("{name} does not exist")));
        }
        _ => {}
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(source, flags, Mode::empty())
        .map_err(|errno| ask.absent(format!("{name} can not be read: {}", describe(errno))))
}

fn describe(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}

fn fs_type(source: &Path) -> String {
    let path = std::fs::canonicalize(source).unwrap_or_else(|_| source.into());
    let table = MountTable::read().unwrap_or_default();
    table.covering(&path).map_or_else(|| "unknown".into(), |mount| mount.fs_type.clone())
}

/// Stacked file systems (overlayfs, another passthrough mount) count against the kernel's limit.
fn passthrough(fs_type: &str, probe: Result<&Probe, &String>) -> Check {
    let ask = ASK.ask("passthrough here", "whether files of this source can be backing files");
    let Ok(probe) = probe else { return ask.unknown("could not be tried") };
    match &probe.backing_on_source {
        Some(Tried::Works) => ask.ok("a backing file was registered"),
        Some(Tried::Refused(_)) if probe.backing != Tried::Works => {
            ask.absent("see passthrough above")
        }
        Some(Tried::Refused(error)) if fs_type == "overlay" || fs_type.starts_with("fuse") => ask
            .missing(
                format!("{fs_type} is stacked itself: {error}"),
                "show a directory of the file system underneath",
            ),
        Some(Tried::Refused(error)) => ask.absent(error.clone()),
        None => ask.unknown("was not tried"),
    }
}

fn handles(directory: &OwnedFd) -> [Check; 2] {
    let name = ASK.ask("file handles", "an inode is told from a later one with its number");
    let reach = ASK.ask("open by handle", "inodes are reached without keeping each one open");
    match FileHandle::of(directory.as_fd()) {
        Err(errno) => [
            name.absent(format!("name_to_handle_at: {}", describe(errno))),
            reach.absent("there are no handles"),
        ],
        Ok(handle) => {
            let opened = handle.open(directory.as_fd(), libc::O_RDONLY | libc::O_DIRECTORY);
            let reach = match opened {
                Ok(_) => reach.ok("works"),
                Err(Errno::EPERM) => {
                    reach.degraded("needs CAP_DAC_READ_SEARCH", Some("run fusewire as root"))
                }
                Err(errno) => reach.absent(format!("open_by_handle_at: {}", describe(errno))),
            };
            [name.ok("works"), reach]
        }
    }
}

/// Whether a handle opens its inode for as long as that exists.
fn keeps_handles(directory: &OwnedFd, fs_type: &str) -> bool {
    let opens = |handle: FileHandle| handle.open(directory.as_fd(), libc::O_PATH);
    let is_volatile = ["vfat", "msdos", "exfat"].contains(&fs_type) || fs_type.starts_with("fuse");
    !is_volatile && FileHandle::of(directory.as_fd()).and_then(opens).is_ok()
}

/// All that `coherence=watch` takes: telling of changes, knowing of what they are, and a kernel that
/// can be told in turn.
fn watching(watch: Result<(), Errno>, keeps_handles: bool, protocol: Option<&str>) -> Check {
    let ask =
        ASK.ask("fanotify", "changes behind the mount show at once, under caches without end");
    let instead =
        "fusewire mount --coherence timeout=1    (or exclusive, if nobody else changes it)";
    let minor = protocol.and_then(|protocol| protocol.split_once('.')?.1.parse().ok());
    match (watch, minor) {
        (Err(Errno::EPERM), _) => ask.degraded("needs CAP_SYS_ADMIN", Some("run fusewire as root")),
        (Err(errno), _) => ask.missing(cause(errno), instead),
        (Ok(()), _) if !keeps_handles => {
            ask.missing("there are no lasting file handles to tell what has changed by", instead)
        }
        (Ok(()), Some(EPOCH_MINOR..)) => ask.ok("the whole file system can be watched"),
        (Ok(()), Some(_)) => ask.missing(
            "it can be watched, but this kernel can not be told that all names expire",
            "run Linux 6.16 or newer    (or fusewire mount --coherence timeout=1)",
        ),
        (Ok(()), None) => {
            ask.unknown("it can be watched; what the kernel's FUSE can do is unknown")
        }
    }
}

fn xattrs(directory: &OwnedFd) -> Check {
    let ask = ASK.ask("xattrs", "extended attributes and ACLs show through the mount");
    match crate::sys::probe::user_xattr(directory.as_fd()) {
        Ok(()) => ask.ok("user attributes work"),
        Err(errno) => ask.absent(format!("user attributes: {}", describe(errno))),
    }
}

/// O_TMPFILE and, on such a file, O_DIRECT.
fn unnamed_files(source: &Path) -> [Check; 2] {
    let unnamed = ASK.ask("O_TMPFILE", "programs can make unnamed files through the mount");
    let direct = ASK.ask("O_DIRECT", "unbuffered I/O, as fio --direct=1, reaches the device");
    let try_open = |extra: OFlag| {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC | extra;
        open(source, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(drop)
    };
    match try_open(OFlag::empty()) {
        Ok(()) => [
            unnamed.ok("works"),
            match try_open(OFlag::O_DIRECT) {
                Ok(()) => direct.ok("works"),
                Err(Errno::EINVAL) => direct.absent("this file system has none"),
                Err(errno) => direct.absent(describe(errno)),
            },
        ],
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => [
            unnamed.absent("this file system has none"),
            direct.unknown("no unnamed file to try it on"),
        ],
        Err(errno @ (Errno::EACCES | Errno::EROFS)) => [
            unnamed.unknown(format!("this user can not write here: {}", describe(errno))),
            direct.unknown("no unnamed file to try it on"),
        ],
        Err(errno) => {
            [unnamed.absent(describe(errno)), direct.unknown("no unnamed file to try it on")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn watching_takes_the_source_and_the_kernel() {
        let new = Some("7.45");
        assert_eq!(watching(Ok(()), true, new).status, Status::Ok);
        assert_eq!(watching(Ok(()), true, Some("7.44")).status, Status::Ok);
        for (watch, keeps, protocol, says) in [
            (Ok(()), true, Some("7.43"), "Linux 6.16"),
            (Ok(()), false, new, "timeout=1"),
            (Err(Errno::EXDEV), true, new, "timeout=1"),
            (Err(Errno::ENOSYS), true, new, "timeout=1"),
            (Err(Errno::EPERM), true, new, "as root"),
        ] {
            let check = watching(watch, keeps, protocol);
            assert_ne!(check.status, Status::Ok, "{check:?}");
            assert!(check.fix.as_deref().is_some_and(|fix| fix.contains(says)), "{check:?}");
        }
        assert_eq!(watching(Ok(()), true, None).status, Status::Unknown);
    }
}
