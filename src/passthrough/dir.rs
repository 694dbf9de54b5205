//! Reading directories: OPENDIR, READDIR, READDIRPLUS, FSYNCDIR.
//!
//! Positions are the source's own `d_off`, opaque and stable, so that seekdir works across
//! deletions and reopenings as it does there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::PoisonError;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{Whence, fdatasync, fsync, lseek};

use super::Local;
use super::inode::{Keep, Place};
use crate::abi::{self, OpenFlags};
use crate::dispatch::entry_out;
use crate::fs::{DirEntry, DirSink, Fh, Full, Name, NodeId, Opened, Result};
use crate::sys::{clock, objfd};

/// Bytes that one getdents64(2) may fill; the kernel asks FUSE for at most 32 KiB at a time.
const CHUNK: usize = 32 << 10;
/// Offset of the name in `struct linux_dirent64`.
const NAME_AT: usize = 19;

/// A directory of the source that is being read, with the entries that are read ahead. Its memory
/// serves one directory after the other.
#[derive(Debug, Default)]
pub(super) struct DirStream {
    dir: Option<OwnedFd>,
    chunk: Box<[u8]>,
    /// The part of `chunk` that was not handed out yet.
    ahead: std::ops::Range<usize>,
    /// The position of the first entry of `ahead`.
    position: u64,
}

impl DirStream {
    pub(super) fn open(&mut self, dir: OwnedFd) {
        (self.dir, self.ahead, self.position) = (Some(dir), 0..0, 0);
    }

    pub(super) fn close(&mut self) {
        self.dir = None;
    }

    /// The position of the next entry.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes to `offset`. What is read ahead is dropped unless it is just what comes next; from the
    /// start everything is read anew, as rewinddir(3) promises.
    fn seek(&mut self, offset: u64) -> Result<()> {
        if offset != self.position || (offset == 0 && !self.ahead.is_empty()) {
            self.ahead = 0..0;
            lseek(self.as_fd(), offset.cast_signed(), Whence::SeekSet)?;
            self.position = offset;
        }
        Ok(())
    }

    /// The next entry and the length of its record, without going past it, and the directory.
    fn peek(&mut self) -> Result<Option<(BorrowedFd<'_>, DirEntry<'_>, usize)>> {
        if self.ahead.is_empty() {
            if self.chunk.is_empty() {
                self.chunk = vec![0; CHUNK].into();
            }
            let dir = self.dir.as_ref().expect(OPEN).as_fd();
            self.ahead = 0..objfd::getdents64(dir, &mut self.chunk)?;
            if self.ahead.is_empty() {
                return Ok(None);
            }
        }
        let (entry, record) = parse(&self.chunk[self.ahead.clone()]).ok_or(Errno::EIO)?;
        Ok(Some((self.dir.as_ref().expect(OPEN).as_fd(), entry, record)))
    }

    pub(super) fn advance(&mut self, record: usize, position: u64) {
        self.ahead.start += record;
        self.position = position;
    }
}

const OPEN: &str = "a directory in the table of handles is open";

impl AsFd for DirStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_ref().expect(OPEN).as_fd()
    }
}

/// Whether a directory was not changed just now. The kernel knows by the modification time that a
/// listing which it has kept is old: a directory that changes while it is listed must get another one
/// than it had before.
fn is_settled(dir: &OwnedFd) -> Result<bool> {
    let stat = fstat(dir)?;
    clock::is_settled((stat.st_mtime, stat.st_mtime_nsec))
}

/// Reads one `struct linux_dirent64` from the front of `bytes`.
fn parse(bytes: &[u8]) -> Option<(DirEntry<'_>, usize)> {
    let word = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let length = u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?);
    let length = usize::from(length);
    let name = bytes.get(NAME_AT..length)?;
    let name = &name[..name.iter().position(|byte| *byte == 0)?];
    let entry = DirEntry { ino: word(0)?, next_offset: word(8)?, kind: *bytes.get(18)?, name };
    Some((entry, length))
}

impl Local {
    pub(super) fn do_opendir(&self, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        if self.lists_by_itself() {
            return Err(Errno::ENOSYS);
        }
        let inode = self.inodes.get(nodeid)?;
        let asked = OFlag::from_bits_retain(args.flags.cast_signed());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | (asked & OFlag::O_NOATIME);
        self.handles.admit()?;
        let dir = self.inodes.open(&inode, flags)?;
        let flags = match self.trust(nodeid).caches && is_settled(&dir)? {
            true => OpenFlags::CACHE_DIR | OpenFlags::KEEP_CACHE,
            false => OpenFlags::empty(),
        };
        Ok(Opened { fh: self.handles.open_dir(dir), flags, backing: None })
    }

