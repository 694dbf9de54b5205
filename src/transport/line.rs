//! A worker's line to the kernel: a channel of /dev/fuse, and the memory that requests and replies
//! pass through.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use tracing::warn;

use super::buffers::Buffers;
use super::dev::{Channel, Received, read_range};
use super::dev_ring::DevRing;
use super::inflow::{HEAD, Inflow};
use super::splice::{Filled, Pipe, Splice};
use crate::protocol::encode;

/// How a range of a file was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes went through the worker's buffer.
    Copied(usize),
    /// So many bytes went through a pipe.
    Spliced(usize),
    /// The file's error, which was answered.
    Failed(Errno),
}

/// One worker's.
#[derive(Debug)]
pub enum Line {
    /// read(2), writev(2) and splice(2).
    Calls(Calls),
    /// Reads and writes of an io_uring.
    Ring(Box<DevRing>),
}

impl Line {
    /// Waits until there seems to be something to receive; see [`Channel::wait`].
    pub fn wait(&self, timeout: Duration) -> Result<bool, Errno> {
        match self {
            Line::Calls(calls) => calls.channel.wait(timeout),
            Line::Ring(ring) => ring.wait(timeout),
        }
    }

    /// Waits for a request, which is in the buffer for requests then; of a WRITE whose data is
    /// [`ahead`](Self::ahead), what stands in front of that.
    pub fn receive(&mut self) -> Result<Received, Errno> {
        match self {
            Line::Calls(calls) => calls.receive(),
            Line::Ring(ring) => ring.receive(),
        }
    }

    /// What was received, and where the payload of the reply is put together.
    pub fn buffers(&mut self) -> (&[u8], &mut [u8]) {
        match self {
            Line::Calls(calls) => (&calls.buffers.request, &mut calls.buffers.reply),
            Line::Ring(ring) => ring.buffers(),
        }
    }

    /// What stands in front of the data of the WRITE that was received, and the pipe that has the data,
    /// if it came that way.
    pub fn ahead(&self) -> Option<(&[u8], BorrowedFd<'_>)> {
        match self {
            Line::Calls(Calls { inflow: Some(inflow), buffers, .. }) => {
                inflow.pipe().map(|pipe| (&buffers.request[..HEAD], pipe))
            }
            Line::Calls(_) | Line::Ring(_) => None,
        }
    }

    /// So many bytes were taken from that pipe.
    pub fn taken(&mut self, count: usize) {
        if let Line::Calls(Calls { inflow: Some(inflow), .. }) = self {
            inflow.taken(count);
        }
    }

    /// Has the data of the WRITE in the buffer for requests, too.
    pub fn pour(&mut self) {
        if let Line::Calls(Calls { inflow: Some(inflow), buffers, .. }) = self {
            inflow.pour(&mut buffers.request);
        }
    }

    /// Answers `unique` with `fixed` and the first `payload` bytes of the buffer for replies.
    pub fn reply(&mut self, unique: u64, fixed: &[u8], payload: usize) -> Result<(), Errno> {
        match self {
            Line::Calls(calls) => calls.reply(unique, fixed, payload),
            Line::Ring(ring) => {
                ring.reply(unique, fixed, payload);
                Ok(())
            }
        }
    }

    /// Answers `unique` with an error.
    pub fn reply_error(&mut self, unique: u64, errno: Errno) -> Result<(), Errno> {
        match self {
            Line::Calls(calls) => calls.channel.reply_error(unique, errno),
            Line::Ring(ring) => {
                ring.reply_error(unique, errno);
                Ok(())
            }
        }
    }

    /// Answers `unique` with up to `len` bytes of `file` from `offset`.
    pub fn reply_range(
        &mut self,
        unique: u64,
        file: &File,
        offset: u64,
        len: usize,
    ) -> Result<Moved, Errno> {
        if let Line::Calls(calls) = self
            && let Some(moved) = calls.splice_range(unique, file, offset, len)
        {
            return moved;
        }
        let (_, room) = self.buffers();
        let len = len.min(room.len());
        match read_range(file, offset, &mut room[..len]) {
            Ok(count) => self.reply(unique, &[], count).map(|()| Moved::Copied(count)),
            Err(errno) => self.reply_error(unique, errno).map(|()| Moved::Failed(errno)),
        }
    }
}

/// System calls on a channel.
#[derive(Debug)]
pub struct Calls {
    channel: Channel,
    buffers: Buffers,
    splice: Splice,
    pipe: Option<Pipe>,
    /// For WRITEs, where splice was chosen.
    inflow: Option<Inflow>,
}

impl Calls {
    /// Calls on `channel` for data of up to `max_payload` bytes. An error if memory, or a pipe that
    /// every READ is to go through, can not be had.
    pub fn new(channel: Channel, max_payload: usize, splice: Splice) -> io::Result<Self> {
        let buffers = Buffers::new(max_payload)?;
        let pipe = match splice {
            Splice::Always => Some(Pipe::new(max_payload)?),
            // Not before it is needed: where the kernel moves the data it never is.
            Splice::Large | Splice::Never => None,
        };
        let inflow = (splice == Splice::Always).then(|| Inflow::new(max_payload));
        Ok(Calls { channel, buffers, splice, pipe, inflow })
    }

    fn receive(&mut self) -> Result<Received, Errno> {
        let buffer = &mut self.buffers.request;
        match &mut self.inflow {
            Some(inflow) => inflow.receive(&self.channel, buffer),
            None => self.channel.receive(buffer),
        }
    }

    fn reply(&self, unique: u64, fixed: &[u8], payload: usize) -> Result<(), Errno> {
        self.channel.reply(unique, [fixed, &self.buffers.reply[..payload]])
    }

    /// Answers with a range of a file through the pipe; `None` if it has to be copied.
    fn splice_range(
        &mut self,
        unique: u64,
        file: &File,
        offset: u64,
        len: usize,
    ) -> Option<Result<Moved, Errno>> {
        let mut pipe = self.pipe_for(offset, len)?;
        let header = encode::header(unique, Ok(len));
        // A file that can not be spliced from can still be read, and says itself what is wrong if it
        // can not. Then the pipe may not be empty, and is given up.
        let filled = pipe.fill(&header, (file, offset), len, &mut self.buffers.reply).ok()?;
        let sent = match filled {
            Filled::Whole => match pipe.send(&self.channel, len) {
                // Whoever waited is gone. What is left in the pipe goes with it.
                Err(errno) if Channel::is_over(errno) => return Some(Ok(Moved::Spliced(len))),
                Err(errno) => return Some(Err(errno)),
                Ok(()) => Ok(Moved::Spliced(len)),
            },
            Filled::Part(count) => self.reply(unique, &[], count).map(|()| Moved::Copied(count)),
        };
        self.pipe = Some(pipe);
        Some(sent)
    }

    /// The pipe, if the range is to go through it.
    fn pipe_for(&mut self, offset: u64, len: usize) -> Option<Pipe> {
        if !self.splice.covers(len) {
            return None;
        }
        let pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => Pipe::new(self.buffers.reply.len())
                .inspect_err(|error| {
                    warn!(%error, "no pipe can be made: this worker copies data from now on");
                    self.splice = Splice::Never;
                })
                .ok()?,
        };
        if pipe.holds(offset, len) {
            return Some(pipe);
        }
        self.pipe = Some(pipe);
        None
    }
}
