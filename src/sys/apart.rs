//! A question that another process asks, as whoever asks it may wait for ever.
//!
//! Once a server of FUSE has taken a request, nothing but its answer or the end of its connection ends
//! whoever waits for it, SIGKILL neither (`request_wait_answer()`): a process of which one thread waits so
//! can not end, and what it holds stays as it is. That is so behind an overlay as well.
#![expect(unsafe_code, reason = "fork and close_range")]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::statfs;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe2, write};

/// Patience is counted in these, so that a machine that was stopped for a while has not used it up.
const SLICE: Duration = Duration::from_millis(100);

/// Has the file system of `path` asked how large it is, which all of them ask their servers, and waits
/// for its answer; whatever that is. Where no other process can be had, this one asks.
///
/// TimedOut if it does not answer within `patience`, and else the error that it answers.
pub(crate) fn ask(path: &Path, patience: Duration) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this process may have other threads; the child makes system calls on what is on its
    // stack or made already, allocates nothing, takes no lock, and ends by _exit.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Child) => ask_and_end(&path, writer.as_fd()),
        Ok(ForkResult::Parent { child }) => child,
        Err(_) => return Ok(statfs(path.as_c_str()).map(drop)?),
    };
    drop(writer);
    let answer = await_answer(reader, patience);
    let _ = kill(child, Signal::SIGKILL);
    let reap = move || {
        let _ = waitpid(child, None);
    };
    match answer {
        Ok(_) => reap(),
        // It may not end before its question is answered.
        Err(_) => drop(thread::Builder::new().name("reaper".to_owned()).spawn(reap)),
    }
    match answer? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// What the child does.
fn ask_and_end(path: &CStr, writer: BorrowedFd<'_>) -> ! {
    // It has nobody to tell once the other is gone.
    let _ = set_pdeathsig(Signal::SIGKILL);
    // What the other closes must not stay open here, and a connection to FUSE least of all.
    let kept = writer.as_raw_fd().cast_unsigned();
    // SAFETY: whatever else owns a descriptor in this process is never used again.
    unsafe {
        if kept > 0 {
            libc::close_range(0, kept - 1, 0);
        }
        libc::close_range(kept + 1, libc::c_uint::MAX, 0);
    }
    let errno = statfs(path).err().map_or(0, |errno| errno as i32);
    let _ = write(writer, &errno.to_ne_bytes());
    // SAFETY: it ends this process at once, and runs nothing that was registered for its end.
    unsafe { libc::_exit(0) }
}

/// The errno that the child writes, or 0.
fn await_answer(reader: OwnedFd, patience: Duration) -> io::Result<i32> {
    let timeout = PollTimeout::try_from(SLICE).expect("it is short");
    let mut left = patience.as_millis().div_ceil(SLICE.as_millis());
    while left > 0 {
        match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => left -= 1,
            Ok(_) => {
                let (mut errno, mut pipe) = ([0; 4], File::from(reader));
                let killed = |_| io::Error::other("the process that asked it was killed");
                return pipe
                    .read_exact(&mut errno)
                    .map_err(killed)
                    .map(|()| i32::from_ne_bytes(errno));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_the_file_system() {
        let patience = Duration::from_secs(60);
        ask(Path::new("/"), patience).expect("there is one");
        let missing = ask(Path::new("/proc/self/no such file"), patience);
        let errno = missing.expect_err("there is no such file").raw_os_error();
        assert_eq!(errno, Some(Errno::ENOENT as i32));
        ask(Path::new("a\0b"), patience).expect_err("no path");
    }
}
