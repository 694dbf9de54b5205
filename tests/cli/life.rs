//! How a mount ends, and what is left of it.

use std::fs::File;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Place, eventually, fusewire, run, runs};

#[test]
fn signals_unmount_and_end_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let mut daemon = place.mount_in_foreground(&[]);
        std::fs::write(place.mountpoint.join("new"), "kept").expect("writable");
        daemon.signal(signal);
        assert_eq!(daemon.ended_with(), Some(0), "{signal}: {}", daemon.log());
        assert_eq!(place.mounted(), None);
        let kept = std::fs::read_to_string(place.source.join("new")).expect("it is in the source");
        assert_eq!(kept, "kept");
    }
}

#[test]
fn a_daemon_in_the_background_obeys_signals_too() {
    let place = Place::new();
    place.mount(&[]).succeeded();
    let pid = place.snapshot().pid;
    kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGTERM).expect("it runs");
    eventually("the daemon ends", || !runs(pid));
    assert_eq!(place.mounted(), None);
}

#[test]
fn an_external_umount_ends_with_0() {
    for flags in [MntFlags::empty(), MntFlags::MNT_DETACH] {
        let place = Place::new();
        let mut daemon = place.mount_in_foreground(&[]);
        umount2(&place.mountpoint, flags).expect("not busy");
        assert_eq!(daemon.ended_with(), Some(0), "{flags:?}: {}", daemon.log());
    }
}

#[test]
fn umount_waits_for_the_daemon() {
    let place = Place::new();
    for _ in 0..10 {
        place.mount(&[]).succeeded();
        let pid = place.snapshot().pid;
        place.umount(&[]).succeeded();
        assert!(!runs(pid), "the daemon is still there");
        assert_eq!(place.mounted(), None);
    }
    place.umount(&[]).failed(1, &["is not a mount point"]);
}

#[test]
fn a_busy_mount_names_its_holders() {
    let place = Place::new();
    place.mount(&[]).succeeded();
    let file = File::open(place.mountpoint.join("file")).expect("readable");
    let own = format!("(pid {}, open file)", std::process::id());
    place.umount(&[]).failed(1, &[place.at(), "is busy", &own, "--lazy"]);
    assert!(place.mounted().is_some());
    let mut sleeper =
        Command::new("sleep").arg("60").current_dir(&place.mountpoint).spawn().expect("runs");
    drop(file);
    let output = place.umount(&[]);
    sleeper.kill().expect("our child");
    sleeper.wait().expect("our child");
    output.failed(1, &[&format!("sleep (pid {}, working directory)", sleeper.id())]);
    place.umount(&[]).succeeded();
}

#[test]
fn a_lazy_umount_lets_users_finish() {
    let place = Place::new();
    place.mount(&[]).succeeded();
    let pid = place.snapshot().pid;
    let file = File::open(place.mountpoint.join("file")).expect("readable");
    place.umount(&["--lazy"]).succeeded();
    assert_eq!(place.mounted(), None);
    assert_eq!(std::io::read_to_string(&file).expect("still readable"), "hello");
    assert!(runs(pid));
    drop(file);
    eventually("the daemon ends with its last user", || !runs(pid));
}

#[test]
fn a_stranger_on_top_is_left_alone() {
    let place = Place::new();
    place.mount(&[]).succeeded();
    let none = None::<&str>;
    mount(Some("stranger"), &place.mountpoint, Some("tmpfs"), MsFlags::empty(), none)
        .expect("tmpfs");
    place.umount(&[]).failed(1, &["is not a fusewire mount", "tmpfs"]);
    assert_eq!(place.mounted().expect("still there").fs_type, "tmpfs");
    umount2(&place.mountpoint, MntFlags::empty()).expect("not busy");
    place.umount(&[]).succeeded();
}

#[test]
fn a_killed_daemon_is_told_and_cleared_away() {
    let place = Place::new();
    for options in [&[][..], &["--data", "copy"]] {
        place.mount(options).succeeded();
        std::fs::write(place.mountpoint.join("new"), "kept").expect("writable");
        let pid = place.snapshot().pid;
        kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL).expect("it runs");
        eventually("the daemon is dead", || !runs(pid));
        // ECONNABORTED for a request that was on its way.
        eventually("nobody answers", || {
            let error = place.mountpoint.metadata().map_err(|error| error.raw_os_error());
            error.is_err_and(|errno| errno == Some(libc::ENOTCONN))
        });
        fusewire(["stats", place.at()]).failed(1, &["no daemon answers", "fusewire umount"]);
        place.umount(&[]).succeeded();
        assert_eq!(place.mounted(), None);
        let kept = std::fs::read_to_string(place.source.join("new")).expect("it is in the source");
        assert_eq!(kept, "kept");
    }
    place.mount(&[]).succeeded();
    assert_eq!(place.read(), "hello");
}

#[test]
fn a_hung_daemon_hangs_nobody_else() {
    let place = Place::new();
    let mut daemon = place.mount_in_foreground(&[]);
    // The socket opens a moment after the mount shows.
    eventually("the daemon answers", || {
        fusewire::control::client::find(&place.mountpoint).is_ok_and(|it| it.snapshot().is_ok())
    });
    daemon.signal(Signal::SIGSTOP);
    fusewire(["stats", place.at()]).failed(1, &[place.at(), "no answer within 2 s"]);
    let pid = format!("pid {}", daemon.child.id());
    place.umount(&[]).failed(1, &["is unmounted", &pid, "still runs after 10 s", "kill -CONT"]);
    assert_eq!(place.mounted(), None);
    daemon.signal(Signal::SIGCONT);
    assert_eq!(daemon.ended_with(), Some(0), "{}", daemon.log());
}

#[test]
fn over_a_dead_mount_the_remedy_is_said() {
    let place = Place::new();
    let mut daemon = place.mount_in_foreground(&[]);
    daemon.child.kill().expect("our child");
    daemon.ended_with();
    place.mount(&[]).failed(1, &[place.at(), "fusewire umount"]);
}

#[test]
fn the_log_goes_where_it_was_sent() {
    let place = Place::new();
    let log = place.path().join("daemon.log");
    place.mount(&["--log-file", log.to_str().expect("text")]).succeeded();
    place.umount(&[]).succeeded();
    let quiet = std::fs::read_to_string(&log).expect("it was made");
    assert!(quiet.contains("mounted"), "{quiet}");
    assert!(!quiet.contains("LOOKUP"), "{quiet}");

    let mut daemon = place.mount_in_foreground(&[]);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended_with(), Some(0));
    assert!(daemon.log().contains("mounted"), "{}", daemon.log());
}

#[test]
fn debug_logs_each_request_in_the_foreground() {
    let place = Place::new();
    let mut daemon = place.mount_in_foreground(&["-d"]);
    assert_eq!(place.read(), "hello");
    run(Command::new("umount").arg(&place.mountpoint)).succeeded();
    assert_eq!(daemon.ended_with(), Some(0));
    let log = daemon.log().to_uppercase();
    assert!(log.contains("LOOKUP") && log.contains("OPEN"), "{log}");
}
