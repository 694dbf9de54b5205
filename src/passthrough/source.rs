//! Opening a source: what it is, what it can, and what of that its configuration makes use of.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statfs::{
    AFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, CODA_SUPER_MAGIC, EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC,
    FsType, MSDOS_SUPER_MAGIC, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, SMB_SUPER_MAGIC,
    TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use super::Local;
use super::handle::HandleTable;
use super::inode::{Access, InodeTable, Mounted, Part};
use super::submounts::{self, Submount};
use crate::coherence::{Prospect, Upkeep};
use crate::config::{Config, DataMode, Locality, MountOptions, Profile, ReplicaTrust};
use crate::locality::Replicas;
use crate::mountinfo::{Mount, MountTable};
use crate::sys::handle::FileHandle;
use crate::sys::mount::{SourceRoot, open_source};
use crate::sys::objfd;

/// Not in the C library's list.
const EXFAT_SUPER_MAGIC: FsType = FsType(0x2011_bab0);

/// File systems that open a file without asking anybody.
const LOCAL: [FsType; 4] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];

/// File systems whose copy_file_range is the kernel's own, by way of a pipe.
const PLAIN: [FsType; 2] = [EXT4_SUPER_MAGIC, TMPFS_MAGIC];

/// File systems behind which there is another program, here or on other machines. What was written is
/// theirs only once it is closed, and close(2) tells if they could not take it.
const REMOTE: [FsType; 12] = [
    FUSE_SUPER_MAGIC,
    NFS_SUPER_MAGIC,
    AFS_SUPER_MAGIC,
    CODA_SUPER_MAGIC,
    SMB_SUPER_MAGIC,
    FsType(0xff53_4d42), // CIFS
    FsType(0xfe53_4d42), // SMB 2
    FsType(0x0102_1997), // 9p
    FsType(0x00c3_6400), // Ceph
    FsType(0x0bd0_0bd0), // Lustre
    FsType(0x2003_0528), // OrangeFS
    FsType(0x6b41_4653), // the kernel's AFS
];

/// What the configuration decides for this file system.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) data: DataMode,
    /// All data is asked for, whatever else could be had: who knows where it is read then.
    pub(super) by_requests: bool,
    /// The kernel reads by itself where the bytes of a file lie, and nothing else.
    pub(super) holds_replicas: bool,
    /// allow_other or default_permissions: the kernel checks every caller's permissions.
    pub(super) kernel_checks: bool,
    /// The kernel opens files by itself, and asks by nodeid for what it reads.
    pub(super) opens_by_itself: bool,
    pub(super) xattr: bool,
    /// Reads do not change access times.
    pub(super) noatime: bool,
    /// A nodeid is a handle of the source's, and all of its file system is the source's: the kernel may hand
    /// out file handles that last.
    pub(super) exports: bool,
    /// Stacking depth to announce with passthrough.
    pub(super) stack_depth: u32,
    /// The source keeps blocks back for root.
    pub(super) has_reserve: bool,
    /// Opening a file of the source for reading is nothing that could fail.
    pub(super) opens_surely: bool,
    /// Copying within the source is reading and writing: no two files can share what they hold.
    pub(super) copies_plainly: bool,
    /// Closing a file of the source is what makes the source take what was written to it.
    pub(super) closing_tells: bool,
    /// The same of one that is mounted inside the source.
    pub(super) closing_tells_inside: bool,
    /// Who may use a mount on which the kernel does not check permissions.
    pub(super) owner: u32,
    /// As whom the daemon acts where it is not for its caller.
    pub(super) daemon: u32,
}

/// Why a source can not be shown.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It could not be opened.
    #[error("open the source {path}: {error}", path = .path.display())]
    Open {
        /// The source.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It can not be watched, as was asked for.
    #[error("{0}")]
    Coherence(String),
    /// What is mounted inside it can not be kept out, as was asked for.
    #[error(
        "--one-file-system can not be had: without CAP_SYS_ADMIN the source can not be opened apart \
         from what is mounted inside it; mount as root, or leave it out"
    )]
    OneFileSystem,
    /// Its files can not be read where they lie, as was asked for.
    #[error("{0}")]
    Locality(String),
    /// The mount point lies inside and could not be hidden from the daemon.
    #[error(
        "the mount point {mountpoint} lies inside the source {path}, and without CAP_SYS_ADMIN the \
         daemon would wait for itself there; choose a mount point elsewhere, or mount as root",
        mountpoint = .mountpoint.display(), path = .path.display()
    )]
    Inside {
        /// The source.
        path: PathBuf,
        /// The mount point.
        mountpoint: PathBuf,
    },
}

