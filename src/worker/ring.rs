//! A worker on a ring: the thread of one queue.
//!
//! Every client of its CPU waits for this thread, so it does nothing that may take long: such
//! operations go to the [`Pool`], whose results come back through a channel and the queue's event
//! descriptor.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use nix::errno::Errno;
use tracing::{debug, warn};
use zerocopy::IntoBytes;

use super::{End, Moves, Server, record, refuse};
use crate::abi::{self, InHeader, SetattrValid};
use crate::discipline::Pulse;
use crate::dispatch::Outcome;
use crate::fs::{Filesystem, NodeId};
use crate::keeper::Watch;
use crate::offload::Pool;
use crate::protocol::decode::{Frame, Operation, Request, argument_size, decode};
use crate::protocol::encode::{self, FIXED_MAX, ReplyBuf};
use crate::sys::{caller, objfd};
use crate::transport::dev::read_range;
use crate::transport::uring::{Event, Head, Queue};

/// A request's payload of up to so many bytes is copied aside, so that its entry can take the reply;
/// of a longer one the reply is small, and is copied instead.
const ASIDE: usize = 8192;

/// Everything that the thread of a queue needs for its whole life.
#[derive(Debug)]
pub struct Worker<F: ?Sized> {
    /// Which one it is, and which metrics shard is its own.
    pub index: usize,
    /// Who answers.
    pub server: Server<F>,
    /// Who is told what this worker is busy with.
    pub watch: Arc<Watch>,
    /// Who does what may take long.
    pub pool: Pool,
    /// Wakes the queue when such an operation is done, or to see whether it lives.
    pub pulse: Arc<Pulse>,
    /// The results of such operations.
    pub done: (Sender<Done>, Receiver<Done>),
    /// Memory for what is copied aside, from [`aside`](Self::aside).
    pub aside: Box<[u64]>,
    /// Memory for the results of such operations.
    pub spare: Spare,
}

/// Memory that results came in, kept for the next: fresh memory costs a page fault for each 4 KiB.
#[derive(Debug, Default)]
pub struct Spare(RefCell<Vec<Vec<u8>>>);

impl Spare {
    /// So many are kept; a queue seldom has more long reads under way.
    const KEPT: usize = 2;
    /// What is not worth it, bytes.
    const SMALL: usize = ASIDE + FIXED_MAX;

    /// Memory of some length for `len` bytes, if there is any.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        if len > Self::SMALL { self.0.borrow_mut().pop() } else { None }
    }

    fn give(&self, memory: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < Self::KEPT && memory.len() > Self::SMALL {
            kept.push(memory);
        }
    }
}

/// An operation that was done by the pool.
#[derive(Debug)]
pub struct Done {
    index: u16,
    head: Head,
    reply: Result<Body, Errno>,
}

/// The first `len` bytes of `memory`, where an answer is put together.
struct Output {
    memory: Vec<u8>,
    len: usize,
}

/// The first `len` bytes of `memory`, which are the answer.
#[derive(Debug)]
struct Body {
    memory: Vec<u8>,
    len: usize,
}

/// What became of a request.
enum Served {
    /// The reply is in the entry, its body so long.
    Body(usize),
    Failed(Errno),
    /// The pool has it.
    Offloaded,
}

impl<F: Filesystem + ?Sized> Worker<F> {
    /// Memory to copy aside in, aligned for the structures that requests hold.
    pub fn aside() -> Box<[u64]> {
        vec![0; ASIDE / 8].into()
    }

    /// Serves the queue until the connection is over. The thread must have entered
    /// [`enter_worker`](caller::enter_worker).
    pub fn run(mut self, mut queue: Queue, depth: u16) -> io::Result<End> {
        caller::be_impatient();
        let mut left = usize::from(depth);
        let (mut refused, mut over) = (None, false);
        while left > 0 {
            queue.wait(self.pulse.gives_way())?;
            while let Some(event) = queue.next_event() {
                match event {
                    Event::Request(index) => self.serve(&mut queue, index),
                    Event::WakeUp => {
                        self.pulse.answer();
                        queue.listen();
                        while let Ok(done) = self.done.1.try_recv() {
                            self.finish(&mut queue, done);
                        }
                    }
                    Event::Gone(index, errno) => {
                        debug!(index, %errno, "a ring entry has ended");
                        left -= 1;
                        match Queue::is_over(errno) {
                            true => over = true,
                            false => {
                                warn!(index, %errno, "the kernel has given up a ring entry");
                                refused = Some(errno);
                            }
                        }
                    }
                }
            }
        }
        match refused.filter(|_| !over) {
            // Without entries nobody answers this CPU's clients, whom only the end of the connection
            // ends.
            Some(errno) => Err(errno.into()),
            None => Ok(End::Unmounted),
        }
    }

