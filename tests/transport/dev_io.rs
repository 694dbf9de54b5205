//! /dev/fuse read and written through io_uring.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::with_mount;
use crate::common::daemon::Daemon;

const GONE_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn it_serves_and_is_named() {
    with_mount("Y", "data=copy,dev_io=uring", |source, mountpoint, daemon| {
        let content: Vec<u8> =
            (0..1_000_000).map(|n| u8::try_from(n % 251).expect("small")).collect();
        fs::write(mountpoint.join("long"), &content).expect("write");
        assert!(fs::read(source.join("long")).expect("read") == content, "other bytes written");
        fs::write(source.join("other"), &content).expect("write");
        assert!(fs::read(mountpoint.join("other")).expect("read") == content, "other bytes read");
        fs::metadata(mountpoint.join("missing")).expect_err("there is no such file");
        assert_eq!(daemon.stats().expect("stats").transport.name, "dev-uring");
    });
}

/// Clients that keep the mount busy meet an error soon after `end`, and the daemon ends.
fn ends_under_load(end: impl FnOnce(&Daemon)) {
    with_mount(
        "Y",
        "data=copy,dev_io=uring,attr_timeout=0,entry_timeout=0",
        |_, mountpoint, daemon| {
            let (stop, calls) = (AtomicBool::new(false), AtomicU32::new(0));
            let client = |number: usize| {
                let Ok(file) = File::options().read(true).write(true).open(mountpoint.join("file"))
                else {
                    return;
                };
                while !stop.load(Relaxed) {
                    let done = match number % 3 {
                        0 => nix::sys::stat::fstat(&file).map(drop).is_ok(),
                        1 => fs::metadata(mountpoint.join("file")).is_ok(),
                        _ => file.write_at(b"hello", 0).is_ok(),
                    };
                    if !done {
                        return;
                    }
                    calls.fetch_add(1, Relaxed);
                }
            };
            thread::scope(|scope| {
                let clients: Vec<_> =
                    (0..6).map(|number| scope.spawn(move || client(number))).collect();
                let deadline = Instant::now() + GONE_WITHIN;
                while calls.load(Relaxed) < 600 && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(10));
                }
                end(daemon);
                // A detached mount lives for as long as somebody uses it.
                thread::sleep(Duration::from_millis(100));
                stop.store(true, Relaxed);
                let deadline = Instant::now() + GONE_WITHIN;
                while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
                    assert!(Instant::now() < deadline, "a client hangs\n{}", daemon.report());
                    thread::sleep(Duration::from_millis(10));
                }
            });
            assert!(calls.load(Relaxed) >= 600, "the mount was not busy");
            let deadline = Instant::now() + GONE_WITHIN;
            while daemon.exit_status().is_none() {
                assert!(Instant::now() < deadline, "the daemon stays\n{}", daemon.report());
                thread::sleep(Duration::from_millis(10));
            }
        },
    );
}

#[test]
fn an_unmount_ends_it() {
    ends_under_load(|daemon| {
        umount2(&daemon.mountpoint, MntFlags::MNT_DETACH).expect("unmount");
    });
}

#[test]
fn an_abort_ends_it() {
    ends_under_load(Daemon::abort);
}

#[test]
fn a_kill_ends_it() {
    ends_under_load(|daemon| daemon.signal(Signal::SIGKILL).expect("kill"));
}
