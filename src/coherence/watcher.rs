//! The thread that reads the changes of the source and tells the kernel.
//!
//! It holds no lock while it does. What the kernel may make wait goes through the [`Helper`]; should
//! that not get on, every name expires at once instead, for which the kernel waits for nobody. So a
//! change is never held up by whoever holds a directory's lock.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, info, warn};

use super::batch::{Batch, everything};
use super::helper::{Helper, PACKET_MAX};
use super::later::Later;
use super::task::Stop;
use super::{Failure, Figures, Known};
use crate::fs::Kernel;
use crate::protocol::notify::Notification;
use crate::sys::fanotify::{Watch, events};

/// Between two looks while there are changes: each wakes this thread, and what has changed twice is
/// told once.
const PAUSE: Duration = Duration::from_millis(3);
/// Until it is tried again where that failed, as without memory, and names and listings expire meanwhile.
const FAILED_PAUSE: Duration = Duration::from_millis(500);
/// How long the helper may take for what it was given.
const PATIENCE: Duration = Duration::from_millis(40);
/// Bytes of events that are read at a time: a few thousand of them.
const EVENTS: usize = 256 << 10;

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) watch: Watch,
    pub(super) kernel: Kernel,
    pub(super) helper: Helper,
    pub(super) known: Arc<dyn Known>,
    pub(super) figures: Arc<Figures>,
    pub(super) failure: Arc<Failure>,
    /// Whether the kernel can be told to forget an inode.
    pub(super) prunes: bool,
}

/// Reads and tells until `stop` comes.
pub(super) fn run(tools: Tools, stop: Stop) {
    Loop::new(tools, stop).run();
}

struct Loop {
    tools: Tools,
    stop: Stop,
    buffer: Vec<u8>,
    later: Later,
    helper_missed: bool,
}

impl Loop {
    fn new(tools: Tools, stop: Stop) -> Self {
        let (buffer, later) = (vec![0; EVENTS], Later::default());
        Loop { tools, stop, buffer, later, helper_missed: false }
    }

    fn run(mut self) {
        loop {
            let (batch, pause) = match self.next() {
                Ok(Some(batch)) => (self.seen(batch), PAUSE),
                Ok(None) => return,
                Err(errno) => (self.failed(errno), FAILED_PAUSE),
            };
            self.tools.helper.collect();
            self.tell(batch);
            if self.stop.comes_within(pause) {
                return;
            }
        }
    }

    /// What `batch` comes to, now that it could be read.
    fn seen(&self, batch: Batch) -> Batch {
        if batch.changed.everything {
            self.tools.figures.overflows.add(1);
            info!("more changes of the source than could be followed: all that is cached expires");
        }
        match self.tools.failure.set(None) {
            // What has changed meanwhile may never be told.
            Some(_) => {
                info!("the source is watched again");
                Batch::all()
            }
            None => batch,
        }
    }

    /// Nobody tells of changes: has the kernel trust whatever it is told from now on for a second, as
    /// without watching, and no longer believe what it was told. The attributes of all that is known
    /// are expired once, as there may be a million; names and listings, which it may keep by itself, are
    /// again and again.
    fn failed(&mut self, errno: Errno) -> Batch {
        match self.tools.failure.set(Some(errno)) {
            None => {
                warn!(
                    "the source can not be watched: {errno}; until it can, what is changed behind the \
                     mount shows after 1 s"
                );
                Batch::all()
            }
            Some(_) => {
                self.expire_names();
                Batch::default()
            }
        }
    }

    /// The next changes; `None` if it is to end.
    fn next(&mut self) -> Result<Option<Batch>, Errno> {
        match self.wait()? {
            true => self.read().map(Some),
            false => Ok(None),
        }
    }

