//! Sources of other kinds: watched where that can be had, and where not, it is said why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::common::daemon::Daemon;
use crate::common::disk::{Mounted, mount_at};
use crate::common::warden::Warden;
use crate::{Ground, until};

pub(crate) fn tmpfs(ground: &Ground) -> Result<(), String> {
    let (_mounted, target) = memory(ground)?;
    is_coherent(ground, &target, "watch", "")
}

pub(crate) fn xfs(ground: &Ground) -> Result<(), String> {
    let (_mounted, target) = image(ground, &["mkfs.xfs", "-q"], 320 << 20)?;
    is_coherent(ground, &target, "watch", "")
}

/// As a whole it can be watched, a subvolume can not.
pub(crate) fn btrfs(ground: &Ground) -> Result<(), String> {
    let (_mounted, target) = image(ground, &["mkfs.btrfs", "-q"], 128 << 20)?;
    is_coherent(ground, &target, "watch", "")?;
    let volume = target.join("volume");
    run(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&volume))?;
    is_coherent(ground, &volume, "timeout=1", "a subvolume")
}

pub(crate) fn overlay(ground: &Ground) -> Result<(), String> {
    let (_mounted, target) = layers(ground)?;
    is_coherent(ground, &target, "timeout=1", "file handles")
}

pub(crate) fn fuse(ground: &Ground) -> Result<(), String> {
    let below = ground.watched()?;
    is_coherent(ground, &below.mountpoint, "timeout=1", "file handles")
}

/// System calls that a container or an old kernel refuses to the daemon: it says what it does without.
pub(crate) fn refused(ground: &Ground) -> Result<(), String> {
    for (call, errno, because) in [
        (libc::SYS_fanotify_init, Errno::ENOSYS, "Linux 5.17"),
        (libc::SYS_fanotify_init, Errno::EPERM, "mount as root"),
        (libc::SYS_fanotify_mark, Errno::ENODEV, "not told of"),
        (libc::SYS_name_to_handle_at, Errno::EOPNOTSUPP, "file handles"),
        (libc::SYS_open_by_handle_at, Errno::EPERM, "file handles"),
        (libc::SYS_open_tree, Errno::EPERM, "mount as root"),
    ] {
        let refuse = |options: &str| {
            let (source, mountpoint) = ground.pair();
            let mut warden = None;
            let prepare = |command: &mut Command| {
                warden = Some(Warden::set(command, &[call], move |_, _| Some(errno)));
            };
            let daemon =
                Daemon::start_prepared(&[], &source, &mountpoint, "auto", options, prepare)?;
            Ok::<_, String>((daemon, warden))
        };
        let (daemon, _warden) = refuse("")?;
        shows_changes(&daemon, "timeout=1", because)
            .map_err(|reason| format!("call {call} refused with {errno}: {reason}"))?;
        let hopeless = match call {
            libc::SYS_open_tree => "one_file_system",
            _ => "coherence=watch",
        };
        match refuse(hopeless) {
            Err(text) if text.contains("can not be had") => {}
            Err(text) => return Err(format!("{hopeless}: not refused as it should be: {text}")),
            Ok(_) => return Err(format!("{hopeless} without call {call} was not refused")),
        }
    }
    Ok(())
}

/// The watching fails for a while, as without memory, and then again: it is said once each time, nothing
/// is trusted for more than a second meanwhile, and nothing is missed then or afterwards.
pub(crate) fn failing(ground: &Ground) -> Result<(), String> {
    fail(ground, "coherence=watch", 2)?;
    // Where the kernel keeps even data without asking whether it may.
    fail(ground, "coherence=watch,profile=read-mostly", 1)
}

