//! A thread that works for as long as a mount lives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::warn;

use crate::sys::sched::prefer_this_thread;

/// The thread, which ends with this.
#[derive(Debug)]
pub(super) struct Task {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// What tells the thread to end: it can be read then.
#[derive(Debug)]
pub(super) struct Stop(Arc<EventFd>);

impl Task {
    pub(super) fn start(
        name: &'static str,
        run: impl FnOnce(Stop) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let stopped = Stop(stop.clone());
        let run = move || {
            // Else events pile up while others keep the CPUs busy.
            prefer_this_thread();
            run(stopped);
        };
        let thread = Some(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(Task { stop, thread })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                warn!("the thread {name} panicked");
            }
        }
    }
}

impl Stop {
    /// Waits for so long; tells whether the thread is to end.
    pub(super) fn comes_within(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(count) => count > 0,
            Err(Errno::EINTR) => false,
            Err(_) => {
                thread::sleep(time);
                self.0.read().is_ok()
            }
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