    /// Waits for something to do; false when it is to end.
    fn wait(&self) -> Result<bool, Errno> {
        let timeout = match (self.later.is_empty(), self.tools.helper.stuck_for()) {
            (false, _) => PollTimeout::ZERO,
            (true, Some(stuck)) => {
                let left = PATIENCE.saturating_sub(stuck) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
            (true, None) => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.tools.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.tools.helper.as_fd(), PollFlags::POLLIN),
        ];
        // A helper that is gone hangs up for ever.
        let fds = if self.tools.helper.is_gone() { &mut fds[..2] } else { &mut fds[..] };
        match poll(fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(fds[0].any() != Some(true)),
            Err(errno) => Err(errno),
        }
    }

    /// Everything that there is to read.
    fn read(&mut self) -> Result<Batch, Errno> {
        let own = Some(std::process::id().cast_signed());
        let own = own.filter(|_| !self.tools.known.is_known_twice());
        let mut batch = Batch::default();
        loop {
            match self.tools.watch.read(&mut self.buffer) {
                Ok(len) => {
                    let mut count = 0;
                    for event in events(&self.buffer[..len]) {
                        batch.add(&event, own);
                        count += 1;
                    }
                    self.tools.figures.events.add(count);
                }
                Err(Errno::EAGAIN) => return Ok(batch),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn tell(&mut self, mut batch: Batch) {
        let known = self.tools.known.clone();
        let again = self.later.take_due(known.answers());
        // Before the table of what is known is asked: what it does not know now it may know after an
        // answer that is under way now.
        self.later.add(&batch.changed, known.answers());
        batch.changed.append(&again);
        if batch.changed.everything {
            return self.expire(&*known);
        }
        let mut told = batch.notifications(&*known);
        if self.tools.prunes {
            told.extend(batch.removed(&*known));
        }
        let (waiting, direct): (Vec<_>, Vec<_>) =
            told.into_iter().partition(Notification::may_wait);
        for nodeid in self.later.unknown() {
            self.notify(&Notification::Attributes(nodeid));
        }
        for notification in direct {
            self.notify(&notification);
        }
        if !self.hand_over(&waiting) {
            self.expire_names();
        }
    }

    /// Gives the helper what it is for. False if names are not told: it does not get on, or is gone.
    fn hand_over(&mut self, notifications: &[Notification]) -> bool {
        let helper = &mut self.tools.helper;
        self.tools.figures.notifications.add(notifications.len());
        let mut room = helper.stuck_for().is_none_or(|stuck| stuck < PATIENCE);
        let mut packet = Vec::with_capacity(PACKET_MAX);
        let mut bytes = Vec::new();
        for notification in notifications {
            bytes.clear();
            notification.encode(&mut bytes);
            if packet.len() + bytes.len() > PACKET_MAX {
                room = room && helper.send(&packet);
                packet.clear();
            }
            packet.extend_from_slice(&bytes);
        }
        if !packet.is_empty() {
            room = room && helper.send(&packet);
        }
        if helper.is_gone() && !self.helper_missed {
            self.helper_missed = true;
            warn!(
                "`fusewire notify` has ended: from now on any change of a name expires all names"
            );
        }
        room
    }

    /// Writes a notification for which the kernel does not wait.
    fn notify(&mut self, notification: &Notification) {
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        self.tools.figures.notifications.add(1);
        debug!(?notification, "notify the kernel");
        match (self.tools.kernel.notify(&bytes), notification) {
            (Ok(()), Notification::Attributes(nodeid)) => self.later.told(*nodeid),
            (Err(Errno::ENOENT), Notification::Attributes(nodeid)) => {
                self.later.add_unknown(*nodeid);
            }
            (Ok(()), _) => {}
            (Err(errno), _) => debug!(%errno, "it was not taken"),
        }
    }

    fn expire_names(&mut self) {
        self.tools.figures.expirations.add(1);
        self.notify(&Notification::Epoch);
    }

    fn expire(&mut self, known: &dyn Known) {
        self.expire_names();
        for notification in everything(known) {
            self.notify(&notification);
        }
    }
}
