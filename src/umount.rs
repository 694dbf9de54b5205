//! `fusewire umount`: detaches a mount of ours, alive or dead, and waits for its daemon to end.
//!
//! It never touches the mount itself and never unmounts a stranger's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use nix::mount::{MntFlags, umount2};
use nix::unistd::Pid;
use thiserror::Error;

use crate::control::client::{self, ClientError, Target};
use crate::mountinfo::MountTable;

/// A daemon that has not ended this long after its mount went away is reported.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(10);

/// Unmount MOUNTPOINT and wait until its daemon has ended
///
/// Only mounts of fusewire are touched. Works on the mount of a killed daemon, too.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_override_self = true)]
pub struct Options {
    /// Where fusewire shows a directory
    pub mountpoint: PathBuf,
    /// Detach now even if it is in use; the daemon ends with its last user
    #[arg(short, long)]
    pub lazy: bool,
}

/// Why a mount is still there, or its daemon.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UmountError {
    /// It is no mount of ours.
    #[error("{0}")]
    Target(#[from] ClientError),
    /// It is no mount of ours, and another command would do.
    #[error("{error}; `umount {p}` unmounts it", p = path.display())]
    Stranger {
        /// What it is.
        error: ClientError,
        /// Where it is.
        path: PathBuf,
    },
    /// Somebody uses it.
    #[error(
        "{p} is busy{holders}; end that, or detach it with `fusewire umount --lazy {p}`",
        p = path.display()
    )]
    Busy {
        /// Where it is.
        path: PathBuf,
        /// Who, as far as this user may see.
        holders: String,
    },
    /// The kernel or fusermount3 refused.
    #[error("unmount {}: {reason}", path.display())]
    Failed {
        /// Where it is.
        path: PathBuf,
        /// What they say.
        reason: String,
    },
    /// Unmounted, but not over.
    #[error(
        "{} is unmounted, but its daemon (pid {pid}) still runs after {} s; {}",
        path.display(),
        DAEMON_TIMEOUT.as_secs(),
        match stopped {
            true => format!("somebody has stopped it: `kill -CONT {pid}` lets it end"),
            false => format!("should it never end, `kill -KILL {pid}`"),
        }
    )]
    DaemonStays {
        /// Where it was.
        path: PathBuf,
        /// Who stays.
        pid: Pid,
        /// Whether somebody has stopped it (SIGSTOP).
        stopped: bool,
    },
}

/// Unmounts and waits.
///
/// # Errors
/// [`UmountError`], each naming the mount point and the remedy.
pub fn run(options: &Options) -> Result<(), UmountError> {
    let target = client::find(&options.mountpoint).map_err(|error| match error {
        ClientError::NotFusewire { ref path, .. } => {
            UmountError::Stranger { path: path.clone(), error }
        }
        error => UmountError::Target(error),
    })?;
    let daemon = target.daemon.and_then(Process::find);
    detach(&target, options.lazy)?;
    match daemon {
        Some(daemon) if !options.lazy => wait_for(&daemon, target.path),
        _ => Ok(()),
    }
}

fn detach(target: &Target, lazy: bool) -> Result<(), UmountError> {
    let path = &target.path;
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazy);
    let failed = |reason: String| UmountError::Failed { path: path.clone(), reason };
    match umount2(path, flags) {
        Ok(()) => Ok(()),
        Err(nix::Error::EPERM) => detach_as_user(path, lazy),
        Err(nix::Error::EBUSY) => Err(busy(path)),
        Err(error) => Err(failed(error.desc().into())),
    }
}

/// Ordinary users may unmount what fusermount3 has mounted for them.
fn detach_as_user(path: &Path, lazy: bool) -> Result<(), UmountError> {
    let failed = |reason: String| UmountError::Failed { path: path.into(), reason };
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(path).env("LC_ALL", "C");
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed(
            "only root may, or fusermount3 for the mount's owner: `apt-get install fuse3`".into(),
        ),
        _ => failed(format!("run fusermount3: {error}")),
    })?;
    let message = String::from_utf8_lossy(&output.stderr);
    match message.trim() {
        _ if output.status.success() => Ok(()),
        message if message.contains("busy") => Err(busy(path)),
        "" => Err(failed(format!("fusermount3 failed with {}", output.status))),
        message => Err(failed(message.into())),
    }
}

