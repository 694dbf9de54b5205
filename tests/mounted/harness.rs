//! Plays a behaviour on a plain directory, then on a mount, and demands the same transcript and the
//! same tree. It owns the disk and the mounts that behaviours share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::actor::Who;
use crate::common::daemon::{Daemon, stacks};
use crate::common::disk::{self, Disk, Mounted};
use crate::common::{raw, tree};
use crate::trace::{Stage, Trace};
use crate::user;

const DISK_BYTES: u64 = 4 << 30;
const SMALL_DISK_BYTES: u64 = 16 << 20;
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How soon a change behind the mount shows, on a machine that does six of these at a time; how soon
/// it does otherwise, tests/coherence measures.
const WATCHED_WITHIN: Duration = Duration::from_millis(400);
/// The same where nobody watches the source: the kernel asks again after a second.
const ASKED_AGAIN_WITHIN: Duration = Duration::from_millis(1100);
/// Options for a mount that nobody watches and that asks again as soon as a watched one hears of it.
pub(crate) const SHORT_TIMEOUTS: &str = "entry_timeout=0.1,attr_timeout=0.1";
const AFTER_ABORT: Duration = Duration::from_secs(10);

/// What a behaviour needs of its mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Any mount: it is played with and without `allow_other`.
    Any,
    /// Other users: it is played with `allow_other`.
    Users,
    /// A mount of its own with these options; the plain directory is bind-mounted with the same.
    Options(&'static str),
    /// A file system of its own that is soon full.
    SmallDisk,
}

/// One behaviour.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) body: fn(&mut Trace),
}

/// How requests come, who moves the bytes, who may enter, and who mounts and plays.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) data: &'static str,
    pub(crate) options: &'static str,
    /// Through fusermount3, if not as root.
    pub(crate) who: Option<Who>,
}

/// The disk and the mounts.
pub(crate) struct World {
    /// A mount that is the source of others; it goes after them.
    below: Mutex<Option<Daemon>>,
    // Dropped before the disk, on which it lies.
    _device: Mounted,
    disk: Disk,
    /// The program, where everybody may execute it.
    program: PathBuf,
    shared: Mutex<HashMap<Setting, Arc<Daemon>>>,
    numbers: AtomicU32,
}

impl World {
    pub(crate) fn new() -> Result<Self, String> {
        let disk = Disk::new(DISK_BYTES)?;
        if let Some(reason) = &disk.fallback {
            eprintln!("no ext4 image, using {}: {reason}", disk.path().display());
        }
        let folder = disk.mountpoint("device");
        let (device, program) = (user::open_device(&folder)?, user::program(&folder)?);
        let (below, shared) = Default::default();
        let numbers = AtomicU32::new(0);
        Ok(World { below, _device: device, disk, program, shared, numbers })
    }

