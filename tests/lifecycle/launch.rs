//! A daemon as users launch it, in the background or not, and how it ended.
//!
//! As the first process of its namespace this program becomes the parent of every daemon, and so
//! learns the exit code of those in the background too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fusewire::control::client;
use fusewire::metrics::snapshot::Snapshot;
use fusewire::mountinfo::MountTable;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::common::daemon::stacks;
use crate::tool::{Tool, fusewire, settle, spawn, tool};

const READY_WITHIN: Duration = Duration::from_secs(20);
/// Who takes a mount away.
pub(crate) type Ender = fn(&Served) -> Result<(), String>;

const FREED_WITHIN: Duration = Duration::from_secs(3);
/// A daemon whose mount is gone has nothing to do but to sync the source, for which it may have to
/// wait for what others write.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// How to launch a daemon.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub(crate) source: &'a Path,
    pub(crate) mountpoint: &'a Path,
    pub(crate) data: &'a str,
    /// More options, separated by commas.
    pub(crate) options: &'a str,
    pub(crate) foreground: bool,
    /// RLIMIT_NOFILE, soft and hard.
    pub(crate) nofile: Option<u32>,
}

impl<'a> Launch<'a> {
    pub(crate) fn new(source: &'a Path, mountpoint: &'a Path, data: &'a str) -> Self {
        Launch { source, mountpoint, data, options: "", foreground: false, nofile: None }
    }

    pub(crate) fn option(self, options: &'a str) -> Self {
        Launch { options, ..self }
    }

    pub(crate) fn go(self) -> Result<Served, String> {
        let log = NamedTempFile::with_prefix("fusewire-test-log-");
        let log = log.map_err(|error| format!("make a log file: {error}"))?;
        let started = match self.foreground {
            true => Some(self.in_foreground(log.path())?),
            false => self.command(log.path()).limit(READY_WITHIN).run().map(|_| None)?,
        };
        let (minor, pid) = self.daemon(started).inspect_err(|_| {
            // There is no guard yet.
            let _ = umount2(self.mountpoint, MntFlags::MNT_DETACH);
        })?;
        Ok(Served {
            mountpoint: self.mountpoint.to_owned(),
            minor,
            pid,
            ended: Mutex::new(None),
            settled: AtomicBool::new(false),
            log,
        })
    }

    /// The minor number of the mount's device and who serves it; `started` if that is known.
    fn daemon(&self, started: Option<Pid>) -> Result<(u32, Pid), String> {
        let find = || {
            let target = client::find(self.mountpoint).map_err(|error| error.to_string())?;
            let pid = target.daemon.ok_or("the mount is there, and nobody listens for it")?;
            match started.is_none_or(|started| started == pid) && self.is_own(pid) {
                true => Ok((target.mount.minor, pid)),
                false => Err(format!("process {pid} listens for a mount which is not its own")),
            }
        };
        // The daemon that had the mount's number before may still be ending.
        eventually(READY_WITHIN, || find().is_ok());
        find()
    }

    /// Whether a process was started by this one, or came to it as an orphan, and is for this mount.
    fn is_own(&self, pid: Pid) -> bool {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let at = self.mountpoint.to_string_lossy();
        waitid(Id::Pid(pid), flags).is_ok() && command.split('\0').any(|word| word == at)
    }

    fn args(&self, log: &Path) -> Vec<String> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let words = ["mount", "--data", self.data, "--log-file"].map(str::to_owned);
        let paths = [log, self.source, self.mountpoint].map(path);
        let options = ["-o", self.options].map(str::to_owned);
        let options = options.into_iter().filter(|_| !self.options.is_empty());
        words.into_iter().chain(paths).chain(options).collect()
    }

    fn command(&self, log: &Path) -> Tool {
        let program = env!("CARGO_BIN_EXE_fusewire");
        let tool = match self.nofile {
            Some(limit) => {
                tool("prlimit", "util-linux").arg(format!("--nofile={limit}:{limit}")).arg(program)
            }
            None => fusewire(),
        };
        tool.args(self.args(log))
    }

    fn in_foreground(&self, log: &Path) -> Result<Pid, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusewire"));
        command.args(self.args(log)).arg("-f").stdin(Stdio::null());
        let mut child = spawn(&mut command).map_err(|error| format!("{command:?}: {error}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"));
        let listens = || client::find(self.mountpoint).is_ok_and(|found| found.daemon == Some(pid));
        if !eventually(READY_WITHIN, listens) {
            let _ = child.kill();
            return Err(format!("{command:?}: not mounted: {:?}", child.wait()));
        }
        Ok(pid)
    }
}

