//! The thread that reads which files of the source were closed after they had been written to, where
//! nothing else of the source is watched.
//!
//! A file that the kernel passes through may be mapped long after FUSE has seen it closed, and what is
//! stored then moves times that FUSE's inode does not know of. So its attributes are trusted for a second
//! only, until the source's file is closed as well, of which nobody but the source tells. Should it not, it
//! stays at that second.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::info;

use super::task::Stop;
use super::{Figures, Known};
use crate::fs::{Kernel, NodeId};
use crate::protocol::notify::Notification;
use crate::sys::fanotify::{Watch, events};

/// Between two looks while there are any: nobody waits for what they tell.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of events that are read at a time: some thousand of them.
const EVENTS: usize = 64 << 10;

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Closings {
    pub(super) watch: Watch,
    pub(super) kernel: Kernel,
    pub(super) known: Arc<dyn Known>,
    pub(super) figures: Arc<Figures>,
}

impl Closings {
    pub(super) fn run(&self, stop: &Stop) {
        let mut buffer = vec![0; EVENTS];
        loop {
            let read = self.wait(stop).and_then(|goes_on| match goes_on {
                true => self.read(&mut buffer).map(|()| true),
                false => Ok(false),
            });
            match read {
                Ok(true) if !stop.comes_within(PAUSE) => {}
                Ok(_) => return,
                Err(errno) => {
                    info!("attributes of files that were written are trusted for 1 s: {errno}");
                    return;
                }
            }
        }
    }

    /// Waits for something to do; false when it is to end.
    fn wait(&self, stop: &Stop) -> Result<bool, Errno> {
        loop {
            let mut fds = [
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => return Ok(fds[0].any() != Some(true)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn read(&self, buffer: &mut [u8]) -> Result<(), Errno> {
        let own = std::process::id().cast_signed();
        loop {
            match self.watch.read(buffer) {
                Ok(len) => {
                    for event in events(&buffer[..len]) {
                        self.figures.events.add(1);
                        if event.is_close()
                            && event.pid != own
                            && let Some(nodeid) = event.object.and_then(|it| self.known.find(&it))
                        {
                            self.closed(nodeid);
                        }
                    }
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn closed(&self, nodeid: NodeId) {
        self.known.writer_closed(nodeid);
        let mut bytes = Vec::new();
        // An answer that is on its way may be older than the last store, and trusted for longer from now on.
        Notification::Attributes(nodeid).encode(&mut bytes);
        self.figures.notifications.add(1);
        // ENOENT: the kernel has forgotten it.
        let _ = self.kernel.notify(&bytes);
    }
}