    /// Ends every shared mount.
    pub(crate) fn close(&self) {
        self.shared.lock().expect("no panic while locked").clear();
        self.below.lock().expect("no panic while locked").take();
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn mount(&self, disk: &Disk, setting: Setting, options: &str) -> Result<Arc<Daemon>, String> {
        let transport = format!("transport={}", setting.transport);
        let options = [options, &transport].join(if options.is_empty() { "" } else { "," });
        let number = self.number();
        let source = match setting.name {
            "stacked" => self.below()?.join(format!("source-{number}")),
            _ => disk.directory(&format!("source-{number}")),
        };
        fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let mountpoint = self.disk.mountpoint(&format!("mount-{number}"));
        match setting.who {
            None => Daemon::start(&source, &mountpoint, setting.data, &options),
            Some(who) => {
                user::give(&source, setting.who)?;
                user::give(&mountpoint, setting.who)?;
                let places = (&*source, &*mountpoint);
                Daemon::start_as(who, &self.program, places, setting.data, &options)
            }
        }
        .map(Arc::new)
    }

    /// A mount that others show.
    fn below(&self) -> Result<PathBuf, String> {
        let mut below = self.below.lock().expect("no panic while locked");
        if below.is_none() {
            let (source, target) =
                (self.disk.directory("below"), self.disk.mountpoint("mount-below"));
            *below = Some(Daemon::start(&source, &target, "copy", "transport=dev,allow_other")?);
        }
        Ok(below.as_ref().expect("it was just mounted").mountpoint.clone())
    }

    /// The mount of this setting that behaviours share; a new one if the last was given up.
    fn shared_mount(&self, setting: Setting) -> Result<Arc<Daemon>, String> {
        let mut shared = self.shared.lock().expect("no panic while locked");
        if let Some(daemon) = shared.get(&setting)
            && daemon.exit_status().is_none()
        {
            return Ok(Arc::clone(daemon));
        }
        let daemon = self.mount(&self.disk, setting, setting.options)?;
        shared.insert(setting, Arc::clone(&daemon));
        Ok(daemon)
    }

    fn give_up(&self, daemon: &Arc<Daemon>) {
        daemon.abort();
        let mut shared = self.shared.lock().expect("no panic while locked");
        shared.retain(|_, other| !Arc::ptr_eq(other, daemon));
    }

    /// Plays `behaviour` on both stages and compares.
    ///
    /// ext4 moves blocks from "reserved" to "allocated" while it writes back, and a stat in between
    /// sees neither, natively as well; when it happens to write back, a file has more extents or
    /// fewer. What differs in block counts alone is played again, a few times.
    pub(crate) fn judge(&self, setting: Setting, behaviour: Behaviour) -> Result<(), String> {
        const TRIES: usize = 4;
        let (mut plain, mut mounted) = self.play_both(setting, behaviour)?;
        for _ in 1..TRIES {
            if plain.lines == mounted.lines || without_blocks(&plain) != without_blocks(&mounted) {
                break;
            }
            (plain, mounted) = self.play_both(setting, behaviour)?;
        }
        compare(&plain, &mounted)
    }

    fn play_both(
        &self,
        setting: Setting,
        behaviour: Behaviour,
    ) -> Result<(Played, Played), String> {
        Ok((self.play_plain(setting.who, behaviour)?, self.play_mounted(setting, behaviour)?))
    }

    fn play_plain(&self, who: Option<Who>, behaviour: Behaviour) -> Result<Played, String> {
        let small = small_disk(behaviour.needs)?;
        let disk = small.as_ref().unwrap_or(&self.disk);
        let number = self.number();
        let behind = disk.directory(&format!("plain-{number}/{}", behaviour.name));
        user::give(&behind, who)?;
        let (dir, data, shows_within) = (behind.clone(), String::new(), Duration::ZERO);
        let mut stage = Stage { dir, behind, data, fuse: false, daemon: None, shows_within };
        let mut guard = None;
        if let Needs::Options(options) = behaviour.needs {
            let parent = stage.behind.parent().expect("it was joined above");
            let target = self.disk.mountpoint(&format!("bind-{number}"));
            guard = Some(disk::bind(parent, &target, options)?);
            stage.dir = target.join(behaviour.name);
        }
        let played = self.play(who, stage, behaviour)?;
        drop(guard);
        if !played.failures.is_empty() {
            let failures = played.failures.join("\n  ");
            return Err(format!("the plain directory itself is not as expected:\n  {failures}"));
        }
        Ok(played)
    }

    fn play_mounted(&self, setting: Setting, behaviour: Behaviour) -> Result<Played, String> {
        let small = small_disk(behaviour.needs)?;
        let daemon = match (&small, behaviour.needs) {
            (Some(disk), _) => self.mount(disk, setting, setting.options)?,
            (None, Needs::Options(options)) => self.mount(&self.disk, setting, options)?,
            _ => self.shared_mount(setting)?,
        };
        let name = format!("{}-{}", self.number(), behaviour.name);
        let behind = daemon.source.join(&name);
        fs::create_dir(&behind).map_err(|error| format!("{}: {error}", behind.display()))?;
        user::give(&behind, setting.who)?;
        let dir = daemon.mountpoint.join(&name);
        let watched = !["fuser", "stacked"].contains(&setting.name) && setting.who.is_none();
        let shows_within = match watched || setting.options == SHORT_TIMEOUTS {
            true => WATCHED_WITHIN,
            false => ASKED_AGAIN_WITHIN,
        };
        let (data, daemon) = (setting.data.to_owned(), Some(daemon));
        let stage = Stage { dir, behind, data, fuse: true, daemon, shows_within };
        self.play(setting.who, stage, behaviour)
    }

    /// Plays in a thread of its own, in a process of `who`'s if there is one; a play that hangs is
    /// freed by aborting its mount.
    fn play(&self, who: Option<Who>, stage: Stage, behaviour: Behaviour) -> Result<Played, String> {
        let (behind, daemon) = (stage.behind.clone(), stage.daemon.clone());
        let (give, get) = mpsc::channel();
        let (give_task, get_task) = mpsc::channel();
        let thread = thread::Builder::new().name(behaviour.name.chars().take(15).collect());
        let body = move || {
            let _ = give_task.send(nix::unistd::gettid());
            let _ = give.send(match who {
                None => Ok(play_here(stage, behaviour)),
                Some(who) => user::play_as(who, &stage, behaviour),
            });
        };
        thread.spawn(body).map_err(|error| format!("start a thread: {error}"))?;
        let played = get.recv_timeout(TIME_LIMIT).map_err(|_| {
            let task = get_task.recv().map(|task| task.to_string()).unwrap_or_default();
            let mut text = format!("hung for {} s; the client:\n", TIME_LIMIT.as_secs());
            let tasks = stacks("/proc/self/task");
            text += &tasks
                .split_inclusive("task /proc")
                .filter(|part| part.contains(&format!("/{task} ")))
                .collect::<String>();
            if let Some(daemon) = &daemon {
                let _ = writeln!(text, "\nthe daemon:\n{}", daemon.report());
                self.give_up(daemon);
                let freed = get.recv_timeout(AFTER_ABORT).is_ok();
                let _ = writeln!(text, "the client came back after the abort: {freed}");
            }
            text
        });
        let (lines, mut failures) = played??;
        if let Some(status) = daemon.as_ref().and_then(|daemon| daemon.exit_status()) {
            failures.push(format!("the daemon ended: {status}"));
        }
        if let Some(daemon) = daemon.filter(|_| !failures.is_empty()) {
            failures.push(daemon.report().lines().rev().take(15).collect::<Vec<_>>().join("\n"));
        }
        let tree = tree::describe(&behind);
        clear(&behind);
        Ok(Played { lines, failures, tree })
    }
}

/// Plays in this process; answers the transcript and the failures.
pub(crate) fn play_here(stage: Stage, behaviour: Behaviour) -> (Vec<String>, Vec<String>) {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        panic::set_hook(Box::new(|info| PANIC.with_borrow_mut(|text| *text = info.to_string())));
    });
    let mut trace = Trace::new(stage);
    let result = panic::catch_unwind(AssertUnwindSafe(|| (behaviour.body)(&mut trace)));
    if result.is_err() {
        trace.failures.push(PANIC.with_borrow_mut(std::mem::take));
    }
    let (lines, failures) = (trace.lines.clone(), trace.failures.clone());
    // Its descriptors, mappings and processes end here, before the trees are compared.
    drop(trace);
    (lines, failures)
}