impl Local {
    /// Opens the source of `config`. Descriptors for inodes are bounded by a share of
    /// `nofile_limit`, RLIMIT_NOFILE.
    pub fn new(config: &Config, nofile_limit: u64) -> std::result::Result<Self, SourceError> {
        let failed = |error| SourceError::Open { path: config.source.clone(), error };
        let SourceRoot { root, private, held, mut inherited } =
            open_source(&config.source, &config.mount).map_err(failed)?;
        let mut held = Vec::from_iter(held);
        if !private && config.mountpoint.starts_with(&config.source) {
            let (path, mountpoint) = (config.source.clone(), config.mountpoint.clone());
            return Err(SourceError::Inside { path, mountpoint });
        }
        if !private && config.one_file_system {
            return Err(SourceError::OneFileSystem);
        }
        let others = match private && !config.one_file_system {
            // A quarter of the descriptors, two for each.
            true => {
                let most = usize::try_from(nofile_limit / 8).unwrap_or(usize::MAX);
                submounts::open_all(&config.source, &config.mount, most)
            }
            false => Vec::new(),
        };
        // Listing it must be possible at all; and open_by_handle_at needs such a descriptor.
        let mount = objfd::reopen(root.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|errno| failed(errno.into()))?;
        let mount = File::from(mount);
        let replicas = find_replicas(config, &mount).map_err(SourceError::Locality)?;
        let mount = OwnedFd::from(mount);
        let kind = fstatfs(&root).map_err(|errno| failed(errno.into()))?.filesystem_type();
        // On a mount that others change too, something else may come to lie below the source, and
        // a handle does not say of which file system it is.
        let handles_work = private && probe_handles(&root, &mount, kind);
        let kinds = || others.iter().map(|other| other.kind).chain([kind]);
        let quarter = usize::try_from(nofile_limit / 4).unwrap_or(usize::MAX).max(16);
        let capacity = config.fd_cache.map_or(quarter, |count| count.get().min(quarter));
        let prospect = Prospect { directory: &mount, private, handles: handles_work };
        let upkeep = Upkeep::new(config, &prospect).map_err(SourceError::Coherence)?;
        let access = match handles_work {
            true => Access::Handles(mount),
            // Copied up, a file of an overlay is born again.
            false => Access::Names { keeps_birth: !is_stacked(kind) },
        };
        let mut inodes =
            InodeTable::new(root, access, capacity).map_err(|errno| failed(errno.into()))?;
        let settings = Settings {
            data: config.data,
            by_requests: replicas.any() && config.replica == ReplicaTrust::Checked,
            holds_replicas: replicas.any() && config.replica == ReplicaTrust::Held,
            kernel_checks: config.mount.allow_other || config.mount.default_permissions,
            opens_by_itself: config.profile == Profile::ReadMostly,
            xattr: config.xattr,
            noatime: config.mount.noatime || inherited.noatime,
            exports: others.is_empty()
                && inodes.are_handles()
                && held.first().is_some_and(|held| is_whole(&config.source, held)),
            stack_depth: if kinds().any(is_stacked) { 2 } else { 1 },
            has_reserve: kinds().any(|kind| kind == EXT4_SUPER_MAGIC),
            opens_surely: handles_work && LOCAL.contains(&kind),
            copies_plainly: kinds().all(|kind| PLAIN.contains(&kind)),
            closing_tells: REMOTE.contains(&kind),
            closing_tells_inside: others.iter().any(|other| REMOTE.contains(&other.kind)),
            owner: nix::unistd::getuid().as_raw(),
            daemon: nix::unistd::geteuid().as_raw(),
        };
        attach_all(&mut inodes, others, &mut inherited, &mut held);
        // A file may be open a second time where its bytes lie.
        let each = if replicas.any() { 2 } else { 1 };
        let handles = HandleTable::new(open_limit(nofile_limit) / each);
        let (data, streams) = Default::default();
        let (inodes, answers) = (Arc::new(inodes), Arc::default());
        Ok(Local {
            inodes,
            answers,
            upkeep,
            handles,
            streams,
            data,
            settings,
            replicas,
            inherited,
            _held: held,
        })
    }
}

