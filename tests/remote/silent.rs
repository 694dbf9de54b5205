//! A file system below that does not answer.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::Ground;
use crate::below::{FILE, HELD_UP, HUSH, NEXT, Served, WAITING};
use crate::common::daemon::Daemon;
use crate::common::disk::Mounted;
use crate::common::text;
use crate::tool::exclusively;

/// What must not wait for the file system below gets this long, on a busy machine too.
const PATIENCE: &str = "15";

/// `fusewire` with a time limit; its exit status and what it said.
fn fusewire(arguments: &[&str]) -> Result<(Option<i32>, String), String> {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", PATIENCE, env!("CARGO_BIN_EXE_fusewire")]).args(arguments);
    let output = command.output().map_err(|error| format!("fusewire: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// Clients wait and go on when it answers again; nothing else waits for it.
pub(crate) fn for_a_while(ground: &Ground) -> Result<(), String> {
    let played = play(ground);
    // Whatever went wrong, what is above must be able to end.
    ground.below.signal(Signal::SIGCONT)?;
    played
}

fn play(ground: &Ground) -> Result<(), String> {
    let mountpoint = ground.above.mountpoint.to_string_lossy().into_owned();
    let path = ground.above.mountpoint.join(FILE);
    fs::write(&path, "text").map_err(|error| error.to_string())?;
    ground.below.signal(Signal::SIGSTOP)?;
    // More than there are threads which serve.
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut command = Command::new("cat");
        command.arg(&path).stdout(Stdio::piped());
        readers.push(command.spawn().map_err(|error| format!("cat: {error}"))?);
    }
    std::thread::sleep(Duration::from_secs(1));
    let (status, said) = fusewire(&["stats", &mountpoint])?;
    if status != Some(0) {
        return Err(format!("stats while nothing answers below: {status:?} {said}"));
    }
    let (status, said) = fusewire(&["umount", &mountpoint])?;
    if status != Some(1) || !said.contains("busy") {
        return Err(format!("umount while clients wait: {status:?} {said}"));
    }
    // Killed, a client is gone as soon as its request is answered: `request_wait_answer()` of the
    // kernel waits for what a daemon has read already.
    readers[0].kill().map_err(|error| error.to_string())?;
    ground.below.signal(Signal::SIGCONT)?;
    for (number, reader) in readers.into_iter().enumerate() {
        let output = reader.wait_with_output().map_err(|error| error.to_string())?;
        if number > 0 && output.stdout != b"text" {
            return Err(format!("a client reads {output:?} afterwards"));
        }
    }
    // Once more, and this time it is left behind.
    ground.below.signal(Signal::SIGSTOP)?;
    let mut waiting = Command::new("stat").arg(&path).stdout(Stdio::null()).spawn();
    let waiting = waiting.as_mut().map_err(|error| format!("stat: {error}"))?;
    std::thread::sleep(Duration::from_secs(1));
    let (status, said) = fusewire(&["umount", "--lazy", &mountpoint])?;
    if status != Some(0) {
        return Err(format!("umount --lazy while nothing answers below: {status:?} {said}"));
    }
    ground.below.signal(Signal::SIGCONT)?;
    waiting.wait().map_err(|error| error.to_string())?;
    Ok(())
}

/// The error of looking at `name` in `directory`, as a client on the first CPU.
fn look_at(directory: &Path, name: &str) -> Result<Option<Errno>, String> {
    let mut first = CpuSet::new();
    first.set(0).map_err(text)?;
    sched_setaffinity(Pid::from_raw(0), &first).map_err(text)?;
    Ok(errno(fs::metadata(directory.join(name))))
}

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)
}

/// Whether `holds` becomes true while somebody has patience.
fn eventually(holds: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > Duration::from_secs(10) {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A question that is not answered holds up nobody but who has asked it, on the same CPU neither.
pub(crate) fn in_one_request(ground: &Ground) -> Result<(), String> {
    let above = &ground.above.mountpoint;
    let look = |name: &'static str| {
        let above = above.clone();
        thread::spawn(move || look_at(&above, name))
    };
    let joined = |thread: thread::JoinHandle<_>| thread.join().expect("it does not panic");
    let held_up = look(HELD_UP);
    let below = &ground.above.source;
    if !eventually(|| errno(fs::metadata(below.join(WAITING))) == Some(Errno::EBUSY)) {
        return Err(format!("it is not asked for below: {:?}", joined(held_up)));
    }
    // Answered before that, as it is what that waits for.
    let next = joined(look(NEXT))?;
    let held_up = joined(held_up)?;
    match (next, held_up) {
        (Some(Errno::ENOENT), Some(Errno::ENOENT)) => Ok(()),
        other => Err(format!("the one that comes next, and the one that is held up: {other:?}")),
    }
}

/// A server of what is mounted inside the source that takes requests and answers none holds up neither
/// the mount nor its end, and nothing of it is shown.
pub(crate) fn inside_the_source() -> Result<(), String> {
    let directory = TempDir::with_prefix("fusewire-test-").map_err(text)?;
    let [source, below, above] = ["source", "below", "above"].map(|at| directory.path().join(at));
    let inside = source.join("inside");
    for path in [&source, &below, &above, &inside] {
        fs::create_dir(path).map_err(text)?;
    }
    fs::write(inside.join("beneath"), "covered").map_err(text)?;
    fs::write(source.join("text"), "shown").map_err(text)?;
    let mut served = exclusively(|| Served::start(&below))?;
    let layers = format!("lowerdir={}:{}", below.display(), directory.path().display());
    mount(Some("none"), &inside, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .map_err(|errno| format!("mount an overlay on {}: {errno}", inside.display()))?;
    let _overlay = Mounted::of(&inside);
    if errno(fs::metadata(below.join(HUSH))) != Some(Errno::ENOENT) {
        return Err("the file system below was not hushed".to_owned());
    }
    let shown = beside_a_hushed_one(&source, &above);
    let killed = served.kill();
    shown.and(killed)
}

fn beside_a_hushed_one(source: &Path, above: &Path) -> Result<(), String> {
    let daemon = exclusively(|| Daemon::start(source, above, "auto", ""))?;
    let list = fs::read_dir(above.join("inside")).map_err(text)?.flatten();
    let list: Vec<_> = list.map(|entry| entry.file_name()).collect();
    let shown = fs::read_to_string(above.join("text")).map_err(text)?;
    let report = daemon.report();
    if list != ["beneath"] || shown != "shown" || !report.contains("does not answer within 5 s") {
        return Err(format!("{list:?} {shown:?}\n{report}"));
    }
    // It tells when the daemon has ended.
    let (status, said) = fusewire(&["umount", &above.to_string_lossy()])?;
    match (status, daemon.exit_status()) {
        (Some(0), Some(ended)) if ended.success() => Ok(()),
        other => Err(format!("umount and the daemon: {other:?} {said}\n{}", daemon.report())),
    }
}

/// A daemon that is killed while the first answer through its mount is awaited is gone, and the mount
/// dead, as at any other time.
pub(crate) fn while_mounting() -> Result<(), String> {
    let directory = TempDir::with_prefix("fusewire-test-").map_err(text)?;
    let mut served = exclusively(|| Served::start_as(directory.path(), &["hushed"]))?;
    // The question is under way.
    thread::sleep(Duration::from_secs(1));
    served.kill()?;
    match errno(fs::metadata(directory.path().join(FILE))) {
        Some(Errno::ENOTCONN) => Ok(()),
        other => Err(format!("what is left of the mount answers {other:?}")),
    }
}