/// Demands the same transcript, the same tree, and what the behaviour itself demands.
fn compare(plain: &Played, mounted: &Played) -> Result<(), String> {
    let mut text = String::new();
    if plain.lines != mounted.lines {
        let _ = writeln!(text, "the transcripts differ (- plain, + mounted):");
        text += &diff(&plain.lines, &mounted.lines);
    }
    let differences = tree::differences(&plain.tree, &mounted.tree);
    if !differences.is_empty() {
        let _ = writeln!(text, "the trees left behind differ (- plain, + source of the mount):");
        text += &differences.join("\n");
    }
    if !mounted.failures.is_empty() {
        let _ = writeln!(text, "on the mount:\n  {}", mounted.failures.join("\n  "));
    }
    if !text.is_empty() {
        return Err(text);
    }
    Ok(())
}

/// A transcript without the counts of blocks that stat tells.
fn without_blocks(played: &Played) -> Vec<String> {
    let is_count = |word: &&str| {
        word.strip_prefix('b').is_some_and(|count| count.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let strip = |line: &String| {
        line.split(' ').filter(|word| !is_count(word)).collect::<Vec<_>>().join(" ")
    };
    played.lines.iter().map(strip).collect()
}

struct Played {
    lines: Vec<String>,
    failures: Vec<String>,
    tree: std::collections::BTreeMap<String, String>,
}

thread_local! {
    /// What the last panic of this thread said.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn small_disk(needs: Needs) -> Result<Option<Disk>, String> {
    match needs {
        Needs::SmallDisk => {
            let disk = Disk::new(SMALL_DISK_BYTES)?;
            match &disk.fallback {
                Some(reason) => Err(format!("a small file system is needed: {reason}")),
                None => Ok(Some(disk)),
            }
        }
        _ => Ok(None),
    }
}

/// Empties what a behaviour left, immutable files included.
fn clear(behind: &Path) {
    if fs::remove_dir_all(behind).is_ok() {
        return;
    }
    let mut todo: Vec<PathBuf> = vec![behind.to_owned()];
    while let Some(path) = todo.pop() {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        if let Ok(file) = nix::fcntl::open(&path, flags, nix::sys::stat::Mode::empty()) {
            let _ = raw::get_flags(&file).map(|flags| raw::set_flags(&file, flags & !0x30));
        }
        if path.is_dir() && !path.is_symlink() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|at| at.path()));
        }
    }
    let _ = fs::remove_dir_all(behind);
}

/// The lines around what differs, by the longest common subsequence.
fn diff(old: &[String], new: &[String]) -> String {
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for (i, left) in old.iter().enumerate().rev() {
        for (j, right) in new.iter().enumerate().rev() {
            common[i][j] = match left == right {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while i < old.len() || j < new.len() {
        let (mark, line) = match (old.get(i), new.get(j)) {
            (Some(left), Some(right)) if left == right => {
                (i, j) = (i + 1, j + 1);
                (' ', left)
            }
            (Some(left), None) => {
                i += 1;
                ('-', left)
            }
            (Some(left), Some(_)) if common[i + 1][j] >= common[i][j + 1] => {
                i += 1;
                ('-', left)
            }
            (_, Some(right)) => {
                j += 1;
                ('+', right)
            }
            (None, None) => break,
        };
        let _ = writeln!(text, "  {mark} {line}");
    }
    text
}
