//! io_uring refused to the daemon, wholly or at some moment: it does without, or says so and ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::common::daemon::Daemon;
use super::common::disk::Disk;
use super::common::rings::{PARAMETER, Rings};
use super::common::setting::Setting;
use super::common::warden::Warden;
use super::{TURN, on_cpu};

/// A machine on which rings can be had, a source and a place to mount it.
pub(super) struct Ground {
    source: PathBuf,
    mountpoint: PathBuf,
    _disk: Disk,
    _rings: Rings,
    // Dropped last: the next test must not set the switch before it is as this one found it.
    _turn: MutexGuard<'static, ()>,
}

impl Ground {
    pub(super) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let rings = Rings::switch("Y").expect("switch FUSE over io_uring");
        let disk = Disk::new(256 << 20).expect("make a disk");
        let (source, mountpoint) = (disk.directory("source"), disk.mountpoint("mount"));
        fs::write(source.join("file"), "hello").expect("write");
        Ground { source, mountpoint, _disk: disk, _rings: rings, _turn: turn }
    }

    pub(super) fn mount(
        &self,
        options: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Daemon, String> {
        self.mount_through(&[], options, prepare)
    }

    pub(super) fn mount_through(
        &self,
        wrapper: &[&str],
        options: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Daemon, String> {
        let (source, mountpoint) = (&self.source, &self.mountpoint);
        let daemon = Daemon::start_prepared(wrapper, source, mountpoint, "auto", options, prepare)?;
        // A mount that is given up answers too, for a moment; who has the figures is there to stay.
        let began = Instant::now();
        while let Err(reason) = daemon.stats() {
            if began.elapsed() > Duration::from_secs(15) {
                return Err(format!("{reason}\n{}", daemon.report()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }
}

/// Uses the mount from every CPU.
pub(super) fn use_it(at: &Path) {
    for cpu in 0..thread::available_parallelism().map_or(1, usize::from) {
        let at = at.to_owned();
        let client = thread::spawn(move || {
            on_cpu(cpu);
            let file = at.join(format!("file-{cpu}"));
            for round in 0..50 {
                fs::write(&file, format!("round {round}")).expect("write");
                assert_eq!(fs::read_to_string(&file).expect("read"), format!("round {round}"));
                fs::rename(&file, at.join("moved")).expect("rename");
                fs::remove_file(at.join("moved")).expect("remove");
            }
        });
        client.join().expect("the mount serves this CPU");
    }
    assert_eq!(fs::read_to_string(at.join("file")).expect("read"), "hello");
}

const CALLS: [libc::c_long; 2] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter];

#[test]
fn a_process_that_may_make_no_ring_reads_dev() {
    let ground = Ground::new();
    for errno in [Errno::EPERM, Errno::ENOSYS, Errno::ENOMEM] {
        // The probe, then the first queue's ring, then the second's.
        for granted in 0..3 {
            let mut warden = None;
            let daemon = ground.mount("", |command| {
                let calls = &CALLS[..1];
                let decide = move |_, before| (before >= granted).then_some(errno);
                warden = Some(Warden::set(command, calls, decide));
            });
            let daemon = daemon.expect("auto does without");
            let transport = daemon.stats().expect("stats").transport;
            if warden.as_ref().is_some_and(|warden| warden.asked() <= granted) {
                assert_eq!(transport.name, "uring", "nothing was refused");
                continue;
            }
            let reason = transport.reason.expect("a reason");
            assert_eq!(transport.name, "dev");
            assert!(reason.contains(&format!("os error {}", errno as i32)), "{reason}");
            use_it(&daemon.mountpoint);
        }
    }
}

/// Between INIT and the last registration a client's request waits in the kernel, where nobody is
/// going to fetch it once the queues are given up.
#[test]
fn a_client_that_comes_while_the_rings_are_given_up_is_not_left_waiting() {
    let ground = Ground::new();
    let (done, waits) = mpsc::channel();
    let mut warden = None;
    let daemon = ground.mount("", |command| {
        let at = ground.mountpoint.join("file");
        let decide = move |_, before| {
            if before < 2 {
                return None;
            }
            let (at, done) = (at.clone(), done.clone());
            thread::spawn(move || done.send(fs::metadata(at).map(drop)));
            thread::sleep(Duration::from_millis(100));
            Some(Errno::EPERM)
        };
        warden = Some(Warden::set(command, &CALLS[..1], decide));
    });
    let daemon = daemon.expect("auto does without");
    let answer = waits.recv_timeout(Duration::from_secs(20));
    assert!(answer.is_ok(), "it waits for a mount that is gone\n{}", daemon.report());
    use_it(&daemon.mountpoint);
}

#[test]
fn a_ring_that_can_not_be_entered_is_done_without() {
    let ground = Ground::new();
    for errno in [Errno::EPERM, Errno::ENOSYS] {
        let mut warden = None;
        let daemon = ground.mount("", |command| {
            warden = Some(Warden::set(command, &CALLS[1..], move |_, _| Some(errno)));
        });
        let daemon = daemon.expect("auto does without");
        let transport = daemon.stats().expect("stats").transport;
        let reason = transport.reason.expect("a reason");
        assert!(reason.contains("register the queue of CPU 0"), "{reason}");
        use_it(&daemon.mountpoint);
    }
}

#[test]
fn who_asks_for_rings_that_are_refused_is_told() {
    let ground = Ground::new();
    for call in CALLS {
        let mut warden = None;
        let daemon = ground.mount("transport=uring", |command| {
            warden = Some(Warden::set(command, &[call], |_, _| Some(Errno::EPERM)));
        });
        let error = daemon.err().expect("it can not be had");
        assert!(error.contains("--transport uring can not be had"), "{error}");
        assert!(error.contains("Operation not permitted"), "{error}");
    }
}

#[test]
fn a_machine_that_lets_nobody_make_a_ring_is_served_by_dev() {
    let ground = Ground::new();
    let _disabled = Setting::set("/proc/sys/kernel/io_uring_disabled", "2").expect("set");
    let daemon = ground.mount("", |_| ()).expect("auto does without");
    let transport = daemon.stats().expect("stats").transport;
    let reason = transport.reason.expect("a reason");
    assert!(reason.contains("kernel.io_uring_disabled"), "{reason}");
    use_it(&daemon.mountpoint);
    drop(daemon);
    let error = ground.mount("transport=uring", |_| ()).err().expect("it can not be had");
    assert!(error.contains("kernel.io_uring_disabled"), "{error}");
}

/// The kernel looks at the switch when it sends INIT, when it reads the answer, and at each
/// registration.
#[test]
fn the_switch_may_be_turned_off_at_any_moment() {
    let ground = Ground::new();
    let calls = [CALLS[0], CALLS[1], libc::SYS_mount, libc::SYS_writev, libc::SYS_eventfd2];
    let mut after = 0;
    loop {
        fs::write(PARAMETER, "Y").expect("turn it on");
        let probed = Arc::new(AtomicUsize::new(usize::MAX));
        let mut warden = None;
        let daemon = ground.mount("", |command| {
            let (first, probed) = (CALLS[0], probed.clone());
            let decide = move |call, before| {
                // From the probe on; only then is the switch known to be on.
                if call == first && probed.load(SeqCst) == usize::MAX {
                    probed.store(before, SeqCst);
                }
                let at = probed.load(SeqCst);
                if at != usize::MAX && before - at == after {
                    fs::write(PARAMETER, "N").expect("turn it off");
                }
                None
            };
            warden = Some(Warden::set(command, &calls, decide));
        });
        let daemon = daemon.unwrap_or_else(|error| panic!("off after {after} calls: {error}"));
        let asked = warden.as_ref().map_or(0, Warden::asked) - probed.load(SeqCst);
        let transport = daemon.stats().expect("stats").transport;
        match transport.name.as_str() {
            "uring" => assert_eq!(transport.reason, None),
            name => {
                assert_eq!(name, "dev");
                assert!(transport.reason.is_some(), "off after {after} calls: no reason");
            }
        }
        use_it(&daemon.mountpoint);
        after += 1;
        if after > asked {
            break;
        }
    }
    assert!(after > 6, "only {after} calls were seen: this showed nothing");
}

#[test]
fn a_queue_goes_on_when_the_kernel_wants_another_try() {
    let ground = Ground::new();
    for errno in [Errno::EINTR, Errno::EAGAIN, Errno::EBUSY] {
        let refused = Arc::new(AtomicUsize::new(0));
        let mut warden = None;
        let daemon = ground.mount("transport=uring", |command| {
            let refused = refused.clone();
            let decide = move |_, before| {
                // The registration of the first queue is among them.
                let refuse = before % 3 == 0;
                refused.fetch_add(usize::from(refuse), SeqCst);
                refuse.then_some(errno)
            };
            warden = Some(Warden::set(command, &CALLS[1..], decide));
        });
        let daemon = daemon.expect("mount");
        use_it(&daemon.mountpoint);
        assert!(refused.load(SeqCst) > 100, "{refused:?} refused: this showed nothing");
    }
}

/// A queue that ends alone would leave the clients of its CPU waiting for ever.
#[test]
fn a_queue_that_can_not_go_on_ends_the_mount() {
    let ground = Ground::new();
    let broken = Arc::new(AtomicBool::new(false));
    let mut warden = None;
    // Every look at a name is a request.
    let daemon = ground.mount("transport=uring,coherence=timeout=0", |command| {
        let broken = broken.clone();
        let decide = move |_, _| broken.swap(false, SeqCst).then_some(Errno::EBADF);
        warden = Some(Warden::set(command, &CALLS[1..], decide));
    });
    let daemon = daemon.expect("mount");
    use_it(&daemon.mountpoint);
    let stop = Arc::new(AtomicBool::new(false));
    let (over, ends) = mpsc::channel();
    for number in 0..8 {
        let at = daemon.mountpoint.join(format!("missing-{number}"));
        let (stop, over) = (stop.clone(), over.clone());
        thread::spawn(move || {
            on_cpu(number % thread::available_parallelism().map_or(1, usize::from));
            // Once the mount is gone the name is missing below it, and looked for there.
            while !stop.load(SeqCst) {
                let _ = fs::metadata(&at);
            }
            over.send(())
        });
    }
    broken.store(true, SeqCst);
    let began = Instant::now();
    // It syncs the source at its end.
    while daemon.exit_status().is_none() && began.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(10));
    }
    let (status, report) = (daemon.exit_status(), daemon.report());
    stop.store(true, SeqCst);
    for _ in 0..8 {
        let end = ends.recv_timeout(Duration::from_secs(20));
        assert!(end.is_ok(), "a client waits for a queue that is gone\n{report}");
    }
    assert!(status.is_some_and(|status| !status.success()), "{status:?}\n{report}");
}
