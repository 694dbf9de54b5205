//! Workers: each receives through its transport, has the file system answer, replies, counts.
//!
//! What all have in common is here: a request from its decoding to what there is to send. How it
//! comes and goes is [`dev`]'s and [`ring`]'s.

pub mod dev;
pub mod ring;

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use tracing::{debug, error, warn};

use crate::abi::{InHeader, Opcode, WriteIn};
use crate::dispatch::{Outcome, dispatch};
use crate::fs::{Caller, Filesystem, NodeId};
use crate::metrics::{Metrics, Shard};
use crate::protocol::decode::{Dialect, Malformed, Operation, Request};
use crate::protocol::encode::ReplyBuf;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody unmounted it.
    Unmounted,
    /// Somebody aborted it; the mount is still there.
    Aborted,
}

/// What every worker of a session has.
#[derive(Debug)]
pub struct Server<F: ?Sized> {
    /// Counters of all workers.
    pub metrics: Arc<Metrics>,
    /// How requests are to be read.
    pub dialect: Dialect,
    /// Who answers.
    pub fs: Arc<F>,
}

impl<F: ?Sized> Clone for Server<F> {
    fn clone(&self) -> Self {
        let Server { metrics, dialect, fs } = self;
        Server { metrics: metrics.clone(), dialect: *dialect, fs: fs.clone() }
    }
}

impl<F: Filesystem + ?Sized> Server<F> {
    /// Has the file system answer. A panic answers EIO, and the worker lives.
    fn answer(&self, request: &Request<'_>, reply: &mut ReplyBuf<'_>) -> Result<Outcome, Errno> {
        let answered = catch_unwind(AssertUnwindSafe(|| dispatch(&*self.fs, request, reply)));
        answered.unwrap_or_else(|_| {
            error!(opcode = request.header.opcode, "panicked while serving a request: EIO");
            Err(Errno::EIO)
        })
    }
}

impl<F: Filesystem + ?Sized> Server<F> {
    /// Has the file system write what is in a pipe, likewise.
    fn write_from(
        &self,
        header: &InHeader,
        args: &WriteIn,
        pipe: BorrowedFd<'_>,
    ) -> Result<Option<u32>, Errno> {
        let caller = Caller { uid: header.uid, gid: header.gid, pid: header.pid };
        let write = || self.fs.write_from(&caller, NodeId(header.nodeid), args, pipe);
        catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
            error!(opcode = header.opcode, "panicked while serving a request: EIO");
            Err(Errno::EIO)
        })
    }
}

/// Counts and logs a request that was answered.
fn record(shard: &Shard, header: &InHeader, arrived: Instant, result: Result<(), Errno>) {
    let opcode = Opcode::from_raw(header.opcode).expect("it was decoded");
    let InHeader { unique, nodeid, uid, pid, .. } = *header;
    debug!(unique, nodeid, uid, pid, error = ?result.err(), "{}", opcode.name());
    shard.record(opcode, result, arrived.elapsed());
}

/// Which way the data of a request goes.
#[derive(Debug, Clone, Copy)]
enum Moves {
    /// READ.
    Out,
    /// WRITE, of so many bytes.
    In(u32),
    /// No data of files.
    Nothing,
}

impl Moves {
    fn of(operation: &Operation<'_>) -> Self {
        match operation {
            Operation::Read(_) => Moves::Out,
            Operation::Write { args, .. } => Moves::In(args.size),
            _ => Moves::Nothing,
        }
    }

    /// Counts the bytes that a request moved, whose reply has so many bytes of payload.
    fn record(self, shard: &Shard, payload: usize) {
        match self {
            Moves::Out => shard.record_read(payload),
            Moves::In(size) => shard.record_written(size),
            Moves::Nothing => {}
        }
    }
}

/// Counts and logs a request that could not be read; what to answer, and to whom, if anybody waits.
fn refuse(shard: &Shard, malformed: Malformed) -> Option<(u64, Errno)> {
    shard.record_malformed();
    warn!(opcode = malformed.opcode, reason = malformed.reason, "refused a malformed request");
    let no_reply = [Opcode::Forget, Opcode::BatchForget, Opcode::Interrupt];
    match Opcode::from_raw(malformed.opcode) {
        Some(opcode) if no_reply.contains(&opcode) => None,
        _ => malformed.unique.map(|unique| (unique, malformed.errno)),
    }
}
