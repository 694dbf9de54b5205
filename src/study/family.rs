//! The processes that a mount's command has started, wherever they have gone. A daemon that goes to the
//! background leaves parent, process group and session; what it keeps is the environment that the
//! command was given, in which there is a mark.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::environment::now_seconds;

/// The variable that is the mark.
const MARK: &str = "FUSEWIRE_STUDY_MOUNT";
const POLL: Duration = Duration::from_millis(5);

/// What tells the processes of one command from all others.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    /// As it stands in an environment.
    mark: Vec<u8>,
    /// The command's own process, which leads a group. 0 before it was started.
    leader: u32,
    /// When that was, in ticks.
    began: u64,
}

impl Family {
    /// Marks a command that is to be started.
    pub(crate) fn mark(command: &mut Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // The time too: process ids come again.
        let value = format!("{}.{count}.{}", std::process::id(), now_seconds());
        command.env(MARK, &value);
        Family { mark: format!("{MARK}={value}").into_bytes(), leader: 0, began: 0 }
    }

    /// It runs.
    pub(crate) fn started(self, leader: u32) -> Self {
        let began = stat(leader).map_or(0, |stat| stat.began);
        Family { leader, began, ..self }
    }

    /// Those that live.
    pub(crate) fn members(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| self.has(*pid)).collect()
    }

    /// Those that serve FUSE: without one of them it is not known who does.
    pub(crate) fn servers(&self) -> Vec<u32> {
        self.members().into_iter().filter(|pid| serves(*pid)).collect()
    }

    fn has(&self, pid: u32) -> bool {
        let Some(stat) = stat(pid) else { return false };
        // Who is older has nothing to do with it. That spares a look into memory, which waits for a
        // process that waits for a page of a mount that hangs.
        if stat.is_zombie || stat.began < self.began {
            return false;
        }
        let is_near = [stat.group, stat.session].contains(&self.leader) && self.leader != 0;
        let marked = || {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == self.mark)
        };
        is_near || marked()
    }

    /// Sends a signal to all that live.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.members().into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
            // Gone meanwhile is fine.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until none lives that `counts`; whether that was so in time.
    pub(crate) fn wait(&self, limit: Duration, counts: fn(u32) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if !self.members().into_iter().any(counts) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Whether a process has the FUSE device open. The links are read and not followed: what they lead to
/// may be on a mount that hangs.
pub(crate) fn serves(pid: u32) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    targets.any(|target| target.as_os_str().as_bytes().ends_with(b"/dev/fuse"))
}

/// What is told of every process.
struct Stat {
    is_zombie: bool,
    group: u32,
    session: u32,
    began: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let words: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(Stat {
        is_zombie: matches!(*words.first()?, "Z" | "X"),
        group: words.get(2)?.parse().ok()?,
        session: words.get(3)?.parse().ok()?,
        began: words.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn what_went_to_the_background_belongs_to_it_and_others_do_not() {
        let mut other = Command::new("sleep").arg("60").spawn().expect("sleep is installed");
        let mut command = Command::new("sh");
        // One in the group, one in a session of its own, whose parents have ended.
        command.args(["-c", "sleep 61 & setsid sleep 62 & sleep 0.1"]).process_group(0);
        let family = Family::mark(&mut command);
        let mut child = command.stdin(Stdio::null()).spawn().expect("sh is installed");
        let family = family.started(child.id());
        child.wait().expect("our child");
        let deadline = Instant::now() + Duration::from_secs(30);
        while family.members().len() != 2 {
            assert!(Instant::now() < deadline, "{:?}", family.members());
            std::thread::sleep(POLL);
        }
        assert!(family.servers().is_empty() && !family.members().contains(&other.id()));
        assert!(!family.wait(Duration::ZERO, |_| true));
        family.signal(Signal::SIGKILL);
        assert!(family.wait(Duration::from_secs(30), |_| true), "{:?}", family.members());
        assert!(other.try_wait().expect("our child").is_none(), "no business of ours");
        other.kill().and_then(|()| other.wait()).expect("our child");
    }
}
