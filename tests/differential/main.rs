//! Random sequences of operations by several processes and users, played step by step on a plain
//! directory and on a mount: each answer must be the same, and what is left must be.
//!
//! `cargo test --test differential -- dev_copy` plays one setting. `FUSEWIRE_DIFFERENTIAL_SECONDS=600`
//! plays for so long in all, `FUSEWIRE_DIFFERENTIAL_SEED=7` begins with that sequence. One that fails
//! is made short and printed; kept in `regressions/NAME.txt` it is played every time. It needs root
//! and /dev/fuse.

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod known;
mod play;
mod shrink;
mod steps;

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::actor::{SECOND, THIRD, Who};
use common::daemon::{Daemon, stacks};
use common::disk::Disk;
use common::patience::receive;
use libtest_mimic::{Arguments, Failed, Trial};
use play::Scene;
use steps::{EVERYBODY, Sequence, Step};

const DISK_BYTES: u64 = 2 << 30;
/// How long all settings together play by default.
const SECONDS: u64 = 24;
/// A sequence takes a tenth of a second, and ten where a change behind the mount does not show.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// By when a change behind the mount must show, on a machine that is busy with other things.
const SHOWS_WITHIN: Duration = Duration::from_secs(10);
/// The same where it is known already that one does not.
const SHOWS_SOON: Duration = Duration::from_secs(1);
const AFTER_ABORT: Duration = Duration::from_secs(10);
const SHRINK_WITHIN: Duration = Duration::from_secs(60);
/// How many sequences each setting plays at most, unless a time was asked for: the same ones each time.
const SEQUENCES: u64 = 150;
/// How often a sequence that failed is played again.
const AGAIN: usize = 3;

/// How requests come, who moves the bytes, who may enter, and what the kernel may trust.
#[derive(Clone, Copy)]
struct Setting {
    name: &'static str,
    transport: &'static str,
    data: &'static str,
    shared: bool,
}

const SETTINGS: [Setting; 10] = [
    setting("uring_passthrough", "uring", "passthrough", false),
    setting("uring_copy", "uring", "copy", false),
    setting("uring_passthrough_shared", "uring", "passthrough", true),
    setting("uring_copy_shared", "uring", "copy", true),
    setting("dev_passthrough", "dev", "passthrough", false),
    setting("dev_copy", "dev", "copy", false),
    setting("dev_splice", "dev", "splice", false),
    setting("dev_passthrough_shared", "dev", "passthrough", true),
    setting("dev_copy_shared", "dev", "copy", true),
    setting("dev_splice_shared", "dev", "splice", true),
];

const fn setting(
    name: &'static str,
    transport: &'static str,
    data: &'static str,
    shared: bool,
) -> Setting {
    Setting { name, transport, data, shared }
}

impl Setting {
    /// A mount for everybody is one that is watched; one for its owner has the source to itself.
    fn options(self) -> String {
        let more = if self.shared { "allow_other,coherence=watch" } else { "coherence=exclusive" };
        format!("transport={},{more}", self.transport)
    }

    fn everybody(self) -> &'static [Who] {
        if self.shared { &EVERYBODY } else { &[SECOND, THIRD] }
    }
}

/// The disk that all of it happens on.
struct World {
    disk: Disk,
    numbers: AtomicU32,
    fine_times: bool,
    /// How long each setting plays, and whether it was asked for by name.
    share: Duration,
    long: bool,
    first_seed: u64,
}

impl World {
    fn new(threads: usize) -> Result<Self, String> {
        let disk = Disk::new(DISK_BYTES)?;
        if let Some(reason) = &disk.fallback {
            eprintln!("no ext4 image, using {}: {reason}", disk.path().display());
        }
        let asked = number_of("FUSEWIRE_DIFFERENTIAL_SECONDS")?;
        let seconds = Duration::from_secs(asked.unwrap_or(SECONDS));
        let threads = u32::try_from(threads).map_err(|_| "too many threads")?;
        let settings = u32::try_from(SETTINGS.len()).expect("there are few");
        Ok(World {
            fine_times: has_fine_times(disk.path()),
            disk,
            numbers: AtomicU32::new(0),
            share: seconds * threads / settings,
            long: asked.is_some(),
            first_seed: number_of("FUSEWIRE_DIFFERENTIAL_SEED")?.unwrap_or(1),
        })
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

fn number_of(variable: &str) -> Result<Option<u64>, String> {
    let Ok(text) = std::env::var(variable) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("{variable} is not a number: {text}"))
}

/// Whether a change always has a later time than what was seen before it: multigrain timestamps.
fn has_fine_times(directory: PathBuf) -> bool {
    let file = directory.join("times");
    let changed = || fs::metadata(&file).map(|found| (found.ctime(), found.ctime_nsec())).ok();
    let fine = fs::write(&file, "").is_ok()
        && (0..50).all(|turn| {
            let before = changed();
            let mode = fs::Permissions::from_mode(0o600 + turn % 2);
            fs::set_permissions(&file, mode).is_ok() && changed() > before
        });
    let _ = fs::remove_file(&file);
    fine
}

/// The mount of one setting.
struct Stage<'a> {
    world: &'a World,
    setting: Setting,
    daemon: Arc<Daemon>,
    /// The plain directory.
    plain: PathBuf,
    /// The last play hung: the mount is of no use any more.
    hung: Cell<bool>,
}

