//! What the kernel is not told, because it does it by itself or because nobody may.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::common::daemon::Daemon;
use crate::common::shell::Shell;
use crate::common::warden::Warden;
use crate::{Ground, undisturbed, until};

fn mtime(path: &Path) -> (i64, i64) {
    path.metadata().map(|found| (found.mtime(), found.mtime_nsec())).unwrap_or_default()
}

/// Times that stores through a mapping move show after a second at most, also when the file was closed
/// before, and when it was looked at before it was opened.
pub(crate) fn through_a_mapping(ground: &Ground) -> Result<(), String> {
    for coherence in ["watch", "exclusive"] {
        let (source, mountpoint) = ground.pair();
        fs::write(source.join("f"), vec![b'.'; 8192]).map_err(|error| format!("f: {error}"))?;
        let options = format!("coherence={coherence}");
        let daemon = Daemon::start(&source, &mountpoint, "passthrough", &options)?;
        store(&daemon).map_err(|reason| format!("{coherence}: {reason}"))?;
    }
    Ok(())
}

fn store(daemon: &Daemon) -> Result<(), String> {
    let (behind, here) = (daemon.source.join("f"), daemon.mountpoint.join("f"));
    let same = || mtime(&behind) == mtime(&here);
    until("the times of a new file", same)?;
    let mut client = Shell::at(&daemon.mountpoint);
    let mut run = |line: &str| client.run(line).map_err(|errno| format!("{line}: {errno}"));
    run("open w f rw")?;
    run("mmap m w 0 8192 shared rw")?;
    for (line, when) in [("store m 0 x", "a store"), ("store m 4096 x", "one to a closed file")] {
        thread::sleep(Duration::from_millis(20));
        run(line)?;
        run("msync m")?;
        until(&format!("the times after {when}"), same)?;
        if line.starts_with("store m 0") {
            run("close w")?;
        }
        thread::sleep(Duration::from_millis(50));
        mtime(&here);
    }
    run("munmap m")?;
    until("the times at the end", same)?;
    // From now on they are trusted again.
    thread::sleep(Duration::from_millis(1500));
    mtime(&here);
    undisturbed(|| match is_asked_for(daemon, &here)? {
        false => Ok(()),
        true => Err("the times of a file that is closed are still asked for".to_owned()),
    })
}

/// Whether what was looked at a moment ago is asked for again after more than a second.
fn is_asked_for(daemon: &Daemon, path: &Path) -> Result<bool, String> {
    let asked = || {
        let requests = daemon.stats()?.requests;
        let count = |name: &str| requests.get(name).map_or(0, |found| found.count);
        Ok::<_, String>(["LOOKUP", "GETATTR", "STATX"].map(count))
    };
    let before = asked()?;
    thread::sleep(Duration::from_millis(1200));
    mtime(path);
    Ok(asked()? != before)
}

/// Where nobody tells that a file was closed, as it may be mapped yet, a second is all that its times are
/// trusted for; those of another are for good.
pub(crate) fn exclusive_unwatched(ground: &Ground) -> Result<(), String> {
    undisturbed(|| {
        let (source, mountpoint) = ground.pair();
        fs::write(source.join("other"), "").map_err(|error| format!("other: {error}"))?;
        let mut warden = None;
        let prepare = |command: &mut Command| {
            let refuse = |_, _| Some(Errno::EPERM);
            warden = Some(Warden::set(command, &[libc::SYS_fanotify_init], refuse));
        };
        let options = "coherence=exclusive";
        let daemon =
            Daemon::start_prepared(&[], &source, &mountpoint, "passthrough", options, prepare)?;
        let [written, other] = ["written", "other"].map(|name| mountpoint.join(name));
        fs::write(&written, "").map_err(|error| format!("written: {error}"))?;
        mtime(&written);
        mtime(&other);
        match (is_asked_for(&daemon, &other)?, is_asked_for(&daemon, &written)?) {
            (false, true) if daemon.report().contains("trusted for 1 s") => Ok(()),
            found => Err(format!("other, written: {found:?}\n{}", daemon.report())),
        }
    })
}

/// With the promise that nobody changes the source, nothing is asked twice, and a change behind the
/// mount, against the promise, does not show.
pub(crate) fn exclusive_asks_nothing(ground: &Ground) -> Result<(), String> {
    undisturbed(|| {
        let (source, mountpoint) = ground.pair();
        let write = |name: &str, text: &str| {
            fs::write(source.join(name), text).map_err(|error| format!("{name}: {error}"))
        };
        write("f", "x")?;
        // A directory that was changed just now is not kept.
        thread::sleep(Duration::from_millis(100));
        let daemon = Daemon::start(&source, &mountpoint, "auto", "coherence=exclusive")?;
        let look = || {
            let names = fs::read_dir(&mountpoint).into_iter().flatten().count();
            let found = mountpoint.join("f").metadata().map(|found| found.size()).unwrap_or(0);
            (names, found, mountpoint.join("missing").exists())
        };
        let asked = || {
            let requests = daemon.stats()?.requests;
            let count = |name: &str| requests.get(name).map_or(0, |found| found.count);
            let asked = ["LOOKUP", "GETATTR", "STATX", "READDIR", "READDIRPLUS"];
            Ok::<_, String>(asked.map(count))
        };
        look();
        let (first, before) = (look(), asked()?);
        write("f", "longer")?;
        write("missing", "")?;
        thread::sleep(Duration::from_millis(1200));
        let (second, after) = (look(), asked()?);
        match first == second && before == after {
            true => Ok(()),
            false => Err(format!("{first:?} {before:?}, then {second:?} {after:?}")),
        }
    })
}