    pub(super) fn do_readdir(
        &self,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        self.fill(nodeid, args, |_, entry| sink.push(entry))
    }

    pub(super) fn do_readdirplus(
        &self,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        self.fill(nodeid, args, |dir, entry| {
            // A lookup is counted by the kernel only if it is told: look up what surely fits.
            if !sink.fits_plus(entry.name.len()) {
                return Err(Full);
            }
            let known = self.look_up_entry(nodeid, dir, entry).unwrap_or_default();
            sink.push_plus(entry, &known)
        })
    }

    /// The lookup of a directory entry; `None`, and the kernel is told the name only, for `.`,
    /// `..`, and what has vanished or can not be looked at.
    fn look_up_entry(
        &self,
        parent: NodeId,
        dir: BorrowedFd<'_>,
        entry: DirEntry<'_>,
    ) -> Option<abi::EntryOut> {
        let mut buffer = [0; 256];
        buffer.get_mut(..entry.name.len())?.copy_from_slice(entry.name);
        let name = std::ffi::CStr::from_bytes_until_nul(&buffer).ok().and_then(Name::new)?;
        let place = Place { parent, dir, name };
        let found = self.inodes.find(&place).ok()?;
        Some(entry_out(&self.entry(found, &place, Keep::Nothing).ok()?))
    }

    fn fill(
        &self,
        nodeid: NodeId,
        args: &abi::ReadIn,
        mut push: impl FnMut(BorrowedFd<'_>, DirEntry<'_>) -> std::result::Result<(), Full>,
    ) -> Result<()> {
        let push = |dir: BorrowedFd<'_>, entry: DirEntry<'_>| {
            let ino = self.inodes.shown_ino(nodeid, entry.ino);
            push(dir, DirEntry { ino, ..entry })
        };
        if !self.lists_by_itself() {
            let dir = self.handles.dir(Fh(args.fh))?;
            let mut stream = dir.stream.lock().unwrap_or_else(PoisonError::into_inner);
            return fill_from(&mut stream, args.offset, push);
        }
        let listing = self.streams.listing(args.offset);
        let mut stream = match self.streams.take(nodeid, args.offset, listing) {
            Some(stream) => stream,
            None => {
                let mut stream = DirStream::default();
                stream.open(self.open_listed(nodeid)?);
                stream
            }
        };
        fill_from(&mut stream, args.offset, push)?;
        self.streams.keep(nodeid, listing, stream);
        Ok(())
    }

    /// Opens a directory that the kernel has opened by itself.
    fn open_listed(&self, nodeid: NodeId) -> Result<OwnedFd> {
        let inode = self.inodes.get(nodeid)?;
        let opened = self.inodes.open(&inode, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        // Deleted behind the mount: as one that was opened before is then read.
        opened.map_err(|errno| if errno == Errno::ESTALE { Errno::ENOENT } else { errno })
    }

    /// Does something to an open directory.
    pub(super) fn with_dir<T>(
        &self,
        nodeid: NodeId,
        fh: Fh,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<T>,
    ) -> Result<T> {
        if self.lists_by_itself() {
            return act(self.open_listed(nodeid)?.as_fd());
        }
        let dir = self.handles.dir(fh)?;
        let stream = dir.stream.lock().unwrap_or_else(PoisonError::into_inner);
        act(stream.as_fd())
    }

    pub(super) fn do_fsyncdir(&self, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        self.with_dir(nodeid, Fh(args.fh), |dir| {
            match args.fsync_flags & abi::FSYNC_FDATASYNC != 0 {
                true => fdatasync(dir),
                false => fsync(dir),
            }
        })
    }
}

/// Pushes entries from `offset` on, until there is no more room or no more entry.
fn fill_from(
    stream: &mut DirStream,
    offset: u64,
    mut push: impl FnMut(BorrowedFd<'_>, DirEntry<'_>) -> std::result::Result<(), Full>,
) -> Result<()> {
    stream.seek(offset)?;
    let mut first = true;
    loop {
        let (record, position) = match stream.peek() {
            Ok(None) => return Ok(()),
            Ok(Some((dir, entry, record))) => match push(dir, entry) {
                Ok(()) => (record, entry.next_offset),
                Err(Full) => return Ok(()),
            },
            // Entries that were pushed are the answer; the next READDIR meets the error.
            Err(errno) if first => return Err(errno),
            Err(_) => return Ok(()),
        };
        stream.advance(record, position);
        first = false;
    }
}
