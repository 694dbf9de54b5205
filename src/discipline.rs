//! Wake-up discipline: keeps a client and the thread that serves it on one CPU, without starving
//! either.
//!
//! When the thread of queue N answers, it runs on CPU N, and the kernel, which looks for an idle CPU
//! for the client that it wakes (select_idle_sibling()), moves the client away from N: its next
//! request comes from another CPU, through another queue, and finds that CPU halted. Under
//! SCHED_IDLE the thread does not count as occupying its CPU (sched_idle_cpu()): the client is woken
//! in place and preempts it. Where the machine is idle otherwise, that makes a round trip several
//! times cheaper. On /dev/fuse it does more: a thread that was preempted while it answered has not
//! gone to sleep when the next request comes, and need not be woken for it; there each thread has a
//! CPU of its own for as long as it is under discipline.
//!
//! Where the machine is not idle, a SCHED_IDLE thread gets next to nothing beside a CPU-bound process.
//! So each thread is watched while there are requests: a queue's is asked for a sign of life, one of
//! /dev/fuse, which can not be asked, is looked at. One that is late is made an ordinary one, for a
//! second at first, for longer each time it happens again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::eventfd::EventFd;
use nix::unistd::Pid;
use tracing::debug;

use crate::sys::sched::{Policy, may_return, set_policy};

/// A sign of life that takes longer than this is late: no client computes undisturbed for so long
/// between two requests that the difference matters to it.
const LATE: Duration = Duration::from_millis(4);
/// A thread whose turns come that late on average, since the last look, is late.
const LATE_TURN: Duration = Duration::from_millis(1);
/// How long a thread stays an ordinary one at first, and at last.
const RESPITE: Duration = Duration::from_secs(1);
const RESPITE_MAX: Duration = Duration::from_secs(64);

/// What a queue's thread shows of itself. Relaxed: a look that comes too early is repeated.
#[derive(Debug)]
pub struct Pulse {
    base: Instant,
    /// When it last answered, nanoseconds after `base`.
    answered: AtomicU64,
    /// Whether it is under discipline now.
    gives_way: AtomicBool,
    /// Wakes it up.
    pub event: Arc<EventFd>,
}

impl Pulse {
    /// The pulse of a thread that is about to start.
    pub fn new(event: Arc<EventFd>) -> Self {
        let (answered, gives_way) = (AtomicU64::new(0), AtomicBool::new(false));
        Pulse { base: Instant::now(), answered, gives_way, event }
    }

    /// Whether the thread gives way to every client that it answers.
    pub fn gives_way(&self) -> bool {
        self.gives_way.load(Relaxed)
    }

    /// It has been woken up.
    pub fn answer(&self) {
        self.answered.store(self.since_base(Instant::now()), Relaxed);
    }

    fn since_base(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }

    fn ask(&self) {
        // EAGAIN only if nobody has read for a very long time.
        let _ = self.event.write(1);
    }

    /// How long the answer to what was asked took, if it has come.
    fn delay(&self, asked: Instant) -> Option<Duration> {
        let answered = self.answered.load(Relaxed);
        answered.checked_sub(self.since_base(asked)).map(Duration::from_nanos)
    }
}

/// How a thread shows that it gets a CPU when it wants one.
#[derive(Debug)]
pub enum Sign {
    /// It answers when it is asked.
    Pulse(Arc<Pulse>),
    /// The kernel tells.
    Seen(Seen),
}

/// What the kernel tells of a thread.
#[derive(Debug)]
pub struct Seen {
    state: File,
    times: File,
    last: Option<Look>,
}

/// What one look has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    /// It wants to run, or runs.
    wants: bool,
    /// How long it has run, and how long it has waited for a CPU until it did, nanoseconds.
    ran: u64,
    waited: u64,
    /// How often it got one.
    turns: u64,
}

impl Seen {
    /// Of a thread of this process.
    pub fn new(thread: Pid) -> std::io::Result<Self> {
        let open = |name| File::open(format!("/proc/self/task/{thread}/{name}"));
        Ok(Seen { state: open("stat")?, times: open("schedstat")?, last: None })
    }

