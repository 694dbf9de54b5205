//! File systems that people have mounted: over sshfs, gocryptfs and EncFS.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use crate::common::daemon::Daemon;
use crate::common::shell::pattern;
use crate::common::text;
use crate::tool::exclusively;

const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// More than a page, and no multiple of one.
const LENGTH: usize = 300_001;

/// A file system of another program.
struct Other {
    mountpoint: PathBuf,
    child: Child,
}

impl Other {
    /// Runs `command`, which mounts on `mountpoint` and stays in the foreground.
    fn start(mut command: Command, mountpoint: &Path) -> Result<Self, String> {
        let device = || fs::metadata(mountpoint).map(|metadata| metadata.dev()).ok();
        let before = device();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut other = Other { mountpoint: mountpoint.to_owned(), child };
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if device() != before {
                return Ok(other);
            }
            if let Ok(Some(status)) = other.child.try_wait() {
                return Err(format!("{command:?} ended with {status}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{command:?} has not mounted within 20 s"))
    }

    fn kill(&mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(text)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(5)
        {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.kill();
    }
}

/// Folders `plain`, `below` and `above`.
fn folders() -> Result<(TempDir, [PathBuf; 3]), String> {
    let directory = TempDir::with_prefix("fusewire-test-").map_err(text)?;
    let paths = ["plain", "below", "above"].map(|name| directory.path().join(name));
    for path in &paths {
        fs::create_dir(path).map_err(text)?;
    }
    Ok((directory, paths))
}

/// What is there across a secure shell is here, by the server's side of one alone.
pub(crate) fn sshfs() -> Result<(), String> {
    let (directory, [plain, below, above]) = folders()?;
    let shell = directory.path().join("ssh");
    fs::write(&shell, format!("#!/bin/sh\nexec {SFTP_SERVER}\n")).map_err(text)?;
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).map_err(text)?;
    let mut command = Command::new("sshfs");
    command.arg("-f").arg("-o").arg(format!("ssh_command={}", shell.display()));
    command.arg(format!("there:{}", plain.display())).arg(&below);
    show(command, &below, &above, false)
}

pub(crate) fn gocryptfs() -> Result<(), String> {
    let (_directory, [plain, below, above]) = folders()?;
    let password = ["-q", "-extpass", "echo secret"];
    let mut init = Command::new("gocryptfs");
    init.args(["-init", "-scryptn", "10"]).args(password).arg(&plain).stdout(Stdio::null());
    let status = init.status().map_err(|error| format!("{init:?}: {error}"))?;
    if !status.success() {
        return Err(format!("{init:?}: {status}"));
    }
    let mut command = Command::new("gocryptfs");
    command.arg("-fg").args(password).arg(&plain).arg(&below);
    show(command, &below, &above, true)
}

pub(crate) fn encfs() -> Result<(), String> {
    let (_directory, [plain, below, above]) = folders()?;
    let mut command = Command::new("encfs");
    command.args(["-f", "--standard", "--extpass", "echo secret"]).arg(&plain).arg(&below);
    show(command, &below, &above, true)
}

/// Mounts what `command` does and fusewire over it, in each data mode, and uses it.
fn show(command: Command, below: &Path, above: &Path, links: bool) -> Result<(), String> {
    let mut other = exclusively(|| Other::start(command, below))?;
    for (data, options) in [("passthrough", "transport=uring"), ("copy", "transport=dev")] {
        let daemon = exclusively(|| Daemon::start(below, above, data, options))?;
        used(&daemon, links).map_err(|reason| format!("{data}: {reason}\n{}", daemon.report()))?;
        let stats = daemon.stats()?;
        if stats.coherence.mode != "timeout=1" {
            return Err(format!("who tells of changes below? {:?}", stats.coherence));
        }
    }
    let daemon = exclusively(|| Daemon::start(below, above, "auto", ""))?;
    fs::write(above.join("last"), "text").map_err(text)?;
    other.kill()?;
    // What the kernel remembers is good for a second.
    thread::sleep(Duration::from_millis(1100));
    if fs::metadata(above.join("last")).is_ok() {
        return Err("it answers, and the program below is dead".to_owned());
    }
    drop(daemon);
    Ok(())
}

fn used(daemon: &Daemon, links: bool) -> Result<(), String> {
    let (here, there) = (&daemon.mountpoint, &daemon.source);
    let same = |what: &str, good: bool| if good { Ok(()) } else { Err(what.to_owned()) };
    let content = pattern(7, LENGTH);
    let step = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    fs::create_dir(here.join("folder")).map_err(step("mkdir"))?;
    let mut file = File::create(here.join("folder/file")).map_err(step("create"))?;
    file.write_all(&content).map_err(step("write"))?;
    nix::unistd::close(file.into_raw_fd()).map_err(text)?;
    same("read there", fs::read(there.join("folder/file")).map_err(text)? == content)?;
    same("read here", fs::read(here.join("folder/file")).map_err(text)? == content)?;
    let file = OpenOptions::new().read(true).write(true).open(here.join("folder/file"));
    let mut file = file.map_err(step("open"))?;
    file.write_all_at(b"anew", 4094).map_err(step("pwrite"))?;
    file.seek(SeekFrom::Start(4094)).map_err(step("seek"))?;
    let mut four = [0; 4];
    file.read_exact(&mut four).map_err(step("read"))?;
    same("read what was just written", four == *b"anew")?;
    file.set_len(5000).map_err(step("ftruncate"))?;
    file.sync_all().map_err(step("fsync"))?;
    drop(file);
    let mut file = OpenOptions::new().append(true).open(here.join("folder/file"));
    file.as_mut().map_err(|error| error.to_string())?.write_all(b"end").map_err(step("append"))?;
    drop(file);
    fs::rename(here.join("folder/file"), here.join("moved")).map_err(step("rename"))?;
    same("the old name", !here.join("folder/file").exists())?;
    let moved = fs::read(here.join("moved")).map_err(step("read"))?;
    same("4094", moved.len() == 5003 && &moved[4094..4098] == b"anew" && moved.ends_with(b"end"))?;
    same("there too", fs::read(there.join("moved")).map_err(text)? == moved)?;
    fs::set_permissions(here.join("moved"), fs::Permissions::from_mode(0o640))
        .map_err(step("chmod"))?;
    same("mode", fs::metadata(there.join("moved")).map_err(text)?.mode() & 0o777 == 0o640)?;
    if links {
        fs::hard_link(here.join("moved"), here.join("other")).map_err(step("link"))?;
        same("the link", fs::read(here.join("other")).map_err(step("read"))? == moved)?;
        fs::remove_file(here.join("other")).map_err(step("unlink"))?;
    }
    symlink("moved", here.join("pointer")).map_err(step("symlink"))?;
    same("readlink", fs::read_link(here.join("pointer")).map_err(text)? == Path::new("moved"))?;
    for number in 0..100 {
        fs::write(here.join(format!("folder/{number}")), number.to_string()).map_err(text)?;
    }
    let listed = |at: &Path| fs::read_dir(at.join("folder")).map(Iterator::count).map_err(text);
    same("listed", (listed(here)?, listed(there)?) == (100, 100))?;
    fs::remove_dir_all(here.join("folder")).map_err(step("remove"))?;
    fs::remove_file(here.join("moved")).map_err(step("unlink"))?;
    fs::remove_file(here.join("pointer")).map_err(step("unlink"))?;
    let left = fs::read_dir(there).map_err(text)?.count();
    match left {
        0 => Ok(()),
        left => Err(format!("{left} names are left")),
    }
}
