//! Large WRITEs whose data goes from /dev/fuse to a file through a pipe: what the kernel holds in its
//! page cache is referenced, not copied into this process.
//!
//! Whoever receives does not know what comes, and a request that comes through a pipe costs one system
//! call more. So only what follows a large WRITE is received that way: another one, mostly, or first the
//! rest of a page that the kernel sends by itself.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use tracing::warn;

use super::dev::{Channel, Received};
use super::splice::Pipe;
use crate::abi::{InHeader, Opcode, WriteIn};

/// From so many bytes on splice is faster than a copy (see perf-results, the runs named `data`).
const LARGE: usize = 128 << 10;
/// So many requests behind a large WRITE may be another.
const EXPECTED: u8 = 2;
/// What stands in front of the data of a WRITE.
pub const HEAD: usize = size_of::<InHeader>() + size_of::<WriteIn>();

/// A worker's pipe for WRITEs.
#[derive(Debug)]
pub struct Inflow {
    /// None before it is needed, where it is not to be had, and once it held what nobody would take.
    pipe: Option<Pipe>,
    /// It is not to be had.
    refused: bool,
    max_payload: usize,
    /// How many more requests may be a large WRITE.
    expected: u8,
    /// Bytes of data in the pipe.
    waiting: usize,
}

impl Inflow {
    /// For data of up to `max_payload` bytes. The pipe is not made before it is needed.
    pub fn new(max_payload: usize) -> Self {
        Inflow { pipe: None, refused: false, max_payload, expected: 0, waiting: 0 }
    }

    /// Bytes of data of the last request that are still to be taken, by [`pour`](Self::pour) or through
    /// [`pipe`](Self::pipe).
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Waits for a request. If it is a large WRITE that came through the pipe, `buffer` begins with
    /// its [`HEAD`] only.
    pub fn receive(&mut self, channel: &Channel, buffer: &mut [u8]) -> Result<Received, Errno> {
        if std::mem::take(&mut self.waiting) > 0 {
            // Nobody has taken it, nor will.
            self.pipe = None;
        }
        let ahead = match self.expected > 0 && self.make_pipe() {
            true => self.receive_ahead(channel, buffer),
            false => None,
        };
        let received = match ahead {
            Some(received) => received,
            None => channel.receive(buffer)?,
        };
        if let Received::Request(size) = received {
            self.expected = match size >= HEAD + LARGE && is_write(buffer) {
                true => EXPECTED,
                false => self.expected.saturating_sub(1),
            };
        }
        Ok(received)
    }

    /// `None` if it failed: no memory for its pages, and the kernel has answered the request with EIO, or
    /// what a read will tell as well.
    fn receive_ahead(&mut self, channel: &Channel, buffer: &mut [u8]) -> Option<Received> {
        let mut pipe = self.pipe.take()?;
        let received = channel.receive_into(&mut pipe, buffer.len()).ok()?;
        if let Received::Request(size) = received {
            let head = if size < HEAD + LARGE { size } else { HEAD };
            pipe.take(&mut buffer[..head]);
            match is_write(buffer) {
                true => self.waiting = size - head,
                false => pipe.take(&mut buffer[head..size]),
            }
        }
        self.pipe = Some(pipe);
        Some(received)
    }

    /// Takes the data that waits to where it belongs in `buffer`, behind the [`HEAD`].
    pub fn pour(&mut self, buffer: &mut [u8]) {
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(pipe) = &mut self.pipe {
            pipe.take(&mut buffer[HEAD..HEAD + waiting]);
        }
    }

    /// The pipe that data waits in.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.waiting > 0).map(AsFd::as_fd)
    }

    /// So many bytes were taken from the pipe.
    pub fn taken(&mut self, count: usize) {
        self.waiting = self.waiting.saturating_sub(count);
    }

    /// The kernel answers a WRITE that a pipe has no room for with EIO, so there must be enough.
    fn make_pipe(&mut self) -> bool {
        if self.pipe.is_none() && !self.refused {
            let pipe = Pipe::new(self.max_payload).ok();
            self.pipe = pipe.filter(|pipe| pipe.receives(self.max_payload));
            self.refused = self.pipe.is_none();
            if self.refused {
                let size = self.max_payload;
                warn!(
                    size,
                    "no pipe holds the largest WRITE (fs.pipe-max-size): WRITEs are copied"
                );
            }
        }
        self.pipe.is_some()
    }
}

/// Whether what `buffer` begins with is the header of a WRITE.
fn is_write(buffer: &[u8]) -> bool {
    use zerocopy::FromBytes;
    InHeader::read_from_prefix(buffer)
        .is_ok_and(|(header, _)| header.opcode == Opcode::Write as u32)
}