    fn serve(&mut self, queue: &mut Queue, index: u16) {
        let arrived = Instant::now();
        self.watch.begin(self.index, arrived);
        let head = queue.head(index);
        let payload = queue.payload(index);
        let len = head.payload_len;
        let served = match len <= ASIDE {
            true => {
                self.aside.as_mut_bytes()[..len].copy_from_slice(&payload[..len]);
                let input = &self.aside.as_bytes()[..len];
                self.answer(index, &head, input, payload, arrived)
            }
            false => {
                let mut output = [0; FIXED_MAX];
                let served = self.answer(index, &head, &payload[..len], &mut output, arrived);
                payload[..FIXED_MAX].copy_from_slice(&output);
                served
            }
        };
        let reply = match served {
            Served::Body(len) => encode::header(head.header.unique, Ok(len)),
            Served::Failed(errno) => encode::header(head.header.unique, Err(errno)),
            Served::Offloaded => return self.watch.end(self.index),
        };
        queue.commit(index, head.commit_id, reply);
        self.watch.end(self.index);
    }

    /// Answers the request whose payload is `input`; the reply's body goes to `output`.
    fn answer(
        &self,
        index: u16,
        head: &Head,
        input: &[u8],
        output: &mut [u8],
        arrived: Instant,
    ) -> Served {
        let shard = self.server.metrics.shard(self.index);
        let request = match decode(frame(head, input), self.server.dialect) {
            Ok(request) => request,
            Err(malformed) => {
                refuse(shard, malformed);
                return Served::Failed(malformed.errno);
            }
        };
        if may_take_long(&request.operation) || self.may_wait(&request) {
            self.offload(index, head, input, &request, arrived);
            return Served::Offloaded;
        }
        let mut reply = ReplyBuf::new(output);
        let outcome = self.server.answer(&request, &mut reply);
        let reply = reply.finish();
        let result = match outcome {
            Err(Errno::EWOULDBLOCK) => {
                self.offload(index, head, input, &request, arrived);
                return Served::Offloaded;
            }
            Ok(Outcome::NoReply) => Err(Errno::EIO),
            Ok(Outcome::Buffered) => Ok((reply.assemble(output), reply.payload_len())),
            Ok(Outcome::FileRange { file, offset, len }) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(output.len());
                match objfd::read_cached(&file, offset, &mut output[..len]) {
                    Some(count) => Ok((count, count)),
                    None => {
                        self.offload(index, head, input, &request, arrived);
                        return Served::Offloaded;
                    }
                }
            }
            Err(errno) => Err(errno),
        };
        if let Ok((_, payload)) = result {
            Moves::of(&request.operation).record(shard, payload);
        }
        record(shard, &head.header, arrived, result.map(drop));
        match result {
            Ok((body, _)) => Served::Body(body),
            Err(errno) => Served::Failed(errno),
        }
    }

    /// Whether somebody else may have a say in when it is done.
    fn may_wait(&self, request: &Request<'_>) -> bool {
        let is_read = matches!(request.operation, Operation::Read(_));
        !is_read && self.server.fs.may_wait(NodeId(request.header.nodeid))
    }

    /// Hands a request to the pool.
    fn offload(
        &self,
        index: u16,
        head: &Head,
        input: &[u8],
        request: &Request<'_>,
        arrived: Instant,
    ) {
        let (server, shard) = (self.server.clone(), self.index);
        let (pulse, done) = (self.pulse.clone(), self.done.0.clone());
        let head = *head;
        // Words, so that structures in it are aligned.
        let mut words = vec![0_u64; input.len().div_ceil(8)];
        words.as_mut_bytes()[..input.len()].copy_from_slice(input);
        let len = room(&request.operation).max(ASIDE) + FIXED_MAX;
        let spare = self.spare.take(len);
        self.pool.run(move |fit| {
            let input = &words.as_bytes()[..head.payload_len];
            // Where no thread can be had for it, this is the queue's own.
            let large_enough = |memory: &Vec<u8>| memory.len() >= len;
            let memory = spare.filter(large_enough).unwrap_or_else(|| vec![0; len]);
            let output = Output { memory, len };
            let answer = || patiently(&server, shard, &head, input, output, arrived);
            let reply = fit.and_then(|()| caller::while_patient(answer));
            // The queue may have ended, and nobody waits any more.
            if done.send(Done { index, head, reply }).is_ok() {
                let _ = pulse.event.write(1);
            }
        });
    }

    fn finish(&self, queue: &mut Queue, done: Done) {
        let Done { index, head, reply } = done;
        let result = reply.map(|Body { memory, len }| {
            queue.payload(index)[..len].copy_from_slice(&memory[..len]);
            self.spare.give(memory);
            len
        });
        queue.commit(index, head.commit_id, encode::header(head.header.unique, result));
    }
}

