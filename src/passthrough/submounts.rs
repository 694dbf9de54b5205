//! Which file systems are mounted inside the source, and which of them are shown.
//!
//! Those that hold files are: on a disk, in memory, on a network. Others are not, as they would not be
//! what they are natively: the answers of /proc and its like depend on who asks, and here the daemon
//! asks; an automounter would mount on the daemon's behalf; and a file system in user space may ask
//! this mount for something while the daemon waits for its answer, for ever.

use std::fs;
use std::io::{self, ErrorKind::TimedOut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::statfs::{FsType, fstatfs};
use tracing::{info, warn};

use super::inode::Part;
use crate::config::MountOptions;
use crate::mountinfo::{Mount, MountTable};
use crate::sys::mount::{SourceRoot, open_source};
use crate::sys::{apart, objfd};

/// Types that hold files without a disk of this machine.
const WITHOUT_A_DISK: [&str; 13] = [
    "9p", "bcachefs", "btrfs", "ceph", "cifs", "nfs", "nfs4", "overlay", "ramfs", "smb3", "tmpfs",
    "virtiofs", "zfs",
];

/// How long the first may take to answer that does not, and each after it: mostly their server is the
/// same.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_LEFT: Duration = Duration::from_secs(1);

/// A file system that is mounted inside the source.
#[derive(Debug)]
pub(super) struct Submount {
    /// Which of those before it it is mounted in; `None` is the source itself.
    pub(super) on: Option<usize>,
    /// The directory of that one which it covers.
    pub(super) path: PathBuf,
    /// O_PATH descriptor of its root, on a private mount.
    pub(super) root: OwnedFd,
    /// Its root on its own mount, which is busy as long as this is open.
    pub(super) held: OwnedFd,
    /// Options of its own mount.
    pub(super) inherited: MountOptions,
    /// What kind of file system it is.
    pub(super) kind: FsType,
}

/// Opens what is mounted inside `source`, outer ones first; says what is not shown, and why. A mount
/// that is made later is never seen.
pub(super) fn open_all(source: &Path, options: &MountOptions, most: usize) -> Vec<Submount> {
    let table = MountTable::read().unwrap_or_default();
    let (mut opened, mut ids) = (Vec::<Submount>::new(), Vec::new());
    let mut patience = PATIENCE;
    for (mount, below) in plan(&table, source) {
        let on = below.map(|below| ids.iter().position(|id| *id == below.id));
        // It lies in one that is not shown.
        if on == Some(None) {
            continue;
        }
        let shown = mount.mount_point.display();
        let found = match unsuited(mount) {
            Some(reason) => Err(reason.to_owned()),
            None if opened.len() >= most.min(Part::OTHERS_MAX) => {
                Err("there are too many inside the source".to_owned())
            }
            None => open_within(&mut patience, mount, options),
        };
        let base = below.map_or(source, |below| &below.mount_point);
        let path = mount.mount_point.strip_prefix(base).unwrap_or(&mount.mount_point).to_owned();
        match found {
            Ok((root, held, inherited, kind)) => {
                info!("{shown} ({}) is shown, too", mount.fs_type);
                let on = on.flatten();
                opened.push(Submount { on, path, root, held, inherited, kind });
                ids.push(mount.id);
            }
            Err(reason) => warn!("{shown} ({}) is not shown: {reason}", mount.fs_type),
        }
    }
    opened
}

/// The mounts that a walk below `source` meets, outer ones first, and the one that each is mounted in
/// unless that is the source's own.
fn plan<'a>(table: &'a MountTable, source: &'a Path) -> Vec<(&'a Mount, Option<&'a Mount>)> {
    let Some(main) = table.covering(source) else { return Vec::new() };
    let met = table
        .below(source)
        .filter(|mount| table.top_at(&mount.mount_point).is_some_and(|top| top.id == mount.id));
    let below = |mount| Some((mount, Some(above(table, mount)?).filter(|on| on.id != main.id)));
    let mut plan: Vec<_> = met.filter_map(below).collect();
    plan.sort_by_key(|(mount, _)| mount.mount_point.components().count());
    plan
}

/// The mount that has the directory on which `mount` is mounted, perhaps on top of others.
fn above<'a>(table: &'a MountTable, mount: &Mount) -> Option<&'a Mount> {
    let parent = |mount: &Mount| table.iter().find(|other| other.id == mount.parent_id);
    let mut above = parent(mount)?;
    while above.mount_point == mount.mount_point {
        above = parent(above).filter(|next| next.id != above.id)?;
    }
    Some(above)
}

/// Why a file system is not shown.
fn unsuited(mount: &Mount) -> Option<&'static str> {
    let kind = mount.fs_type.as_str();
    match kind {
        _ if mount.is_fuse() || kind == "fuseblk" => {
            Some("a file system in user space could wait for this mount, which waits for it")
        }
        "autofs" => Some("what is mounted on demand can not be followed"),
        _ if mount.major != 0 || WITHOUT_A_DISK.contains(&kind) => None,
        _ => Some("it is the kernel's own, and answers each process differently"),
    }
}

