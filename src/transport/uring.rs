//! FUSE over io_uring: one queue per possible CPU, served by one thread that runs there.
//!
//! A queue has a ring and a number of entries. An entry is a header and a payload in the queue's
//! arena; it is either with the kernel (registered or committed, and waiting for a request) or
//! with us (its completion has come, its commit has not been submitted). One io_uring_enter
//! commits what was answered, fetches what is next, and waits; or two, where [`Queue::wait`] says why.
//!
//! Memory contract: the kernel reads and writes an entry only while it has it, and only from the
//! task context of the thread that submitted it. So nothing here looks at an entry that was not
//! completed, and nothing is touched between a commit and the next completion of that entry.
//!
//! End of life: when the connection ends, every entry the kernel has completes with ENOTCONN, and
//! every commit of one that we have is refused with it. A queue is over when each has failed once.
//! One that is given up earlier (a registration or a thread that failed) leaves its memory mapped for
//! as long as the process lives: to close a ring only begins to take back what the kernel has, in the
//! background, and FUSE's commands can not be cancelled otherwise.
#![expect(unsafe_code, reason = "submission queue entries carry addresses")]

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};
use memmap2::MmapMut;
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{self, InHeader, OutHeader, UringCmdReq, UringEntInOut};

/// Bytes from one entry's header to the next: two per cache-line pair, eight per page.
const HEADER_STRIDE: usize = 512;
const PAGE: usize = 4096;
/// Bytes of `fuse_out_header`.
const OUT_HEADER: u32 = 16;
const OP_AT: usize = abi::URING_IN_OUT_HEADER_SZ;
const ENT_AT: usize = OP_AT + abi::URING_OP_IN_OUT_SZ;
const HEADER_SIZE: usize = ENT_AT + size_of::<UringEntInOut>();
const _: () = assert!(HEADER_SIZE <= HEADER_STRIDE);

/// How often the kernel is called again that can not go on for a moment: there are fewer entries.
const TRIES: usize = 1000;

/// The token of the event descriptor; entries have their index.
const WAKE_UP: u64 = u64::MAX;

/// How large a queue is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Entries: requests that may be under way at a time.
    pub depth: u16,
    /// Bytes of an entry's payload: at least the largest WRITE, a multiple of the page size.
    pub payload: usize,
}

/// What a completion says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An entry has a request.
    Request(u16),
    /// An entry is gone: the connection is over, or the kernel refused it.
    Gone(u16, Errno),
    /// Somebody wrote to the event descriptor.
    WakeUp,
}

/// The fixed parts of a request in an entry, copied out so that the reply can be put in.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct Head {
    /// The common header.
    pub header: InHeader,
    /// The opcode's fixed argument, and whatever lies behind it.
    pub argument: [u8; abi::URING_OP_IN_OUT_SZ],
    /// Names the request in its commit.
    pub commit_id: u64,
    /// Bytes of the payload that hold names and data.
    pub payload_len: usize,
}

/// The queue of one CPU. Made, used and dropped by one thread (IORING_SETUP_SINGLE_ISSUER).
pub struct Queue {
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    /// Freed when the kernel has no claim on it.
    memory: ManuallyDrop<Memory>,
    /// Entries that were submitted, or are about to be, and have not completed.
    lent: usize,
    /// Whether the read of the event descriptor is under way.
    listens: bool,
    event: Arc<EventFd>,
    shape: Shape,
    qid: u16,
    device: Arc<OwnedFd>,
}

/// What the kernel reads and writes by itself.
struct Memory {
    arena: MmapMut,
    /// Two per entry; read by the kernel when the entry is registered.
    iovecs: Box<[[libc::iovec; 2]]>,
    /// Where the event descriptor's counter is read to.
    count: Box<[u8; 8]>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("qid", &self.qid).field("shape", &self.shape).finish()
    }
}

fn builder() -> io_uring::Builder<squeue::Entry128, cqueue::Entry> {
    let mut builder = IoUring::builder();
    // A process that is forked must not have it mapped: as long as anybody has, what the kernel was given
    // is not taken back, and the connection does not end.
    builder.dontfork().setup_single_issuer().setup_defer_taskrun();
    builder
}

/// What io_uring_enter returned, but for errors after which it is called again: a signal, no memory
/// for a moment, or completions that have to be taken first.
fn passing(result: io::Result<usize>) -> io::Result<()> {
    let passing = [Some(libc::EINTR), Some(libc::EAGAIN), Some(libc::EBUSY)];
    match result {
        Err(error) if passing.contains(&error.raw_os_error()) => Ok(()),
        result => result.map(drop),
    }
}

