//! Runs the work of one turn on a thread of its own and watches it: a mount that hangs blocks the
//! thread in the kernel, never the one that has to clean up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::error::StudyError;
use super::interrupt::Interrupt;
use super::runner::StepError;
use super::system::System;

/// Asks the work to end early. A hint only: the order with other memory does not matter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether to end.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What to watch during a turn.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    /// Signals to this process.
    pub(crate) interrupt: &'a Interrupt,
    /// The system that is being measured.
    pub(crate) system: &'a dyn System,
    /// The cell's name, for messages.
    pub(crate) cell: &'a str,
    /// After so long it hangs.
    pub(crate) limit: Duration,
}

const POLL: Duration = Duration::from_millis(10);
/// What work gets to notice the flag before the system is ended under it, and again after that
/// before its thread is given up.
const GRACE: Duration = Duration::from_secs(3);

impl Watch<'_> {
    /// Runs `work`. A dead daemon explains whatever error the work ended with, so it goes first.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cancel) -> Result<T, StepError> + Send + 'static,
    ) -> Result<T, StepError> {
        let (done, result) = channel();
        let cancel = Cancel::default();
        let theirs = cancel.clone();
        std::thread::spawn(move || {
            // The receiver is gone only if this thread has been given up.
            let _ = done.send(work(&theirs));
        });
        let deadline = Instant::now() + self.limit;
        let reason = loop {
            match result.recv_timeout(POLL) {
                Ok(result) => {
                    self.interrupt.check()?;
                    if result.is_err() {
                        self.check_dying()?;
                    }
                    return result;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(StepError::Cell("the workload panicked".into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(error) = self.interrupt.check().and_then(|()| self.system.check_alive()) {
                break error;
            }
            if Instant::now() >= deadline {
                let (cell, seconds) = (self.cell.to_owned(), self.limit.as_secs());
                break StudyError::Hung { cell, seconds };
            }
        };
        cancel.set();
        if result.recv_timeout(GRACE).is_err() {
            self.system.abort();
            // Nothing more can be done for it; cleaning up goes on without it.
            let _ = result.recv_timeout(GRACE);
        }
        Err(StepError::Fatal(reason))
    }

    /// A dying daemon fails its clients a moment before its parent can see that it has died.
    fn check_dying(&self) -> Result<(), StudyError> {
        for _ in 0..20 {
            self.system.check_alive()?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(Debug, Default)]
    struct Fake {
        dead: AtomicBool,
        aborted: AtomicBool,
    }

    impl System for Fake {
        fn root(&self) -> &Path {
            Path::new("/")
        }
        fn check_alive(&self) -> Result<(), StudyError> {
            match self.dead.load(Ordering::Relaxed) {
                true => {
                    let (name, problem) = ("it".into(), "died".into());
                    Err(StudyError::Daemon { name, problem, stderr: String::new() })
                }
                false => Ok(()),
            }
        }
        fn abort(&self) {
            self.aborted.store(true, Ordering::Relaxed);
        }
    }

    fn watch<'a>(interrupt: &'a Interrupt, system: &'a Fake) -> Watch<'a> {
        Watch { interrupt, system, cell: "stat", limit: Duration::from_millis(50) }
    }

    #[test]
    fn work_that_ends_gives_its_result() {
        let (interrupt, system) = (Interrupt::default(), Fake::default());
        let result = watch(&interrupt, &system).run(|_| Ok(7));
        assert_eq!(result.ok(), Some(7));
    }

    #[test]
    fn work_without_end_is_cancelled_and_named() {
        let (interrupt, system) = (Interrupt::default(), Fake::default());
        let result = watch(&interrupt, &system).run(|cancel| {
            while !cancel.is_set() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        assert!(matches!(
            result,
            Err(StepError::Fatal(StudyError::Hung { cell, .. })) if cell == "stat"
        ));
        assert!(!system.aborted.load(Ordering::Relaxed), "it ended when asked");
    }

    #[test]
    fn a_dead_daemon_explains_the_error_of_the_work() {
        let (interrupt, system) = (Interrupt::default(), Fake::default());
        system.dead.store(true, Ordering::Relaxed);
        let result: Result<(), _> =
            watch(&interrupt, &system).run(|_| Err(StepError::Cell("ENOTCONN".into())));
        assert!(matches!(result, Err(StepError::Fatal(StudyError::Daemon { .. }))));
    }
}