    fn look(&self) -> Option<Look> {
        let mut text = [0; 512];
        let count = self.state.read_at(&mut text, 0).ok()?;
        // The name in front, in brackets, may hold anything.
        let end = text[..count].iter().rposition(|byte| *byte == b')')?;
        let wants = text.get(end + 2) == Some(&b'R');
        let count = self.times.read_at(&mut text, 0).ok()?;
        let times = std::str::from_utf8(&text[..count]).ok()?;
        let mut times = times.split_whitespace().map_while(|time| time.parse().ok());
        Some(Look { wants, ran: times.next()?, waited: times.next()?, turns: times.next()? })
    }

    /// Whether it has waited for a CPU for too long since the last look, or still does.
    fn is_late(&mut self) -> bool {
        let now = self.look();
        let before = std::mem::replace(&mut self.last, now);
        let (Some(before), Some(now)) = (before, self.last) else { return false };
        let waits = before.wants && now.wants && before.ran == now.ran;
        let waited = Duration::from_nanos(now.waited.saturating_sub(before.waited));
        // While its client runs it waits as well, rightly, for microseconds at a time.
        let turns = u32::try_from(now.turns.saturating_sub(before.turns)).unwrap_or(u32::MAX);
        waits || waited > LATE_TURN * turns.max(1)
    }
}

/// Where a thread runs.
#[derive(Debug, Clone)]
pub struct Home {
    /// The one CPU.
    pub cpu: CpuSet,
    /// All that it may run on.
    pub everywhere: CpuSet,
}

impl Home {
    /// The CPU `cpu`, out of `cpus`.
    pub fn new(cpu: usize, cpus: &[usize]) -> Result<Self, Errno> {
        let (mut one, mut everywhere) = (CpuSet::new(), CpuSet::new());
        one.set(cpu)?;
        for cpu in cpus {
            everywhere.set(*cpu)?;
        }
        Ok(Home { cpu: one, everywhere })
    }
}

/// Looks after the threads of a session.
#[derive(Debug)]
pub struct Discipline {
    threads: Vec<Thread>,
    crowd: Crowd,
}

/// Who else wants to run. Asked again and again while a thread is an ordinary one, so by one system
/// call: what can be known beforehand is.
#[derive(Debug)]
struct Crowd {
    cpus: usize,
    load: Option<File>,
}

#[derive(Debug)]
struct Thread {
    id: Pid,
    sign: Sign,
    /// Where it runs under discipline; an ordinary thread of /dev/fuse runs where the kernel likes.
    home: Option<Home>,
    /// When it was asked for a sign that has not come.
    asked: Option<Instant>,
    state: State,
    respite: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Idle,
    Normal { until: Instant },
}

impl Discipline {
    /// Takes threads under discipline; leaves them alone where there would be no way back (no
    /// CAP_SYS_NICE).
    pub fn new(threads: impl IntoIterator<Item = (Pid, Sign, Option<Home>)>) -> Self {
        let able = may_return();
        let enter = |(id, sign, home)| {
            let (asked, state, respite) = (None, State::Idle, RESPITE);
            let thread = Thread { id, sign, home, asked, state, respite };
            (able && thread.become_idle()).then_some(thread)
        };
        let threads: Vec<_> = threads.into_iter().filter_map(enter).collect();
        Discipline { crowd: Crowd::around(&threads), threads }
    }

    /// To be called every few milliseconds while there are requests.
    pub fn look(&mut self) {
        for thread in &mut self.threads {
            thread.look(Instant::now(), &self.crowd);
        }
    }

    /// To be called when there are no requests: what is asked now would only wake the machine.
    pub fn rest(&mut self) {
        for thread in &mut self.threads {
            thread.asked = None;
            if let Sign::Seen(seen) = &mut thread.sign {
                seen.last = None;
            }
        }
    }
}

impl Crowd {
    fn around(threads: &[Thread]) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let load = (!threads.is_empty()).then(|| File::open("/proc/loadavg").ok()).flatten();
        Crowd { cpus, load }
    }

    /// Whether more threads want to run than there are CPUs, one under discipline aside.
    fn is_there(&self) -> bool {
        let mut text = [0; 128];
        let Some(Ok(count)) = self.load.as_ref().map(|load| load.read_at(&mut text, 0)) else {
            return false;
        };
        running(&text[..count]).is_some_and(|running| running > self.cpus + 1)
    }
}

/// The threads that want to run, as /proc/loadavg has them: `0.20 0.18 0.12 3/80 11206`.
fn running(load: &[u8]) -> Option<usize> {
    let field = std::str::from_utf8(load).ok()?.split(' ').nth(3)?;
    field.split('/').next()?.parse().ok()
}