impl<'a> Stage<'a> {
    fn new(world: &'a World, setting: Setting) -> Result<Self, String> {
        let number = world.number();
        let source = world.disk.directory(&format!("source-{number}"));
        let mountpoint = world.disk.mountpoint(&format!("mount-{number}"));
        let daemon = Daemon::start(&source, &mountpoint, setting.data, &setting.options())?;
        let plain = world.disk.directory(&format!("plain-{number}"));
        Ok(Stage { world, setting, daemon: Arc::new(daemon), plain, hung: Cell::new(false) })
    }

    /// Plays in a thread of its own, in new directories; a play that hangs is freed by aborting the
    /// mount.
    fn play(&self, steps: &[Step], patience: Duration) -> Result<(), String> {
        let name = self.world.number().to_string();
        let scene = Scene {
            plain: self.plain.join(&name),
            mounted: self.daemon.mountpoint.join(&name),
            source: self.daemon.source.join(&name),
            everybody: self.setting.everybody().to_vec(),
            watched: self.setting.shared,
            patience,
            fine_times: self.world.fine_times,
        };
        let steps = steps.to_vec();
        let (give, get) = mpsc::channel();
        let thread = thread::spawn(move || {
            let result = open_to_all(&scene.plain)
                .and_then(|()| open_to_all(&scene.mounted))
                .and_then(|()| play::play(&scene, &steps));
            let removed = [&scene.plain, &scene.mounted].map(fs::remove_dir_all);
            let removed = removed.into_iter().collect::<Result<(), _>>();
            let result = result
                .and_then(|()| removed.map_err(|error| format!("remove what is left: {error}")));
            let _ = give.send(result);
        });
        let result = match receive(&get, TIME_LIMIT) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(format!(
                "it panicked: {:?}",
                thread
                    .join()
                    .map_err(|text| { text.downcast_ref::<String>().cloned().unwrap_or_default() })
            )),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.hung.set(true);
                let tasks = stacks("/proc/self/task");
                let report = self.daemon.report();
                self.daemon.abort();
                let freed = get.recv_timeout(AFTER_ABORT).is_ok();
                Err(format!("it hung; freed by an abort: {freed}\n{tasks}\nthe daemon:\n{report}"))
            }
        };
        match self.daemon.exit_status() {
            Some(status) if !self.hung.get() => {
                self.hung.set(true);
                Err(format!("the daemon ended: {status}\n{}\n{result:?}", self.daemon.report()))
            }
            _ => result,
        }
    }

    /// Sequences by their seeds until the time is over.
    fn random(&self) -> Result<(), Failed> {
        let began = Instant::now();
        let mut played = 0_u64;
        for seed in self.world.first_seed.. {
            let enough = !self.world.long && played >= SEQUENCES;
            if (began.elapsed() >= self.world.share || enough) && played > 0 {
                break;
            }
            let setting = self.setting;
            let steps = generate::sequence(seed, setting.everybody(), setting.shared);
            // What is printed can be kept.
            assert_eq!(Sequence::parse(&Sequence::text(&steps))?.steps, steps);
            if let Err(text) = self.play(&steps, SHOWS_WITHIN) {
                self.settle(&format!("seed {seed}"), &steps, &text)?;
            }
            played += 1;
        }
        eprintln!("{}: {played} sequences in {:.1?}", self.setting.name, began.elapsed());
        Ok(())
    }

    /// What came of a sequence that failed once: an error with the shortest one that fails, or none
    /// if it never does again. A long run wants to know of those too.
    fn settle(&self, what: &str, steps: &[Step], text: &str) -> Result<(), Failed> {
        let name = self.setting.name;
        let of = format!("{name}, {what}");
        if self.hung.get() {
            let steps = Sequence::text(steps);
            return Err(format!("{of}: {text}\nthe sequence:\non: {name}\n{steps}").into());
        }
        let again = (0..AGAIN).any(|_| self.play(steps, SHOWS_WITHIN).is_err());
        if !again {
            let once = format!("{of} failed once, then passed {AGAIN} times: {text}");
            if self.world.long {
                return Err(format!("{once}\non: {name}\n{}", Sequence::text(steps)).into());
            }
            eprintln!("{once}");
            return Ok(());
        }
        let mut last = text.to_owned();
        let short = shrink::shrink(steps, SHRINK_WITHIN, |steps| {
            !self.hung.get() && self.play(steps, SHOWS_SOON).map_err(|text| last = text).is_err()
        });
        let short = Sequence::text(&short);
        Err(format!("{of}: {last}\nthe shortest sequence that fails:\non: {name}\n{short}").into())
    }

    /// Sequences that failed once, and must not any more.
    fn regressions(&self) -> Result<(), Failed> {
        for (name, sequence) in regressions()? {
            let settings = &sequence.settings;
            if settings.is_empty() || settings.iter().any(|name| name == self.setting.name) {
                self.play(&sequence.steps, SHOWS_WITHIN)
                    .map_err(|text| format!("{name}: {text}"))?;
            }
        }
        Ok(())
    }

    /// That a difference is found at all, and the sequence made short: FUSE has no collapsing.
    fn finds_a_difference(&self) -> Result<(), Failed> {
        let sequence = Sequence::parse(
            "second: mkdir d1 777\nsecond: open f0 a rw,creat 644\nthird: look a\n\
             second: pwrite f0 0 pat:1:12288\nsecond: fallocate f0 collapse 0 4096\n\
             third: look a\n",
        )?;
        let short = shrink::shrink(&sequence.steps, SHRINK_WITHIN, |steps| {
            self.play(steps, SHOWS_SOON).is_err()
        });
        match &short[..] {
            [open, collapse]
                if open.operation() == "open" && collapse.operation() == "fallocate" =>
            {
                Ok(())
            }
            _ => Err(format!("not the shortest:\n{}", Sequence::text(&short)).into()),
        }
    }
}

