//! Threads for operations that may take long, so that no queue waits for one of them.
//!
//! They are started when there is work and nobody is free, and end when there is none. One that can
//! not be prepared for serving serves nobody; jobs that nobody else is left to do are refused.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tracing::{error, warn};

use crate::sys::caller;
use crate::sys::sched::{Policy, set_policy};

/// Operations at a time; more wait for one of them.
const THREADS_MAX: usize = 128;
/// How long a thread waits for work before it ends.
const LINGER: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(Result<(), Errno>) + Send>;

/// A pool of such threads, shared by all queues of a session.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    jobs: (Sender<Job>, Receiver<Job>),
    /// Threads that wait for work. Sequentially consistent along with the channel, see `run`.
    idle: AtomicUsize,
    threads: AtomicUsize,
    /// Where they may run: everywhere, unlike the queue's thread that starts them.
    cpus: Option<CpuSet>,
    /// What makes one of them fit to serve.
    prepare: Prepare,
}

type Prepare = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.inner.threads).finish_non_exhaustive()
    }
}

impl Default for Pool {
    fn default() -> Self {
        Pool::new(Box::new(caller::enter_worker))
    }
}

impl Pool {
    fn new(prepare: Prepare) -> Self {
        let (idle, threads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let cpus = sched_getaffinity(Pid::from_raw(0)).ok();
        Pool { inner: Arc::new(Inner { jobs: unbounded(), idle, threads, cpus, prepare }) }
    }

    /// Has `job` done by a thread of the pool, soon and once. It is given an error, and must not act
    /// for anybody, if no thread can be made fit for that.
    pub fn run(&self, job: impl FnOnce(Result<(), Errno>) + Send + 'static) {
        let inner = &self.inner;
        inner.jobs.0.send(Box::new(job)).expect("the pool holds both ends");
        // Either a thread that gives up sees the job, or this sees that it is no longer idle.
        if let Err(error) = self.reinforce() {
            warn!(%error, "could not start an offload thread");
            if inner.threads.load(SeqCst) == 0 {
                // Nobody else will: the caller's own queue waits, but nothing is lost.
                inner.work_off(Ok(()));
            }
        }
    }

    /// Starts a thread if there are more jobs than there are threads that wait for one.
    fn reinforce(&self) -> io::Result<()> {
        let inner = &self.inner;
        let short = inner.jobs.1.len() > inner.idle.load(SeqCst);
        match short && inner.threads.load(SeqCst) < THREADS_MAX {
            true => self.start(),
            false => Ok(()),
        }
    }

    fn work(&self) {
        let inner = &self.inner;
        loop {
            inner.idle.fetch_add(1, SeqCst);
            let job = inner.jobs.1.recv_timeout(LINGER);
            inner.idle.fetch_sub(1, SeqCst);
            match job.or_else(|_| inner.jobs.1.try_recv()) {
                Ok(job) => {
                    // Who sent another job a moment ago may have taken this thread for idle.
                    if let Err(error) = self.reinforce() {
                        warn!(%error, "could not start an offload thread");
                    }
                    job(Ok(()));
                }
                Err(_) => return,
            }
        }
    }

    fn start(&self) -> io::Result<()> {
        let pool = self.clone();
        pool.inner.threads.fetch_add(1, SeqCst);
        let work = move || {
            let inner = &pool.inner;
            let this = Pid::from_raw(0);
            let spread = inner.cpus.as_ref().map_or(Ok(()), |cpus| sched_setaffinity(this, cpus));
            if let Err(errno) = spread.and_then(|()| set_policy(this, Policy::Normal)) {
                warn!(%errno, "an offload thread runs where and how its queue does");
            }
            match (inner.prepare)() {
                Ok(()) => {
                    pool.work();
                    if inner.threads.fetch_sub(1, SeqCst) == 1 {
                        // What came meanwhile has nobody else, if no other thread could be started.
                        inner.work_off(Ok(()));
                    }
                }
                Err(error) => {
                    error!(%error, "an offload thread could not be prepared");
                    // With its permissions and its umask it could do what the caller may not.
                    if inner.threads.fetch_sub(1, SeqCst) == 1 {
                        inner.work_off(Err(Errno::EIO));
                    }
                }
            }
        };
        let started = thread::Builder::new().name("offload".to_owned()).spawn(work);
        if started.is_err() {
            self.inner.threads.fetch_sub(1, SeqCst);
        }
        started.map(drop)
    }
}

impl Inner {
    fn work_off(&self, fit: Result<(), Errno>) {
        while let Ok(job) = self.jobs.1.try_recv() {
            job(fit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_that_wait_for_each_other_all_run() {
        let pool = Pool::default();
        let (sender, receiver) = mpsc::channel();
        let gate = Arc::new(std::sync::Barrier::new(20));
        for n in 0..20 {
            let (sender, gate) = (sender.clone(), gate.clone());
            pool.run(move |fit| {
                fit.expect("this thread could be prepared");
                gate.wait();
                sender.send(n).expect("the test waits");
            });
        }
        let wait = || receiver.recv_timeout(Duration::from_secs(20)).expect("every job runs");
        let mut done: Vec<_> = (0..20).map(|_| wait()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_thread_that_can_not_be_prepared_does_nothing() {
        let attempts = Arc::new(AtomicUsize::new(0));
        let pool = {
            let attempts = attempts.clone();
            // The first twenty fail.
            Pool::new(Box::new(move || match attempts.fetch_add(1, SeqCst) {
                0..20 => Err(io::ErrorKind::OutOfMemory.into()),
                _ => Ok(()),
            }))
        };
        let (sender, receiver) = mpsc::channel();
        let mut refused = 0;
        for _ in 0..100 {
            for _ in 0..4 {
                let sender = sender.clone();
                pool.run(move |fit| sender.send(fit).expect("the test waits"));
            }
            for _ in 0..4 {
                let fit = receiver.recv_timeout(Duration::from_secs(20)).expect("every job ends");
                refused += usize::from(fit == Err(Errno::EIO));
            }
        }
        let attempts = attempts.load(SeqCst);
        assert!((1..=80).contains(&refused), "{refused} were refused in {attempts} attempts");
        assert!(attempts > 20, "{attempts}");
    }
}