/// Bytes that the caller of an operation has room for in its reply.
fn room(operation: &Operation<'_>) -> usize {
    let room = match operation {
        Operation::Read(args) | Operation::Readdir(args) | Operation::Readdirplus(args) => {
            args.size
        }
        Operation::Getxattr { size, .. } | Operation::Listxattr { size } => *size,
        Operation::Ioctl { args, .. } => args.out_size,
        _ => 0,
    };
    usize::try_from(room).unwrap_or(0)
}

/// Answers a request on a thread that may wait.
fn patiently<F: Filesystem + ?Sized>(
    server: &Server<F>,
    shard: usize,
    head: &Head,
    input: &[u8],
    output: Output,
    arrived: Instant,
) -> Result<Body, Errno> {
    let Output { mut memory, len: room } = output;
    let shard = server.metrics.shard(shard);
    let request =
        decode(frame(head, input), server.dialect).map_err(|malformed| malformed.errno)?;
    let output = &mut memory[..room];
    let mut reply = ReplyBuf::new(output);
    let outcome = server.answer(&request, &mut reply);
    let reply = reply.finish();
    let result = match outcome {
        Ok(Outcome::NoReply) => Err(Errno::EIO),
        Ok(Outcome::Buffered) => Ok((reply.assemble(output), reply.payload_len())),
        Ok(Outcome::FileRange { file, offset, len }) => {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(output.len());
            read_range(&file, offset, &mut output[..len]).map(|count| (count, count))
        }
        Err(errno) => Err(errno),
    };
    if let Ok((_, payload)) = result {
        Moves::of(&request.operation).record(shard, payload);
    }
    record(shard, &head.header, arrived, result.map(drop));
    result.map(|(len, _)| Body { memory, len })
}

/// The request of an entry as every request is read.
fn frame<'a>(head: &'a Head, payload: &'a [u8]) -> Frame<'a> {
    let header: &InHeader = &head.header;
    let extensions = usize::from(header.total_extlen) * 8;
    let (payload, extensions) = payload.split_at(payload.len().saturating_sub(extensions));
    let setxattr = abi::Opcode::Setxattr as u32;
    let size = match header.opcode == setxattr {
        true => head.argument.len(),
        false => argument_size(header.opcode),
    };
    Frame { header, argument: &head.argument[..size], payload, extensions }
}

/// Whether an operation is known to take long, or to wait for the disk.
fn may_take_long(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::Fsync(_)
        | Operation::Fsyncdir(_)
        | Operation::Syncfs
        | Operation::Fallocate(_) => true,
        // truncate(2) waits for leases; ftruncate(2) on an open file does not.
        Operation::Setattr(args) => {
            let valid = SetattrValid::from_bits_retain(args.valid);
            valid.contains(SetattrValid::SIZE) && !valid.contains(SetattrValid::FH)
        }
        _ => false,
    }
}
