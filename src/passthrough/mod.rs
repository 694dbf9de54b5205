//! The local passthrough file system: a directory of this machine, shown as it is.
//!
//! Every inode is known by its file handle (`inode`), reached by a cached O_PATH descriptor
//! (`fds`), and every open file by a descriptor of the source (`handle`). Which opens the kernel
//! serves by itself is decided in `backing` alone. Operations stand in one file per family.

mod attr;
mod backing;
mod dir;
mod fds;
mod handle;
mod inode;
mod io;
mod known;
mod namespace;
mod open;
mod shard;
mod streams;
mod submounts;
mod xattr;

use std::ffi::CStr;
use std::fs::File;
use std::io as stdio;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    AFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, CODA_SUPER_MAGIC, EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC,
    FsType, MSDOS_SUPER_MAGIC, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, SMB_SUPER_MAGIC,
    TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use crate::abi::{self, InitFlags};
use crate::coherence::{Answer, Answers, Prospect, Trust, Upkeep};
use crate::config::{Config, DataMode, Locality, MountOptions, Profile, ReplicaTrust};
use crate::fs::{
    Attributes, Caller, Data, DirSink, Entry, Fh, Filesystem, IoctlBuffers, Kernel, Name,
    Negotiated, NodeId, Opened, Payload, Rename, Result, SetXattr, StatxReply, Wanted,
};
use crate::locality::Replicas;
use crate::metrics::snapshot;
use crate::sys::handle::FileHandle;
use crate::sys::mount::{SourceRoot, open_source};
use crate::sys::objfd;

use backing::{DataPath, Registrar, Writer};
use handle::HandleTable;
use inode::{Access, InodeTable, Mounted, Part};
use streams::Streams;
use submounts::Submount;

#[doc(hidden)]
pub use inode::alone::TableAlone;

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

/// A directory of this machine as a file system.
#[derive(Debug)]
pub struct Local {
    inodes: Arc<InodeTable>,
    answers: Arc<Answers>,
    upkeep: Upkeep,
    handles: HandleTable,
    streams: Streams,
    /// Chosen by init, which comes again if a first connection was given up.
    data: RwLock<Option<Arc<DataPath>>>,
    settings: Settings,
    replicas: Replicas,
    inherited: MountOptions,
    /// Keep the mounts of the source, and inside it, busy.
    _held: Vec<OwnedFd>,
}

