//! `--transport fuser`, mounted: what stats says of it, how its daemon lives and ends, and that
//! listings of every size are whole. What it does to files is played by the mounted tests.

#[path = "cli/harness.rs"]
#[allow(dead_code, reason = "the tests of the command use more of it")]
mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

use harness::{Place, fusewire, runs};

const FUSER: [&str; 2] = ["--transport", "fuser"];

fn names(path: &std::path::Path) -> BTreeSet<String> {
    let list = fs::read_dir(path).expect("list");
    list.map(|entry| entry.expect("read an entry").file_name().into_string().expect("text"))
        .collect()
}

#[test]
fn stats_say_what_it_is_and_what_it_does() {
    let place = Place::new();
    place.mount(&[&FUSER[..], &["--workers", "3", "--pin"]].concat()).succeeded();
    assert_eq!(place.read(), "hello");
    let snapshot = place.settled();
    let transport = &snapshot.transport;
    assert_eq!((transport.name.as_str(), transport.workers, transport.pinned), ("fuser", 3, true));
    assert_eq!((transport.channels, &transport.reason), (3, &None));
    assert_eq!((snapshot.data.mode.as_str(), snapshot.data.requested.as_str()), ("copy", "auto"));
    assert_eq!(snapshot.data.reason.as_deref(), Some("the transport fuser copies all data"));
    assert!(snapshot.negotiated.protocol.starts_with("7."), "{:?}", snapshot.negotiated);
    assert!(!snapshot.negotiated.flags.iter().any(|flag| flag == "PASSTHROUGH"));
    for opcode in ["LOOKUP", "OPEN", "READ"] {
        assert!(snapshot.requests[opcode].count >= 1, "{opcode}: {:?}", snapshot.requests);
        assert!(snapshot.requests[opcode].latency_ns.p50 > 0, "{opcode}");
    }
    assert_eq!(snapshot.totals.read_bytes, 5);
    fs::metadata(place.mountpoint.join("missing")).expect_err("there is none");
    assert_eq!(place.settled().requests["LOOKUP"].errors["ENOENT"], 1);
    place.umount(&[]).succeeded();
    assert!(!runs(snapshot.pid));
}

#[test]
fn threads_are_pinned_only_when_asked_to() {
    let place = Place::new();
    for (args, want) in [(&["--pin"][..], true), (&[], false)] {
        place.mount(&[&FUSER, &["--workers", "1"], args].concat()).succeeded();
        assert_eq!(place.read(), "hello");
        let task = fs::read_dir(format!("/proc/{}/task", place.snapshot().pid))
            .expect("it runs")
            .map(|task| task.expect("read an entry").path())
            .find(|task| {
                fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "fuser-0\n")
            })
            .expect("a thread of fuser's");
        let status = fs::read_to_string(task.join("status")).expect("it runs");
        let cpus = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).expect("said");
        let one = !cpus.contains(['-', ',']);
        assert_eq!(one, want || only_one_is_allowed(), "{cpus}");
        place.umount(&[]).succeeded();
    }
}

/// Whether pinned or not looks the same: allowed CPUs may be away, and count nevertheless.
fn only_one_is_allowed() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("read /proc");
    let cpus = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).expect("said");
    !cpus.contains(['-', ','])
}

#[test]
fn signals_and_umount_from_outside_end_it_with_0() {
    let place = Place::new();
    let mut daemon = place.mount_in_foreground(&FUSER);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended_with(), Some(0), "{}", daemon.log());
    assert!(place.mounted().is_none());
    let mut daemon = place.mount_in_foreground(&FUSER);
    // A program that another test starts has copies of all descriptors for a moment.
    harness::eventually("unmounted", || nix::mount::umount(&place.mountpoint).is_ok());
    assert_eq!(daemon.ended_with(), Some(0), "{}", daemon.log());
}

#[test]
fn a_busy_mount_is_detached_and_ends_with_its_last_user() {
    let place = Place::new();
    let mut daemon = place.mount_in_foreground(&FUSER);
    let open = fs::File::open(place.mountpoint.join("file")).expect("open");
    daemon.signal(Signal::SIGTERM);
    harness::eventually("detached", || place.mounted().is_none());
    assert!(daemon.child.try_wait().expect("our child").is_none(), "{}", daemon.log());
    drop(open);
    assert_eq!(daemon.ended_with(), Some(0), "{}", daemon.log());
}

#[test]
fn an_aborted_connection_leaves_no_mount() {
    let place = Place::new();
    let mut daemon = place.mount_in_foreground(&FUSER);
    let minor = nix::sys::stat::minor(fs::metadata(&place.mountpoint).expect("stat").dev());
    let control = place.path().join("fusectl");
    fs::create_dir(&control).expect("mkdir");
    let (none, flags) = (None::<&str>, nix::mount::MsFlags::empty());
    nix::mount::mount(none, &control, Some("fusectl"), flags, none).expect("mount fusectl");
    fs::write(control.join(minor.to_string()).join("abort"), "1").expect("abort");
    assert_eq!(daemon.ended_with(), Some(0), "{}", daemon.log());
    assert!(place.mounted().is_none());
}

#[test]
fn listings_are_whole_whatever_the_kernel_has_room_for() {
    let place = Place::new();
    let directory = place.source.join("many");
    fs::create_dir(&directory).expect("mkdir");
    for number in 0..2000 {
        fs::write(directory.join(format!("{number:0width$}", width = 4 + number % 100)), "")
            .expect("write");
    }
    place.mount(&FUSER).succeeded();
    let shown = place.mountpoint.join("many");
    let want = names(&directory);
    assert_eq!(want.len(), 2000);
    for _ in 0..3 {
        assert_eq!(names(&shown), want);
    }
    // Lookups that were answered and not told to the kernel would stay for ever.
    for name in &want {
        fs::remove_file(shown.join(name)).expect("remove");
    }
    fs::remove_dir(&shown).expect("remove");
    harness::eventually("forgotten", || place.snapshot().live.inodes <= 2);
}

#[test]
fn what_it_can_not_have_is_refused() {
    let place = Place::new();
    place
        .mount(&[&FUSER[..], &["--data", "passthrough"]].concat())
        .failed(2, &["--transport fuser copies all data"]);
    place.mount(&["--transport", "smoke"]).failed(2, &["smoke", "auto, uring, dev, fuser"]);
    assert!(place.mounted().is_none());
}

#[test]
fn null_is_served_by_it_too() {
    let place = Place::new();
    fusewire([
        "null",
        place.at(),
        "--transport",
        "fuser",
        "--workers",
        "1",
        "--file-size",
        "1000000",
    ])
    .succeeded();
    assert_eq!(names(&place.mountpoint).len(), 2);
    let zeros = place.mountpoint.join("zeros");
    let bytes = fs::read(&zeros).map(|bytes| bytes.len());
    assert_eq!(bytes.expect("read"), 1_000_000);
    let before = place.settled().requests["GETATTR"].count;
    for _ in 0..10 {
        fs::metadata(&zeros).expect("stat");
    }
    let snapshot = place.settled();
    assert_eq!(snapshot.requests["GETATTR"].count - before, 10);
    assert_eq!((snapshot.source.as_str(), snapshot.data.mode.as_str()), ("null", "none"));
    place.umount(&[]).succeeded();
}
