//! `fusewire stats` on a live mount.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use fusewire::metrics::snapshot::Snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Place, binary, fusewire, wait};

#[test]
fn the_document_tells_what_was_done() {
    let place = Place::new();
    // A name that is not there is an answer of its own where the kernel may keep it.
    place.mount(&["--data", "copy", "-o", "fsname=x,coherence=timeout=1"]).succeeded();
    assert_eq!(place.read(), "hello");
    assert!(!place.mountpoint.join("missing").exists());
    let now = place.settled();
    assert_eq!(now.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (now.source.as_str(), now.mountpoint.as_str()),
        (place.source.to_str().expect("text"), place.at())
    );
    assert_eq!((now.profile.as_str(), now.data.mode.as_str()), ("owner", "copy"));
    assert!(now.transport.workers > 0 && now.transport.channels > 0);
    assert!(now.negotiated.protocol.starts_with("7.") && !now.negotiated.flags.is_empty());
    let lookup = &now.requests["LOOKUP"];
    assert!(lookup.count >= 2 && lookup.errors["ENOENT"] == 1, "{lookup:?}");
    assert!(0 < lookup.latency_ns.p50 && lookup.latency_ns.p50 <= lookup.latency_ns.p999);
    assert_eq!(now.totals.read_bytes, 5);
    assert!(now.totals.requests >= now.requests.values().map(|opcode| opcode.count).sum());
    assert!(now.live.inodes >= 2 && now.live.fds > 3 && now.live.rss_bytes > 0, "{:?}", now.live);
    let text = fusewire(["stats", place.at()]).succeeded().stdout;
    for part in ["LOOKUP", "ENOENT 1", "p99.9", "copy", "resident", "READ answered 5 B"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    place.umount(&[]).succeeded();
}

#[test]
fn a_subtype_of_the_users_choice_is_found() {
    let place = Place::new();
    place.mount(&["-o", "subtype=mine"]).succeeded();
    assert_eq!(place.snapshot().mountpoint, place.at());
    place.umount(&[]).succeeded();
}

struct Watch(Child, std::io::Lines<BufReader<std::process::ChildStdout>>);

impl Watch {
    fn start(place: &Place, args: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["stats", place.at(), "--watch=0.1"]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Watch(child, lines)
    }

    fn line(&mut self) -> String {
        self.1.next().expect("a line").expect("readable")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn watching_prints_a_document_a_line_until_interrupted() {
    let place = Place::new();
    place.mount(&[]).succeeded();
    let mut watch = Watch::start(&place, &["--json"]);
    let mut documents = || -> Snapshot { serde_json::from_str(&watch.line()).expect("a snapshot") };
    let first = documents();
    assert_eq!(place.read(), "hello");
    let second = documents();
    assert!(second.uptime_seconds > first.uptime_seconds);
    while documents().totals.requests == first.totals.requests {}
    kill(Pid::from_raw(watch.0.id().try_into().expect("a pid")), Signal::SIGINT).expect("it runs");
    assert_eq!(wait(&mut watch.0), Some(0));
    place.umount(&[]).succeeded();
}

#[test]
fn watching_appends_lines_and_ends_with_the_mount() {
    let place = Place::new();
    place.mount(&[]).succeeded();
    let mut watch = Watch::start(&place, &[]);
    assert!(watch.line().contains("req/s"));
    assert!(watch.line().split_whitespace().count() == 9);
    assert!(watch.line().split_whitespace().all(|cell| cell.parse::<f64>().is_ok()));
    place.umount(&[]).succeeded();
    assert_eq!(wait(&mut watch.0), Some(0));
}
