//! System calls of another process that are decided here (seccomp_unotify(2)).

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The system calls of a process and its children, one after the other.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// One of them, which waits for an answer.
#[derive(Debug)]
pub(crate) struct Asked {
    id: u64,
    pub(crate) call: libc::c_long,
}

/// Has the process that `command` becomes wait for an answer before each of `calls`. Its
/// [`Listener`] comes through the returned socket when it starts.
pub(crate) fn ask_before(command: &mut Command, calls: &[libc::c_long]) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut filter = filter(calls);
    let install = move || {
        let len = u16::try_from(filter.len()).expect("a few instructions");
        let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
        // SAFETY: the program and its instructions outlive the call, which copies them.
        let listener = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        let listener = RawFd::try_from(Errno::result(listener)?).expect("a descriptor");
        let message = [ControlMessage::ScmRights(&[listener])];
        let byte = [io::IoSlice::new(b"L")];
        sendmsg::<UnixAddr>(theirs.as_raw_fd(), &byte, &message, MsgFlags::empty(), None)?;
        // This end closes itself at exec: no process holds the listener but the test.
        Ok(())
    };
    // SAFETY: between fork and exec it makes two system calls; what sendmsg allocates is safe there,
    // as glibc unlocks its heap in the child.
    unsafe { command.pre_exec(install) };
    Ok(ours)
}

/// Asks about each of `calls`, allows all others.
fn filter(calls: &[libc::c_long]) -> Vec<libc::sock_filter> {
    let statement = |code: u32, jt: usize, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("a code"),
        jt: u8::try_from(jt).expect("a few calls"),
        jf: 0,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    // The number of the call is the first word of what is looked at.
    let mut filter = vec![statement(load, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        let number = u32::try_from(*call).expect("a number of a call");
        filter.push(statement(jump, calls.len() - index, number));
    }
    filter.push(statement(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(statement(libc::BPF_RET, 0, libc::SECCOMP_RET_USER_NOTIF));
    filter
}

impl Listener {
    /// From the socket of [`ask_before`].
    pub(crate) fn receive(socket: &UnixStream) -> io::Result<Self> {
        let mut space = cmsg_space!(RawFd);
        let mut byte = [0];
        let mut into = [io::IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut into, Some(&mut space), flags)?;
        for message in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = message
                && let [fd] = fds[..]
            {
                // SAFETY: the message made it this process's, and nobody else knows of it.
                return Ok(Listener(unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Err(io::Error::other("the process ended before it sent its listener"))
    }

    /// The next call that waits for an answer. Blocks unless the descriptor was polled first.
    pub(crate) fn next(&self) -> Result<Asked, Errno> {
        // SAFETY: all of its fields are integers, and the kernel wants them to be zero.
        let mut asked: libc::seccomp_notif = unsafe { zeroed() };
        let fd = self.0.as_raw_fd();
        // SAFETY: the request writes one such structure.
        let result = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) };
        Errno::result(result)?;
        Ok(Asked { id: asked.id, call: libc::c_long::from(asked.data.nr) })
    }

    /// Lets the call happen, or fail with an errno instead.
    pub(crate) fn answer(&self, asked: &Asked, refusal: Option<Errno>) -> Result<(), Errno> {
        let go_on = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).expect("a flag");
        let mut answer = libc::seccomp_notif_resp {
            id: asked.id,
            val: 0,
            error: refusal.map_or(0, |errno| -(errno as i32)),
            flags: if refusal.is_none() { go_on } else { 0 },
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: the request reads one such structure.
        let result = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
        Errno::result(result).map(drop)
    }
}

impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
