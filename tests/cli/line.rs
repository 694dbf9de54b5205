//! Everything that needs no mount: the line itself, the doctor, and commands at the wrong place.

use std::process::{Command, Stdio};

use fusewire::doctor::{Report, Status};
use fusewire::mountinfo::MountTable;

use crate::harness::{Place, binary, fusewire, run, wait};

#[test]
fn a_wrong_line_is_code_2_and_says_what_would_be_right() {
    for (args, parts) in [
        (&["/s", "/m", "-o", "allow_otter"][..], &["'allow_otter'", "'allow_other'"][..]),
        (&["mount", "/s", "/m", "--wrokers", "2"], &["'--wrokers'", "'--workers'"]),
        (&["/s", "/m", "-o", "data=fast"], &["'fast'", "auto, passthrough, splice or copy"]),
        (&["/s", "/m", "-o", "data=splice,transport=uring"], &["--data splice", "--transport dev"]),
        (&["/s", "/m", "--workers=0"], &["'0'", "from 1 to 1024"]),
        (&["/s", "/m", "-o", "sync,rw"], &["'sync'", "mount the source with it"]),
        (&["umuont", "/m"], &["'umuont'", "'umount'"]),
        (&["/s"], &["<MOUNTPOINT>"]),
        (&["stats"], &["mount point is missing"]),
        (&["umount"], &["<MOUNTPOINT>"]),
    ] {
        let output = fusewire(args).failed(2, parts);
        assert_eq!(output.stdout, "", "{args:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = fusewire(["--help"]).succeeded().stdout;
    for command in ["mount", "umount", "stats", "doctor", "Examples"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(fusewire(["mount", "-h"]).succeeded().stdout.contains("allow_other"));
    let version = fusewire(["-V"]).succeeded().stdout;
    assert_eq!(version, format!("fusewire {}\n", env!("CARGO_PKG_VERSION")));
}

fn doctor(args: &[&str]) -> (Option<i32>, Report) {
    let output = fusewire(["doctor", "--json"].iter().chain(args));
    let report = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output.code, report)
}

#[test]
fn the_doctor_finds_everything_out_and_leaves_nothing() {
    let place = Place::new();
    let source = place.source.to_str().expect("text");
    let (code, report) = doctor(&[source]);
    assert_eq!((code, report.can_mount), (Some(0), true), "{report:?}");
    assert_eq!(report.source.as_deref(), Some(place.source.as_path()));
    let names: Vec<&str> = report.checks.iter().map(|check| check.name.as_str()).collect();
    for name in [
        "kernel",
        "/dev/fuse",
        "protocol",
        "passthrough",
        "channels",
        "io_uring",
        "max_pages_limit",
        "max_user_bgreq",
        "cpus",
        "fusermount3",
        "user_allow_other",
        "RLIMIT_NOFILE",
        "directory",
        "passthrough here",
        "file handles",
        "open by handle",
        "fanotify",
        "xattrs",
        "O_TMPFILE",
        "O_DIRECT",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let probe = report.probe.expect("root can make a throw-away mount");
    assert!(probe.protocol.starts_with("7."), "{probe:?}");
    assert!(probe.offers("PARALLEL_DIROPS") && !probe.in_user_namespace, "{probe:?}");
    assert!(report.limits.iter().any(|limit| limit.what.contains("FICLONE")));
    let entries = std::fs::read_dir(&place.source).expect("readable").count();
    assert_eq!(entries, 1, "only what was there before");
    let table = MountTable::read().expect("readable");
    assert!(table.iter().all(|mount| mount.source != "fusewire-probe"), "{table:?}");
}

#[test]
fn what_is_missing_comes_with_its_remedy() {
    let (_, report) = doctor(&[]);
    for check in &report.checks {
        assert!(!check.finding.is_empty() && !check.why.is_empty(), "{check:?}");
        assert!(check.status != Status::Ok || check.fix.is_none(), "{check:?}");
    }
}

#[test]
fn the_doctors_text_is_at_most_100_columns() {
    let place = Place::new();
    let text = fusewire(["doctor".as_ref(), place.source.as_os_str()]).succeeded().stdout;
    assert!(text.contains("mounting is possible"), "{text}");
    let names = |line: &&str| !line.contains(place.at().trim_end_matches("mountpoint"));
    assert!(text.lines().filter(names).all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_source_that_can_not_be_shown_is_code_1() {
    let place = Place::new();
    for (path, finding) in [("missing", "does not exist"), ("source/file", "is not a directory")] {
        let path = place.path().join(path);
        let (code, report) = doctor(&[path.to_str().expect("text")]);
        assert_eq!((code, report.can_mount), (Some(1), false));
        let check = report.checks.iter().find(|check| check.name == "directory").expect("a check");
        assert!(check.finding.contains(finding) && check.status == Status::Missing, "{check:?}");
    }
}

/// Runs a shell script where /dev is empty; `$F` is the program.
fn without_devices(script: &str) -> crate::harness::Output {
    let script = format!("mount -t tmpfs none /dev; {script}");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]);
    run(command.env("F", binary()))
}

#[test]
fn without_dev_fuse_the_remedy_is_said() {
    let place = Place::new();
    let mount = format!("$F mount {} {}", place.source.display(), place.mountpoint.display());
    without_devices(&mount).failed(1, &["/dev/fuse", "modprobe fuse"]);
    let doctor = without_devices("$F doctor");
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    for part in ["mounting is NOT possible", "does not exist", "modprobe fuse"] {
        assert!(doctor.stdout.contains(part), "{doctor:?}");
    }
}

#[test]
fn umount_leaves_alone_what_is_not_ours() {
    let place = Place::new();
    place.umount(&[]).failed(1, &[place.at(), "is not a mount point"]);
    fusewire(["umount", "/nowhere"]).failed(1, &["/nowhere", "No such file or directory"]);
    fusewire(["umount", "/proc"]).failed(1, &["/proc", "its type is proc", "`umount /proc`"]);
    assert!(std::path::Path::new("/proc/self").exists());
}

#[test]
fn stats_names_what_it_finds_instead() {
    let place = Place::new();
    fusewire(["stats", place.at()]).failed(1, &[place.at(), "is not a mount point"]);
    fusewire(["stats", "/proc"]).failed(1, &["/proc is not a fusewire mount", "proc"]);
    fusewire(["stats", "/nowhere"]).failed(1, &["/nowhere", "No such file or directory"]);
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let mut child = Command::new(binary())
        .arg("doctor")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    assert_eq!(wait(&mut child), Some(0));
}
