//! Data of open files, where the kernel asks for it: READ, WRITE, FSYNC, FALLOCATE, LSEEK,
//! COPY_FILE_RANGE, IOCTL, SYNCFS.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use memmap2::MmapMut;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, SpliceFFlags, copy_file_range, fallocate, splice};
use nix::sys::stat::fstat;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, fdatasync, fsync, lseek, syncfs};

use super::backing::{IoMode, NOBODY};
use super::handle::OpenFile;
use super::open::wire_flags;
use super::{Local, shared};
use crate::abi;
use crate::fs::{Caller, Data, Fh, IoctlBuffers, NodeId, Payload, Result};
use crate::sys::caller::{self, impersonate};
use crate::sys::objfd;

/// Bytes that are copied by the thread that has the request, if they are in memory: to have another
/// do it costs more than the copy.
const COPY_QUICK: u64 = 256 << 10;

/// Bytes that one COPY_FILE_RANGE moves at most, so that it does not occupy a worker for long; the
/// caller goes on with the rest.
const COPY_MAX: usize = 64 << 20;

/// In the number of an ioctl that is given something (asm-generic/ioctl.h): of those that are passed on
/// the ones that set flags, which moves times that FUSE goes on telling.
const IOC_WRITE: u32 = 0x4000_0000;

impl Local {
    /// The open file of a request and a descriptor of it; of one that the kernel has opened by itself,
    /// one that is opened for this request.
    fn open_file(&self, nodeid: NodeId, fh: u64, flags: u32) -> Result<(OpenFile, Arc<File>)> {
        if !self.settings.opens_by_itself {
            return self.file(Fh(fh));
        }
        let inode = self.inodes.get(nodeid)?;
        let fd = self.inodes.open(&inode, OFlag::O_RDONLY)?;
        let flags = OFlag::from_bits_retain(flags.cast_signed());
        let direct_alignment = match flags.contains(OFlag::O_DIRECT) {
            true => objfd::direct_alignment(fd.as_fd()),
            false => 1,
        };
        let mode = IoMode::Cached;
        let open = OpenFile { file: None, inode, flags, mode, direct_alignment, reader: None };
        Ok((open, shared(fd)))
    }

    pub(super) fn do_read(
        &self,
        nodeid: NodeId,
        args: &abi::ReadIn,
        out: &mut Payload<'_>,
    ) -> Result<Data> {
        let (open, file) = self.open_file(nodeid, args.fh, args.flags)?;
        if !open.is_aligned(args.flags, args.offset, args.size) {
            self.read_misaligned(&file, args)?;
        } else if let Some(reader) = &open.reader {
            let room = out.spare(usize::try_from(args.size).unwrap_or(usize::MAX));
            let watched = &open.inode.watched;
            if let Some(count) = reader.read(&file, watched, args.offset, room)? {
                out.advance(count);
                return Ok(Data::Filled);
            }
        }
        Ok(Data::FileRange { file, offset: args.offset, len: args.size })
    }

    /// Reads as the caller would natively, for the error: where there are no blocks, the source grants
    /// a misaligned read.
    fn read_misaligned(&self, file: &File, args: &abi::ReadIn) -> Result<()> {
        if !caller::is_patient() {
            return Err(Errno::EWOULDBLOCK);
        }
        let file = self.reopen_direct(file, OFlag::O_RDONLY).map_err(misaligned)?;
        let size = usize::try_from(args.size).map_err(|_| Errno::EINVAL)?;
        pread(&file, &mut aligned(size)?[..size], position(args.offset, 0)?).map(drop)
    }

    /// The same of a write: before it comes to what it refuses, the source may have taken a part.
    fn write_misaligned(
        &self,
        open: &OpenFile,
        file: &File,
        args: &abi::WriteIn,
        data: &[u8],
    ) -> Result<u32> {
        let kept = OFlag::O_ACCMODE | OFlag::O_SYNC | OFlag::O_DSYNC;
        let access = (open.flags & kept) | (wire_flags(args.flags) & OFlag::O_APPEND);
        let file = self.reopen_direct(file, access).map_err(misaligned)?;
        let mut memory = aligned(data.len())?;
        memory[..data.len()].copy_from_slice(data);
        let written = pwrite(&file, &memory[..data.len()], position(args.offset, 0)?)?;
        u32::try_from(written).map_err(|_| Errno::EIO)
    }

    /// A descriptor of an open file that goes past the page cache. EACCES for an ordinary user's daemon if
    /// the file's mode forbids it by now.
    fn reopen_direct(&self, file: &File, access: OFlag) -> Result<OwnedFd> {
        self.inodes.make_room(|| objfd::reopen(file.as_fd(), access | OFlag::O_DIRECT))
    }

