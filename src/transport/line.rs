//! A worker's line to the kernel: a channel of /dev/fuse, and the memory that requests and replies
//! pass through.

use std::fs::File;
use std::io;
use std::time::Duration;

use nix::errno::Errno;
use tracing::warn;

use super::buffers::Buffers;
use super::dev::{Channel, Received, read_range};
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
pub struct Line {
    channel: Channel,
    buffers: Buffers,
    splice: Splice,
    pipe: Option<Pipe>,
}

impl Line {
    /// A line over `channel` for data of up to `max_payload` bytes. An error if memory, or a pipe
    /// that every READ is to go through, can not be had.
    pub fn new(channel: Channel, max_payload: usize, splice: Splice) -> io::Result<Self> {
        let buffers = Buffers::new(max_payload)?;
        let pipe = match splice {
            Splice::Always => Some(Pipe::new(max_payload)?),
            // Not before it is needed: where the kernel moves the data it never is.
            Splice::Large | Splice::Never => None,
        };
        Ok(Line { channel, buffers, splice, pipe })
    }

    /// Waits as [`Channel::wait`] does.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Errno> {
        self.channel.wait(timeout)
    }

    /// Waits for a request, which is in the buffer for requests then.
    pub fn receive(&mut self) -> Result<Received, Errno> {
        self.channel.receive(&mut self.buffers.request)
    }

    /// What was received, and where the payload of the reply is put together.
    pub fn buffers(&mut self) -> (&[u8], &mut [u8]) {
        (&self.buffers.request, &mut self.buffers.reply)
    }

    /// Answers `unique` with `fixed` and the first `payload` bytes of the buffer for replies.
    pub fn reply(&mut self, unique: u64, fixed: &[u8], payload: usize) -> Result<(), Errno> {
        self.channel.reply(unique, [fixed, &self.buffers.reply[..payload]])
    }

    /// Answers `unique` with an error.
    pub fn reply_error(&mut self, unique: u64, errno: Errno) -> Result<(), Errno> {
        self.channel.reply_error(unique, errno)
    }

    /// Answers `unique` with up to `len` bytes of `file` from `offset`.
    pub fn reply_range(
        &mut self,
        unique: u64,
        file: &File,
        offset: u64,
        len: usize,
    ) -> Result<Moved, Errno> {
        if let Some(mut pipe) = self.pipe_for(offset, len) {
            let header = encode::header(unique, Ok(len));
            match pipe.fill(&header, (file, offset), len, &mut self.buffers.reply) {
                Ok(Filled::Whole) => {
                    return match pipe.send(&self.channel, len) {
                        Ok(()) => {
                            self.pipe = Some(pipe);
                            Ok(Moved::Spliced(len))
                        }
                        // Whoever waited is gone. What is left in the pipe goes with it.
                        Err(errno) if Channel::is_over(errno) => Ok(Moved::Spliced(len)),
                        Err(errno) => Err(errno),
                    };
                }
                Ok(Filled::Part(count)) => {
                    self.pipe = Some(pipe);
                    return self.reply(unique, &[], count).map(|()| Moved::Copied(count));
                }
                // A file that can not be spliced from can still be read, and says itself what is
                // wrong if it can not. The pipe may not be empty.
                Err(_) => drop(pipe),
            }
        }
        let len = len.min(self.buffers.reply.len());
        match read_range(file, offset, &mut self.buffers.reply[..len]) {
            Ok(count) => self.reply(unique, &[], count).map(|()| Moved::Copied(count)),
            Err(errno) => self.reply_error(unique, errno).map(|()| Moved::Failed(errno)),
        }
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
