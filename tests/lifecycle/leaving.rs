//! Unmounting what is in use, and what a stranger has mounted over.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::Ground;
use crate::common::text;
use crate::launch::{Ender, Launch, eventually, mounted};
use crate::tool::{fusewire, tool};

/// What `daemon/signals.rs` grants those who still use a mount, and some time to notice.
const GRACE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(8);

/// A file and a directory of a mount, kept open.
struct Held {
    file: File,
    directory: File,
}

impl Held {
    fn open(at: &Path) -> Result<Self, String> {
        fs::write(at.join("held"), "before").map_err(text)?;
        let file = File::options().read(true).write(true).open(at.join("held"));
        Ok(Held { file: file.map_err(text)?, directory: File::open(at).map_err(text)? })
    }

    /// Reads, writes, syncs, resizes, lists and creates, all by what is open.
    fn works(&mut self, behind: &Path) -> Result<(), String> {
        self.works_by(behind).map_err(|error| format!("what is open no longer works: {error}"))
    }

    fn works_by(&mut self, behind: &Path) -> std::io::Result<()> {
        let mut content = String::new();
        self.file.set_len(0)?;
        self.file.write_all_at(b"after", 0)?;
        self.file.sync_all()?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_string(&mut content)?;
        let (flags, mode) =
            (OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644));
        let mut new = File::from(openat(&self.directory, "new", flags, mode)?);
        new.write_all(b"new")?;
        new.sync_all()?;
        let seen = (content, fs::read_to_string(behind.join("held"))?, self.file.metadata()?.len());
        let expected = ("after".to_owned(), "after".to_owned(), 5);
        match seen == expected && fs::read_to_string(behind.join("new"))? == "new" {
            true => Ok(()),
            false => Err(std::io::Error::other(format!("{seen:?}"))),
        }
    }
}

/// EBUSY, with who holds it, and nothing has changed.
pub(crate) fn busy(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    let mut held = Held::open(&mountpoint)?;
    let said = served.umount(&[]).err().ok_or("a busy mount was unmounted")?;
    let own = format!("pid {}", std::process::id());
    for word in ["busy", &own, "--lazy"] {
        if !said.contains(word) {
            return Err(format!("umount of a busy mount does not say {word:?}: {said}"));
        }
    }
    let output = tool("umount", "mount").arg(&mountpoint).output()?;
    if output.status.code() != Some(32) {
        return Err(format!("umount(8) of a busy mount: {output:?}"));
    }
    held.works(&source)?;
    drop(held);
    fs::metadata(mountpoint.join("held")).map_err(text)?;
    served.finish()
}

/// Detached at once; what is open works until it is closed, and the place is free meanwhile.
pub(crate) fn lazily(ground: &Ground) -> Result<(), String> {
    let enders: [Ender; 2] = [
        |served| served.umount(&["--lazy"]),
        |served| tool("umount", "mount").arg("-l").arg(&served.mountpoint).run().map(drop),
    ];
    for (ender, data) in [(0, "passthrough"), (0, "copy"), (1, "auto")] {
        let (source, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let mut held = Held::open(&mountpoint)?;
        enders[ender](&served)?;
        served.is_gone()?;
        held.works(&source)?;
        let (other, _) = ground.pair();
        let second = Launch::new(&other, &mountpoint, data).go()?;
        fs::write(mountpoint.join("second"), "").map_err(text)?;
        held.works(&source)?;
        if served.end().is_some() {
            return Err("the daemon ended while files were open".to_owned());
        }
        second.finish()?;
        held.works(&source)?;
        drop(held);
        served.ends_well(SOON)?;
    }
    Ok(())
}

/// On SIGTERM a busy mount is detached; its users may finish, and the daemon ends with the last.
pub(crate) fn terminated_then_closed(ground: &Ground) -> Result<(), String> {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (source, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, "auto").go()?;
        let mut held = Held::open(&mountpoint)?;
        served.signal(signal)?;
        if !eventually(SOON, || served.is_gone().is_ok()) {
            return Err(format!("{signal} does not detach a busy mount"));
        }
        held.works(&source)?;
        drop(held);
        served.ends_well(SOON)?;
    }
    Ok(())
}

