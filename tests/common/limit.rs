//! A time limit for tests that run in a process namespace of their own.

use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::stacks;

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
    thread::spawn(move || give.send(body()));
    match get.recv_timeout(limit) {
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