fn fail(ground: &Ground, options: &str, rounds: usize) -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    const POLL: libc::c_long = libc::SYS_poll;
    #[cfg(not(target_arch = "x86_64"))]
    const POLL: libc::c_long = libc::SYS_ppoll;
    let (source, mountpoint) = ground.pair();
    let fails = Arc::new(AtomicBool::new(false));
    let mut warden = None;
    let prepare = |command: &mut Command| {
        let fails = fails.clone();
        let decide = move |_, _| fails.load(SeqCst).then_some(Errno::ENOMEM);
        warden = Some(Warden::set(command, &[POLL], decide));
    };
    let daemon = Daemon::start_prepared(&[], &source, &mountpoint, "auto", options, prepare)?;
    let failed = |error: std::io::Error| error.to_string();
    let mode = || daemon.stats().map(|now| now.coherence.mode).unwrap_or_default();
    let size = || mountpoint.join("grows").metadata().map(|found| found.len()).ok();
    let names = || fs::read_dir(&mountpoint).into_iter().flatten().count();
    for round in 1..=rounds {
        shows_changes(&daemon, "watch", "")?;
        let overflows = daemon.stats()?.coherence.overflows;
        fs::write(source.join("grows"), "").map_err(failed)?;
        until("a new file", || size() == Some(0))?;
        fails.store(true, SeqCst);
        // The thread waits already when this comes, and is told of it.
        fs::write(source.join("wakes"), "").map_err(failed)?;
        until("the failure", || mode() == "timeout=1")?;
        shows_changes(&daemon, "timeout=1", "fails")?;
        for len in 1..=2_u64 {
            let (count, more) = (names(), source.join(format!("more-{round}-{len}")));
            // Longer than anything is told of on that occasion.
            thread::sleep(Duration::from_millis(700));
            let content = vec![b'.'; usize::try_from(len).expect("few")];
            fs::write(source.join("grows"), content).map_err(failed)?;
            fs::write(more, "").map_err(failed)?;
            until(&format!("a file of {len} bytes"), || size() == Some(len))?;
            until("a new listing", || names() == count + 1)?;
        }
        fails.store(false, SeqCst);
        fs::remove_file(source.join("g")).map_err(failed)?;
        until("it was removed", || !mountpoint.join("g").exists())?;
        until("the end of the failure", || mode() == "watch")?;
        let (report, now) = (daemon.report(), daemon.stats()?.coherence.overflows);
        let said = |what| report.matches(what).count();
        let told = [said("can not be watched"), said("watched again")];
        if told != [round; 2] || now != overflows {
            return Err(format!("round {round}: told {told:?}, {now} overflows\n{report}"));
        }
    }
    shows_changes(&daemon, "watch", "")
}

/// Mounts `source`, demands that `mode` is in force and that its reason holds `because`, and that
/// changes show; and where it can not be watched that it is refused when it is asked for.
fn is_coherent(ground: &Ground, source: &Path, mode: &str, because: &str) -> Result<(), String> {
    let mountpoint = ground.mountpoint();
    if mode != "watch" {
        match Daemon::start(source, &mountpoint, "auto", "coherence=watch") {
            Ok(_) => return Err("coherence=watch was not refused".to_owned()),
            Err(text) if text.contains("--coherence watch can not be had") => {}
            Err(text) => return Err(format!("not refused as it should be: {text}")),
        }
    }
    shows_changes(&Daemon::start(source, &mountpoint, "auto", "")?, mode, because)
}

/// Demands that `mode` is in force and that its reason holds `because`, and that changes show.
fn shows_changes(daemon: &Daemon, mode: &str, because: &str) -> Result<(), String> {
    let Daemon { source, mountpoint, .. } = daemon;
    let coherence = daemon.stats()?.coherence;
    let reason = coherence.reason.clone().unwrap_or_default();
    if coherence.mode != mode || !reason.contains(because) {
        return Err(format!("expected {mode} because of {because}: {coherence:?}"));
    }
    let (behind, here) = (source.join("f"), mountpoint.join("f"));
    assert!(!here.exists());
    let read = || fs::read_to_string(&here).unwrap_or_default();
    for text in ["one", "another"] {
        fs::write(&behind, text).map_err(|error| error.to_string())?;
        until(&format!("{text} is read"), || read() == text)?;
    }
    fs::rename(&behind, source.join("g")).map_err(|error| error.to_string())?;
    until("it was renamed", || !here.exists() && mountpoint.join("g").exists())?;
    Ok(())
}