/// A user who never finishes does not keep the daemon longer than the grace period.
pub(crate) fn terminated_while_held(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    let mut held = Held::open(&mountpoint)?;
    let asked = Instant::now();
    served.signal(Signal::SIGTERM)?;
    thread::sleep(GRACE - Duration::from_secs(4));
    held.works(&source)?;
    served.ends_well(GRACE + SOON)?;
    if asked.elapsed() < GRACE - Duration::from_millis(500) {
        return Err(format!("users had {:?} only", asked.elapsed()));
    }
    let after = held.directory.sync_all().map_err(|error| error.raw_os_error());
    match after {
        // The latter where the connection ended with rings on it.
        Err(Some(errno))
            if [Errno::ENOTCONN as i32, Errno::ECONNABORTED as i32].contains(&errno) =>
        {
            Ok(())
        }
        other => Err(format!("a file of a daemon that has ended: {other:?}")),
    }
}

/// Who asks twice does not wait.
pub(crate) fn terminated_twice(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    let held = Held::open(&mountpoint)?;
    served.signal(Signal::SIGTERM)?;
    if !eventually(SOON, || served.is_gone().is_ok()) {
        return Err("SIGTERM does not detach a busy mount".to_owned());
    }
    served.signal(Signal::SIGTERM)?;
    served.ends_well(SOON)?;
    drop(held);
    Ok(())
}

/// `umount --force` of a mount that is in use: its users fail, nobody hangs, neither a daemon nor a dead
/// mount stays. One that is not in use is unmounted, and the daemon does not get in the way.
pub(crate) fn forced(ground: &Ground) -> Result<(), String> {
    for transport in ["transport=dev", "transport=auto"] {
        let (source, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, "auto").option(transport).go()?;
        let held = Held::open(&mountpoint)?;
        let output = tool("umount", "mount").arg("--force").arg(&mountpoint).output()?;
        served.ends_well(SOON)?;
        served.is_gone()?;
        if output.status.code() != Some(32) || !served.report().contains("detached") {
            return Err(format!("umount --force says {output:?}\n{}", served.report()));
        }
        if held.directory.sync_all().is_ok() {
            return Err("a directory of an aborted mount can be synced".to_owned());
        }
        drop(held);
        for _ in 0..10 {
            let served = Launch::new(&source, &mountpoint, "auto").option(transport).go()?;
            tool("umount", "mount").arg("--force").arg(&mountpoint).run()?;
            served.is_gone()?;
            served.ends_well(SOON)?;
        }
    }
    Ok(())
}

struct Tmpfs(PathBuf);

impl Tmpfs {
    fn on(path: &Path) -> Result<Self, String> {
        tool("mount", "mount").args(["-t", "tmpfs", "stranger"]).arg(path).run()?;
        fs::write(path.join("precious"), "text").map_err(text)?;
        Ok(Tmpfs(path.to_owned()))
    }

    fn is_there(&self) -> Result<(), String> {
        match (mounted(&self.0).as_deref(), fs::read_to_string(self.0.join("precious"))) {
            (Some("tmpfs"), Ok(text)) if text == "text" => Ok(()),
            (kind, read) => Err(format!("the stranger's mount is gone: {kind:?}, {read:?}")),
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// What somebody else has mounted on top is not ours to take away.
pub(crate) fn stranger_on_top(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    let stranger = Tmpfs::on(&mountpoint)?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM] {
        served.signal(signal)?;
        thread::sleep(Duration::from_millis(300));
        stranger.is_there().map_err(|reason| format!("{signal}: {reason}"))?;
    }
    for options in [&["umount"] as &[&str], &["umount", "--lazy"]] {
        let output = fusewire().args(options).arg(&mountpoint).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || !said.contains("tmpfs") {
            return Err(format!("fusewire {options:?} with a tmpfs on top: {output:?}"));
        }
        stranger.is_there()?;
    }
    if served.end().is_some() {
        return Err("the daemon ended and left its mount below".to_owned());
    }
    drop(stranger);
    // What could not be done then can be done now.
    fs::write(mountpoint.join("served"), "still").map_err(text)?;
    served.signal(Signal::SIGTERM)?;
    served.ends_well(SOON)?;
    served.is_gone()
}

/// A mount inside the mount keeps it busy, and is named.
pub(crate) fn stranger_inside(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    let inside = mountpoint.join("inside");
    fs::create_dir(&inside).map_err(text)?;
    let stranger = Tmpfs::on(&inside)?;
    let said = served.umount(&[]).err().ok_or("a mount with a mount inside was unmounted")?;
    if !said.contains(&*inside.to_string_lossy()) {
        return Err(format!("the mount inside is not named: {said}"));
    }
    stranger.is_there()?;
    drop(stranger);
    served.finish()
}