/// What the configuration decides for this file system.
#[derive(Debug, Clone)]
struct Settings {
    data: DataMode,
    /// All data is asked for, whatever else could be had: who knows where it is read then.
    by_requests: bool,
    /// The kernel reads by itself where the bytes of a file lie, and nothing else.
    holds_replicas: bool,
    /// allow_other or default_permissions: the kernel checks every caller's permissions.
    kernel_checks: bool,
    /// The kernel opens files by itself, and asks by nodeid for what it reads.
    opens_by_itself: bool,
    xattr: bool,
    /// Reads do not change access times.
    noatime: bool,
    /// Stacking depth to announce with passthrough.
    stack_depth: u32,
    /// The source keeps blocks back for root.
    has_reserve: bool,
    /// Opening a file of the source for reading is nothing that could fail.
    opens_surely: bool,
    /// Copying within the source is reading and writing: no two files can share what they hold.
    copies_plainly: bool,
    /// Closing a file of the source is what makes the source take what was written to it.
    closing_tells: bool,
    /// The same of one that is mounted inside the source.
    closing_tells_inside: bool,
    /// Who may use a mount on which the kernel does not check permissions.
    owner: u32,
    /// As whom the daemon acts where it is not for its caller.
    daemon: u32,
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
        error: stdio::Error,
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
        let is_stacked = |kind| [OVERLAYFS_SUPER_MAGIC, FUSE_SUPER_MAGIC].contains(&kind);
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
            stack_depth: if kinds().any(is_stacked) { 2 } else { 1 },
            has_reserve: kinds().any(|kind| kind == EXT4_SUPER_MAGIC),
            opens_surely: handles_work && LOCAL.contains(&kind),
            copies_plainly: kinds().all(|kind| PLAIN.contains(&kind)),
            closing_tells: REMOTE.contains(&kind),
            closing_tells_inside: others.iter().any(|other| REMOTE.contains(&other.kind)),
            owner: nix::unistd::getuid().as_raw(),
            daemon: nix::unistd::geteuid().as_raw(),
        };
        let mut parts: Vec<Option<Part>> = Vec::new();
        for Submount { on, path, root, held: busy, inherited: options, kind } in others {
            // One superblock has one set of these: what may not be done there is done nowhere.
            inherited.nosuid |= options.nosuid;
            inherited.nodev |= options.nodev;
            inherited.noexec |= options.noexec;
            let on = on.map_or(Some(Part::MAIN), |index| parts[index]);
            let attached = on.ok_or(Errno::ENOENT).and_then(|on| {
                let may_wait = REMOTE.contains(&kind);
                let mounted = Mounted { root, keeps_birth: !is_stacked(kind), may_wait };
                inodes.attach(on, &path, mounted).inspect_err(|errno| {
                    let path = path.display();
                    tracing::warn!(%errno, "what is mounted at {path} inside the source is not shown");
                })
            });
            if attached.is_ok() {
                held.push(busy);
            }
            parts.push(attached.ok());
        }
        // Cached descriptors give way to open files; the rest is for what operations open in passing,
        // and for the daemon itself, whose threads have up to eight each.
        let own = 48 + 8 * std::thread::available_parallelism().map_or(1, usize::from) as u64;
        // A file may be open a second time where its bytes lie.
        let each = if replicas.any() { 2 } else { 1 };
        let open_limit = nofile_limit.saturating_sub(own).max(nofile_limit / 2) / each;
        let handles = HandleTable::new(open_limit);
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

    /// Options of the source's own mount that the FUSE mount must have too.
    pub fn inherited(&self) -> &MountOptions {
        &self.inherited
    }

    /// What is alive now; figures of the process are left zero.
    pub fn live(&self) -> snapshot::Live {
        let (open_files, open_dirs) = self.handles.counts();
        snapshot::Live {
            inodes: self.inodes.len(),
            open_files,
            open_dirs,
            backing_ids: self.data_path().map_or(0, |data| data.registered()),
            cached_fds: self.inodes.cached_fds(),
            ..snapshot::Live::default()
        }
    }

    /// Who moves the bytes of files, and why.
    pub fn data(&self) -> snapshot::Data {
        let requested = match self.settings.data {
            DataMode::Auto => "auto",
            DataMode::Passthrough => "passthrough",
            DataMode::Splice => "splice",
            DataMode::Copy => "copy",
        };
        let (mode, mut reason) = self.data_path().map_or(("copy", None), |data| data.describe());
        if self.settings.by_requests {
            reason = Some("locality has each READ answered from where the bytes are".to_owned());
        }
        snapshot::Data { mode: mode.to_owned(), requested: requested.to_owned(), reason }
    }

    /// What keeps the kernel's caches true to the source.
    pub fn coherence(&self) -> snapshot::Coherence {
        self.upkeep.describe()
    }

    /// Where the bytes of a distributed file system's files are read.
    pub fn locality(&self) -> snapshot::Locality {
        self.replicas.describe()
    }

    /// The mount is gone: ends what was kept up for it.
    pub fn end(&self) {
        self.upkeep.end();
    }

    /// Writes everything of the source's file system to its disk.
    pub fn sync(&self) {
        if let Err(errno) = self.do_syncfs(NodeId::ROOT) {
            tracing::warn!(%errno, "could not sync the source");
        }
        for root in self.inodes.other_roots() {
            let synced = objfd::reopen(root.as_fd(), OFlag::O_RDONLY).and_then(nix::unistd::syncfs);
            if let Err(errno) = synced {
                tracing::warn!(%errno, "could not sync a file system inside the source");
            }
        }
    }

    /// Refuses callers whom a native owner-only directory would not have let in: without
    /// default_permissions the kernel checked who mounted, but not a changed file-system uid.
    fn admit(&self, caller: &Caller) -> Result<()> {
        match self.settings.kernel_checks || caller.uid == self.settings.owner {
            true => Ok(()),
            false => Err(Errno::EACCES),
        }
    }

    /// How far the kernel may trust what it is told of an inode, or of a name in it.
    fn trust(&self, nodeid: NodeId) -> Trust {
        match self.inodes.part(nodeid) {
            Part::MAIN => self.upkeep.trust(),
            _ => self.upkeep.trust_elsewhere(),
        }
    }

    /// Whether closing a file is what makes its file system take what was written to it.
    fn closing_tells(&self, nodeid: NodeId) -> bool {
        let Settings { closing_tells, closing_tells_inside, .. } = self.settings;
        match closing_tells == closing_tells_inside || self.inodes.part(nodeid) == Part::MAIN {
            true => closing_tells,
            false => closing_tells_inside,
        }
    }

    /// Whether the kernel may open directories by itself and list them by nodeid: what it keeps of a
    /// listing, of any, is good until it is told otherwise, and nobody but it decides who may list, or
    /// nobody has to.
    fn lists_by_itself(&self) -> bool {
        let open_to_all = self.settings.kernel_checks || self.settings.daemon == 0;
        let told = self.inodes.is_whole() || self.upkeep.trust_elsewhere().caches;
        self.upkeep.tells() && told && open_to_all
    }

    /// ENOSYS, upon which the kernel asks no more, on a mount without extended attributes.
    fn offer_xattr(&self) -> Result<()> {
        if self.settings.xattr { Ok(()) } else { Err(Errno::ENOSYS) }
    }

    /// An answer begins that the kernel will take at its word.
    fn answer(&self) -> Answer<'_> {
        self.answers.begin(shard::own())
    }

    /// Who moves data, as far as this file system has a choice.
    fn data_mode(&self) -> DataMode {
        match self.settings.by_requests {
            true => DataMode::Copy,
            false => self.settings.data,
        }
    }

    /// ENOTCONN before init, which precedes every request.
    fn data_path(&self) -> Result<Arc<DataPath>> {
        let data = self.data.read().unwrap_or_else(PoisonError::into_inner);
        data.clone().ok_or(Errno::ENOTCONN)
    }
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

