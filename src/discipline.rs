//! Wake-up discipline: keeps a queue's client and its thread on one CPU, without starving either.
//!
//! When the thread of queue N answers, it runs on CPU N, and the kernel, which looks for an idle CPU
//! for the client that it wakes (select_idle_sibling()), moves the client away from N: its next
//! request comes from another CPU, through another queue, and finds that CPU halted. Under
//! SCHED_IDLE the thread does not count as occupying its CPU (sched_idle_cpu()): the client is woken
//! in place and preempts it. Where the machine is idle otherwise, that makes a round trip several
//! times cheaper.
//!
//! Where it is not idle, a SCHED_IDLE thread gets next to nothing beside a CPU-bound process. So
//! each queue is asked for a sign of life while there are requests; one that is late makes its
//! thread an ordinary one, for a second at first, for longer each time it happens again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use nix::unistd::Pid;
use tracing::debug;

use crate::sys::sched::{Policy, may_return, set_policy};

/// A sign of life that takes longer than this is late: no client computes undisturbed for so long
/// between two requests that the difference matters to it.
const LATE: Duration = Duration::from_millis(4);
/// How long a thread stays an ordinary one at first, and at last.
const RESPITE: Duration = Duration::from_secs(1);
const RESPITE_MAX: Duration = Duration::from_secs(64);

/// What a queue's thread shows of itself. Relaxed: a look that comes too early is repeated.
#[derive(Debug)]
pub struct Pulse {
    base: Instant,
    thread: AtomicI32,
    /// When it last answered, nanoseconds after `base`.
    answered: AtomicU64,
    /// Wakes it up.
    pub event: Arc<EventFd>,
}

impl Pulse {
    /// The pulse of a thread that is about to start.
    pub fn new(event: Arc<EventFd>) -> Self {
        let (thread, answered) = (AtomicI32::new(0), AtomicU64::new(0));
        Pulse { base: Instant::now(), thread, answered, event }
    }

    /// The calling thread is the one.
    pub fn begin(&self) {
        self.thread.store(nix::unistd::gettid().as_raw(), Relaxed);
    }

    /// It has been woken up.
    pub fn answer(&self) {
        self.answered.store(self.since_base(Instant::now()), Relaxed);
    }

    fn since_base(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }

    fn set(&self, policy: Policy) -> bool {
        set_policy(Pid::from_raw(self.thread.load(Relaxed)), policy).is_ok()
    }
}

/// Looks after the queues of a session.
#[derive(Debug)]
pub struct Discipline {
    queues: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    pulse: Arc<Pulse>,
    state: State,
    respite: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Asked at this time, or not yet.
    Idle {
        asked: Option<Instant>,
    },
    Normal {
        until: Instant,
    },
}

impl Discipline {
    /// Takes the queues' threads under discipline; leaves them alone where there would be no way
    /// back (no CAP_SYS_NICE).
    pub fn new(pulses: &[Arc<Pulse>]) -> Self {
        let state = State::Idle { asked: None };
        let enter = |pulse: &Arc<Pulse>| Queue { pulse: pulse.clone(), state, respite: RESPITE };
        let able = |pulse: &&Arc<Pulse>| may_return() && pulse.set(Policy::Idle);
        Discipline { queues: pulses.iter().filter(able).map(enter).collect() }
    }

    /// To be called every few milliseconds while there are requests.
    pub fn look(&mut self) {
        for queue in &mut self.queues {
            queue.look(Instant::now());
        }
    }

    /// To be called when there are no requests: what is asked now would only wake the machine.
    pub fn rest(&mut self) {
        for queue in &mut self.queues {
            if let State::Idle { asked } = &mut queue.state {
                *asked = None;
            }
        }
    }
}

/// Whether more threads want to run than there are CPUs, this one aside.
fn is_crowded() -> bool {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let Ok(text) = std::fs::read_to_string("/proc/loadavg") else { return false };
    let running = text.split(' ').nth(3).and_then(|field| field.split('/').next());
    running.and_then(|count| count.parse::<usize>().ok()).is_some_and(|count| count > cpus + 1)
}

impl Queue {
    fn look(&mut self, now: Instant) {
        match self.state {
            State::Idle { asked: None } => self.ask(now),
            State::Idle { asked: Some(asked) } => match self.delay(asked) {
                Some(delay) if delay <= LATE => self.ask(now),
                None if now.duration_since(asked) <= LATE => {}
                delay => self.become_normal(now, delay),
            },
            State::Normal { until } if now < until => {}
            // It would only be late again.
            State::Normal { .. } if is_crowded() => {
                self.state = State::Normal { until: now + RESPITE };
            }
            State::Normal { .. } => {
                if self.pulse.set(Policy::Idle) {
                    self.ask(now);
                }
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        // EAGAIN only if nobody has read for a very long time.
        let _ = self.pulse.event.write(1);
        self.state = State::Idle { asked: Some(now) };
    }

    /// How long the answer to what was asked took, if it has come.
    fn delay(&self, asked: Instant) -> Option<Duration> {
        let answered = self.pulse.answered.load(Relaxed);
        answered.checked_sub(self.pulse.since_base(asked)).map(Duration::from_nanos)
    }

    fn become_normal(&mut self, now: Instant, delay: Option<Duration>) {
        debug!(?delay, respite = ?self.respite, "a queue was kept waiting: now scheduled normally");
        if self.pulse.set(Policy::Normal) {
            self.state = State::Normal { until: now + self.respite };
            self.respite = (self.respite * 2).min(RESPITE_MAX);
        }
    }
}
