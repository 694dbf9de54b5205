//! The keeper: one thread of a session that looks after the workers and the file system.
//!
//! An operation of the source may take long (an open that waits for a lease, an fsync, a huge
//! unlink). When every worker is stuck in one, the keeper starts a relief worker, so that whoever
//! asks for something else does not wait. And it tells the file system the time
//! ([`Filesystem::tick`](crate::fs::Filesystem::tick)). While nothing happens it sleeps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use tracing::warn;

use crate::discipline::Discipline;

/// How often the workers are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long all of them may be busy with one request each.
const STUCK_AFTER: Duration = Duration::from_millis(50);
/// How often the file system is told the time.
const TICK: Duration = Duration::from_secs(1);
/// How long the keeper sleeps at most, in case that a call went unheard.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Relief workers at a time: each waits in an operation of its own.
const RELIEF_MAX: u64 = 64;

/// What the workers tell the keeper. All of it is relaxed: a look that comes too early is followed
/// by another.
#[derive(Debug)]
pub struct Watch {
    base: Instant,
    /// Per worker: when its request arrived, nanoseconds after `base`; 0 while it waits for one.
    lanes: Box<[CachePadded<AtomicU64>]>,
    /// Relief workers that are alive.
    relief: AtomicU64,
    asleep: AtomicBool,
    stopped: AtomicBool,
    keeper: OnceLock<Thread>,
}

impl Watch {
    /// A watch over `workers` workers.
    pub fn new(workers: usize) -> Self {
        Watch {
            base: Instant::now(),
            lanes: (0..workers).map(|_| CachePadded::default()).collect(),
            relief: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            keeper: OnceLock::new(),
        }
    }

    /// Worker `index` has got a request.
    pub fn begin(&self, index: usize, arrived: Instant) {
        let at = arrived.duration_since(self.base).as_nanos();
        // 584 years fit.
        self.lanes[index].store(u64::try_from(at).unwrap_or(u64::MAX).max(1), Relaxed);
        if self.asleep.load(Relaxed) {
            self.wake();
        }
    }

    /// Worker `index` has answered it.
    pub fn end(&self, index: usize) {
        self.lanes[index].store(0, Relaxed);
    }

    /// A relief worker has ended.
    pub fn relief_ended(&self) {
        self.relief.fetch_sub(1, Relaxed);
    }

    /// Ends the keeper.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
        self.wake();
    }

    fn wake(&self) {
        self.asleep.store(false, Relaxed);
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.load(Relaxed) == 0)
    }

    /// Whether every worker has been busy with one and the same request for too long.
    fn is_stuck(&self) -> bool {
        let limit = u64::try_from(STUCK_AFTER.as_nanos()).unwrap_or(u64::MAX);
        let now = self.now();
        self.lanes.iter().all(|lane| match lane.load(Relaxed) {
            0 => false,
            since => now.saturating_sub(since) > limit,
        })
    }
}

/// What a keeper does.
#[derive(Debug)]
pub struct Duties<R, T> {
    /// Starts a relief worker, which calls [`Watch::relief_ended`] when it ends.
    pub relieve: R,
    /// Tells the file system the time; true if it wants to be told again.
    pub tick: T,
    /// Who looks after the scheduling of queues.
    pub discipline: Discipline,
}

/// Starts the keeper. It ends after [`Watch::stop`].
pub fn start<R, T>(watch: &Arc<Watch>, duties: Duties<R, T>) -> std::io::Result<JoinHandle<()>>
where
    R: Fn() -> std::io::Result<()> + Send + 'static,
    T: Fn() -> bool + Send + 'static,
{
    let watch = watch.clone();
    thread::Builder::new().name("keeper".to_owned()).spawn(move || keep(&watch, duties))
}

fn keep<R, T>(watch: &Watch, mut duties: Duties<R, T>)
where
    R: Fn() -> std::io::Result<()>,
    T: Fn() -> bool,
{
    let _ = watch.keeper.set(thread::current());
    let mut ticked = Instant::now();
    let mut wanted = true;
    while !watch.stopped.load(Relaxed) {
        if !wanted && watch.is_idle() {
            duties.discipline.rest();
            watch.asleep.store(true, Relaxed);
            thread::park_timeout(LONGEST_SLEEP);
            watch.asleep.store(false, Relaxed);
            // Whoever called has left something that will need a tick.
            (wanted, ticked) = (true, Instant::now());
            continue;
        }
        thread::park_timeout(LOOK);
        duties.discipline.look();
        if watch.is_stuck() && watch.relief.load(Relaxed) < RELIEF_MAX {
            watch.relief.fetch_add(1, Relaxed);
            if let Err(error) = (duties.relieve)() {
                watch.relief_ended();
                warn!(%error, "every worker is stuck, and another could not be started");
            }
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            wanted = (duties.tick)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn keeper(watch: &Arc<Watch>) -> (mpsc::Receiver<()>, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel();
        let relieve = move || sender.send(()).map_err(std::io::Error::other);
        let keeper =
            start(watch, Duties { relieve, tick: || false, discipline: Discipline::new([]) })
                .expect("start a thread");
        (receiver, keeper)
    }

    #[test]
    fn relief_comes_when_all_are_stuck_and_not_before() {
        let watch = Arc::new(Watch::new(2));
        let (relieved, keeper) = keeper(&watch);
        watch.begin(0, Instant::now());
        relieved.recv_timeout(STUCK_AFTER * 4).expect_err("worker 1 is free");
        watch.begin(1, Instant::now());
        relieved.recv_timeout(Duration::from_secs(10)).expect("both are stuck");
        watch.end(1);
        while relieved.try_recv().is_ok() {}
        relieved.recv_timeout(STUCK_AFTER * 4).expect_err("worker 1 is free again");
        watch.stop();
        keeper.join().expect("no panic");
    }

    #[test]
    fn a_sleeping_keeper_is_woken_by_a_request() {
        let watch = Arc::new(Watch::new(1));
        let (relieved, keeper) = keeper(&watch);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !watch.asleep.load(Relaxed) {
            assert!(Instant::now() < deadline, "it never went to sleep");
            thread::sleep(Duration::from_millis(10));
        }
        watch.begin(0, Instant::now());
        relieved.recv_timeout(LONGEST_SLEEP / 2).expect("woken, and found it stuck");
        watch.stop();
        keeper.join().expect("no panic");
    }
}
