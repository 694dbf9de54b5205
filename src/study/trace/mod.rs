//! Where the time of an operation goes: one run, traced by the kernel. Owns the instance of tracefs
//! and its undoing; [`events`] reads what it recorded, [`layers`] makes sense of it.
//!
//! Nothing is asked of the daemon, so that its path of a request is the one that is always measured,
//! and other programs' daemons can be traced as well. An instance is a buffer of its own: who else
//! traces on this machine is not disturbed.

mod events;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};

pub(crate) use self::layers::Layers;
use super::error::StudyError;
use super::preflight::refuse;
use super::say;

/// Where tracefs is mounted, if it is.
const USUAL_PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// What is recorded.
const EVENTS: [&str; 5] = [
    "fuse/fuse_request_send",
    "fuse/fuse_request_end",
    "sched/sched_switch",
    "raw_syscalls/sys_enter",
    "raw_syscalls/sys_exit",
];
/// The buffer of each CPU.
const BUFFER_KIB: u32 = 16 * 1024;

/// tracefs, with what is needed in it. Unmounted on drop if it was mounted for this.
#[derive(Debug)]
pub(crate) struct Tracing {
    root: PathBuf,
    mounted: Option<tempfile::TempDir>,
}

impl Tracing {
    /// Finds tracefs, or mounts it for as long as this lives.
    ///
    /// # Errors
    /// What this kernel or user lacks, and what to do.
    pub(crate) fn find() -> Result<Self, StudyError> {
        let lacks = |what: String| {
            refuse(format!("--layers can not be had: {what}; leave it out to measure all the rest"))
        };
        let usual =
            USUAL_PLACES.iter().map(Path::new).find(|place| place.join("instances").exists());
        let tracing = match usual {
            Some(root) => Tracing { root: root.to_owned(), mounted: None },
            None => {
                let dir = tempfile::Builder::new().prefix("fusewire-trace-").tempdir();
                let dir =
                    dir.map_err(StudyError::io("create a directory in", &std::env::temp_dir()))?;
                mount(None::<&str>, dir.path(), Some("tracefs"), MsFlags::empty(), None::<&str>)
                    .map_err(|errno| lacks(format!("mount tracefs: {} (root?)", errno.desc())))?;
                Tracing { root: dir.path().to_owned(), mounted: Some(dir) }
            }
        };
        let missing = EVENTS.iter().find(|event| !tracing.root.join("events").join(event).exists());
        match missing {
            None => Ok(tracing),
            Some(event) => Err(lacks(format!("this kernel has no tracepoint {event}"))),
        }
    }

    /// Begins to record what this process, `daemon`, and the threads that either starts do.
    pub(crate) fn record(&self, daemon: u32) -> Result<Recording, StudyError> {
        let own = std::process::id();
        let instance = self.root.join("instances").join(format!("fusewire-{own}"));
        fs::create_dir(&instance).map_err(StudyError::io("create", &instance))?;
        let recording = Recording { instance, daemon };
        let threads: Vec<String> =
            [own, daemon].into_iter().flat_map(threads).map(|thread| thread.to_string()).collect();
        recording.put("tracing_on", "0")?;
        recording.put("trace_clock", "mono")?;
        recording.put("buffer_size_kb", &BUFFER_KIB.to_string())?;
        recording.put("options/event-fork", "1")?;
        recording.put("set_event_pid", &threads.join(" "))?;
        for event in EVENTS {
            recording.put(&format!("events/{event}/enable"), "1")?;
        }
        recording.put("tracing_on", "1")?;
        Ok(recording)
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        if let Some(dir) = self.mounted.take()
            && let Err(errno) = umount(dir.path())
        {
            let (place, why) = (dir.path().display(), errno.desc());
            say::line(format_args!("fusewire: tracefs is left at {place}: {why}"));
            // Not to be removed through the mount.
            let _ = dir.keep();
        }
    }
}

/// A trace that is being recorded. Ends, and leaves nothing, on drop.
#[derive(Debug)]
pub(crate) struct Recording {
    instance: PathBuf,
    daemon: u32,
}

impl Recording {
    /// Ends it: the layers of one of `operations`, which took `seconds` in all, in nanoseconds.
    pub(crate) fn end(self, operations: u64, seconds: f64) -> Result<Layers, String> {
        let said = |error: StudyError| error.to_string();
        self.put("tracing_on", "0").map_err(said)?;
        let path = self.instance.join("trace");
        let text = fs::read_to_string(&path).map_err(|error| format!("read the trace: {error}"))?;
        let trace = events::parse(&text);
        let (client, daemon) = (threads(std::process::id()), threads(self.daemon));
        layers::of(&trace, &client, &daemon, operations, seconds)
    }

    fn put(&self, file: &str, value: &str) -> Result<(), StudyError> {
        let path = self.instance.join(file);
        fs::write(&path, value).map_err(StudyError::io("write", &path))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let removed = self.put("tracing_on", "0").and_then(|()| {
            fs::remove_dir(&self.instance).map_err(StudyError::io("remove", &self.instance))
        });
        if let Err(error) = removed {
            say::line(format_args!("fusewire: {error}"));
        }
    }
}

/// The threads of a process, as far as it lives.
fn threads(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let ids = tasks.into_iter().flatten().flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
