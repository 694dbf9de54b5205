//! The daemon's end of `fusewire notify`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

/// Bytes of a packet of notifications at most.
pub(super) const PACKET_MAX: usize = 4096;
/// What the other process says when it can begin; anything else is why it can not.
pub(super) const READY: &str = "ready";
/// Packets under way: more than a busy moment takes, and less than the socket holds.
const UNDER_WAY_MAX: usize = 32;
/// How long a process may take to start on a machine that is busy.
const START: Duration = Duration::from_secs(10);

/// The process, which ends with this.
#[derive(Debug)]
pub(super) struct Helper {
    feed: OwnedFd,
    child: Child,
    /// Packets that are not acknowledged.
    under_way: usize,
    /// When the oldest of them was sent, or one before it acknowledged.
    since: Instant,
    gone: bool,
}

impl Helper {
    /// Starts `program notify` for the connection behind `device`.
    pub(super) fn start(
        program: &Path,
        device: BorrowedFd<'_>,
        connection: u32,
    ) -> io::Result<Self> {
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let (feed, theirs) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC)?;
        let child = Command::new(program)
            .arg0("fusewire")
            .arg("notify")
            .arg(connection.to_string())
            .current_dir("/")
            // A terminal's interrupt is the daemon's to answer.
            .process_group(0)
            .stdin(theirs)
            .stdout(device.try_clone_to_owned()?)
            // Ours may be a pipe that somebody reads to its end.
            .stderr(Stdio::null())
            .spawn()?;
        let (under_way, since, gone) = (0, Instant::now(), false);
        let helper = Helper { feed, child, under_way, since, gone };
        helper.wait_ready()?;
        Ok(helper)
    }

    fn wait_ready(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.feed.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(START).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut answer = [0; 512];
        let len = recv(self.feed.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
        match &answer[..len] {
            b"" => Err(io::Error::other("it ended at once")),
            answer if answer == READY.as_bytes() => Ok(()),
            reason => Err(io::Error::other(String::from_utf8_lossy(reason).into_owned())),
        }
    }

    /// Hands over a packet of notifications; false if there is no room, or nobody to take it.
    pub(super) fn send(&mut self, packet: &[u8]) -> bool {
        if self.gone || self.under_way >= UNDER_WAY_MAX {
            return false;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = send(self.feed.as_raw_fd(), packet, flags);
        match sent {
            Ok(_) => {
                if self.under_way == 0 {
                    self.since = Instant::now();
                }
                self.under_way += 1;
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => {}
            Err(_) => self.gone = true,
        }
        sent.is_ok()
    }

    /// Takes the acknowledgements that have come.
    pub(super) fn collect(&mut self) {
        let mut acknowledgement = [0; 8];
        while !self.gone {
            match recv(self.feed.as_raw_fd(), &mut acknowledgement, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => self.gone = true,
                Ok(_) => {
                    self.under_way = self.under_way.saturating_sub(1);
                    self.since = Instant::now();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => self.gone = true,
            }
        }
    }

    /// For how long it has made no progress; `None` if there is nothing that it should do.
    pub(super) fn stuck_for(&self) -> Option<Duration> {
        (self.under_way > 0).then(|| self.since.elapsed())
    }

    /// Whether it has ended, which it should not.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }
}

impl AsFd for Helper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.feed.as_fd()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may be stopped, and is needed no more: the connection is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
