//! The threads of a session: its workers, and those that help out.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use tracing::{debug, error, warn};

use crate::fs::Filesystem;
use crate::keeper::Watch;
use crate::sys::caller;
use crate::transport::uring::{Queue, Shape};
use crate::worker::{End, dev, ring};

/// The threads of a session.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) workers: Workers,
    pub(super) keeper: Option<JoinHandle<()>>,
    pub(super) watch: Arc<Watch>,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Every worker saw the mount go.
    Unmounted,
    /// The mount may still be there, with nobody to serve it.
    Aborted,
    /// A worker can not go on, and its clients wait for ever unless the connection ends.
    Broken,
}

impl Threads {
    /// Waits until the connection is over, or a worker can not go on.
    pub(super) fn join(&mut self) -> Over {
        let over = self.workers.join();
        self.watch.stop();
        if over != Over::Broken
            && let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            error!("the keeper panicked");
        }
        over
    }
}

/// Threads that serve until the connection is over.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// What each says at its end: nothing if it could not go on.
    ends: (Sender<Option<End>>, Receiver<Option<End>>),
}

impl Workers {
    /// None yet.
    pub(super) fn new() -> Self {
        Workers { threads: Vec::new(), ends: unbounded() }
    }

    /// Whether all have been waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    fn join(&mut self) -> Over {
        let mut over = Over::Unmounted;
        for _ in 0..self.threads.len() {
            match self.ends.1.recv().expect("this holds both ends") {
                Some(End::Unmounted) => {}
                Some(End::Aborted) => over = Over::Aborted,
                None => {
                    // The others serve on until the connection is ended.
                    self.threads.clear();
                    return Over::Broken;
                }
            }
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("it has caught its panics");
        }
        over
    }

    /// Starts a thread that prepares itself for serving, then `begin`s, then serves; returns once it
    /// has begun, with its id.
    fn start<T: 'static>(
        &mut self,
        name: String,
        begin: impl FnOnce() -> io::Result<T> + Send + 'static,
        serve: impl FnOnce(T) -> io::Result<End> + Send + 'static,
    ) -> io::Result<Pid> {
        let (ready, wait) = mpsc::sync_channel(1);
        let ends = self.ends.0.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let begun = caller::enter_worker().and_then(|()| begin());
            // The session waits for this, or is gone and the mount with it.
            let begun = match begun {
                Ok(begun) => ready.send(Ok(gettid())).ok().map(|()| begun),
                Err(error) => {
                    let _ = ready.send(Err(error));
                    None
                }
            };
            let Some(begun) = begun else { return };
            let end = catch_unwind(AssertUnwindSafe(|| serve(begun)));
            let end = end.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            let end = end.inspect_err(|error| error!(%error, "a worker stopped serving"));
            // Whoever waits for it may have heard of another's end already.
            let _ = ends.send(end.ok());
        })?;
        let id = wait.recv().map_err(|_| io::Error::other("it died at once"))??;
        self.threads.push(thread);
        Ok(id)
    }

    /// Starts a worker on /dev/fuse, bound to `cpu` if there is one.
    pub(super) fn start_dev<F: Filesystem + ?Sized>(
        &mut self,
        worker: dev::Worker<F>,
        cpu: Option<usize>,
    ) -> io::Result<Pid> {
        let begin = move || {
            if let Some(cpu) = cpu {
                pin(cpu);
            }
            Ok(worker)
        };
        self.start("worker".to_owned(), begin, dev::Worker::run)
    }

    /// Starts the thread of one queue of `device`, on the queue's own CPU, with all entries
    /// registered.
    pub(super) fn start_ring<F: Filesystem + ?Sized>(
        &mut self,
        worker: ring::Worker<F>,
        device: Arc<OwnedFd>,
        shape: Shape,
    ) -> io::Result<Pid> {
        let qid = u16::try_from(worker.index).map_err(io::Error::other)?;
        let begin = move || {
            pin(worker.index);
            let mut queue = Queue::new(device, qid, shape, worker.pulse.event.clone())?;
            queue.register()?;
            Ok((worker, queue))
        };
        let serve = move |(worker, queue): (ring::Worker<F>, Queue)| worker.run(queue, shape.depth);
        self.start(format!("queue-{qid}"), begin, serve)
    }
}

/// Starts a worker that serves until there is nothing to do.
pub(super) fn relieve<F: Filesystem + ?Sized>(
    worker: dev::Worker<F>,
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

/// Binds the calling thread to a CPU. One that is offline or not allowed leaves it free to run
/// anywhere: slower, but served.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    let bound = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(errno) = bound {
        warn!(%errno, cpu, "could not bind a worker to its CPU");
    }
}

/// CPUs that may ever be online: FUSE wants a queue for each.
pub(super) fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    // A list of ranges such as "0-3,8-11"; queues are numbered up to the last.
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1)
        .ok_or_else(|| io::Error::other(format!("not a list of CPUs: {text:?}")))
}

/// CPUs that this process may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}
