//! Asking the metadata server: the daemon's end of `fusewire ask-gfarm`.
//!
//! Nobody waits for long, neither for an answer nor until others have theirs. An answer that does not come
//! in time costs its process, and until another one has reached the server, every question is answered at
//! once: not now.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::turn::Turn;
use super::wire::{Answer, PACKET_MAX, Question};

/// How long Gfarm's library tries to reach a server, and a little.
const START: Duration = Duration::from_secs(40);
/// How long somebody who opens a file may have to wait until it is his turn, and then for the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to reach a server that is not there.
const PAUSE: Duration = Duration::from_secs(2);

/// How the process is started.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) program: PathBuf,
    /// A URL of the root of what is shown.
    pub(super) root: OsString,
    /// The storage node on this machine.
    pub(super) host: String,
    /// Gfarm's configuration, if it is not where Gfarm looks for it.
    pub(super) configuration: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nobody is there at the moment to be asked.
    Away,
    /// Others have asked, and wait for so long already.
    Busy,
    /// What the server says is wrong.
    Refused(String),
}

/// The process, or the means to have another.
#[derive(Debug)]
pub(super) struct Metadata {
    helper: Turn<Helper>,
    /// Dropped to end the keeper.
    wanted: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Metadata {
    /// Starts a process and waits until it has reached the server, or can not.
    pub(super) fn start(call: Call) -> io::Result<Self> {
        let helper = Turn::new(Helper::start(&call, || false)?);
        let (wanted, wishes) = bounded(1);
        // A thread of its own, started before any worker: what workers start inherits how they are
        // scheduled.
        let keeper = {
            let helper = helper.clone();
            thread::Builder::new()
                .name("gfarm".to_owned())
                .spawn(move || keep(&call, &helper, &wishes))?
        };
        Ok(Metadata { helper, wanted: Some(wanted), keeper: Some(keeper) })
    }

    pub(super) fn ask(&self, question: Question<'_>) -> Result<Answer, Unanswered> {
        let packet = question.encode().ok_or_else(|| Unanswered::Refused("too long".to_owned()))?;
        let Some(helper) = self.helper.take(PATIENCE).ok_or(Unanswered::Busy)? else {
            self.helper.give(None);
            return Err(Unanswered::Away);
        };
        let answer = helper.ask(&packet);
        match answer {
            Ok(answer) => {
                self.helper.give(Some(helper));
                match answer {
                    Answer::Error(reason) => Err(Unanswered::Refused(reason)),
                    answer => Ok(answer),
                }
            }
            Err(error) => {
                self.helper.give(None);
                drop(helper);
                tracing::warn!(%error, "Gfarm does not answer: files are read through its mount until it does");
                if let Some(wanted) = &self.wanted {
                    // Somebody may have asked for one already.
                    let _ = wanted.try_send(());
                }
                Err(Unanswered::Away)
            }
        }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(keeper) = self.keeper.take() {
            // It has nothing to say.
            let _ = keeper.join();
        }
    }
}

/// Starts another process each time that one is wanted, until nobody can want one any more.
fn keep(call: &Call, turn: &Turn<Helper>, wishes: &Receiver<()>) {
    while wishes.recv().is_ok() {
        loop {
            match Helper::start(call, || wishes.try_recv() == Err(TryRecvError::Disconnected)) {
                Ok(helper) => {
                    tracing::info!("Gfarm answers again");
                    turn.replace(helper);
                    break;
                }
                Err(error) => tracing::debug!(%error, "Gfarm does not answer yet"),
            }
            if wishes.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }
}

/// A process that answers questions; it ends with this.
#[derive(Debug)]
struct Helper {
    feed: OwnedFd,
    child: Child,
}

impl Helper {
    /// Waits until it can be asked, unless it is `given_up` before.
    fn start(call: &Call, given_up: impl Fn() -> bool) -> io::Result<Self> {
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let (feed, theirs) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC)?;
        let mut command = Command::new(&call.program);
        command.arg0("fusewire").arg("ask-gfarm").arg(&call.root).arg(&call.host);
        if let Some(path) = &call.configuration {
            command.env("GFARM_CONFIG_FILE", path);
        }
        let child = command
            .current_dir("/")
            // A terminal's interrupt is the daemon's to answer.
            .process_group(0)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The child has its end; ours must see that end close with it.
        drop(command);
        let helper = Helper { feed, child };
        let started = Instant::now();
        loop {
            if given_up() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match helper.hear(Duration::from_millis(100)) {
                Ok(Answer::Ready) => return Ok(helper),
                Ok(Answer::Error(reason)) => return Err(io::Error::other(reason)),
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
                Err(error) if started.elapsed() >= START => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn ask(&self, packet: &[u8]) -> io::Result<Answer> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.feed.as_raw_fd(), packet, flags)?;
        self.hear(PATIENCE)
    }

    fn hear(&self, patience: Duration) -> io::Result<Answer> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.feed.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
            }
        }
        let mut packet = [0; PACKET_MAX];
        match recv(self.feed.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT)? {
            0 => Err(io::Error::other("the process that asks Gfarm has ended")),
            len => Answer::decode(&packet[..len]).ok_or(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may wait for a server, and is needed no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
