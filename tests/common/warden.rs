//! Somebody who decides about a daemon's system calls, one by one.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::raw::notify::{Listener, ask_before};

/// Answers every call that was asked about, until it is dropped.
pub(crate) struct Warden {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Warden {
    /// Before each of `calls` of the process that `command` becomes, `decide` is told which call it
    /// is and how many came before; it lets it happen, or says what it fails with.
    pub(crate) fn set(
        command: &mut Command,
        calls: &[libc::c_long],
        decide: impl FnMut(libc::c_long, usize) -> Option<Errno> + Send + 'static,
    ) -> Self {
        let socket = ask_before(command, calls).expect("make a pair of sockets");
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (stop, asked) = (stop.clone(), asked.clone());
            thread::spawn(move || watch(&socket, &stop, &asked, decide))
        };
        Warden { stop, asked, thread: Some(thread) }
    }

    /// How many calls there were.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

impl Drop for Warden {
    /// Calls that are asked about from now on fail with ENOSYS.
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    socket: &UnixStream,
    stop: &AtomicBool,
    asked: &AtomicUsize,
    mut decide: impl FnMut(libc::c_long, usize) -> Option<Errno>,
) {
    let ready = |fd: &dyn AsFd| {
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, 50_u16);
        (ready == Ok(1)).then(|| fds[0].revents().unwrap_or(PollFlags::POLLERR))
    };
    while ready(&socket).is_none() {
        if stop.load(SeqCst) {
            return;
        }
    }
    let Ok(listener) = Listener::receive(socket) else { return };
    while !stop.load(SeqCst) {
        match ready(&listener) {
            None => {}
            Some(events) if events.contains(PollFlags::POLLIN) => {
                // ENOENT: who asked was killed meanwhile.
                let Ok(call) = listener.next() else { continue };
                let refusal = decide(call.call, asked.fetch_add(1, SeqCst));
                let _ = listener.answer(&call, refusal);
            }
            // Nobody is left to ask.
            Some(_) => return,
        }
    }
}
