//! A worker: receives on its channel, has the file system answer, replies, counts.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::{debug, error, warn};

use crate::abi::Opcode;
use crate::dispatch::{Outcome, dispatch};
use crate::fs::Filesystem;
use crate::keeper::Watch;
use crate::metrics::{Metrics, Shard};
use crate::protocol::decode::{Dialect, Frame, Malformed, Operation, decode};
use crate::protocol::encode::ReplyBuf;
use crate::transport::buffers::Buffers;
use crate::transport::dev::{Channel, Received, read_range};

/// Everything that a worker needs for its whole life.
#[derive(Debug)]
pub struct Worker<F: ?Sized> {
    /// Which one it is, and which metrics shard is its own.
    pub index: usize,
    /// Its way to the kernel.
    pub channel: Channel,
    /// Its memory.
    pub buffers: Buffers,
    /// Counters of all workers.
    pub metrics: Arc<Metrics>,
    /// How requests are to be read.
    pub dialect: Dialect,
    /// Who answers.
    pub fs: Arc<F>,
    /// Who is told what this worker is busy with; relief workers tell nobody.
    pub watch: Option<Arc<Watch>>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody unmounted it.
    Unmounted,
    /// Somebody aborted it; the mount is still there.
    Aborted,
}

impl<F: Filesystem + ?Sized> Worker<F> {
    /// Serves requests until the connection is over, and tells how it ended. The thread must have
    /// entered [`enter_worker`](crate::sys::caller::enter_worker).
    pub fn run(mut self) -> io::Result<End> {
        loop {
            if let Some(end) = self.serve_next()? {
                return Ok(end);
            }
        }
    }

    /// Serves requests for as long as they keep coming: none for a second ends it.
    pub fn relieve(mut self) -> io::Result<()> {
        while self.channel.wait(Duration::from_secs(1))? && self.serve_next()?.is_none() {}
        Ok(())
    }

    fn serve_next(&mut self) -> io::Result<Option<End>> {
        let size = match self.channel.receive(&mut self.buffers.request)? {
            Received::Request(size) => size,
            Received::Closed => return Ok(Some(End::Unmounted)),
            Received::Aborted => return Ok(Some(End::Aborted)),
        };
        let arrived = Instant::now();
        if let Some(watch) = &self.watch {
            watch.begin(self.index, arrived);
        }
        let metrics = self.metrics.clone();
        self.serve(size, arrived, metrics.shard(self.index));
        if let Some(watch) = &self.watch {
            watch.end(self.index);
        }
        Ok(None)
    }

    fn serve(&mut self, size: usize, arrived: Instant, shard: &Shard) {
        let Worker { channel, buffers, fs, dialect, .. } = self;
        let frame = Frame::from_contiguous(&buffers.request[..size]);
        let request = match frame.and_then(|frame| decode(frame, *dialect)) {
            Ok(request) => request,
            Err(malformed) => return refuse(channel, malformed, shard),
        };
        let unique = request.header.unique;
        let mut reply = ReplyBuf::new(&mut buffers.reply);
        // A request that panics is answered by the EIO of an unanswered one, and the worker lives.
        let answered = catch_unwind(AssertUnwindSafe(|| dispatch(&**fs, &request, &mut reply)));
        let outcome = answered.unwrap_or_else(|_| {
            error!(opcode = request.header.opcode, "panicked while serving a request: EIO");
            Err(Errno::EIO)
        });
        let sent = match outcome {
            Ok(Outcome::NoReply) => Ok(Ok(())),
            Ok(Outcome::Buffered) => {
                let (fixed, payload) = reply.parts();
                let sent = channel.reply(unique, [fixed, payload]);
                if let Operation::Read(_) = request.operation {
                    shard.record_read(payload.len());
                }
                sent.map(Ok)
            }
            Ok(Outcome::FileRange { file, offset, len }) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(buffers.reply.len());
                match read_range(&file, offset, &mut buffers.reply[..len]) {
                    Ok(count) => {
                        shard.record_read(count);
                        channel.reply(unique, [&[], &buffers.reply[..count]]).map(Ok)
                    }
                    Err(errno) => channel.reply_error(unique, errno).map(|()| Err(errno)),
                }
            }
            Err(errno) => channel.reply_error(unique, errno).map(|()| Err(errno)),
        };
        let result = sent.unwrap_or_else(|errno| {
            error!(opcode = request.header.opcode, %errno, "the kernel refused a reply");
            // The caller still waits; an error without a payload is always well-formed.
            let _ = channel.reply_error(unique, Errno::EIO);
            Err(Errno::EIO)
        });
        if let (Operation::Write { args, .. }, Ok(())) = (&request.operation, result) {
            shard.record_written(args.size);
        }
        let opcode = Opcode::from_raw(request.header.opcode).expect("it was decoded");
        let header = request.header;
        debug!(
            unique,
            nodeid = header.nodeid,
            uid = header.uid,
            pid = header.pid,
            error = ?result.err(),
            "{}",
            opcode.name()
        );
        shard.record(opcode, result, arrived.elapsed());
    }
}

fn refuse(channel: &Channel, malformed: Malformed, shard: &Shard) {
    shard.record_malformed();
    warn!(opcode = malformed.opcode, reason = malformed.reason, "refused a malformed request");
    let no_reply = [Opcode::Forget, Opcode::BatchForget, Opcode::Interrupt];
    if Opcode::from_raw(malformed.opcode).is_some_and(|opcode| no_reply.contains(&opcode)) {
        return;
    }
    if let Some(unique) = malformed.unique
        && let Err(errno) = channel.reply_error(unique, malformed.errno)
    {
        error!(%errno, "the kernel refused the answer to a malformed request");
    }
}
