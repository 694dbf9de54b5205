//! `fusewire notify`: the process that writes the notifications for which the kernel may wait.
//!
//! What it waits for is the lock of a directory or a page, held by somebody who waits for the
//! daemon's answer. A daemon that waited there itself could not even be killed: its death would wait
//! for the lock, the lock's holder for an answer, and the connection, which would end that, for the
//! death. So another process waits. It has the device at its standard output, notifications come at
//! its standard input, packet by packet, and each packet is acknowledged there. When the daemon
//! goes, it aborts the connection, which its own copy of the device would keep alive.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::write;

use super::helper::{PACKET_MAX, READY};
use crate::protocol::notify::split_first;
use crate::sys::fusectl::abort_file;
use crate::sys::process::ignore_requests_to_end;

/// Serves the daemon that started it for the connection of this number, until the daemon is gone.
///
/// # Errors
/// What keeps it from its work. The daemon is told, too.
pub fn run(connection: u32) -> io::Result<()> {
    ignore_requests_to_end();
    let prepared = abort_file(connection).and_then(|abort| {
        thread::Builder::new().name("writer".to_owned()).spawn(pass_on)?;
        Ok(abort)
    });
    let answer = match &prepared {
        Ok(_) => READY.to_owned(),
        Err(error) => format!("open the file that aborts connection {connection}: {error}"),
    };
    send(io::stdin().as_raw_fd(), answer.as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
    end_with_the_daemon(&prepared?)
}

/// Writes every notification that comes, and acknowledges each packet.
fn pass_on() {
    let (feed, device) = (io::stdin().as_raw_fd(), io::stdout());
    let mut packet = vec![0; PACKET_MAX];
    loop {
        let len = match recv(feed, &mut packet, MsgFlags::empty()) {
            Ok(0) => return,
            Ok(len) => len,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        let mut rest = &packet[..len];
        while let Some((notification, tail)) = split_first(rest) {
            // ENOENT: the kernel has nothing of the kind. ENODEV: the connection is over, as will be
            // noticed.
            let _ = write(device.as_fd(), notification);
            rest = tail;
        }
        if send(feed, &[0], MsgFlags::MSG_NOSIGNAL).is_err() {
            return;
        }
    }
}

/// Waits until the daemon is gone, and frees whoever waits for its answers: the writer perhaps, who
/// waits for one of them.
fn end_with_the_daemon(abort: &OwnedFd) -> io::Result<()> {
    let feed = io::stdin();
    loop {
        // Nothing but a hang-up is reported.
        let mut fds = [PollFd::new(feed.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    write(abort, b"1")?;
    Ok(())
}
