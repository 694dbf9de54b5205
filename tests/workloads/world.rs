//! Runs a workload in a plain directory, then on a mount, and demands the same lines and the same
//! tree. It owns the disk and the mounts.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::daemon::Daemon;
use crate::common::disk::Disk;
use crate::common::tree;
use crate::tool::{exclusively, fusewire};

const DISK_BYTES: u64 = 8 << 30;
/// RELEASE is sent after close(2) has returned.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);
/// The daemon's threads end one after the other.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Errnos that the daemon has no reason to answer to anything these workloads do.
const NEVER: [&str; 5] = ["EIO", "EBADF", "ENOSYS", "EMFILE", "ENFILE"];

/// Where a workload runs.
pub(crate) struct Place {
    /// A new directory to work in.
    pub(crate) dir: PathBuf,
    /// A new directory on the plain disk, for what is not to be judged.
    pub(crate) scratch: PathBuf,
}

/// What a program does for a living.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// On which mounts it runs.
    pub(crate) settings: &'static [Setting],
    /// Whether everything about the tree it leaves is the same each time.
    pub(crate) same_tree: bool,
    /// Lines about what it saw, the same each time.
    pub(crate) body: fn(&Place) -> Result<Vec<String>, String>,
}

/// A kind of mount.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) data: &'static str,
    pub(crate) options: &'static str,
}

struct Seen {
    lines: Vec<String>,
    tree: BTreeMap<String, String>,
}

/// Locked while the workload runs, so that it runs once.
type Slot = Mutex<Option<Arc<Seen>>>;

/// The disk, and what each workload saw in a plain directory.
pub(crate) struct World {
    disk: Disk,
    plain: Mutex<HashMap<&'static str, Arc<Slot>>>,
    numbers: AtomicU32,
}

impl World {
    pub(crate) fn new() -> Result<Self, String> {
        let disk = Disk::new(DISK_BYTES)?;
        if let Some(reason) = &disk.fallback {
            eprintln!("no ext4 image, using {}: {reason}", disk.path().display());
        }
        Ok(World { disk, plain: Mutex::default(), numbers: AtomicU32::new(0) })
    }

    /// Runs `workload` on a mount of its own and compares.
    pub(crate) fn judge(&self, setting: Setting, workload: Workload) -> Result<(), String> {
        let plain = self.plain(workload)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let source = self.disk.directory(&format!("source-{number}"));
        let mountpoint = self.disk.mountpoint(&format!("mount-{number}"));
        let daemon =
            exclusively(|| Daemon::start(&source, &mountpoint, setting.data, setting.options))?;
        let dir = mountpoint.join(workload.name);
        let began = Instant::now();
        let seen = self.run(workload, dir, number, &source.join(workload.name));
        let seen = seen.map_err(|reason| format!("{reason}\n{}", daemon.report()))?;
        eprintln!("{}::{}: {:.1?}", setting.name, workload.name, began.elapsed());
        let mut complaints = compare(&plain, &seen);
        complaints.extend(look_at(&daemon));
        drop(seen);
        complaints.extend(end(&daemon));
        drop(daemon);
        let _ = fs::remove_dir_all(&source);
        if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
    }

    /// What `workload` sees in a plain directory; run once.
    fn plain(&self, workload: Workload) -> Result<Arc<Seen>, String> {
        let slot = {
            let mut plain = self.plain.lock().expect("no panic while locked");
            plain.entry(workload.name).or_default().clone()
        };
        let mut slot = slot.lock().map_err(|_| "it panicked in the plain directory")?;
        if let Some(seen) = &*slot {
            return Ok(seen.clone());
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let dir = self.disk.directory(&format!("plain-{number}")).join(workload.name);
        let began = Instant::now();
        let seen = self.run(workload, dir.clone(), number, &dir);
        let seen = seen.map_err(|reason| format!("in the plain directory: {reason}"))?;
        eprintln!("plain::{}: {:.1?}", workload.name, began.elapsed());
        let _ = fs::remove_dir_all(&dir);
        Ok(slot.insert(Arc::new(seen)).clone())
    }

    fn run(
        &self,
        work: Workload,
        dir: PathBuf,
        number: u32,
        behind: &Path,
    ) -> Result<Seen, String> {
        let scratch = self.disk.directory(&format!("scratch-{number}"));
        let made = fs::create_dir(&dir);
        made.map_err(|error| format!("make {}: {error}", dir.display()))?;
        let place = Place { dir, scratch };
        let lines = (work.body)(&place)?;
        let own = |line: &String| {
            let line = line.replace(&*place.dir.to_string_lossy(), "DIR");
            line.replace(&*place.scratch.to_string_lossy(), "SCRATCH")
        };
        let lines = lines.iter().map(own).collect();
        let tree = if work.same_tree { tree::describe(behind) } else { BTreeMap::new() };
        let _ = fs::remove_dir_all(&place.scratch);
        Ok(Seen { lines, tree })
    }
}

fn compare(plain: &Seen, mounted: &Seen) -> Vec<String> {
    let mut complaints = Vec::new();
    for number in 0..plain.lines.len().max(mounted.lines.len()) {
        let (plain, mounted) = (plain.lines.get(number), mounted.lines.get(number));
        if plain != mounted {
            complaints.push(format!("plain: {plain:?}\nmount: {mounted:?}"));
        }
    }
    complaints.extend(tree::differences(&plain.tree, &mounted.tree));
    complaints.truncate(40);
    complaints
}

/// What the daemon itself tells about how it went.
fn look_at(daemon: &Daemon) -> Vec<String> {
    let deadline = Instant::now() + RELEASED_WITHIN;
    loop {
        let stats = match daemon.stats() {
            Ok(stats) => stats,
            Err(reason) => return vec![reason],
        };
        let mut complaints = Vec::new();
        for (name, opcode) in &stats.requests {
            for (errno, count) in &opcode.errors {
                // How the kernel is told that files are always ready, and that it may open directories
                // by itself.
                let told = ["POLL", "OPENDIR"].contains(&name.as_str());
                let expected = told && errno == "ENOSYS";
                if NEVER.contains(&errno.as_str()) && !expected {
                    complaints.push(format!("{name} was answered {errno} {count} times"));
                }
            }
        }
        if stats.totals.malformed > 0 {
            complaints.push(format!("{} malformed requests", stats.totals.malformed));
        }
        if stats.live.open_files + stats.live.open_dirs > 0 {
            let live = &stats.live;
            let left = format!("{} files and {} directories", live.open_files, live.open_dirs);
            complaints.push(format!("{left} are open in the daemon when all is over"));
            if Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
        }
        return complaints;
    }
}

/// Unmounts; the mount must not be busy and the daemon must end well.
fn end(daemon: &Daemon) -> Vec<String> {
    let mut complaints = Vec::new();
    if let Err(reason) = fusewire().arg("umount").arg(&daemon.mountpoint).run() {
        complaints.push(reason);
    }
    let deadline = Instant::now() + ENDS_WITHIN;
    while daemon.exit_status().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    match daemon.exit_status() {
        Some(status) if status.success() => {}
        Some(status) => complaints.push(format!("the daemon ended: {status}")),
        None => complaints.push("the daemon still runs".to_owned()),
    }
    complaints
}
