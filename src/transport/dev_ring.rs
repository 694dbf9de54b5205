//! /dev/fuse by way of io_uring: the reply to one request and the read of the next are one system
//! call. A baseline, to tell what io_uring saves apart from FUSE's own rings.
//!
//! A read of /dev/fuse can not be tried without waiting, so io_uring polls the device first, and
//! reads when it is told that there is something. Each request wakes every ring that polls. Where
//! somebody else has taken it meanwhile, the read waits inside io_uring_enter: as this ring has
//! nothing else under way by then (the reply goes in front of it), it waits as read(2) would.
//!
//! Memory contract: the kernel has the buffers only while [`DevRing::receive`] runs. If that fails with
//! something under way, they stay mapped for as long as the process lives: to close a ring only begins
//! to take back what the kernel has.
#![expect(unsafe_code, reason = "submission queue entries carry addresses")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use memmap2::MmapMut;
use nix::errno::Errno;
use tracing::error;
use zerocopy::IntoBytes;

use super::buffers::Buffers;
use super::dev::{Channel, Received};
use crate::abi::OutHeader;
use crate::protocol::encode;

const PAGE: usize = 4096;
const READ: u64 = 1;
const REPLY: u64 = 2;

/// A channel with a ring, and its memory. Used by one thread from the first [`receive`](Self::receive) on.
pub struct DevRing {
    ring: IoUring,
    request: ManuallyDrop<MmapMut>,
    /// A page in whose end the header and the fixed part go, then the payload.
    reply: ManuallyDrop<MmapMut>,
    /// Reads and writes that were submitted, or are about to be, and have not completed.
    lent: usize,
    channel: Channel,
    enabled: bool,
    queued: Option<Queued>,
}

/// A reply that the next receive submits.
#[derive(Debug, Clone, Copy)]
struct Queued {
    unique: u64,
    begin: usize,
    end: usize,
}

impl std::fmt::Debug for DevRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevRing").field("queued", &self.queued).finish_non_exhaustive()
    }
}

impl DevRing {
    /// A ring for `channel`, for data of up to `max_payload` bytes.
    pub fn new(channel: Channel, max_payload: usize) -> io::Result<Self> {
        let Buffers { request, reply } = Buffers::new(max_payload)?;
        let reply = MmapMut::map_anon(PAGE + reply.len())?;
        let mut builder = IoUring::builder();
        // As for FUSE's own rings.
        builder.dontfork();
        // Enabled by the thread that uses it, which is the single issuer then.
        let ring =
            builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled().build(2)?;
        let (request, reply) = (ManuallyDrop::new(request), ManuallyDrop::new(reply));
        Ok(DevRing { ring, request, reply, lent: 0, channel, enabled: false, queued: None })
    }

    /// Waits as [`Channel::wait`] does.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Errno> {
        self.channel.wait(timeout)
    }

    /// Sends the reply, if there is one, and waits for the next request. Once it has failed with
    /// something under way, always EIO: the kernel may have the buffers still.
    pub fn receive(&mut self) -> Result<Received, Errno> {
        if self.lent > 0 {
            return Err(Errno::EIO);
        }
        if !self.enabled {
            self.ring.submitter().register_enable_rings().map_err(errno)?;
            self.enabled = true;
        }
        loop {
            let sent = self.queued.take();
            let reply = sent.map(|queued| {
                let part = &self.reply[queued.begin..queued.end];
                let len = u32::try_from(part.len()).expect("bounded by the buffer");
                let write = opcode::Write::new(self.fd(), part.as_ptr(), len);
                write.build().user_data(REPLY)
            });
            let len = u32::try_from(self.request.len()).unwrap_or(u32::MAX);
            let read = opcode::Read::new(self.fd(), self.request.as_mut_ptr(), len);
            let read = read.build().user_data(READ);
            let result = self.exchange(reply.as_ref(), &read)?;
            if let (Some(queued), Err(errno)) = (sent, result.reply) {
                self.refused(queued.unique, errno);
            }
            if let Some(received) = Received::of(result.read)? {
                return Ok(received);
            }
        }
    }

    /// Submits both and returns when both are done: the kernel has no claim on memory then.
    fn exchange(
        &mut self,
        reply: Option<&squeue::Entry>,
        read: &squeue::Entry,
    ) -> Result<Exchanged, Errno> {
        let mut submission = self.ring.submission();
        for entry in reply.into_iter().chain([read]) {
            self.lent += 1;
            // SAFETY: both point into mappings of this value, which are left alone until the loop
            // below has seen the completion of each; on the one way out before that, `lent` keeps
            // them from ever being unmapped.
            let pushed = unsafe { submission.push(entry) };
            pushed.expect("nothing is under way, and there is room for two");
        }
        drop(submission);
        let mut exchanged = Exchanged { reply: Ok(0), read: Ok(0) };
        while self.lent > 0 {
            match self.ring.submit_and_wait(self.lent).map_err(errno) {
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN | Errno::EBUSY) => {}
                Err(errno) => return Err(errno),
            }
            for completion in self.ring.completion() {
                let result = completion.result();
                let result = usize::try_from(result).map_err(|_| Errno::from_raw(-result));
                match completion.user_data() {
                    READ => exchanged.read = result,
                    _ => exchanged.reply = result,
                }
                self.lent -= 1;
            }
        }
        Ok(exchanged)
    }

    /// What was received, and where the payload of the reply is put together.
    ///
    /// # Panics
    /// If the last [`receive`](Self::receive) has failed with something under way.
    pub fn buffers(&mut self) -> (&[u8], &mut [u8]) {
        assert_eq!(self.lent, 0, "the kernel has the buffers");
        (&self.request, &mut self.reply[PAGE..])
    }

    /// Answers `unique` with `fixed` and the first `payload` bytes of the buffer for replies, by the
    /// next [`receive`](Self::receive).
    pub fn reply(&mut self, unique: u64, fixed: &[u8], payload: usize) {
        self.queue(&encode::header(unique, Ok(fixed.len() + payload)), fixed, payload);
    }

    /// Answers `unique` with an error, likewise.
    pub fn reply_error(&mut self, unique: u64, errno: Errno) {
        self.queue(&encode::header(unique, Err(errno)), &[], 0);
    }

    fn queue(&mut self, header: &OutHeader, fixed: &[u8], payload: usize) {
        let begin = PAGE - size_of::<OutHeader>() - fixed.len();
        let (head, tail) = self.reply[begin..PAGE].split_at_mut(size_of::<OutHeader>());
        head.copy_from_slice(header.as_bytes());
        tail.copy_from_slice(fixed);
        self.queued = Some(Queued { unique: header.unique, begin, end: PAGE + payload });
    }

    fn refused(&self, unique: u64, errno: Errno) {
        if !Channel::is_over(errno) {
            error!(%errno, "the kernel refused a reply");
            // The caller still waits; an error without a payload is always well-formed.
            let _ = self.channel.reply_error(unique, Errno::EIO);
        }
    }

    fn fd(&self) -> Fd {
        Fd(self.channel.as_fd().as_raw_fd())
    }
}

impl Drop for DevRing {
    fn drop(&mut self) {
        if self.lent == 0 {
            // SAFETY: they are dropped here only, nothing uses them afterwards, and everything that
            // was submitted has completed.
            unsafe {
                ManuallyDrop::drop(&mut self.request);
                ManuallyDrop::drop(&mut self.reply);
            }
        }
    }
}

/// What became of a reply and a read.
struct Exchanged {
    reply: Result<usize, Errno>,
    read: Result<usize, Errno>,
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