    pub(super) fn do_write(
        &self,
        caller: &Caller,
        args: &abi::WriteIn,
        data: &[u8],
    ) -> Result<u32> {
        let (open, file) = self.file(Fh(args.fh))?;
        let is_misaligned = !open.is_aligned(args.flags, args.offset, args.size);
        if is_misaligned && !caller::is_patient() {
            return Err(Errno::EWOULDBLOCK);
        }
        caller::keep_suid(args.write_flags & abi::WRITE_KILL_SUIDGID == 0);
        let written_back = args.write_flags & abi::WRITE_CACHE != 0;
        // The kernel writes a page back when it likes. Whose it was is not known: where others than root write
        // it gets nothing that is kept back for root, as whom an ordinary user's daemon does not write.
        let guards = self.settings.kernel_checks && self.settings.has_reserve;
        let _as_writer = match written_back {
            false => Some(impersonate(caller.uid, caller.gid)?),
            true if guards && self.settings.daemon == 0 => Some(impersonate(NOBODY, NOBODY)?),
            true => None,
        };
        if is_misaligned {
            return self.write_misaligned(&open, &file, args, data);
        }
        all_of(data.len(), |taken| {
            let offset = position(args.offset, taken)?;
            // A page that is written back belongs where it is, not behind the end; and fcntl may have made
            // a file another that appends, or that no longer does.
            let appends = !written_back && wire_flags(args.flags).contains(OFlag::O_APPEND);
            match (open.flags.contains(OFlag::O_APPEND), appends) {
                (true, false) => self.write_at(&file, &data[taken..], offset),
                (false, true) => objfd::pwrite_as_told(file.as_fd(), &data[taken..], offset, true),
                _ => pwrite(&file, &data[taken..], offset),
            }
        })
    }

    /// Writes to where it says, though the file was opened to append.
    fn write_at(&self, file: &File, data: &[u8], offset: i64) -> Result<usize> {
        // Another FUSE mount goes by what its own file was opened with.
        if self.settings.stack_depth == 1 {
            match objfd::pwrite_as_told(file.as_fd(), data, offset, false) {
                // RWF_NOAPPEND came with Linux 6.9.
                Err(Errno::EOPNOTSUPP | Errno::EINVAL) => {}
                result => return result,
            }
        }
        let file = objfd::reopen(file.as_fd(), OFlag::O_WRONLY)?;
        pwrite(&file, data, offset)
    }

    pub(super) fn do_write_from(
        &self,
        caller: &Caller,
        args: &abi::WriteIn,
        pipe: BorrowedFd<'_>,
    ) -> Result<Option<u32>> {
        let (open, file) = self.file(Fh(args.fh))?;
        // splice(2) does not append.
        if open.flags.union(wire_flags(args.flags)).contains(OFlag::O_APPEND)
            || args.write_flags & abi::WRITE_CACHE != 0
            || !open.is_aligned(args.flags, args.offset, args.size)
        {
            return Ok(None);
        }
        caller::keep_suid(args.write_flags & abi::WRITE_KILL_SUIDGID == 0);
        let _as_caller = impersonate(caller.uid, caller.gid)?;
        let size = usize::try_from(args.size).map_err(|_| Errno::EINVAL)?;
        let written = all_of(size, |taken| {
            let mut offset = position(args.offset, taken)?;
            let flags = SpliceFFlags::empty();
            splice(pipe, None, &file, Some(&mut offset), size - taken, flags)
        });
        match written {
            // A file system without splice, or what a write says as well.
            Err(Errno::EINVAL) => Ok(None),
            written => written.map(Some),
        }
    }

    pub(super) fn do_fsync(&self, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        let (_, file) = self.open_file(nodeid, args.fh, 0)?;
        match args.fsync_flags & abi::FSYNC_FDATASYNC != 0 {
            true => fdatasync(&file),
            false => fsync(&file),
        }
    }

    pub(super) fn do_fallocate(&self, caller: &Caller, args: &abi::FallocateIn) -> Result<()> {
        let (_, file) = self.file(Fh(args.fh))?;
        let mode = i32::try_from(args.mode).map_err(|_| Errno::EOPNOTSUPP)?;
        let mode = FallocateFlags::from_bits(mode).ok_or(Errno::EOPNOTSUPP)?;
        let (offset, length) = (position(args.offset, 0)?, position(args.length, 0)?);
        caller::keep_suid(caller.uid == 0);
        let _as_caller = impersonate(caller.uid, caller.gid)?;
        fallocate(&file, mode, offset, length)
    }

    pub(super) fn do_lseek(&self, nodeid: NodeId, args: &abi::LseekIn) -> Result<u64> {
        let (_, file) = self.open_file(nodeid, args.fh, 0)?;
        let whence = match i32::try_from(args.whence) {
            Ok(libc::SEEK_DATA) => Whence::SeekData,
            Ok(libc::SEEK_HOLE) => Whence::SeekHole,
            _ => return Err(Errno::EINVAL),
        };
        let offset = lseek(&file, args.offset.cast_signed(), whence)?;
        u64::try_from(offset).map_err(|_| Errno::EOVERFLOW)
    }