/// The source directory itself is replaced, then removed: the mount goes on showing the one it was
/// given, and stays coherent.
pub(crate) fn removed(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let failed = |error: std::io::Error| error.to_string();
    fs::write(source.join("f"), "old").map_err(failed)?;
    let daemon = Daemon::start(&source, &mountpoint, "auto", "coherence=watch")?;
    let read = |name: &str| fs::read_to_string(mountpoint.join(name)).unwrap_or_default();
    assert_eq!((read("f"), read("g")), ("old".to_owned(), String::new()));
    let moved = source.with_extension("moved");
    fs::rename(&source, &moved).map_err(failed)?;
    fs::create_dir(&source).map_err(failed)?;
    fs::write(source.join("f"), "of another directory").map_err(failed)?;
    fs::write(moved.join("g"), "new").map_err(failed)?;
    until("what is new where it was moved", || read("g") == "new" && read("f") == "old")?;
    fs::remove_dir_all(&moved).map_err(failed)?;
    until("all is gone", || {
        fs::read_dir(&mountpoint).is_ok_and(|list| list.count() == 0) && read("f").is_empty()
    })?;
    match fs::write(mountpoint.join("h"), "") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => drop(daemon),
        other => return Err(format!("creating in a removed source: {other:?}")),
    }
    Ok(())
}

/// Runs `test` in a new source on each of `kinds`: ext4, tmpfs, overlay.
pub(crate) fn with_each(
    ground: &Ground,
    kinds: &[&str],
    test: impl Fn(&Path) -> Result<(), String>,
) -> Result<(), String> {
    for kind in kinds {
        let (_mounted, source) = match *kind {
            "tmpfs" => memory(ground).map(|(mounted, target)| (Some(mounted), target))?,
            "overlay" => layers(ground).map(|(mounted, target)| (Some(mounted), target))?,
            _ => (None, ground.pair().0),
        };
        test(&source).map_err(|reason| format!("on {kind}: {reason}"))?;
    }
    Ok(())
}

fn memory(ground: &Ground) -> Result<(Mounted, PathBuf), String> {
    let target = ground.mountpoint();
    mount(Some("none"), &target, Some("tmpfs"), MsFlags::empty(), Some("size=64m"))
        .map_err(|errno| format!("mount a tmpfs: {errno}"))?;
    Ok((Mounted::new(target.clone()), target))
}

fn layers(ground: &Ground) -> Result<(Mounted, PathBuf), String> {
    let (upper, target) = ground.pair();
    let folders = ["lower", "upper", "work"].map(|name| upper.join(name));
    for folder in &folders {
        fs::create_dir(folder).map_err(|error| error.to_string())?;
    }
    let [lower, upper, work] = folders.map(|folder| folder.display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    mount(Some("none"), &target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|errno| format!("mount an overlay: {errno}"))?;
    Ok((Mounted::new(target.clone()), target))
}

/// A file system of its own, made by `mkfs`.
fn image(ground: &Ground, mkfs: &[&str], bytes: u64) -> Result<(Mounted, PathBuf), String> {
    let target = ground.mountpoint();
    let image = target.with_extension("image");
    fs::File::create(&image)
        .and_then(|file| file.set_len(bytes))
        .map_err(|error| format!("make an image: {error}"))?;
    run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image))?;
    let mounted = mount_at(&image, &target, "loop")?;
    fs::remove_file(&image).map_err(|error| format!("unlink the image: {error}"))?;
    Ok((mounted, target))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