/// A daemon that serves, or did.
pub(crate) struct Served {
    pub(crate) mountpoint: PathBuf,
    /// The minor number of its device: the name of its connection and of its control socket.
    pub(crate) minor: u32,
    pid: Pid,
    ended: Mutex<Option<WaitStatus>>,
    /// It has ended well: what is mounted at its place now is another's.
    settled: AtomicBool,
    log: NamedTempFile,
}

impl Served {
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        settle();
        kill(self.pid, signal).map_err(|errno| format!("send {signal} to the daemon: {errno}"))
    }

    /// How it ended, as soon as it has.
    pub(crate) fn end(&self) -> Option<WaitStatus> {
        let mut ended = self.ended.lock().expect("no panic while locked");
        if ended.is_none() {
            *ended = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => None,
                Ok(status) => Some(status),
                Err(errno) => panic!("the daemon is not a child of this process: {errno}"),
            };
        }
        *ended
    }

    /// Waits until it has ended, and demands exit code 0.
    pub(crate) fn ends_well(&self, limit: Duration) -> Result<(), String> {
        match eventually(limit, || self.end().is_some()) {
            false => Err(format!("the daemon runs {limit:?} after its end\n{}", self.report())),
            true if self.end() == Some(WaitStatus::Exited(self.pid, 0)) => {
                self.settled.store(true, Ordering::Relaxed);
                Ok(())
            }
            true => Err(format!("the daemon ended: {:?}\n{}", self.end(), self.report())),
        }
    }

    /// `fusewire umount` with these options.
    pub(crate) fn umount(&self, options: &[&str]) -> Result<(), String> {
        fusewire().arg("umount").args(options).arg(&self.mountpoint).run().map(drop)
    }

    /// Unmounts; the mount is gone and the daemon has ended well.
    pub(crate) fn finish(self) -> Result<(), String> {
        // A process that a neighbour is starting has, until its exec is over, copies of descriptors
        // which this one has closed: then the mount is busy, and nobody can be named.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(reason) = self.umount(&[]) {
            if !reason.contains("is busy;") || Instant::now() > deadline {
                return Err(reason);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.is_gone()?;
        self.ends_well(ENDS_WITHIN)
    }

    /// Fails if something of fusewire's is mounted there.
    pub(crate) fn is_gone(&self) -> Result<(), String> {
        match mounted(&self.mountpoint) {
            Some(kind) if kind == "fuse.fusewire" => Err("it is still mounted".to_owned()),
            _ => Ok(()),
        }
    }

    /// What `fusewire stats --json` says.
    pub(crate) fn stats(&self) -> Result<Snapshot, String> {
        let text = fusewire().arg("stats").arg(&self.mountpoint).arg("--json").run()?;
        serde_json::from_str(&text).map_err(|error| format!("fusewire stats: {error}: {text}"))
    }

    /// The same once nothing moves any more: a request is counted a moment after its reply.
    pub(crate) fn settled(&self) -> Result<Snapshot, String> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut last = self.stats()?;
        loop {
            thread::sleep(Duration::from_millis(20));
            let now = self.stats()?;
            if now.totals == last.totals || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Where its threads are, and what it said.
    pub(crate) fn report(&self) -> String {
        let log = fs::read_to_string(self.log.path()).unwrap_or_default();
        format!("{}its log:\n{log}", stacks(&format!("/proc/{}/task", self.pid)))
    }

    /// Ends the connection as the kernel's abort does.
    pub(crate) fn abort(&self) -> io::Result<()> {
        fs::write(format!("/sys/fs/fuse/connections/{}/abort", self.minor), "1")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        while self.is_gone().is_err() && umount2(&self.mountpoint, MntFlags::MNT_DETACH).is_ok() {}
        if !eventually(FREED_WITHIN, || self.end().is_some()) {
            // Not the abort: its connection's number may be another's by now.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = eventually(FREED_WITHIN, || self.end().is_some());
        }
    }
}

/// The type of what is on top at `path`, without touching it.
pub(crate) fn mounted(path: &Path) -> Option<String> {
    let table = MountTable::read().expect("/proc is mounted");
    table.top_at(path).map(|mount| mount.fs_type.clone())
}

/// Whether `true_now` becomes true within `limit`.
pub(crate) fn eventually(limit: Duration, true_now: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if true_now() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
