//! A file system in fuser's clothes: who asks it, on which thread, and what is counted.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use fuser::{
    FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr,
};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tracing::{error, warn};

use super::convert::{attributes, errno};
use crate::abi::Opcode;
use crate::fs::{Entry, Filesystem, Kernel, Negotiated, Opened, Result};
use crate::metrics::{Metrics, Shard};
use crate::sys::caller::enter_worker;

thread_local! {
    /// Which thread of fuser's this is; set by its first request.
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A file system in fuser's clothes.
#[derive(Debug)]
pub(super) struct Adapter<F: ?Sized> {
    pub(super) fs: Arc<F>,
    /// One shard for each of fuser's threads.
    pub(super) metrics: Arc<Metrics>,
    /// How many threads have shown up.
    pub(super) threads: AtomicUsize,
    /// The CPUs to bind them to, if at all.
    pub(super) cpus: Option<Vec<usize>>,
    /// Largest WRITE, if it is not what the file system wants.
    pub(super) max_write: Option<u32>,
    /// For INIT; kept no longer, as it would keep a dead connection's callers waiting.
    pub(super) kernel: Option<Kernel>,
    pub(super) negotiated: Arc<OnceLock<Negotiated>>,
}

/// Every reply of fuser's can be an error.
pub(super) trait Refuse {
    fn refuse(self, error: Errno);
}

macro_rules! refuse {
    ($($reply:ident),*) => {$(
        impl Refuse for $reply {
            fn refuse(self, error: Errno) {
                self.error(errno(error));
            }
        }
    )*};
}

refuse!(ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty);
refuse!(ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite);
refuse!(ReplyXattr);

impl<F: Filesystem + ?Sized> Adapter<F> {
    /// Asks the file system, sends what it answers, counts.
    pub(super) fn serve<T, R: Refuse>(
        &self,
        opcode: Opcode,
        reply: R,
        ask: impl FnOnce(&F) -> Result<T>,
        send: impl FnOnce(R, T),
    ) {
        let arrived = Instant::now();
        let Ok(shard) = self.shard() else { return reply.refuse(Errno::EIO) };
        // As with our own workers a request that panics fails alone.
        let answer = catch_unwind(AssertUnwindSafe(|| ask(&self.fs))).unwrap_or(Err(Errno::EIO));
        let result = match answer {
            Ok(value) => {
                send(reply, value);
                Ok(())
            }
            Err(errno) => {
                reply.refuse(errno);
                Err(errno)
            }
        };
        shard.record(opcode, result, arrived.elapsed());
    }

    pub(super) fn empty(
        &self,
        opcode: Opcode,
        reply: ReplyEmpty,
        ask: impl FnOnce(&F) -> Result<()>,
    ) {
        self.serve(opcode, reply, ask, |reply, ()| reply.ok());
    }

    pub(super) fn entry(
        &self,
        opcode: Opcode,
        reply: ReplyEntry,
        ask: impl FnOnce(&F) -> Result<Entry>,
    ) {
        self.serve(opcode, reply, ask, |reply, entry| {
            let attr = attributes(entry.nodeid, &entry.attributes);
            let generation = Generation(entry.generation);
            reply.entry_with_ttls(&entry.attributes.valid, &entry.entry_valid, &attr, generation);
        });
    }

    pub(super) fn opened(
        &self,
        opcode: Opcode,
        reply: ReplyOpen,
        ask: impl FnOnce(&F) -> Result<Opened>,
    ) {
        self.serve(opcode, reply, ask, |reply, opened| {
            reply.opened(FileHandle(opened.fh.0), open_flags(&opened));
        });
    }

    /// The shard of the calling thread, which is prepared first if it is new.
    pub(super) fn shard(&self) -> io::Result<&Shard> {
        let index = match INDEX.get() {
            Some(index) => index,
            None => {
                let index = self.threads.fetch_add(1, Relaxed);
                self.prepare(index).inspect_err(|error| error!(%error, "prepare a thread"))?;
                INDEX.set(Some(index));
                index
            }
        };
        Ok(self.metrics.shard(index))
    }

    fn prepare(&self, index: usize) -> io::Result<()> {
        if let Some(cpus) = &self.cpus {
            let cpu = cpus[index % cpus.len()];
            let mut set = CpuSet::new();
            let pinned = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
            if let Err(errno) = pinned {
                warn!(%errno, cpu, "could not pin");
            }
        }
        enter_worker()
    }
}

pub(super) fn open_flags(opened: &Opened) -> FopenFlags {
    FopenFlags::from_bits_retain(opened.flags.bits())
}