/// Adds what is mounted inside a source to its table, its mounts to those that are `held` busy, and to
/// what is `inherited` what must not be done there.
fn attach_all(
    inodes: &mut InodeTable,
    others: Vec<Submount>,
    inherited: &mut MountOptions,
    held: &mut Vec<OwnedFd>,
) {
    let mut parts: Vec<Option<Part>> = Vec::new();
    for Submount { on, path, root, held: busy, inherited: options, kind } in others {
        // One superblock has one set of these: what may not be done there is done nowhere.
        inherited.nosuid |= options.nosuid;
        inherited.nodev |= options.nodev;
        inherited.noexec |= options.noexec;
        let on = on.map_or(Some(Part::MAIN), |index| parts[index]);
        let may_wait = REMOTE.contains(&kind);
        let mounted = Mounted { root, keeps_birth: !is_stacked(kind), may_wait };
        let attached = on.ok_or(Errno::ENOENT).and_then(|on| inodes.attach(on, &path, mounted));
        match &attached {
            Ok(_) => held.push(busy),
            Err(errno) => {
                let path = path.display();
                tracing::warn!(%errno, "what is mounted at {path} inside the source is not shown");
            }
        }
        parts.push(attached.ok());
    }
}

/// How many files may be open, of `nofile_limit` descriptors. Cached descriptors give way to open files;
/// the rest is for what operations open in passing, and for the daemon itself, whose threads have up to
/// eight each.
fn open_limit(nofile_limit: u64) -> u64 {
    let own = 48 + 8 * std::thread::available_parallelism().map_or(1, usize::from) as u64;
    nofile_limit.saturating_sub(own).max(nofile_limit / 2)
}

/// Whether another file system lies below, so that one object may be two, one after the other.
fn is_stacked(kind: FsType) -> bool {
    [OVERLAYFS_SUPER_MAGIC, FUSE_SUPER_MAGIC].contains(&kind)
}

/// Where the files of the source `mount`, a directory open for reading, are read.
fn find_replicas(config: &Config, mount: &File) -> std::result::Result<Replicas, String> {
    let asked = config.locality;
    let held = config.replica == ReplicaTrust::Held;
    let against = match (config.data, config.profile) {
        _ if asked == Locality::Off => None,
        (_, Profile::ReadMostly) => Some("profile=read-mostly, which has the kernel open files"),
        (DataMode::Passthrough, _) if !held => {
            Some("--data passthrough, which has the kernel ask nobody")
        }
        (DataMode::Copy | DataMode::Splice, _) if held => {
            Some("--data copy or splice, as replica=held has the kernel read by itself")
        }
        _ => None,
    };
    if held && asked == Locality::Off {
        return Err(
            "replica=held says how locality= is done: say which, as locality=auto".to_owned()
        );
    }
    if held && !config.mount.ro {
        return Err("replica=held takes a read-only mount, -o ro: who writes through a mapping would write \
                    behind the distributed file system's back".to_owned());
    }
    if let Some(other) = against {
        return Err(format!("-o locality={asked} does not go with {other}; leave out one"));
    }
    let replicas = Replicas::new(config, mount)?;
    match held && !replicas.may_be_held() {
        true => Err(
            "replica=held is not for this system, which writes a file anew: a mapping would go on \
                     showing the old one; leave it out"
                .to_owned(),
        ),
        false => Ok(replicas),
    }
}

/// Whether `source`, which `held` is a descriptor of, is the root of its file system: then all that a handle
/// of it may name lies inside.
fn is_whole(source: &Path, held: &OwnedFd) -> bool {
    let table = MountTable::read().unwrap_or_default();
    let is_root = |mount: &Mount| submounts::is_root_of(held, mount.id).unwrap_or(false);
    table.top_at(source).is_some_and(|mount| mount.root == Path::new("/") && is_root(mount))
}

/// Whether inodes can be reopened by handle: the source has handles and we may use them.
fn probe_handles(root: &OwnedFd, mount: &OwnedFd, kind: FsType) -> bool {
    // Their handles are good only while the inode is in memory. Behind FUSE it is up to the server,
    // and most forget what the kernel has forgotten.
    let volatile = [MSDOS_SUPER_MAGIC, EXFAT_SUPER_MAGIC, FUSE_SUPER_MAGIC].contains(&kind);
    let reopened =
        FileHandle::of(root.as_fd()).and_then(|handle| handle.open(mount.as_fd(), libc::O_PATH));
    match reopened {
        Ok(_) if !volatile => true,
        result => {
            let errno = result.err();
            tracing::info!(?errno, "no file handles: inodes are opened again by their names");
            false
        }
    }
}
