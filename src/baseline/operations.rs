//! fuser's trait on ours: each operation rebuilt as the kernel sent it.

use std::cell::RefCell;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

use fuser::{
    FileHandle, Generation, INodeNo, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
};
use nix::errno::Errno;

use super::adapter::{Adapter, open_flags};
use super::convert::{Changes, Text, attributes, caller, nodeid, size, valid};
use super::{listing, xattr};
use crate::abi::{self, InitFlags, Opcode};
use crate::fs::{
    Data, DirSink, Fh, Filesystem, IoctlBuffers, Negotiated, Payload, Rename, SetXattr,
};
use crate::protocol::encode::ReplyBuf;
use crate::transport::dev::read_range;

/// The newest protocol that fuser knows.
const FUSER_MINOR: u32 = 40;
/// What fuser's decoder leaves out of requests, or what would need an answer that it can not give.
const NOT_WITH_FUSER: InitFlags = InitFlags::PASSTHROUGH
    .union(InitFlags::HANDLE_KILLPRIV_V2)
    .union(InitFlags::SETXATTR_EXT)
    .union(InitFlags::EXPORT_SUPPORT)
    .union(InitFlags::INIT_EXT);
/// What the kernel mostly asks for when it lists a directory.
const LISTING: u32 = 32 << 10;
/// Longest target of a symbolic link.
const TARGET_MAX: usize = 4096;
const DATASYNC: u32 = abi::FSYNC_FDATASYNC;

