//! A worker on /dev/fuse.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::error;

use super::{End, Server, record, record_bytes, refuse};
use crate::dispatch::Outcome;
use crate::fs::Filesystem;
use crate::keeper::Watch;
use crate::metrics::Shard;
use crate::protocol::decode::{Frame, decode};
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
    /// Who answers.
    pub server: Server<F>,
    /// Who is told what this worker is busy with; relief workers tell nobody.
    pub watch: Option<Arc<Watch>>,
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
        let metrics = self.server.metrics.clone();
        self.serve(size, arrived, metrics.shard(self.index));
        if let Some(watch) = &self.watch {
            watch.end(self.index);
        }
        Ok(None)
    }

    fn serve(&mut self, size: usize, arrived: Instant, shard: &Shard) {
        let Worker { channel, buffers, server, .. } = self;
        let frame = Frame::from_contiguous(&buffers.request[..size]);
        let request = match frame.and_then(|frame| decode(frame, server.dialect)) {
            Ok(request) => request,
            Err(malformed) => {
                if let Some((unique, errno)) = refuse(shard, malformed) {
                    let _ = channel.reply_error(unique, errno);
                }
                return;
            }
        };
        let unique = request.header.unique;
        let mut reply = ReplyBuf::new(&mut buffers.reply);
        let sent = match server.answer(&request, &mut reply) {
            Ok(Outcome::NoReply) => Ok(Ok(0)),
            Ok(Outcome::Buffered) => {
                let (fixed, payload) = reply.parts();
                channel.reply(unique, [fixed, payload]).map(|()| Ok(payload.len()))
            }
            Ok(Outcome::FileRange { file, offset, len }) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(buffers.reply.len());
                match read_range(&file, offset, &mut buffers.reply[..len]) {
                    Ok(count) => {
                        channel.reply(unique, [&[], &buffers.reply[..count]]).map(|()| Ok(count))
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
        if let Ok(payload) = result {
            record_bytes(shard, &request.operation, payload);
        }
        record(shard, request.header, arrived, result.map(drop));
    }
}
