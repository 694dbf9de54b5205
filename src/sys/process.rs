//! The process as a whole: going to the background, its limits.
#![expect(unsafe_code, reason = "fork, close_range and signal")]

use std::fs::File;
use std::io::{self, Read, Write};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, close, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

/// The background's end of the pipe on which the foreground waits for success or an error text.
#[derive(Debug)]
pub(crate) struct Readiness(File);

/// What [`background`] returns in each of the two processes.
#[derive(Debug)]
pub(crate) enum Side {
    /// The process that was started; it must exit with this result.
    Foreground(Result<(), String>),
    /// The one that goes on.
    Background(Readiness),
}

/// Splits the process in two. Must be called before any thread is started.
pub(crate) fn background() -> io::Result<Side> {
    // They would stay open, and locked, for as long as the mount.
    close_inherited();
    // What this process starts must not keep the other waiting.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the process has one thread, so the child inherits no lock that is held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => {
            drop(writer);
            let mut message = String::new();
            File::from(reader).read_to_string(&mut message)?;
            // The child writes "ok" or the reason; nothing at all means that it died.
            Ok(Side::Foreground(match message.as_str() {
                "ok" => Ok(()),
                "" => Err("the daemon died before the mount was ready".to_owned()),
                reason => Err(reason.to_owned()),
            }))
        }
        ForkResult::Child => {
            drop(reader);
            setsid()?;
            Ok(Side::Background(Readiness(writer.into())))
        }
    }
}

/// Closes all descriptors but the standard ones. Must be called before this process opens any.
pub(crate) fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above standard error yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

impl Readiness {
    /// The mount works: lets the foreground exit 0, and leaves its terminal and directory.
    pub(crate) fn ready(mut self) -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        std::env::set_current_dir("/")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        self.0.write_all(b"ok")
    }

    /// It does not: lets the foreground print `reason` and fail.
    pub(crate) fn failed(mut self, reason: &str) {
        // If the foreground is gone there is nobody left to tell.
        let _ = self.0.write_all(reason.as_bytes());
    }
}

/// Lets writes on behalf of a caller be bound by that caller's RLIMIT_FSIZE only, which the kernel
/// has checked: the daemon's own would kill it with SIGXFSZ.
pub fn lift_file_size_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap_or((0, 0));
    // A hard limit of the daemon's own can not be helped: EFBIG, then.
    let _ = setrlimit(Resource::RLIMIT_FSIZE, hard, hard);
    // SAFETY: ignoring a signal installs no handler.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Leaves it to the process that this one serves to end on a signal: SIGHUP, SIGINT and SIGTERM are
/// ignored.
pub fn ignore_requests_to_end() {
    for request in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: ignoring a signal installs no handler.
        let _ = unsafe { signal(request, SigHandler::SigIgn) };
    }
}

/// Raises the soft limit of open descriptors to the hard one; returns what is in force.
pub fn raise_nofile() -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// More descriptors than this are not reserved: half a MiB of the kernel's memory.
const RESERVED_MAX: u64 = 1 << 16;

/// Has the kernel make room for `limit` descriptors, RLIMIT_NOFILE, at once. It would double the room
/// whenever that is full, and whoever opens a file then waits for 10 ms and more if the process has
/// threads (`expand_fdtable()`). So this is to be called before any is started.
pub fn reserve_descriptors(limit: u64) {
    let last = limit.min(RESERVED_MAX).saturating_sub(1);
    let last = FcntlArg::F_DUPFD_CLOEXEC(i32::try_from(last).unwrap_or(0));
    // What can not be had now comes later, and slower.
    if let Ok(fd) = fcntl(io::stderr(), last) {
        let _ = close(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_there_and_nothing_stays_open() {
        const COUNT: u64 = 700;
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("of this process");
        assert!(soft >= COUNT, "the test needs RLIMIT_NOFILE {COUNT}");
        reserve_descriptors(COUNT);
        let status = std::fs::read_to_string("/proc/self/status").expect("read /proc");
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("it tells");
        let size: u64 = size.trim().parse().expect("a number");
        assert!(size >= COUNT, "room for {size}");
        std::fs::metadata(format!("/proc/self/fd/{}", COUNT - 1)).expect_err("it was closed");
    }
}