/// Whether this process may make such rings at all (seccomp, kernel.io_uring_disabled).
pub fn probe() -> io::Result<()> {
    builder().build(2).map(drop)
}

impl Queue {
    /// The queue of CPU `qid` on the connection of `device`, without any entry registered yet.
    ///
    /// InvalidInput if no memory can be as large as `shape` says.
    pub fn new(
        device: Arc<OwnedFd>,
        qid: u16,
        shape: Shape,
        event: Arc<EventFd>,
    ) -> io::Result<Self> {
        let depth = usize::from(shape.depth);
        let headers = (depth * HEADER_STRIDE).next_multiple_of(PAGE);
        let size = depth.checked_mul(shape.payload).and_then(|size| size.checked_add(headers));
        // What the kernel is told to write to lies within.
        let mut arena = MmapMut::map_anon(size.ok_or(io::ErrorKind::InvalidInput)?)?;
        let base = arena.as_mut_ptr();
        let iovec = |at: usize, iov_len: usize| libc::iovec {
            iov_base: base.wrapping_add(at).cast(),
            iov_len,
        };
        let iovecs = (0..depth)
            .map(|index| {
                let payload = iovec(headers + index * shape.payload, shape.payload);
                [iovec(index * HEADER_STRIDE, HEADER_SIZE), payload]
            })
            .collect();
        // Every entry and the wake-up may be submitted at once.
        let ring = builder().build((u32::from(shape.depth) + 1).next_power_of_two())?;
        let memory = ManuallyDrop::new(Memory { arena, iovecs, count: Box::new([0; 8]) });
        Ok(Queue { ring, memory, lent: 0, listens: false, event, shape, qid, device })
    }

    /// Registers all entries. An error leaves the connection to /dev/fuse, as the kernel does.
    pub fn register(&mut self) -> io::Result<()> {
        self.listen();
        for index in 0..self.shape.depth {
            let iovec = &raw const self.memory.iovecs[usize::from(index)];
            self.push(index, abi::URING_CMD_REGISTER, 0, Some(iovec as u64));
        }
        for _ in 0..TRIES {
            passing(self.ring.submit())?;
            if self.ring.submission().is_empty() {
                break;
            }
        }
        if !self.ring.submission().is_empty() {
            return Err(io::Error::other("the kernel takes no entries"));
        }
        // A refusal completes at once, and an accepted entry not before there is a request.
        match self.next_event() {
            Some(Event::Gone(_, errno)) => Err(errno.into()),
            None => Ok(()),
            Some(event) => Err(io::Error::other(format!("{event:?} before the ring was ready"))),
        }
    }

    /// Whether an entry that is gone for this reason is so because the connection has ended.
    pub fn is_over(errno: Errno) -> bool {
        matches!(errno, Errno::ENOTCONN | Errno::ECONNABORTED | Errno::ECANCELED)
    }

    /// Submits commits and waits for a completion. It may return without one.
    ///
    /// A thread that gives way to the client it answers had better submit by a call of its own: it
    /// gives way when that returns, and is still awake when the client's next request comes. Inside
    /// of a call that goes on to wait it would have gone to sleep, and the client would wake it. Any
    /// other is awake when it answers, so that the client is moved away (perf-results, `roundtrip-2`).
    pub fn wait(&mut self, gives_way: bool) -> io::Result<()> {
        if gives_way && !self.ring.submission().is_empty() {
            passing(self.ring.submit())?;
        }
        passing(self.ring.submit_and_wait(1))
    }

    /// The next completion that has come.
    pub fn next_event(&mut self) -> Option<Event> {
        let completion = self.ring.completion().next()?;
        let result = completion.result();
        let token = completion.user_data();
        match token {
            WAKE_UP => self.listens = false,
            _ => self.lent -= 1,
        }
        Some(match u16::try_from(token) {
            _ if token == WAKE_UP => Event::WakeUp,
            Ok(index) if result >= 0 => Event::Request(index),
            Ok(index) => Event::Gone(index, Errno::from_raw(-result)),
            Err(_) => unreachable!("no other token is ever submitted"),
        })
    }

    /// Listens to the event descriptor again, unless it does.
    pub fn listen(&mut self) {
        if self.listens {
            return;
        }
        let fd = Fd(self.event.as_raw_fd());
        let entry = opcode::Read::new(fd, self.memory.count.as_mut_ptr(), 8);
        let entry = entry.build().user_data(WAKE_UP);
        self.listens = true;
        // SAFETY: the buffer is on the heap until this has completed, see `drop`, and nobody else
        // writes to it.
        let pushed = unsafe { self.ring.submission().push(&entry.into()) };
        pushed.expect("the queue has room for every entry and this");
    }

