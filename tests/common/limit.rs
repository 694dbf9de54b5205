//! A time limit for tests that run in a process namespace of their own.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::stacks;
use super::patience::receive_while;

thread_local! {
    /// Whether the test of this thread waits for another.
    static WAITS: RefCell<Arc<AtomicBool>> = RefCell::default();
}

/// Waits until it is this test's turn, which does not count: those before it have limits of their own.
/// To be called by the thread that runs the test.
pub(crate) fn in_turn<T>(wait: impl FnOnce() -> T) -> T {
    let waits = WAITS.with_borrow(Arc::clone);
    waits.store(true, SeqCst);
    let turn = wait();
    waits.store(false, SeqCst);
    turn
}

/// Runs a test that must end within `limit`: one that hangs ends itself and those beside it, but not
/// the whole run. Only for the first process of a namespace: it kills every other.
pub(crate) fn within(
    limit: Duration,
    name: &str,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    assert_eq!(Pid::this(), Pid::from_raw(1), "what is killed is in a namespace of its own");
    let (give, get) = channel();
    let began = Instant::now();
    let waits = Arc::<AtomicBool>::default();
    let theirs = waits.clone();
    thread::spawn(move || {
        WAITS.set(theirs);
        give.send(body())
    });
    match receive_while(&get, limit, || !waits.load(SeqCst)) {
        Ok(result) => {
            eprintln!("{name}: {:.1?}", began.elapsed());
            result
        }
        Err(RecvTimeoutError::Disconnected) => Err("it panicked".to_owned()),
        Err(RecvTimeoutError::Timeout) => {
            let _one = ONE_AT_A_TIME.lock();
            let tasks = stacks("/proc/self/task");
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            let freed = get.recv_timeout(Duration::from_secs(10)).is_ok();
            Err(format!("it hung; killed every process, which freed it: {freed}\n{tasks}"))
        }
    }
}

/// A test on the ground that all tests of a program share.
pub(crate) type Body<G> = fn(&G) -> Result<(), String>;

/// The tests of a program, each [`within`] the limit. Without a ground they can be listed, not run.
pub(crate) fn trials<G: Send + Sync + 'static>(
    limit: Duration,
    tests: &[(&'static str, Body<G>)],
    ground: Option<&Arc<G>>,
) -> Vec<Trial> {
    let trial = |(name, body): &(&'static str, Body<G>)| {
        let (ground, name, body) = (ground.cloned(), *name, *body);
        Trial::test(name, move || match ground {
            Some(ground) => within(limit, name, move || body(&ground)).map_err(Into::into),
            None => Ok(()),
        })
    };
    tests.iter().map(trial).collect()
}
