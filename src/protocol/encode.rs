//! Replies to bytes: the fixed part of a reply, directory entries, and the header in front.

use nix::errno::Errno;
use zerocopy::{Immutable, IntoBytes};

use crate::abi::{Dirent, EntryOut, OutHeader};

/// Longest fixed part of a reply: `fuse_statx_out`.
pub const FIXED_MAX: usize = 288;

/// Where a reply is put together: a fixed part, then a payload in the transport's buffer.
#[derive(Debug)]
pub struct ReplyBuf<'b> {
    fixed: [u8; FIXED_MAX],
    fixed_len: usize,
    payload: Payload<'b>,
}

impl<'b> ReplyBuf<'b> {
    /// A reply whose payload goes to `payload`.
    pub fn new(payload: &'b mut [u8]) -> Self {
        ReplyBuf { fixed: [0; FIXED_MAX], fixed_len: 0, payload: Payload::new(payload) }
    }

    /// Appends a wire structure to the fixed part.
    pub fn put<T: IntoBytes + Immutable>(&mut self, part: &T) {
        let end = self.fixed_len + size_of::<T>();
        self.fixed[self.fixed_len..end].copy_from_slice(part.as_bytes());
        self.fixed_len = end;
    }

    /// The payload behind the fixed part.
    pub fn payload(&mut self) -> &mut Payload<'b> {
        &mut self.payload
    }

    /// The fixed part and the payload, in the order in which they go out.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.fixed[..self.fixed_len], self.payload.filled())
    }

    /// Ends the reply, whose payload stays in the buffer.
    pub fn finish(self) -> Finished {
        let ReplyBuf { fixed, fixed_len, payload } = self;
        Finished { fixed, fixed_len, payload_len: payload.len }
    }
}

/// A reply that was put together: its fixed part, and how much of the buffer is payload.
#[derive(Debug)]
pub struct Finished {
    fixed: [u8; FIXED_MAX],
    fixed_len: usize,
    payload_len: usize,
}

impl Finished {
    /// The fixed part.
    pub fn fixed(&self) -> &[u8] {
        &self.fixed[..self.fixed_len]
    }

    /// Bytes of the buffer that are payload.
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Puts the fixed part in front of the payload in the `buffer` that holds it; the length of
    /// both together.
    pub fn assemble(&self, buffer: &mut [u8]) -> usize {
        if self.fixed_len > 0 {
            buffer.copy_within(..self.payload_len, self.fixed_len);
            buffer[..self.fixed_len].copy_from_slice(self.fixed());
        }
        self.fixed_len + self.payload_len
    }
}

/// A bounded part of the transport's buffer that a file system fills.
#[derive(Debug)]
pub struct Payload<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Payload<'b> {
    /// Nothing yet, in `buffer`.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Payload { buffer, len: 0 }
    }

    /// The first `limit` bytes that are still free, fewer if there are not so many.
    pub fn spare(&mut self, limit: usize) -> &mut [u8] {
        let end = self.buffer.len().min(self.len.saturating_add(limit));
        &mut self.buffer[self.len..end]
    }

    /// Counts `count` bytes of what [`spare`](Self::spare) gave as filled.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(self.len + count <= self.buffer.len(), "more filled than there is");
        self.len = (self.len + count).min(self.buffer.len());
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends `bytes`; ERANGE if they do not fit.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let spare = self.spare(bytes.len());
        if spare.len() < bytes.len() {
            return Err(Errno::ERANGE);
        }
        spare.copy_from_slice(bytes);
        self.advance(bytes.len());
        Ok(())
    }

    /// What was filled so far.
    pub fn filled(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// One entry of a directory, as READDIR tells it.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Inode number that `d_ino` shows.
    pub ino: u64,
    /// Opaque position behind this entry: where a later READDIR continues.
    pub next_offset: u64,
    /// Kind of file as in `d_type` (`DT_REG`, `DT_DIR`, ...).
    pub kind: u8,
    /// The name, of 1 to 255 bytes.
    pub name: &'a [u8],
}

/// The directory is read no further: the buffer that the kernel gave is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Collects the entries of one READDIR or READDIRPLUS, up to the size that the kernel asked for.
#[derive(Debug)]
pub struct DirSink<'p, 'b> {
    payload: &'p mut Payload<'b>,
    limit: usize,
}

impl<'p, 'b> DirSink<'p, 'b> {
    /// Collects at most `size` bytes into `payload`.
    pub fn new(payload: &'p mut Payload<'b>, size: u32) -> Self {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let limit = payload.spare(size).len() + payload.filled().len();
        DirSink { payload, limit }
    }

    /// Whether an entry with a name of `name_len` bytes still fits; ask before looking it up.
    pub fn fits_plus(&self, name_len: usize) -> bool {
        self.room() >= size_of::<EntryOut>() + record_size(name_len)
    }

    /// Adds an entry of READDIR.
    pub fn push(&mut self, entry: DirEntry<'_>) -> Result<(), Full> {
        if self.room() < record_size(entry.name.len()) {
            return Err(Full);
        }
        self.dirent(entry);
        Ok(())
    }

    /// Adds an entry of READDIRPLUS. A `lookup` with nodeid 0 tells the kernel the name only.
    pub fn push_plus(&mut self, entry: DirEntry<'_>, lookup: &EntryOut) -> Result<(), Full> {
        if !self.fits_plus(entry.name.len()) {
            return Err(Full);
        }
        self.raw(lookup.as_bytes());
        self.dirent(entry);
        Ok(())
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.payload.filled().is_empty()
    }

    fn room(&self) -> usize {
        self.limit - self.payload.filled().len()
    }

    fn dirent(&mut self, entry: DirEntry<'_>) {
        let namelen = u32::try_from(entry.name.len()).expect("names are at most 255 bytes");
        let DirEntry { ino, next_offset: off, kind, name } = entry;
        self.raw(Dirent { ino, off, namelen, kind: u32::from(kind) }.as_bytes());
        self.raw(name);
        let padding = record_size(name.len()) - size_of::<Dirent>() - name.len();
        self.raw(&[0; 8][..padding]);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.payload.extend(bytes).expect("the room was checked");
    }
}

/// Bytes of a directory record: `FUSE_DIRENT_SIZE`.
fn record_size(name_len: usize) -> usize {
    (size_of::<Dirent>() + name_len).next_multiple_of(8)
}

/// The header of a reply to `unique` with `body` bytes behind it, or of an error without any.
pub fn header(unique: u64, result: Result<usize, Errno>) -> OutHeader {
    let base = size_of::<OutHeader>();
    let (error, body) = match result {
        Ok(body) => (0, body),
        // An errno without a name must not turn into the zero of success.
        Err(Errno::UnknownErrno) => (-(Errno::EIO as i32), 0),
        Err(errno) => (-(errno as i32), 0),
    };
    let len = u32::try_from(base + body).expect("replies are bounded by the buffers");
    OutHeader { len, error, unique }
}

#[cfg(test)]
mod tests;
