//! What a transport owes its clients: none waits for another's slow operation, and what can not be
//! had is said and done without.

#[path = "../common/mod.rs"]
mod common;
mod cpus;
mod denied;
mod dev_io;
mod splice;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::Pid;

use common::daemon::Daemon;
use common::disk::Disk;
use common::raw;
use common::rings::Rings;

/// The switch for io_uring is the machine's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn on_cpu_0() {
    on_cpu(0);
}

fn on_cpu(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a small number");
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(errno) = sched_setaffinity(Pid::from_raw(0), &set) {
        // Somebody else may have taken it away for a moment, as a test here does.
        assert!(Instant::now() < deadline, "CPU {cpu} can not be used: {errno}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn with_mount(switch: &str, options: &str, body: impl FnOnce(&Path, &Path, &Daemon)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _rings =
        Rings::switch(switch).expect("switch FUSE over io_uring; needs root and Linux 6.14");
    let disk = Disk::new(256 << 20).expect("make a disk");
    let (source, mountpoint) = (disk.directory("source"), disk.mountpoint("mount"));
    fs::write(source.join("file"), "hello").expect("write");
    let daemon = Daemon::start(&source, &mountpoint, "auto", options).expect("mount");
    body(&source, &mountpoint, &daemon);
}

/// Has somebody hold a lease on a file while it is opened for writing through the mount: how long
/// anybody else's stats on the same CPU take meanwhile, the shortest first.
fn stats_beside_a_blocked_open(source: &Path, mountpoint: &Path) -> Vec<Duration> {
    // The kernel tells the holder of a lease by SIGIO, which would end the test.
    raw::ignore_signal(libc::SIGIO);
    let leased = File::open(source.join("file")).expect("open the source's file");
    raw::set_lease(&leased, libc::F_RDLCK).expect("take a lease");
    let opened = Arc::new(AtomicBool::new(false));
    let opener = {
        let (opened, path) = (opened.clone(), mountpoint.join("file"));
        thread::spawn(move || {
            on_cpu_0();
            let result = File::options().write(true).open(path);
            opened.store(true, Relaxed);
            result.map(drop)
        })
    };
    on_cpu_0();
    thread::sleep(Duration::from_millis(200));
    let mut times = times_of_missing(mountpoint, 100);
    assert!(!opened.load(Relaxed), "the lease did not hold the open up: nothing was shown");
    raw::set_lease(&leased, libc::F_UNLCK).expect("give the lease back");
    opener.join().expect("no panic").expect("the open goes on once the lease is given back");
    times.sort_unstable();
    times
}

/// How long so many stats of names take that are not cached: the daemon has to answer.
fn times_of_missing(mountpoint: &Path, count: u32) -> Vec<Duration> {
    let time = |round| {
        let start = Instant::now();
        fs::metadata(mountpoint.join(format!("missing-{round}"))).expect_err("no such file");
        start.elapsed()
    };
    (0..count).map(time).collect()
}

#[test]
fn an_open_that_waits_for_a_lease_delays_nobody_on_a_ring() {
    with_mount("Y", "transport=uring", |source, mountpoint, _| {
        let times = stats_beside_a_blocked_open(source, mountpoint);
        // One that waited for the open would wait for as long as the lease holds; how long the
        // slowest takes else is up to who else runs on this machine.
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        assert!(median < Duration::from_millis(100), "{times:?}");
        assert!(longest < Duration::from_secs(5), "{times:?}");
    });
}

#[test]
fn an_open_that_waits_for_a_lease_does_not_stop_the_only_worker_of_dev() {
    with_mount("N", "transport=dev,workers=1", |source, mountpoint, _| {
        let times = stats_beside_a_blocked_open(source, mountpoint);
        assert!(times[times.len() - 1] < Duration::from_secs(5), "{times:?}");
    });
}

/// Who truncates a program that somebody reads by passthrough is served by requests, and has to wait a
/// little whether the reader goes.
#[test]
fn a_truncation_that_waits_for_a_reader_is_done_once() {
    with_mount("Y", "transport=uring", |source, mountpoint, _| {
        let behind = source.join("file");
        fs::set_permissions(&behind, Permissions::from_mode(0o4755)).expect("chmod");
        let _reader = File::open(mountpoint.join("file")).expect("open for reading");
        let changes = Inotify::init(InitFlags::IN_NONBLOCK).expect("make an inotify");
        let watched = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
        changes.add_watch(&behind, watched).expect("watch the source's file");
        let path = mountpoint.join("file");
        let writer = File::options().write(true).truncate(true).open(path).expect("truncate");
        let seen = changes.read_events().expect("a change");
        let seen: Vec<_> = seen.into_iter().map(|event| event.mask).collect();
        assert_eq!(seen, [AddWatchFlags::IN_MODIFY], "whoever closes it has opened it once before");
        assert_eq!(writer.metadata().expect("stat").len(), 0);
    });
}

#[test]
fn a_hundred_fsyncs_delay_nobody_on_a_ring() {
    with_mount("Y", "transport=uring", |_, mountpoint, daemon| {
        let (stop, synced) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let syncers: Vec<_> = (0..100)
            .map(|n| {
                let (stop, synced) = (stop.clone(), synced.clone());
                let file = File::create(mountpoint.join(format!("sync-{n}"))).expect("create");
                thread::spawn(move || {
                    on_cpu_0();
                    while !stop.load(Relaxed) {
                        std::io::Write::write_all(&mut &file, b"x").expect("write");
                        file.sync_all().expect("fsync");
                        synced.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        on_cpu_0();
        thread::sleep(Duration::from_millis(200));
        let mut times = times_of_missing(mountpoint, 200);
        stop.store(true, Relaxed);
        for syncer in syncers {
            syncer.join().expect("every fsync succeeds");
        }
        times.sort_unstable();
        let fsync = &daemon.stats().expect("stats").requests["FSYNC"];
        assert!(synced.load(Relaxed) >= 100 && fsync.count >= 100, "{fsync:?}");
        // A stat behind a hundred fsyncs would take as long as all of them.
        let median = times[times.len() / 2];
        let fsync_median = Duration::from_nanos(fsync.latency_ns.p50);
        let limit = (fsync_median / 4).max(Duration::from_millis(5));
        assert!(median < limit, "stat {median:?}, fsync {fsync_median:?}");
    });
}

#[test]
fn everything_comes_through_the_rings_but_forgetting() {
    with_mount("Y", "transport=uring", |source, mountpoint, daemon| {
        let stats = daemon.stats().expect("stats");
        assert_eq!((stats.transport.name.as_str(), stats.transport.reason), ("uring", None));
        assert!(stats.negotiated.flags.iter().any(|flag| flag == "OVER_IO_URING"));
        let long = "y".repeat(64 << 10);
        fs::write(mountpoint.join("long"), &long).expect("write");
        assert_eq!(fs::read_to_string(source.join("long")).expect("read"), long);
        fs::remove_file(mountpoint.join("long")).expect("remove");
        assert_eq!(
            fs::metadata(mountpoint).expect("stat").ino(),
            source.metadata().expect("stat").ino()
        );
    });
}

#[test]
fn auto_says_why_it_does_without_rings() {
    with_mount("N", "", |_, mountpoint, daemon| {
        assert_eq!(fs::read_to_string(mountpoint.join("file")).expect("read"), "hello");
        let transport = daemon.stats().expect("stats").transport;
        assert_eq!(transport.name, "dev");
        let reason = transport.reason.expect("a reason");
        assert!(reason.contains("echo Y > /sys/module/fuse/parameters/enable_uring"), "{reason}");
    });
}

#[test]
fn asking_for_rings_that_are_off_fails_and_says_how_to_turn_them_on() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _rings = Rings::switch("N").expect("switch");
    let folder = tempfile::tempdir().expect("make a folder");
    let error = Daemon::start(folder.path(), folder.path(), "auto", "transport=uring")
        .err()
        .expect("it can not be had");
    assert!(error.contains("--transport uring can not be had"), "{error}");
    assert!(error.contains("enable_uring"), "{error}");
}
