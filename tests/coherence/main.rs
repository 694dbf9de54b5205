//! Changes of the source that others make behind the mount: how soon they show, and that none is
//! missed however many there are and whatever happens meanwhile.
//!
//! `cargo test --test coherence -- storm` runs a family; `FUSEWIRE_STORM_SECONDS=60` has the storm last
//! for so long instead of 10 seconds, `FUSEWIRE_STORM_OPTIONS=transport=dev` mounts with these options
//! for it. It needs root and /dev/fuse. After the last test no mount,
//! process, descriptor or loop device may be left.

#[path = "../workloads/alone.rs"]
mod alone;
mod changes;
#[path = "../common/mod.rs"]
mod common;
mod elsewhere;
mod held;
mod helper;
mod overflow;
mod removed;
mod sources;
mod stores;
mod storm;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::daemon::Daemon;
use common::disk::Disk;
use common::limit::trials;
use libtest_mimic::Arguments;

const DISK_BYTES: u64 = 4 << 30;
const TIME_LIMIT: Duration = Duration::from_secs(150);
/// By when a change must show, on a machine that is busy with other things as well.
pub(crate) const SHOWS_WITHIN: Duration = Duration::from_secs(5);

type Body = common::limit::Body<Ground>;

const TESTS: &[(&str, Body)] = &[
    ("changes::every_kind", changes::every_kind),
    ("changes::soon", changes::soon),
    ("elsewhere::nothing_expires", elsewhere::nothing_expires),
    ("held::stay_reachable", held::stay_reachable),
    ("helper::stopped", helper::stopped),
    ("helper::killed", helper::killed),
    ("helper::stopped_at_the_end", helper::stopped_at_the_end),
    ("helper::waits_in_the_kernel", helper::waits_in_the_kernel),
    ("overflow::every_time", overflow::every_time),
    ("removed::is_forgotten", removed::is_forgotten),
    ("removed::is_looked_for_again", removed::is_looked_for_again),
    ("sources::tmpfs", sources::tmpfs),
    ("sources::xfs", sources::xfs),
    ("sources::btrfs", sources::btrfs),
    ("sources::overlay", sources::overlay),
    ("sources::fuse", sources::fuse),
    ("sources::refused", sources::refused),
    ("sources::failing", sources::failing),
    ("sources::removed", sources::removed),
    ("storm::both_sides", storm::both_sides),
    ("storm::killed", storm::killed),
    ("stores::through_a_mapping", stores::through_a_mapping),
    ("stores::exclusive_asks_nothing", stores::exclusive_asks_nothing),
    ("stores::exclusive_unwatched", stores::exclusive_unwatched),
];

/// Where the tests get directories from.
pub(crate) struct Ground {
    pub(crate) disk: Disk,
    numbers: AtomicU32,
}

impl Ground {
    /// A new source on ext4 and a place to mount it.
    pub(crate) fn pair(&self) -> (PathBuf, PathBuf) {
        (self.disk.directory(&format!("source-{}", self.number())), self.mountpoint())
    }

    /// A new place to mount something.
    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.disk.mountpoint(&format!("mount-{}", self.number()))
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A mount of a new source that is watched.
    pub(crate) fn watched(&self) -> Result<Daemon, String> {
        let (source, mountpoint) = self.pair();
        Daemon::start(&source, &mountpoint, "auto", "coherence=watch")
    }
}

/// Waits until `holds`, and tells how long it took; an error that says what is missing after
/// [`SHOWS_WITHIN`].
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<Duration, String> {
    let began = Instant::now();
    loop {
        let looked = began.elapsed();
        if holds() {
            return Ok(looked);
        }
        if looked > SHOWS_WITHIN {
            return Err(format!("not within {SHOWS_WITHIN:?}: {what}"));
        }
        thread::sleep(Duration::from_micros(500));
    }
}

/// Plays `round`, which relies on what is cached; again if somebody has dropped the machine's caches
/// meanwhile (`vm.drop_caches`).
pub(crate) fn undisturbed(mut round: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let drops = || {
        let counts = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
        counts.lines().find(|line| line.starts_with("drop_slab ")).map(str::to_owned)
    };
    let began = Instant::now();
    loop {
        let before = drops();
        match round() {
            Err(_) if drops() != before && began.elapsed() < TIME_LIMIT / 2 => {}
            result => return result,
        }
    }
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // They measure, and load the machine.
    args.test_threads = args.test_threads.or(Some(1));
    if args.list {
        return libtest_mimic::run(&args, trials(TIME_LIMIT, TESTS, None)).exit_code();
    }
    if alone::or_tell("coherence tests", alone::enter()).is_none() {
        return ExitCode::FAILURE;
    }
    // Daemons elsewhere on the machine must not meet ours: control sockets are named after device
    // numbers, which the kernel gives out again at once.
    if let Err(errno) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        eprintln!("the coherence tests cannot run: unshare the network: {errno}");
        return ExitCode::FAILURE;
    }
    let census = alone::Census::take();
    let disk = alone::or_tell("coherence tests", Disk::new(DISK_BYTES));
    let Some(disk) = disk else { return ExitCode::FAILURE };
    let image = disk.path().with_file_name("ext4.image");
    let ground = Arc::new(Ground { disk, numbers: AtomicU32::new(0) });
    let limit = TIME_LIMIT + storm::lasts();
    let conclusion = libtest_mimic::run(&args, trials(limit, TESTS, Some(&ground)));
    drop(ground);
    census.conclude(&conclusion, &[image])
}