/// Root, its own mount's root, options and kind of a file system.
type Root = (OwnedFd, OwnedFd, MountOptions, FsType);

/// Opens it if it answers within `patience`: one on a network may not until its server is there again.
/// Another process asks first, whom the kernel may keep for as long; and it is opened on a thread of its
/// own, which is left behind if it answers no more by then.
fn open_within(
    patience: &mut Duration,
    mount: &Mount,
    options: &MountOptions,
) -> Result<Root, String> {
    let (sender, opened) = mpsc::sync_channel(1);
    let (mount, options, within) = (mount.clone(), options.clone(), *patience);
    // Nobody waits any more if it took long: what was opened is closed.
    let work = move || {
        let answers = apart::ask(&mount.mount_point, within);
        drop(sender.send(answers.and_then(|()| open(&mount, &options))));
    };
    thread::Builder::new()
        .name("submount".to_owned())
        .spawn(work)
        .map_err(|error| format!("no thread can be had to open it: {error}"))?;
    let opened = opened.recv_timeout(within).unwrap_or_else(|_| Err(TimedOut.into()));
    opened.map_err(|error| match error.kind() {
        TimedOut => {
            *patience = PATIENCE_LEFT;
            format!("it does not answer within {} s", within.as_secs())
        }
        _ => error.to_string(),
    })
}

fn open(mount: &Mount, options: &MountOptions) -> io::Result<Root> {
    let opened = open_source(&mount.mount_point, options)?;
    let SourceRoot { root, private: true, held: Some(held), inherited } = opened else {
        return Err(io::Error::other("its mount can not be cloned"));
    };
    // Who may rename in the source could have led its path elsewhere, and somebody mounted over it.
    if !is_root_of(&held, mount.id)? {
        return Err(io::Error::other("something else is there by now"));
    }
    let kind = fstatfs(&root)?.filesystem_type();
    Ok((root, held, inherited, kind))
}

/// Whether a descriptor is that of the root directory of this mount.
pub(super) fn is_root_of(directory: &OwnedFd, mount: u64) -> io::Result<bool> {
    const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", directory.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    let stat = objfd::statx(directory.as_fd(), libc::AT_STATX_DONT_SYNC, 0)?;
    Ok(id == Some(mount) && stat.attributes & STATX_ATTR_MOUNT_ROOT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"1 1 8:1 / / rw - ext4 /dev/a rw\n\
        20 1 8:2 / /srv rw - ext4 /dev/b rw\n\
        21 20 8:3 / /srv/s/disk rw - xfs /dev/c rw\n\
        22 21 0:40 / /srv/s/disk/deep/mem rw - tmpfs none rw\n\
        23 20 8:4 / /srv/s/twice rw - ext4 /dev/d rw\n\
        24 23 0:41 / /srv/s/twice rw - tmpfs none rw\n\
        25 23 0:42 / /srv/s/twice/hidden rw - tmpfs none rw\n\
        26 20 0:43 / /srv/s/proc rw - proc proc rw\n\
        27 20 0:44 / /srv/s/user rw - fuse.sshfs none rw\n\
        28 20 0:45 / /srv/sibling rw - tmpfs none rw\n\
        29 20 0:46 / /srv/s/ntfs rw - fuseblk /dev/e rw\n\
        30 20 0:47 / /srv/s/auto rw - autofs none rw\n";

    fn ids(plan: &[(&Mount, Option<&Mount>)]) -> Vec<(u64, Option<u64>)> {
        plan.iter().map(|(mount, below)| (mount.id, below.map(|below| below.id))).collect()
    }

    #[test]
    fn what_a_walk_meets_is_told_with_what_it_lies_in() {
        let table = MountTable::parse(TABLE);
        let plan = plan(&table, Path::new("/srv/s"));
        let on_source = [21, 24, 26, 27, 29, 30].map(|id| (id, None));
        assert_eq!(ids(&plan)[..6], on_source, "neither what is hidden nor what lies elsewhere");
        assert_eq!(ids(&plan)[6..], [(22, Some(21))]);
        let unsuited = plan.iter().filter(|(mount, _)| unsuited(mount).is_some());
        assert_eq!(unsuited.map(|(mount, _)| mount.id).collect::<Vec<_>>(), [26, 27, 29, 30]);
    }

    #[test]
    fn the_source_may_be_a_mount_itself() {
        let table = MountTable::parse(TABLE);
        assert_eq!(ids(&plan(&table, Path::new("/srv/s/disk"))), [(22, None)]);
        assert_eq!(ids(&plan(&MountTable::default(), Path::new("/"))), []);
    }
}
