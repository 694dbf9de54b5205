//! A daemon that mounts, as a system under study: in the foreground as our child. fusewire is driven
//! by the two commands a user types (`mount SRC MNT -f`, `stats MNT --json`); of others only the
//! mount is known.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::StudyError;
use super::family::{self, Family};
use super::interrupt::Interrupt;
use super::mounts;
use super::process::{run_tool, tail, wait};
use super::say;
use super::scratch::complain;
use super::system::System;
use crate::metrics::snapshot::Snapshot;
use crate::mountinfo::MountTable;

const READY_LIMIT: Duration = Duration::from_secs(15);
/// What an unmounted daemon gets to end by itself, and what it gets after a signal.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(2);
const EXIT_LIMIT: Duration = Duration::from_secs(5);
const KEPT_STDERR: usize = 4096;
const KILLED: &str = "had to be killed: it ended neither when unmounted nor on SIGTERM (a container or \
                      service started meanwhile may hold a copy of its mount)";
const KILLED_UNMOUNTED: &str = "had to be killed: it did not end on SIGTERM";

/// A mounted file system and its daemon. Unmounts and ends the daemon on drop.
#[derive(Debug)]
pub(crate) struct Mounted {
    name: String,
    /// The fusewire that is asked for counters, if there are any.
    counters: Option<PathBuf>,
    mountpoint: PathBuf,
    child: Mutex<Option<Child>>,
    /// All that it has started.
    family: Family,
    /// What was mounted before it.
    before: MountTable,
    /// Whether the mount has been seen.
    ready: AtomicBool,
    /// Whether its end has been told, or wanted: then its exit status is no news.
    ended: AtomicBool,
    stderr: Arc<Mutex<String>>,
}

/// How to start the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// What it is called in messages.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments, the mount point among them.
    pub(crate) arguments: Vec<OsString>,
    /// Where it will mount.
    pub(crate) mountpoint: PathBuf,
    /// What it gets to mount.
    pub(crate) ready_limit: Duration,
    /// Whether it answers `stats`, as fusewire does.
    pub(crate) has_counters: bool,
}

impl Launch {
    /// fusewire showing `source`.
    pub(crate) fn fusewire(
        exe: &Path,
        source: &Path,
        mountpoint: &Path,
        arguments: &[String],
    ) -> Self {
        let mut words: Vec<OsString> = vec!["mount".into(), source.into()];
        words.extend([mountpoint.into(), "-f".into()]);
        words.extend(arguments.iter().map(OsString::from));
        Launch {
            name: "fusewire".to_owned(),
            program: exe.to_owned(),
            arguments: words,
            mountpoint: mountpoint.to_owned(),
            ready_limit: READY_LIMIT,
            has_counters: true,
        }
    }
}

impl Launch {
    /// fusewire without storage.
    pub(crate) fn null(exe: &Path, mountpoint: &Path, arguments: &[String]) -> Self {
        let mut words: Vec<OsString> = vec!["null".into(), mountpoint.into(), "-f".into()];
        words.extend(arguments.iter().map(OsString::from));
        Launch { arguments: words, ..Launch::fusewire(exe, mountpoint, mountpoint, &[]) }
    }
}

