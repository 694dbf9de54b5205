//! The classic transport: read(2) and writev(2) on /dev/fuse, one cloned channel per worker.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::{pread, writev};
use zerocopy::IntoBytes;

use super::splice::Pipe;
use crate::protocol::encode;
use crate::sys::fuse_dev;

/// One descriptor of /dev/fuse. A reply must leave through the channel its request came from.
#[derive(Debug, Clone)]
pub struct Channel {
    device: Arc<OwnedFd>,
}

/// What a receive brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A request of so many bytes.
    Request(usize),
    /// Unmounted.
    Closed,
    /// Aborted through fusectl: the mount is still there, and answers ENOTCONN.
    Aborted,
}

impl Received {
    /// What a read of /dev/fuse means; `None` to try again.
    pub(super) fn of(result: Result<usize, Errno>) -> Result<Option<Received>, Errno> {
        match result {
            Ok(0) => Ok(Some(Received::Closed)),
            Ok(size) => Ok(Some(Received::Request(size))),
            // ENOENT: the request was interrupted before it could be read.
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => Ok(None),
            Err(Errno::ENODEV) => Ok(Some(Received::Closed)),
            // With ABORT_ERROR negotiated.
            Err(Errno::ECONNABORTED) => Ok(Some(Received::Aborted)),
            Err(errno) => Err(errno),
        }
    }
}

impl Channel {
    /// A channel over a descriptor of /dev/fuse that belongs to a connection.
    pub fn new(device: Arc<OwnedFd>) -> Self {
        Channel { device }
    }

    /// Waits until there seems to be something to receive, or the connection is over; false if
    /// neither came within `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Errno> {
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => Ok(true),
            ready => ready.map(|count| count > 0),
        }
    }

    /// Waits for a request.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        loop {
            if let Some(received) = Received::of(nix::unistd::read(&self.device, buffer))? {
                return Ok(received);
            }
        }
    }

    /// Waits for a request of up to `max` bytes, which is put into an empty pipe.
    pub(super) fn receive_into(&self, pipe: &mut Pipe, max: usize) -> Result<Received, Errno> {
        loop {
            if let Some(received) = Received::of(pipe.draw(&self.device, max))? {
                return Ok(received);
            }
        }
    }

    /// Answers `unique` with `parts`, one behind the other.
    pub fn reply(&self, unique: u64, parts: [&[u8]; 2]) -> Result<(), Errno> {
        let body = parts[0].len() + parts[1].len();
        let header = encode::header(unique, Ok(body));
        self.send(&[
            IoSlice::new(header.as_bytes()),
            IoSlice::new(parts[0]),
            IoSlice::new(parts[1]),
        ])
    }

    /// Answers `unique` with an error.
    pub fn reply_error(&self, unique: u64, errno: Errno) -> Result<(), Errno> {
        let header = encode::header(unique, Err(errno));
        self.send(&[IoSlice::new(header.as_bytes())])
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        match writev(&self.device, parts) {
            Ok(_) => Ok(()),
            Err(errno) if Channel::is_over(errno) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a reply was refused because the request or the whole connection is gone, and with it
    /// whoever waited.
    pub(super) fn is_over(errno: Errno) -> bool {
        matches!(errno, Errno::ENOENT | Errno::ENODEV | Errno::ECONNABORTED)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// Reads a range of a file into `buffer` until it is full or the file ends.
///
/// Any error within the range is the answer: no part of it is returned.
pub fn read_range(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        let position = i64::try_from(offset).ok().and_then(|at| at.checked_add(filled as i64));
        let position = position.ok_or(Errno::EINVAL)?;
        match pread(file, &mut buffer[filled..], position) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::EINTR) => {}
            // Also behind bytes that could be read: less than was asked for is the end of the file to
            // the kernel (fuse_short_read()). It asks again for the pages that are wanted.
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// The channels of a connection: one per worker, or one for all where cloning is refused.
pub fn channels(session: &Arc<OwnedFd>, workers: usize) -> (Vec<Channel>, Option<io::Error>) {
    let first = Channel::new(session.clone());
    let mut channels = vec![first.clone()];
    while channels.len() < workers {
        match fuse_dev::clone(session.as_fd()) {
            Ok(device) => channels.push(Channel::new(Arc::new(device))),
            Err(error) => return (vec![first; workers], Some(error)),
        }
    }
    (channels, None)
}