impl Thread {
    fn look(&mut self, now: Instant, crowd: &Crowd) {
        match self.state {
            State::Idle => {
                if self.is_late(now) {
                    self.become_normal(now);
                }
            }
            State::Normal { until } if now < until => {}
            // It would only be late again.
            State::Normal { .. } if crowd.is_there() => {
                self.state = State::Normal { until: now + RESPITE };
            }
            State::Normal { .. } => {
                if self.become_idle() {
                    self.state = State::Idle;
                }
            }
        }
    }

    fn is_late(&mut self, now: Instant) -> bool {
        let pulse = match &mut self.sign {
            Sign::Seen(seen) => return seen.is_late(),
            Sign::Pulse(pulse) => pulse,
        };
        let late = self.asked.is_some_and(|asked| match pulse.delay(asked) {
            Some(delay) => delay > LATE,
            None => now.duration_since(asked) > LATE,
        });
        let answered = self.asked.is_none_or(|asked| pulse.delay(asked).is_some());
        if late {
            self.asked = None;
        } else if answered {
            pulse.ask();
            self.asked = Some(now);
        }
        late
    }

    fn set(&self, policy: Policy) -> bool {
        let set = set_policy(self.id, policy).is_ok();
        if let Sign::Pulse(pulse) = &self.sign
            && set
        {
            pulse.gives_way.store(policy == Policy::Idle, Relaxed);
        }
        set
    }

    fn become_idle(&self) -> bool {
        if let Some(home) = &self.home {
            // A CPU that is offline: slower, but served.
            let _ = sched_setaffinity(self.id, &home.cpu);
        }
        self.set(Policy::Idle)
    }

    fn become_normal(&mut self, now: Instant) {
        debug!(respite = ?self.respite, "a thread was kept waiting: now scheduled normally");
        if let Some(home) = &self.home {
            let _ = sched_setaffinity(self.id, &home.everywhere);
        }
        if self.set(Policy::Normal) {
            self.state = State::Normal { until: now + self.respite };
            self.respite = (self.respite * 2).min(RESPITE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::gettid;
    use std::sync::mpsc::channel;
    use std::thread::{self, sleep};

    const LOOK: Duration = Duration::from_millis(20);

    /// A thread on the first CPU that runs `busily`, and its id.
    fn on_first_cpu(busily: impl FnOnce() + Send + 'static) -> (Pid, thread::JoinHandle<()>) {
        let (give, get) = channel();
        let thread = thread::spawn(move || {
            let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).expect("own affinity");
            let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
            let mut set = CpuSet::new();
            set.set(first.expect("one CPU at least")).expect("it exists");
            sched_setaffinity(Pid::from_raw(0), &set).expect("it is allowed");
            give.send(gettid()).expect("the test waits");
            busily();
        });
        (get.recv().expect("it starts"), thread)
    }

    #[test]
    fn a_thread_that_gets_no_cpu_is_late_and_one_that_sleeps_is_not() {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = || {
            let stop = stop.clone();
            move || while !stop.load(Relaxed) {}
        };
        let (sleeper, sleeping) = on_first_cpu(thread::park);
        let mut seen = Seen::new(sleeper).expect("it is alive");
        for _ in 0..10 {
            assert!(!seen.is_late(), "it wants nothing");
            sleep(LOOK);
        }
        sleeping.thread().unpark();
        sleeping.join().expect("no panic");
        let (starved, starving) = on_first_cpu(spin());
        set_policy(starved, Policy::Idle).expect("anybody may");
        let (_, hog) = on_first_cpu(spin());
        let mut seen = Seen::new(starved).expect("it is alive");
        let late = (0..500).any(|_| {
            sleep(LOOK);
            seen.is_late()
        });
        stop.store(true, Relaxed);
        starving.join().expect("no panic");
        hog.join().expect("no panic");
        assert!(late, "it has waited behind the other one for ten seconds");
    }

    #[test]
    fn a_thread_that_can_not_be_seen_is_not_watched() {
        Seen::new(Pid::from_raw(1 << 30)).expect_err("there is no such thread");
    }

    #[test]
    fn those_that_want_to_run_are_counted() {
        assert_eq!(running(b"0.20 0.18 0.12 3/80 11206\n"), Some(3));
        assert_eq!(running(b"0.20 0.18 0.12"), None);
        assert!(running(&std::fs::read("/proc/loadavg").expect("read /proc")).is_some());
    }
}
