//! A worker on /dev/fuse.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::error;
use zerocopy::IntoBytes;

use super::{End, Moves, Server, record, refuse};
use crate::abi::{self, InHeader};
use crate::dispatch::Outcome;
use crate::fs::Filesystem;
use crate::keeper::Watch;
use crate::metrics::Shard;
use crate::protocol::decode::{Frame, decode, decode_ahead};
use crate::protocol::encode::ReplyBuf;
use crate::transport::dev::Received;
use crate::transport::line::{Line, Moved};

/// Everything that a worker needs for its whole life.
#[derive(Debug)]
pub struct Worker<F: ?Sized> {
    /// Which one it is, and which metrics shard is its own.
    pub index: usize,
    /// Its way to the kernel.
    pub line: Line,
    /// Who answers.
    pub server: Server<F>,
    /// Who is told what this worker is busy with; relief workers tell nobody.
    pub watch: Option<Arc<Watch>>,
    /// How long it leaves the next request alone, if it serves only what nobody waits for: while
    /// nobody reads, nobody is woken, and the kernel gathers FORGETs into one request.
    pub pause: Option<Duration>,
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
        while self.line.wait(Duration::from_secs(1))? && self.serve_next()?.is_none() {}
        Ok(())
    }

    fn serve_next(&mut self) -> io::Result<Option<End>> {
        let size = match self.line.receive()? {
            Received::Request(size) => size,
            Received::Closed => return Ok(Some(End::Unmounted)),
            Received::Aborted => return Ok(Some(End::Aborted)),
        };
        let arrived = Instant::now();
        if let Some(watch) = &self.watch {
            watch.begin(self.index, arrived);
        }
        let metrics = self.server.metrics.clone();
        self.serve(size, arrived, metrics.shard(self.index));
        if let Some(watch) = &self.watch {
            watch.end(self.index);
        }
        if let Some(pause) = self.pause {
            std::thread::sleep(pause);
        }
        Ok(None)
    }

    fn serve(&mut self, size: usize, arrived: Instant, shard: &Shard) {
        let Worker { line, server, .. } = self;
        if serve_ahead(line, server, size, arrived, shard) {
            return;
        }
        let (received, room) = line.buffers();
        let frame = Frame::from_contiguous(&received[..size]);
        let request = match frame.and_then(|frame| decode(frame, server.dialect)) {
            Ok(request) => request,
            Err(malformed) => {
                if let Some((unique, errno)) = refuse(shard, malformed) {
                    let _ = line.reply_error(unique, errno);
                }
                return;
            }
        };
        let (header, moves) = (*request.header, Moves::of(&request.operation));
        let unique = header.unique;
        let mut reply = ReplyBuf::new(room);
        let outcome = server.answer(&request, &mut reply);
        let reply = reply.finish();
        let sent = match outcome {
            Ok(Outcome::NoReply) => Ok(Moved::Copied(0)),
            Ok(Outcome::Buffered) => {
                let payload = reply.payload_len();
                line.reply(unique, reply.fixed(), payload).map(|()| Moved::Copied(payload))
            }
            Ok(Outcome::FileRange { file, offset, len }) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                line.reply_range(unique, &file, offset, len)
            }
            Err(errno) => line.reply_error(unique, errno).map(|()| Moved::Failed(errno)),
        };
        let result = match sent.map_err(|errno| refused(line, &header, errno)) {
            Ok(Moved::Copied(count)) => {
                moves.record(shard, count);
                Ok(())
            }
            Ok(Moved::Spliced(count)) => {
                moves.record(shard, count);
                shard.record_spliced(count);
                Ok(())
            }
            Ok(Moved::Failed(errno)) | Err(errno) => Err(errno),
        };
        record(shard, &header, arrived, result);
    }
}

/// Serves a WRITE whose data is in a pipe. False if there is none, or it has to be served as others are.
fn serve_ahead<F: Filesystem + ?Sized>(
    line: &mut Line,
    server: &Server<F>,
    size: usize,
    arrived: Instant,
    shard: &Shard,
) -> bool {
    let Some((head, pipe)) = line.ahead() else { return false };
    let written = decode_ahead(head, size - head.len())
        .map(|(header, args)| (*header, server.write_from(header, args, pipe)));
    let (header, result) = match written {
        Some((header, Ok(Some(count)))) => (header, Ok(count)),
        Some((header, Err(errno))) => (header, Err(errno)),
        None | Some((_, Ok(None))) => {
            line.pour();
            return false;
        }
    };
    let sent = match result {
        Ok(count) => {
            let taken = usize::try_from(count).unwrap_or(usize::MAX);
            line.taken(taken);
            Moves::In(count).record(shard, 0);
            shard.record_spliced(taken);
            let reply = abi::WriteOut { size: count, padding: 0 };
            line.reply(header.unique, reply.as_bytes(), 0)
        }
        Err(errno) => line.reply_error(header.unique, errno),
    };
    let sent = sent.map_err(|errno| refused(line, &header, errno));
    record(shard, &header, arrived, result.and(sent));
    true
}

/// The kernel refused a reply, whose caller still waits: an error without a payload is always
/// well-formed. Tells which one it was given.
fn refused(line: &mut Line, header: &InHeader, errno: Errno) -> Errno {
    error!(opcode = header.opcode, %errno, "the kernel refused a reply");
    let _ = line.reply_error(header.unique, Errno::EIO);
    Errno::EIO
}
