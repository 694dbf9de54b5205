//! The local passthrough file system: a directory of this machine, shown as it is.
//!
//! A source is opened, and found out about, in `source`. Every inode is known by its file handle
//! (`inode`), reached by a cached O_PATH descriptor (`fds`), and every open file by a descriptor of the
//! source (`handle`). Which opens the kernel serves by itself is decided in `backing` alone. Operations
//! stand in one file per family.

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
mod source;
mod streams;
mod submounts;
mod xattr;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::abi::{self, InitFlags};
use crate::coherence::{Answer, Answers, Trust, Upkeep};
use crate::config::{DataMode, MountOptions};
use crate::fs::{
    Attributes, Caller, Data, DirSink, Entry, Fh, Filesystem, IoctlBuffers, Kernel, Name,
    Negotiated, NodeId, Opened, Payload, Rename, Result, SetXattr, StatxReply, Wanted,
};
use crate::locality::Replicas;
use crate::metrics::snapshot;
use crate::sys::objfd;

use backing::{DataPath, Registrar, Writer};
use handle::HandleTable;
use inode::{InodeTable, Part};
use source::Settings;
use streams::Streams;

#[doc(hidden)]
pub use inode::alone::TableAlone;
pub use source::SourceError;

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

impl Local {
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
        flags.set(InitFlags::EXPORT_SUPPORT, self.settings.exports);
        // No handles rather than such as fail once the kernel has forgotten the inode.
        flags.set(InitFlags::NO_EXPORT_SUPPORT, !self.settings.exports);
        let by_daemon = matches!(self.data_mode(), DataMode::Copy | DataMode::Splice);
        flags.set(InitFlags::PASSTHROUGH, !by_daemon);
        Wanted { flags, max_stack_depth: self.settings.stack_depth, ..Wanted::default() }
    }

    fn init(&self, negotiated: &Negotiated, kernel: Kernel) -> std::io::Result<()> {
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

    fn lookup_self(&self, nodeid: NodeId) -> Result<Entry> {
        let _answer = self.answer();
        self.do_lookup_self(nodeid)
    }

    fn lookup_parent(&self, nodeid: NodeId) -> Result<Entry> {
        let _answer = self.answer();
        self.do_lookup_parent(nodeid)
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

    fn read(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        out: &mut Payload<'_>,
    ) -> Result<Data> {
        if self.settings.opens_by_itself {
            self.admit(caller)?;
        }
        self.do_read(nodeid, args, out)
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