fn open_to_all(directory: &Path) -> Result<(), String> {
    fs::create_dir(directory)
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o777)))
        .map_err(|error| format!("make {}: {error}", directory.display()))
}

/// The sequences that are kept, by the names of their files.
fn regressions() -> Result<Vec<(String, Sequence)>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/regressions");
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let text = fs::read_to_string(&path).map_err(fail)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sequence = Sequence::parse(&text).map_err(|text| format!("{name}, {text}"))?;
        let unknown = |name: &&String| !SETTINGS.iter().any(|setting| setting.name == **name);
        if let Some(unknown) = sequence.settings.iter().find(unknown) {
            return Err(format!("{name}: no setting is called {unknown}"));
        }
        found.push((name, sequence));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn main() -> ExitCode {
    common::actor::serve_if_asked();
    let mut args = Arguments::from_args();
    let threads = *args.test_threads.get_or_insert(2);
    if args.list {
        return libtest_mimic::run(&args, trials(None)).exit_code();
    }
    let world = match prepare(threads) {
        Ok(world) => Arc::new(world),
        Err(reason) => {
            eprintln!("the differential tests cannot run: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let rings = match common::rings::Rings::switch("Y") {
        Ok(rings) => rings,
        Err(reason) => {
            eprintln!("the differential tests cannot run: switch FUSE over io_uring on: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&args, trials(Some(&world)));
    drop(rings);
    conclusion.exit_code()
}

fn prepare(threads: usize) -> Result<World, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mounting a loop device needs root; run them with sudo".to_owned());
    }
    fs::File::open("/dev/fuse")
        .map_err(|error| format!("/dev/fuse: {error}; load it with: modprobe fuse"))?;
    common::disk::private_mounts()?;
    // Daemons elsewhere on the machine must not meet ours: control sockets are named after device
    // numbers, which the kernel gives out again at once.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("unshare the network: {errno}"))?;
    // A process that dies of a mapping leaves no core file among what is compared.
    let core = nix::sys::resource::Resource::RLIMIT_CORE;
    nix::sys::resource::setrlimit(core, 0, 0).map_err(|errno| format!("no core files: {errno}"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_retain(0o022));
    World::new(threads)
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    type Body = fn(&Stage<'_>) -> Result<(), Failed>;
    let trial = |setting: Setting, name: &str, body: Body| {
        let world = world.cloned();
        Trial::test(format!("{}::{name}", setting.name), move || match &world {
            Some(world) => body(&Stage::new(world, setting)?),
            None => Ok(()),
        })
    };
    let mut trials = vec![trial(SETTINGS[0], "finds_a_difference", |on| on.finds_a_difference())];
    for setting in SETTINGS {
        trials.push(trial(setting, "regressions", |on| on.regressions()));
        trials.push(trial(setting, "random", |on| on.random()));
    }
    trials
}