    /// The fixed parts of the request in an entry that is with us.
    pub fn head(&self, index: u16) -> Head {
        let at = usize::from(index) * HEADER_STRIDE;
        let bytes = &self.memory.arena[at..at + HEADER_SIZE];
        let (header, _) = InHeader::read_from_prefix(bytes).expect("long enough");
        let (entry, _) = UringEntInOut::read_from_prefix(&bytes[ENT_AT..]).expect("long enough");
        let mut argument = [0; abi::URING_OP_IN_OUT_SZ];
        argument.copy_from_slice(&bytes[OP_AT..ENT_AT]);
        let payload_len = usize::try_from(entry.payload_sz).unwrap_or(usize::MAX);
        let payload_len = payload_len.min(self.shape.payload);
        Head { header, argument, commit_id: entry.commit_id, payload_len }
    }

    /// The payload of an entry that is with us.
    pub fn payload(&mut self, index: u16) -> &mut [u8] {
        let headers = (usize::from(self.shape.depth) * HEADER_STRIDE).next_multiple_of(PAGE);
        let at = headers + usize::from(index) * self.shape.payload;
        &mut self.memory.arena[at..at + self.shape.payload]
    }

    /// Answers the request of an entry, whose payload holds the reply's body, and fetches the next.
    /// It is submitted by the next [`wait`](Self::wait).
    pub fn commit(&mut self, index: u16, commit_id: u64, reply: OutHeader) {
        let at = usize::from(index) * HEADER_STRIDE;
        let header = &mut self.memory.arena[at..at + HEADER_SIZE];
        let body = reply.len - OUT_HEADER;
        reply.write_to_prefix(header).expect("long enough");
        let entry = UringEntInOut { commit_id, payload_sz: body, ..UringEntInOut::default() };
        entry.write_to_prefix(&mut header[ENT_AT..]).expect("long enough");
        self.push(index, abi::URING_CMD_COMMIT_AND_FETCH, commit_id, None);
    }

    fn push(&mut self, index: u16, command: u32, commit_id: u64, iovecs: Option<u64>) {
        let request = UringCmdReq { commit_id, qid: self.qid, ..UringCmdReq::default() };
        let mut area = [0; 80];
        request.write_to_prefix(&mut area).expect("long enough");
        let fd = Fd(self.device.as_raw_fd());
        let entry = opcode::UringCmd80::new(fd, command).cmd(area).addr(iovecs).build();
        let mut entry = entry.user_data(u64::from(index));
        if iovecs.is_some() {
            set_len(&mut entry, 2);
        }
        self.lent += 1;
        // SAFETY: what the command points to, the entry's two iovecs and through them its header
        // and payload, is mapped until this has completed, see `drop`, and is left alone meanwhile.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the queue has room for every entry");
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // The read of the event descriptor can be ended from here.
        let mut tries = if self.event.write(1).is_ok() { TRIES } else { 0 };
        while self.listens && tries > 0 && self.wait(false).is_ok() {
            while self.next_event().is_some() {}
            tries -= 1;
        }
        if self.lent == 0 && !self.listens {
            // SAFETY: it is dropped here only, nothing uses it afterwards, and everything that was
            // submitted has completed.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

/// Sets `sqe->len`, which the builder of this command leaves out.
fn set_len(entry: &mut squeue::Entry128, len: u32) {
    /// Offset of `len` in `struct io_uring_sqe`.
    const LEN_AT: usize = 24;
    const _: () = assert!(size_of::<squeue::Entry128>() == 128);
    // SAFETY: an Entry128 is a struct io_uring_sqe of 128 bytes (`repr(C)`, asserted above), plain
    // integers of which any value is valid, and it is exclusively borrowed.
    let bytes = unsafe { &mut *std::ptr::from_mut(entry).cast::<[u8; 128]>() };
    bytes[LEN_AT..LEN_AT + 4].copy_from_slice(&len.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn queue(payload: usize) -> io::Result<Queue> {
        let device = Arc::new(File::open("/dev/null")?.into());
        let event = Arc::new(EventFd::new()?);
        Queue::new(device, 0, Shape { depth: 2, payload }, event)
    }

    #[test]
    fn what_no_memory_can_hold_is_refused() {
        let error = queue(usize::MAX / 2 + 1).expect_err("twice as much as that is nothing at all");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn one_read_of_the_event_descriptor_is_under_way() {
        let mut queue = queue(PAGE).expect("a ring");
        queue.listen();
        queue.listen();
        assert_eq!(queue.ring.submission().len(), 1);
    }
}