impl Filesystem for Local {
    fn wanted(&self) -> Wanted {
        let mut flags = Wanted::BASE
            | InitFlags::ATOMIC_O_TRUNC
            | InitFlags::DONT_MASK
            | InitFlags::AUTO_INVAL_DATA
            | InitFlags::DO_READDIRPLUS
            | InitFlags::READDIRPLUS_AUTO
            | InitFlags::HANDLE_KILLPRIV_V2
            | InitFlags::CACHE_SYMLINKS;
        flags.set(InitFlags::POSIX_ACL, self.settings.kernel_checks);
        let by_daemon = matches!(self.data_mode(), DataMode::Copy | DataMode::Splice);
        flags.set(InitFlags::PASSTHROUGH, !by_daemon);
        Wanted { flags, max_stack_depth: self.settings.stack_depth, ..Wanted::default() }
    }

    fn init(&self, negotiated: &Negotiated, kernel: Kernel) -> stdio::Result<()> {
        // Where others than root write, they must not get at what is kept back for root.
        let writer = match (self.settings.kernel_checks, self.settings.has_reserve) {
            (false, _) => Writer::Daemon,
            (true, false) => Writer::Groupless,
            (true, true) => Writer::Nobody,
        };
        let shown = known::Shown {
            inodes: self.inodes.clone(),
            answers: self.answers.clone(),
            opens_by_itself: self.settings.opens_by_itself,
        };
        self.upkeep.begin(negotiated, kernel.clone(), Arc::new(shown))?;
        let path = DataPath::choose(self.data_mode(), negotiated, Registrar::new(kernel, writer))?;
        *self.data.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(path));
        Ok(())
    }

    fn may_wait(&self, nodeid: NodeId) -> bool {
        self.closing_tells(nodeid)
    }

    fn lookup(&self, caller: &Caller, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        let _answer = self.answer();
        self.admit(caller)?;
        self.do_lookup(parent, name)
    }

    fn forget(&self, nodeid: NodeId, nlookup: u64) {
        self.inodes.forget(nodeid, nlookup);
    }

    fn getattr(&self, _: &Caller, nodeid: NodeId, fh: Option<Fh>) -> Result<Attributes> {
        self.do_getattr(nodeid, fh)
    }

    fn statx(&self, _: &Caller, nodeid: NodeId, args: &abi::StatxIn) -> Result<StatxReply> {
        self.do_statx(nodeid, args)
    }

    fn setattr(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::SetattrIn,
    ) -> Result<Attributes> {
        let _answer = self.answer();
        self.do_setattr(caller, nodeid, args)
    }

    fn readlink(&self, _: &Caller, nodeid: NodeId, out: &mut Payload<'_>) -> Result<()> {
        self.do_readlink(nodeid, out)
    }

    fn symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry> {
        let _answer = self.answer();
        self.admit(caller)?;
        self.do_symlink(caller, parent, name, target)
    }

    fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MknodIn,
    ) -> Result<Entry> {
        let _answer = self.answer();
        self.admit(caller)?;
        self.do_mknod(caller, parent, name, args)
    }

    fn mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MkdirIn,
    ) -> Result<Entry> {
        let _answer = self.answer();
        self.admit(caller)?;
        self.do_mkdir(caller, parent, name, args)
    }

    fn unlink(&self, caller: &Caller, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.admit(caller)?;
        self.do_remove(parent, name, nix::unistd::UnlinkatFlags::NoRemoveDir)
    }

    fn rmdir(&self, caller: &Caller, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.admit(caller)?;
        self.do_remove(parent, name, nix::unistd::UnlinkatFlags::RemoveDir)
    }

    fn rename(&self, caller: &Caller, names: &Rename<'_>) -> Result<()> {
        self.admit(caller)?;
        self.do_rename(caller, names)
    }

    fn link(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        newparent: NodeId,
        newname: Name<'_>,
    ) -> Result<Entry> {
        let _answer = self.answer();
        self.admit(caller)?;
        self.do_link(nodeid, newparent, newname)
    }

    fn open(&self, caller: &Caller, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        self.admit(caller)?;
        self.do_open(caller, nodeid, args)
    }

    fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::CreateIn,
    ) -> Result<(Entry, Opened)> {
        let _answer = self.answer();
        self.admit(caller)?;
        self.do_create(caller, parent, name, args)
    }

    fn tmpfile(
        &self,
        caller: &Caller,
        parent: NodeId,
        args: &abi::CreateIn,
    ) -> Result<(Entry, Opened)> {
        let _answer = self.answer();
        self.admit(caller)?;
        self.do_tmpfile(caller, parent, args)
    }

    fn read(&self, caller: &Caller, nodeid: NodeId, args: &abi::ReadIn) -> Result<Data<'_>> {
        if self.settings.opens_by_itself {
            self.admit(caller)?;
        }
        self.do_read(nodeid, args)
    }

    fn write(&self, caller: &Caller, _: NodeId, args: &abi::WriteIn, data: &[u8]) -> Result<u32> {
        self.do_write(caller, args, data)
    }

    fn write_from(
        &self,
        caller: &Caller,
        _: NodeId,
        args: &abi::WriteIn,
        pipe: BorrowedFd<'_>,
    ) -> Result<Option<u32>> {
        self.do_write_from(caller, args, pipe)
    }

    fn statfs(&self, _: &Caller, nodeid: NodeId) -> Result<abi::Kstatfs> {
        self.do_statfs(nodeid)
    }

    fn release(&self, _: NodeId, args: &abi::ReleaseIn) -> Result<()> {
        self.do_release(Fh(args.fh));
        Ok(())
    }

    fn flush(&self, _: &Caller, _: NodeId, args: &abi::FlushIn) -> Result<()> {
        self.do_flush(Fh(args.fh))
    }

    fn fsync(&self, _: &Caller, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        self.do_fsync(nodeid, args)
    }

    fn opendir(&self, caller: &Caller, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        self.admit(caller)?;
        self.do_opendir(nodeid, args)
    }

    fn readdir(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        self.admit(caller)?;
        self.do_readdir(nodeid, args, sink)
    }

    fn readdirplus(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        self.admit(caller)?;
        let _answer = self.answer();
        self.do_readdirplus(nodeid, args, sink)
    }

    fn releasedir(&self, _: NodeId, args: &abi::ReleaseIn) -> Result<()> {
        self.handles.close_dir(Fh(args.fh));
        Ok(())
    }

    fn fsyncdir(&self, _: &Caller, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        self.do_fsyncdir(nodeid, args)
    }

    fn setxattr(&self, caller: &Caller, nodeid: NodeId, xattr: &SetXattr<'_>) -> Result<()> {
        self.offer_xattr()?;
        self.admit(caller)?;
        self.do_setxattr(nodeid, xattr)
    }

    fn getxattr(&self, _: &Caller, nodeid: NodeId, name: &CStr, value: &mut [u8]) -> Result<usize> {
        self.offer_xattr()?;
        self.do_getxattr(nodeid, name, value)
    }

    fn listxattr(&self, caller: &Caller, nodeid: NodeId, list: &mut [u8]) -> Result<usize> {
        self.offer_xattr()?;
        self.do_listxattr(caller, nodeid, list)
    }

    fn removexattr(&self, caller: &Caller, nodeid: NodeId, name: &CStr) -> Result<()> {
        self.offer_xattr()?;
        self.admit(caller)?;
        self.do_removexattr(nodeid, name)
    }

    fn access(&self, caller: &Caller, nodeid: NodeId, mask: u32) -> Result<()> {
        self.admit(caller)?;
        self.do_access(nodeid, mask)
    }

    fn fallocate(&self, caller: &Caller, _: NodeId, args: &abi::FallocateIn) -> Result<()> {
        self.do_fallocate(caller, args)
    }

    fn lseek(&self, _: &Caller, nodeid: NodeId, args: &abi::LseekIn) -> Result<u64> {
        self.do_lseek(nodeid, args)
    }

    fn copy_file_range(
        &self,
        caller: &Caller,
        _: NodeId,
        args: &abi::CopyFileRangeIn,
    ) -> Result<u64> {
        self.do_copy_file_range(caller, args)
    }

    fn ioctl(
        &self,
        _: &Caller,
        nodeid: NodeId,
        args: &abi::IoctlIn,
        buffers: IoctlBuffers<'_>,
    ) -> Result<i32> {
        self.do_ioctl(nodeid, args, buffers)
    }

    fn syncfs(&self, _: &Caller, nodeid: NodeId) -> Result<()> {
        self.do_syncfs(nodeid)
    }

    fn tick(&self) -> bool {
        // Both, whatever the first says.
        self.inodes.age() | self.streams.age()
    }
}

/// Opens `name` in the directory `parent` without following a link: the object itself.
fn open_child(parent: BorrowedFd<'_>, name: Name<'_>) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(parent, name.as_c_str(), flags, Mode::empty())
}

/// An owned descriptor as a file that may be shared.
fn shared(fd: OwnedFd) -> Arc<File> {
    Arc::new(File::from(fd))
}