thread_local! {
    /// Memory for what is read and listed.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<F: Filesystem + ?Sized> fuser::Filesystem for Adapter<F> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = self.fs.wanted();
        wanted.max_write = self.max_write.unwrap_or(wanted.max_write);
        let offered = InitFlags::from_bits_retain(config.capabilities().bits());
        // What fuser asks for by itself is part of what every file system wants here.
        let flags = offered & wanted.flags & !NOT_WITH_FUSER;
        let refused = |_| io::Error::other("fuser refuses what the file system wants of INIT");
        let known = fuser::InitFlags::from_bits_retain(flags.bits());
        config.add_capabilities(known).map_err(|_| refused(0))?;
        config.set_max_write(wanted.max_write).map_err(refused)?;
        config.set_max_background(wanted.max_background).map_err(|_| refused(0))?;
        let negotiated = Negotiated {
            minor: config.kernel_abi().1.min(FUSER_MINOR),
            flags,
            offered,
            max_write: wanted.max_write,
            // It names the largest it takes when it is asked for more.
            max_readahead: config.set_max_readahead(u32::MAX).unwrap_or_else(|largest| largest),
            max_background: wanted.max_background,
            max_stack_depth: 0,
        };
        if let Some(kernel) = self.kernel.take() {
            self.fs.init(&negotiated, kernel)?;
        }
        self.negotiated.set(negotiated).map_err(|_| io::Error::other("fuser asks twice for INIT"))
    }

    fn destroy(&mut self) {
        self.fs.destroy();
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(Opcode::Lookup, reply, |fs| {
            fs.lookup(&caller(req), nodeid(parent), Text::new(name)?.name()?)
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        // fuser makes several of one BATCH_FORGET.
        let arrived = Instant::now();
        if let Ok(shard) = self.shard() {
            self.fs.forget(nodeid(ino), nlookup);
            shard.record(Opcode::Forget, Ok(()), arrived.elapsed());
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let ask = |fs: &F| fs.getattr(&caller(req), nodeid(ino), fh.map(|fh| Fh(fh.0)));
        self.serve(Opcode::Getattr, reply, ask, |reply, got| {
            reply.attr(&got.valid, &attributes(nodeid(ino), &got));
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let args = Changes { mode, uid, gid, size, atime, mtime, ctime, fh }.args();
        let ask = |fs: &F| fs.setattr(&caller(req), nodeid(ino), &args);
        self.serve(Opcode::Setattr, reply, ask, |reply, got| {
            reply.attr(&got.valid, &attributes(nodeid(ino), &got));
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let mut room = [0; TARGET_MAX];
        let mut target = ReplyBuf::new(&mut room);
        let ask = |fs: &F| {
            fs.readlink(&caller(req), nodeid(ino), target.payload())?;
            Ok(target)
        };
        self.serve(Opcode::Readlink, reply, ask, |reply, target| reply.data(target.parts().1));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let args = abi::MknodIn { mode, rdev, umask, padding: 0 };
        self.entry(Opcode::Mknod, reply, |fs| {
            fs.mknod(&caller(req), nodeid(parent), Text::new(name)?.name()?, &args)
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let args = abi::MkdirIn { mode, umask };
        self.entry(Opcode::Mkdir, reply, |fs| {
            fs.mkdir(&caller(req), nodeid(parent), Text::new(name)?.name()?, &args)
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Opcode::Unlink, reply, |fs| {
            fs.unlink(&caller(req), nodeid(parent), Text::new(name)?.name()?)
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Opcode::Rmdir, reply, |fs| {
            fs.rmdir(&caller(req), nodeid(parent), Text::new(name)?.name()?)
        });
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.entry(Opcode::Symlink, reply, |fs| {
            let target = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
            fs.symlink(&caller(req), nodeid(parent), Text::new(link_name)?.name()?, &target)
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        // fuser makes one of RENAME and RENAME2.
        self.empty(Opcode::Rename2, reply, |fs| {
            let (name, newname) = (Text::new(name)?, Text::new(newname)?);
            let names = Rename {
                parent: nodeid(parent),
                name: name.name()?,
                newparent: nodeid(newparent),
                newname: newname.name()?,
                flags: flags.bits(),
            };
            fs.rename(&caller(req), &names)
        });
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.entry(Opcode::Link, reply, |fs| {
            fs.link(&caller(req), nodeid(ino), nodeid(newparent), Text::new(newname)?.name()?)
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let args = abi::OpenIn { flags: flags.0.cast_unsigned(), open_flags: 0 };
        self.opened(Opcode::Open, reply, |fs| fs.open(&caller(req), nodeid(ino), &args));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let args = abi::CreateIn { flags: flags.cast_unsigned(), mode, umask, open_flags: 0 };
        let ask = |fs: &F| fs.create(&caller(req), nodeid(parent), Text::new(name)?.name()?, &args);
        self.serve(Opcode::Create, reply, ask, |reply, (entry, opened)| {
            let attr = attributes(entry.nodeid, &entry.attributes);
            let (generation, fh) = (Generation(entry.generation), FileHandle(opened.fh.0));
            reply.created(&valid(&entry), &attr, generation, fh, open_flags(&opened));
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let lock_owner = lock_owner.map_or(0, |owner| owner.0);
        let flags = flags.0.cast_unsigned();
        let args =
            abi::ReadIn { fh: fh.0, offset, size, lock_owner, flags, ..abi::ReadIn::default() };
        let limit = self::size(size);
        with_buffer(limit, |buffer| {
            let ask = |fs: &F| {
                let mut payload = Payload::new(&mut buffer[..limit]);
                let count = match fs.read(&caller(req), nodeid(ino), &args, &mut payload)? {
                    Data::Filled => payload.filled().len(),
                    Data::FileRange { file, offset, len } => {
                        let len = self::size(len).min(limit);
                        read_range(&file, offset, &mut buffer[..len])?
                    }
                };
                Ok((buffer, count))
            };
            self.serve(Opcode::Read, reply, ask, |reply, (buffer, count)| {
                if let Ok(shard) = self.shard() {
                    shard.record_read(count);
                }
                reply.data(&buffer[..count]);
            });
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: fuser::WriteFlags,
        flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let args = abi::WriteIn {
            fh: fh.0,
            offset,
            size: u32::try_from(data.len()).unwrap_or(u32::MAX),
            write_flags: write_flags.bits(),
            lock_owner: lock_owner.map_or(0, |owner| owner.0),
            flags: flags.0.cast_unsigned(),
            padding: 0,
        };
        let ask = |fs: &F| fs.write(&caller(req), nodeid(ino), &args, data);
        self.serve(Opcode::Write, reply, ask, |reply, written| {
            if let Ok(shard) = self.shard() {
                shard.record_written(written);
            }
            reply.written(written);
        });
    }

    fn flush(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let args = abi::FlushIn { fh: fh.0, lock_owner: owner.0, ..abi::FlushIn::default() };
        self.empty(Opcode::Flush, reply, |fs| fs.flush(&caller(req), nodeid(ino), &args));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        flush: bool,
        reply: ReplyEmpty,
    ) {
        let args = abi::ReleaseIn {
            fh: fh.0,
            flags: flags.0.cast_unsigned(),
            release_flags: flush.into(),
            lock_owner: lock_owner.map_or(0, |owner| owner.0),
        };
        self.empty(Opcode::Release, reply, |fs| fs.release(nodeid(ino), &args));
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, data: bool, reply: ReplyEmpty) {
        let fsync_flags = if data { DATASYNC } else { 0 };
        let args = abi::FsyncIn { fh: fh.0, fsync_flags, padding: 0 };
        self.empty(Opcode::Fsync, reply, |fs| fs.fsync(&caller(req), nodeid(ino), &args));
    }

    fn opendir(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let args = abi::OpenIn { flags: flags.0.cast_unsigned(), open_flags: 0 };
        self.opened(Opcode::Opendir, reply, |fs| fs.opendir(&caller(req), nodeid(ino), &args));
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let args = abi::ReadIn { fh: fh.0, offset, size: LISTING, ..abi::ReadIn::default() };
        with_buffer(size(LISTING), |buffer| {
            let mut listing = ReplyBuf::new(buffer);
            let ask = |fs: &F| {
                let mut sink = DirSink::new(listing.payload(), LISTING);
                fs.readdir(&caller(req), nodeid(ino), &args, &mut sink)?;
                Ok(listing)
            };
            self.serve(Opcode::Readdir, reply, ask, |reply, listing| {
                listing::send(reply, listing.parts().1);
            });
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let args = abi::ReadIn { fh: fh.0, offset, size: LISTING, ..abi::ReadIn::default() };
        with_buffer(size(LISTING), |buffer| {
            let mut listing = ReplyBuf::new(buffer);
            let ask = |fs: &F| {
                let mut sink = DirSink::new(listing.payload(), LISTING);
                fs.readdirplus(&caller(req), nodeid(ino), &args, &mut sink)?;
                Ok(listing)
            };
            self.serve(Opcode::Readdirplus, reply, ask, |reply, listing| {
                listing::send_plus(&*self.fs, reply, listing.parts().1);
            });
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let flags = flags.0.cast_unsigned();
        let args = abi::ReleaseIn { fh: fh.0, flags, ..abi::ReleaseIn::default() };
        self.empty(Opcode::Releasedir, reply, |fs| fs.releasedir(nodeid(ino), &args));
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, data: bool, reply: ReplyEmpty) {
        let fsync_flags = if data { DATASYNC } else { 0 };
        let args = abi::FsyncIn { fh: fh.0, fsync_flags, padding: 0 };
        self.empty(Opcode::Fsyncdir, reply, |fs| fs.fsyncdir(&caller(req), nodeid(ino), &args));
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let ask = |fs: &F| fs.statfs(&caller(req), nodeid(ino));
        self.serve(Opcode::Statfs, reply, ask, |reply, s| {
            reply.statfs(
                s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize,
            );
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        self.empty(Opcode::Setxattr, reply, |fs| {
            let (name, flags) = (Text::new(name)?, flags.cast_unsigned());
            let xattr = SetXattr { name: name.as_c_str(), value, flags, kill_sgid: false };
            fs.setxattr(&caller(req), nodeid(ino), &xattr)
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let ask = |fs: &F| {
            let name = Text::new(name)?;
            xattr::sized(size, |value| {
                fs.getxattr(&caller(req), nodeid(ino), name.as_c_str(), value)
            })
        };
        self.serve(Opcode::Getxattr, reply, ask, |reply, value| xattr::send(reply, size, &value));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let ask = |fs: &F| xattr::sized(size, |list| fs.listxattr(&caller(req), nodeid(ino), list));
        self.serve(Opcode::Listxattr, reply, ask, |reply, list| xattr::send(reply, size, &list));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Opcode::Removexattr, reply, |fs| {
            fs.removexattr(&caller(req), nodeid(ino), Text::new(name)?.as_c_str())
        });
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: fuser::AccessFlags, reply: ReplyEmpty) {
        let mask = mask.bits().cast_unsigned();
        self.empty(Opcode::Access, reply, |fs| fs.access(&caller(req), nodeid(ino), mask));
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        flags: fuser::IoctlFlags,
        cmd: u32,
        input: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let in_size = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let args = abi::IoctlIn { fh: fh.0, flags: flags.bits(), cmd, arg: 0, in_size, out_size };
        let ask = |fs: &F| {
            let mut output = vec![0; size(out_size)];
            let buffers = IoctlBuffers { input, output: &mut output };
            let result = fs.ioctl(&caller(req), nodeid(ino), &args, buffers)?;
            Ok((result, output))
        };
        self.serve(Opcode::Ioctl, reply, ask, |reply, (result, output)| {
            reply.ioctl(result, &output);
        });
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::PollNotifier,
        _: fuser::PollEvents,
        _: fuser::PollFlags,
        reply: ReplyPoll,
    ) {
        // The kernel does not ask again: files are always ready.
        self.serve(Opcode::Poll, reply, |_| Err::<(), _>(Errno::ENOSYS), |_, ()| {});
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = mode.cast_unsigned();
        let args = abi::FallocateIn { fh: fh.0, offset, length, mode, padding: 0 };
        self.empty(Opcode::Fallocate, reply, |fs| fs.fallocate(&caller(req), nodeid(ino), &args));
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (offset, whence) = (offset.cast_unsigned(), whence.cast_unsigned());
        let args = abi::LseekIn { fh: fh.0, offset, whence, padding: 0 };
        let ask = |fs: &F| fs.lseek(&caller(req), nodeid(ino), &args);
        self.serve(Opcode::Lseek, reply, ask, |reply, offset| reply.offset(offset.cast_signed()));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        off_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        off_out: u64,
        len: u64,
        flags: fuser::CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let args = abi::CopyFileRangeIn {
            fh_in: fh_in.0,
            off_in,
            nodeid_out: ino_out.0,
            fh_out: fh_out.0,
            off_out,
            // The answer has 32 bits; the caller loops.
            len: len.min(1 << 30),
            flags: flags.bits(),
        };
        let ask = |fs: &F| {
            let copied = fs.copy_file_range(&caller(req), nodeid(ino_in), &args)?;
            u32::try_from(copied).map_err(|_| Errno::EIO)
        };
        self.serve(Opcode::CopyFileRange, reply, ask, |reply, copied| reply.written(copied));
    }
}

/// Lends `count` bytes of the thread's memory.
fn with_buffer<T>(count: usize, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < count {
            buffer.resize(count, 0);
        }
        use_it(&mut buffer[..count])
    })
}