impl Mounted {
    /// Starts the daemon and waits until its mount is there.
    pub(crate) fn mount(launch: &Launch, interrupt: &Interrupt) -> Result<Self, StudyError> {
        let before = mounts::table()?;
        let mut command = Command::new(&launch.program);
        let family = Family::mark(&mut command);
        let mut child = command
            .args(&launch.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(StudyError::io("start", &launch.program))?;
        let stderr = Arc::new(Mutex::new(String::new()));
        if let Some(pipe) = child.stderr.take() {
            keep_tail(pipe, Arc::clone(&stderr));
        }
        // From here on the guard exists: whatever fails below unmounts and ends the child.
        let system = Mounted {
            family: family.started(child.id()),
            before,
            name: launch.name.clone(),
            counters: launch.has_counters.then(|| launch.program.clone()),
            mountpoint: launch.mountpoint.clone(),
            child: Mutex::new(Some(child)),
            ready: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            stderr,
        };
        system.wait_ready(launch.ready_limit, interrupt)?;
        Ok(system)
    }

    /// The daemon's process.
    fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// All processes of another program; `None` where the daemon says itself which it is.
    pub(crate) fn family(&self) -> Option<&Family> {
        self.counters.is_none().then_some(&self.family)
    }

    /// Whether it is FUSE that it mounted, and not something that the kernel serves.
    pub(crate) fn is_fuse(&self) -> Result<bool, StudyError> {
        Ok(mounts::mounted_at(&self.mountpoint)?.is_none_or(|mount| mount.is_fuse()))
    }

    fn wait_ready(&self, limit: Duration, interrupt: &Interrupt) -> Result<(), StudyError> {
        let deadline = Instant::now() + limit;
        loop {
            interrupt.check()?;
            let mount = mounts::mounted_at(&self.mountpoint)?;
            // The mount is there a moment before its daemon answers.
            if mount.is_some() && (self.counters.is_none() || self.answers()) {
                self.ready.store(true, Ordering::Relaxed);
                return Ok(());
            }
            self.check_alive()?;
            if Instant::now() >= deadline {
                let elsewhere = self.elsewhere()?;
                let problem =
                    format!("did not mount within {:.0} s{elsewhere}", limit.as_secs_f64());
                return Err(self.error(problem));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it mounted where nobody will look for it, for messages; empty if nothing.
    fn elsewhere(&self) -> Result<String, StudyError> {
        let mut said = String::new();
        // Who still runs and serves nothing has mounted nothing either.
        let runs = matches!(self.child().as_mut().map(Child::try_wait), Some(Ok(None)));
        if runs && self.family.servers().is_empty() {
            return Ok(said);
        }
        for mount in mounts::since(&self.before)?.iter().filter(|mount| mount.is_fuse()) {
            let (kind, point, wanted) =
                (&mount.fs_type, mount.mount_point.display(), self.mountpoint.display());
            said.push_str(&format!(
                "; meanwhile a {kind} was mounted at {point} instead of {wanted}"
            ));
            // It may be somebody else's, so it stays; the reason that is kept has no paths.
            let name = &self.name;
            say::line(format_args!(
                "fusewire: while {name} was to mount at {wanted}, a {kind} was mounted at {point}, \
                 and stays there; if it is of {name}: umount -l {point}"
            ));
        }
        Ok(said)
    }

    /// Whether it is our daemon that answers for the mount: for a moment it may be one that is still
    /// ending, whose device number the kernel has given to our mount.
    fn answers(&self) -> bool {
        let snapshot = self.snapshot().ok().flatten();
        snapshot.is_some_and(|snapshot| Some(snapshot.pid) == self.pid())
    }

    /// Unmounts and waits for the daemon's end. Idempotent.
    pub(crate) fn release(&self) -> Result<(), StudyError> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        let unmounted = mounts::unmount(&self.mountpoint, Duration::from_secs(3));
        let known = self.ended.load(Ordering::Relaxed);
        let ready = self.ready.load(Ordering::Relaxed);
        // Not mounted yet, it would not notice an unmount: then only a signal ends it.
        let patience = if ready { UNMOUNT_LIMIT } else { Duration::ZERO };
        let mut ended = wait(&mut child, patience, &|| false);
        if matches!(ended, Ok(None)) {
            signal(&child, Signal::SIGTERM);
            ended = wait(&mut child, EXIT_LIMIT, &|| false);
        }
        let ended = match ended {
            Ok(Some(status)) if status.success() || !ready || known => Ok(()),
            Ok(Some(status)) => Err(self.error(format!("ended with {status}"))),
            Ok(None) | Err(_) => {
                // Its descriptors close with it, which aborts the connection.
                signal(&child, Signal::SIGKILL);
                let _ = wait(&mut child, EXIT_LIMIT, &|| false);
                Err(self.error(if ready { KILLED } else { KILLED_UNMOUNTED }.to_owned()))
            }
        };
        let ended = ended.and(self.end_family(patience));
        // What it mounted between our unmount and its end.
        let settled = mounts::unmount(&self.mountpoint, Duration::ZERO);
        unmounted.and(settled).and(ended)
    }

    /// Ends what is left of its processes: a daemon in the background goes with its mount, and whatever
    /// else the command has started never would.
    fn end_family(&self, patience: Duration) -> Result<(), StudyError> {
        self.family.wait(patience, family::serves);
        self.family.signal(Signal::SIGTERM);
        if self.family.wait(EXIT_LIMIT, |_| true) {
            return Ok(());
        }
        self.family.signal(Signal::SIGKILL);
        Err(self.error("left processes in the background, which had to be killed".to_owned()))
    }

    /// The last the daemon wrote. The reader thread sees the end of the pipe soon after the
    /// daemon's end; a short wait is enough to have its last words.
    fn error(&self, problem: String) -> StudyError {
        std::thread::sleep(Duration::from_millis(50));
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        StudyError::Daemon { name: self.name.clone(), problem, stderr }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for Mounted {
    fn root(&self) -> &Path {
        &self.mountpoint
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, StudyError> {
        let Some(exe) = &self.counters else { return Ok(None) };
        let stdout = run_tool(
            "read the daemon's counters",
            Command::new(exe).arg("stats").arg(&self.mountpoint).arg("--json"),
        )?;
        serde_json::from_str(&stdout).map(Some).map_err(|error| StudyError::Tool {
            action: "cannot read the daemon's counters".into(),
            problem: format!("`fusewire stats --json` printed something else: {error}"),
        })
    }

    fn check_alive(&self) -> Result<(), StudyError> {
        let status = match self.child().as_mut() {
            Some(child) => child.try_wait(),
            None => return Err(self.error("has been unmounted".into())),
        };
        match status {
            Ok(None) => Ok(()),
            // It went to the background: from then on the mount shows whether it lives.
            Ok(Some(status)) if status.success() && self.counters.is_none() => {
                let ready = self.ready.load(Ordering::Relaxed);
                match ready && mounts::mounted_at(&self.mountpoint)?.is_none() {
                    true => Err(self.error("has unmounted itself".into())),
                    false => Ok(()),
                }
            }
            Ok(Some(status)) => {
                self.ended.store(true, Ordering::Relaxed);
                Err(self.error(format!("ended unexpectedly ({status})")))
            }
            Err(error) => Err(self.error(format!("cannot be waited for ({error})"))),
        }
    }

    fn abort(&self) {
        if let Some(child) = self.child().as_ref() {
            self.ended.store(true, Ordering::Relaxed);
            signal(child, Signal::SIGKILL);
        }
        self.family.signal(Signal::SIGKILL);
        // Aborts the connection, whoever serves it; that it is busy is why we are here.
        let _ = umount2(&self.mountpoint, MntFlags::MNT_FORCE | MntFlags::UMOUNT_NOFOLLOW);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        complain(self.release());
    }
}

/// To its whole group: a mount helper it has started must not outlive it. Gone already is fine.
fn signal(child: &Child, signal: Signal) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Reads the daemon's stderr for as long as it lives, so that it never blocks on a full pipe.
fn keep_tail(mut pipe: ChildStderr, kept: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(read @ 1..) = pipe.read(&mut bytes) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_str(&String::from_utf8_lossy(&bytes[..read]));
            *kept = tail(&kept, KEPT_STDERR).to_owned();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_refuses_is_quoted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // ls takes no such option: its complaint proves that arguments arrive and stderr returns.
        let words = ["--no-such-option".to_owned()];
        let launch = Launch::fusewire(Path::new("/bin/ls"), dir.path(), dir.path(), &words);
        let interrupt = Interrupt::default();
        let error = Mounted::mount(&launch, &interrupt).expect_err("it refuses").to_string();
        assert!(error.contains("--no-such-option"), "{error}");
        assert!(error.contains("ended unexpectedly (exit status: 2)"), "{error}");
    }
}