    pub(super) fn do_copy_file_range(
        &self,
        caller: &Caller,
        args: &abi::CopyFileRangeIn,
    ) -> Result<u64> {
        if self.settings.copies_plainly && self.data_path()?.passes_through() {
            // From then on the kernel does what the source would do, and asks nobody.
            return Err(Errno::ENOSYS);
        }
        if args.flags != 0 {
            return Err(Errno::EINVAL);
        }
        let (from, to) = (self.file_to_copy(Fh(args.fh_in))?, self.file_to_copy(Fh(args.fh_out))?);
        let len = usize::try_from(args.len).map_err(|_| Errno::EINVAL)?.min(COPY_MAX);
        let (mut off_in, mut off_out) = (position(args.off_in, 0)?, position(args.off_out, 0)?);
        if !caller::is_patient() && !is_quick(&from, args.off_in, args.len)? {
            return Err(Errno::EWOULDBLOCK);
        }
        caller::keep_suid(caller.uid == 0);
        let _as_caller = impersonate(caller.uid, caller.gid)?;
        let offsets = (Some(&mut off_in), Some(&mut off_out));
        let copied = copy_file_range(&from, offsets.0, &to, offsets.1, len)?;
        Ok(copied as u64)
    }

    /// An open file to copy from or to, as its caller's is: with O_DIRECT past the page cache, with what
    /// the source demands of offsets and lengths there. EWOULDBLOCK for a thread that others wait for,
    /// before it opens anything.
    fn file_to_copy(&self, fh: Fh) -> Result<Arc<File>> {
        let (open, file) = self.file(fh)?;
        if !open.flags.contains(OFlag::O_DIRECT) {
            return Ok(file);
        }
        if !caller::is_patient() {
            return Err(Errno::EWOULDBLOCK);
        }
        match self.reopen_direct(&file, open.flags & OFlag::O_ACCMODE) {
            // There is no such thing on this file system, or its mode forbids to open it by now.
            Err(Errno::EINVAL | Errno::EACCES | Errno::EPERM) => Ok(file),
            direct => Ok(shared(direct?)),
        }
    }

    pub(super) fn do_ioctl(
        &self,
        nodeid: NodeId,
        args: &abi::IoctlIn,
        buffers: IoctlBuffers<'_>,
    ) -> Result<i32> {
        // None that is passed on has a longer one.
        let mut argument = [0; 64];
        let input = buffers.input;
        argument.get_mut(..input.len()).ok_or(Errno::ENOTTY)?.copy_from_slice(input);
        let result = match args.flags & abi::IOCTL_DIR != 0 {
            true => self
                .with_dir(nodeid, Fh(args.fh), |dir| objfd::ioctl(dir, args.cmd, &mut argument))?,
            false => {
                let (_, file) = self.open_file(nodeid, args.fh, 0)?;
                objfd::ioctl(file.as_fd(), args.cmd, &mut argument)?
            }
        };
        if args.cmd & IOC_WRITE != 0 {
            // It may only be appended to from now on, or be written to again.
            if let Some(inode) = self.inodes.live(nodeid) {
                inode.release_backing();
            }
            self.upkeep.attributes_changed(nodeid);
        }
        let len = buffers.output.len();
        buffers.output.copy_from_slice(argument.get(..len).ok_or(Errno::ENOTTY)?);
        Ok(result)
    }

    pub(super) fn do_syncfs(&self, nodeid: NodeId) -> Result<()> {
        let inode = self.inodes.get(nodeid)?;
        syncfs(&self.inodes.open(&inode, OFlag::O_RDONLY)?)
    }
}

/// Has `write` take the rest behind what was taken, until `size` bytes are or there is an error.
fn all_of(size: usize, mut write: impl FnMut(usize) -> Result<usize>) -> Result<u32> {
    let mut taken = 0;
    while taken < size {
        match write(taken) {
            Ok(0) => break,
            Ok(count) => taken += count,
            Err(Errno::EINTR) => {}
            // What was taken counts; the caller meets the error with the rest.
            Err(errno) if taken == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    u32::try_from(taken).map_err(|_| Errno::EIO)
}

/// What a misaligned transfer answers if it can not be tried.
fn misaligned(errno: Errno) -> Errno {
    match errno {
        Errno::EACCES | Errno::EPERM => Errno::EINVAL,
        other => other,
    }
}

/// Memory for direct I/O, aligned to pages, which no source demands more than.
fn aligned(size: usize) -> Result<MmapMut> {
    MmapMut::map_anon(size.max(1)).map_err(|_| Errno::ENOMEM)
}

/// Whether a range of a file is short and in memory.
fn is_quick(file: &File, offset: u64, len: u64) -> Result<bool> {
    let size = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
    let len = len.min(size.saturating_sub(offset));
    Ok(len == 0 || len <= COPY_QUICK && objfd::is_cached(file.as_fd(), offset, len))
}

/// An offset or length plus `more` as the system calls take it.
fn position(offset: u64, more: usize) -> Result<i64> {
    let sum = u64::try_from(more).ok().and_then(|more| offset.checked_add(more));
    sum.and_then(|sum| i64::try_from(sum).ok()).ok_or(Errno::EINVAL)
}
