//! `fusewire null`, mounted: what it shows, that every stat asks, and how its daemon lives and ends.

#[path = "cli/harness.rs"]
#[allow(dead_code, reason = "the tests of the command use more of it")]
mod harness;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use harness::{Foreground, Place, binary, eventually, fusewire, runs};

/// Mounts in the background.
#[track_caller]
fn null(place: &Place, args: &[&str]) -> PathBuf {
    fusewire(["null", place.at()].iter().chain(args)).succeeded();
    place.mountpoint.join("zeros")
}

/// Mounts in the foreground.
#[track_caller]
fn foreground(place: &Place) -> Foreground {
    let log = place.path().join("log");
    let child = std::process::Command::new(binary())
        .args(["null", "-f", place.at()])
        .stderr(File::create(&log).expect("create"))
        .spawn()
        .expect("it runs");
    eventually("mounted", || place.mountpoint.join("zeros").exists());
    Foreground { child, log }
}

fn getattrs(place: &Place) -> u64 {
    place.settled().requests.get("GETATTR").map_or(0, |figures| figures.count)
}

#[test]
fn it_shows_an_empty_directory_and_a_file_of_zeros() {
    let place = Place::new();
    let zeros = null(&place, &["--file-size", "5000000"]);
    let mut names: Vec<_> = fs::read_dir(&place.mountpoint)
        .expect("list")
        .map(|entry| entry.expect("read an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["empty", "zeros"]);
    assert_eq!(fs::read_dir(place.mountpoint.join("empty")).expect("list").count(), 0);
    assert!(fs::metadata(place.mountpoint.join("other")).is_err());
    assert_eq!(fs::metadata(&zeros).expect("stat").len(), 5_000_000);
    let mut file = File::open(&zeros).expect("open");
    let mut bytes = vec![1; 6_000_000];
    let mut filled = 0;
    while let count @ 1.. = file.read(&mut bytes[filled..]).expect("read") {
        filled += count;
    }
    assert_eq!(filled, 5_000_000);
    assert!(bytes[..filled].iter().all(|byte| *byte == 0));
    file.seek(SeekFrom::End(-10)).expect("seek");
    assert_eq!(file.read(&mut bytes).expect("read"), 10);
}

#[test]
fn writes_are_counted_and_dropped() {
    let place = Place::new();
    let zeros = null(&place, &["--file-size", "8192"]);
    let file = File::create(&zeros).expect("open with O_TRUNC");
    file.write_all_at(&[7; 4096], 0).expect("write");
    drop(file);
    assert_eq!(place.settled().totals.written_bytes, 4096);
    assert!(fs::read(&zeros).expect("read").iter().all(|byte| *byte == 0));
    assert_eq!(fs::metadata(&zeros).expect("stat").len(), 8192);
    let refused = fs::write(place.mountpoint.join("new"), "").expect_err("nothing can be made");
    assert!([libc::EPERM, libc::ENOSYS].contains(&refused.raw_os_error().expect("of the system")));
}

#[test]
fn every_stat_asks_and_takes_the_delay() {
    let place = Place::new();
    let zeros = null(&place, &["--delay-us", "30000"]);
    fs::metadata(&zeros).expect("stat");
    let before = getattrs(&place);
    let start = Instant::now();
    for _ in 0..10 {
        fs::metadata(&zeros).expect("stat");
    }
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(getattrs(&place) - before, 10);
    assert!(place.snapshot().requests["GETATTR"].latency_ns.p50 >= 30_000_000);
}

#[test]
fn the_daemon_lives_and_ends_as_that_of_a_source() {
    let place = Place::new();
    null(&place, &["--workers", "1", "-o", "ro"]);
    let mounted = place.mounted().expect("mounted");
    assert_eq!(
        (mounted.fs_type.as_str(), mounted.source.to_str()),
        ("fuse.fusewire", Some("null"))
    );
    let snapshot = place.snapshot();
    assert_eq!((snapshot.source.as_str(), snapshot.data.mode.as_str()), ("null", "none"));
    assert_eq!(snapshot.transport.workers, 1);
    fusewire(["null", place.at()]).failed(1, &["is a fusewire mount already, of null"]);
    let refused = fs::write(place.mountpoint.join("zeros"), "x").expect_err("read-only");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    place.umount(&[]).succeeded();
    assert!(place.mounted().is_none() && !runs(snapshot.pid));
    fusewire(["null", "/missing"]).failed(1, &["mount point /missing", "No such file"]);
}

#[test]
fn signals_and_umount_from_outside_end_it_with_0() {
    let place = Place::new();
    let mut daemon = foreground(&place);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended_with(), Some(0), "{}", daemon.log());
    assert!(place.mounted().is_none());
    let mut daemon = foreground(&place);
    // A process that a neighbour starts has copies of this one's descriptors until its exec.
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(errno) = nix::mount::umount(&place.mountpoint) {
        assert!(errno == Errno::EBUSY && Instant::now() < until, "unmount: {errno}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(daemon.ended_with(), Some(0), "{}", daemon.log());
}
