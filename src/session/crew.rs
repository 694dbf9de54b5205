//! The threads of a session: its workers, and those that help out.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tracing::{debug, error, warn};

use crate::fs::Filesystem;
use crate::keeper::Watch;
use crate::metrics::Metrics;
use crate::protocol::decode::Dialect;
use crate::sys::caller;
use crate::transport::buffers::Buffers;
use crate::transport::dev::Channel;
use crate::worker::{End, Worker};

/// The threads of a session.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) workers: Vec<JoinHandle<Option<End>>>,
    pub(super) keeper: Option<JoinHandle<()>>,
    pub(super) watch: Arc<Watch>,
}

impl Threads {
    /// Waits until the connection is over. True if all workers saw it unmounted: else the mount may
    /// still be there, with nobody to serve it.
    pub(super) fn join(&mut self) -> bool {
        let mut unmounted = true;
        for worker in self.workers.drain(..) {
            unmounted &= match worker.join() {
                Ok(end) => end == Some(End::Unmounted),
                Err(_) => {
                    error!("a worker panicked outside of a request");
                    false
                }
            };
        }
        self.watch.stop();
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            error!("the keeper panicked");
        }
        unmounted
    }
}

/// What all workers of a session have in common.
#[derive(Debug)]
pub(super) struct Crew<F: ?Sized> {
    pub(super) metrics: Arc<Metrics>,
    pub(super) dialect: Dialect,
    /// Bytes of the largest data.
    pub(super) payload: usize,
    pub(super) fs: Arc<F>,
}

impl<F: Filesystem + ?Sized> Crew<F> {
    pub(super) fn worker(
        &self,
        index: usize,
        channel: Channel,
        watch: Option<Arc<Watch>>,
    ) -> io::Result<Worker<F>> {
        let buffers = Buffers::new(self.payload)?;
        let (metrics, fs, dialect) = (self.metrics.clone(), self.fs.clone(), self.dialect);
        Ok(Worker { index, channel, buffers, metrics, dialect, fs, watch })
    }
}

/// Starts a worker, and returns once it is ready to serve.
pub(super) fn start<F: Filesystem + ?Sized>(
    worker: Worker<F>,
    cpu: Option<usize>,
) -> io::Result<JoinHandle<Option<End>>> {
    let index = worker.index;
    let (ready, wait) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Some(cpu) = cpu
            && let Err(errno) = pin(cpu)
        {
            warn!(%errno, worker = index, cpu, "could not pin");
        }
        let entered = caller::enter_worker();
        let failed = entered.is_err();
        // The session waits for this, or is gone and the mount with it.
        let _ = ready.send(entered);
        if failed {
            return None;
        }
        let end = worker.run();
        end.inspect_err(|error| error!(%error, worker = index, "stopped serving")).ok()
    })?;
    wait.recv().map_err(|_| io::Error::other("it died at once"))??;
    Ok(thread)
}

/// Starts a worker that serves until there is nothing to do.
pub(super) fn relieve<F: Filesystem + ?Sized>(
    worker: Worker<F>,
    watch: Arc<Watch>,
) -> io::Result<()> {
    debug!("every worker is stuck in an operation of the source: one more serves meanwhile");
    let serve = move || {
        if let Err(error) = caller::enter_worker().and_then(|()| worker.relieve()) {
            error!(%error, "a relief worker stopped serving");
        }
        watch.relief_ended();
    };
    thread::Builder::new().name("relief".to_owned()).spawn(serve).map(drop)
}

fn pin(cpu: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// CPUs that this process may run on.
pub(super) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}