fn busy(path: &Path) -> UmountError {
    // Enough to act on; a long list would hide the remedy.
    const NAMED: usize = 5;
    let table = MountTable::read().unwrap_or_default();
    let below = table.below(path).map(|m| format!("a mount at {}", m.mount_point.display()));
    let mut holders: Vec<String> = below.chain(holders(path)).take(NAMED + 1).collect();
    if holders.len() > NAMED {
        holders.truncate(NAMED);
        holders.push("others".into());
    }
    let holders = match holders.as_slice() {
        [] => String::new(),
        holders => format!(": held by {}", holders.join(", ")),
    };
    UmountError::Busy { path: path.into(), holders }
}

/// Processes whose working directory, root, program, open file or mapping lies below `path`, as far
/// as this user may see. Reads links and maps only, so nothing reaches into the mount.
fn holders(path: &Path) -> impl Iterator<Item = String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |entry| {
        let name = entry.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        let how = how_it_holds(&entry.path(), path)?;
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        Some(format!("{} (pid {pid}, {how})", comm.trim()))
    })
}

fn how_it_holds(process: &Path, path: &Path) -> Option<&'static str> {
    let below = |link: PathBuf| std::fs::read_link(link).is_ok_and(|to| to.starts_with(path));
    for (link, how) in [("cwd", "working directory"), ("root", "root"), ("exe", "program")] {
        if below(process.join(link)) {
            return Some(how);
        }
    }
    let mut fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    if fds.any(|fd| below(fd.path())) {
        return Some("open file");
    }
    let maps = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
    let mut mapped = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    mapped.any(|file| Path::new(file).starts_with(path)).then_some("mapped file")
}

/// A process that will not be taken for another which gets its pid later.
#[derive(Debug)]
struct Process {
    pid: Pid,
    start_time: String,
}

impl Process {
    fn find(pid: Pid) -> Option<Self> {
        let start_time = start_time_if_alive(pid)?;
        Some(Process { pid, start_time })
    }

    fn is_alive(&self) -> bool {
        start_time_if_alive(self.pid).is_some_and(|start_time| start_time == self.start_time)
    }
}

fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('T'))
}

/// Field 22 of proc_pid_stat(5); none for a zombie whose threads have all ended, too. Only the last
/// of them closes the descriptors, and with them the control socket that the next mount may need.
fn start_time_if_alive(pid: Pid) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold anything, also spaces and brackets.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?;
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    (!matches!(state, "Z" | "X") || threads > 1).then(|| start_time.into())
}

fn wait_for(daemon: &Process, path: PathBuf) -> Result<(), UmountError> {
    let deadline = Instant::now() + DAEMON_TIMEOUT;
    while daemon.is_alive() {
        if Instant::now() >= deadline {
            let (pid, stopped) = (daemon.pid, is_stopped(daemon.pid));
            return Err(UmountError::DaemonStays { path, pid, stopped });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = Process::find(Pid::this()).expect("it runs");
        assert!(own.is_alive());
        assert!(own.start_time.parse::<u64>().expect("ticks") > 0);
        let other = Process { pid: Pid::this(), start_time: "1".into() };
        assert!(!other.is_alive(), "the pid was given to another process");
    }

    #[test]
    fn a_zombie_has_gone() {
        let mut child = Command::new("true").spawn().expect("true(1) runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while Process::find(pid).is_some() {
            assert!(Instant::now() < deadline, "never became a zombie");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().expect("it was not reaped before");
    }

    #[test]
    fn holders_are_found_and_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().canonicalize().expect("it exists");
        assert_eq!(holders(&path).count(), 0);
        let file = std::fs::File::create(path.join("open")).expect("create");
        let own = format!("pid {}, open file", std::process::id());
        let found: Vec<_> = holders(&path).collect();
        assert!(found.iter().any(|holder| holder.contains(&own)), "{found:?}");
        drop(file);
    }
}
