//! Many files, few descriptors: what the inode table costs, on a source with file handles and on one
//! without. Needs root and /dev/fuse.
//!
//! `FUSEWIRE_SCALE=1000000 cargo test --test scale -- handles` walks a million files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use nix::mount::{MsFlags, mount};

#[path = "../common/mod.rs"]
mod common;

use common::daemon::Daemon;
use common::disk::{Disk, Mounted};
use common::text;

/// Files below the source, if `FUSEWIRE_SCALE` does not say otherwise.
const FILES: usize = 100_000;
/// Files where there are no handles.
const NAMED_FILES: usize = 30_000;
const PER_DIRECTORY: usize = 1000;
/// Resident memory that an inode may cost as long as the kernel knows it, bytes.
const BYTES_PER_INODE: u64 = 128;
/// Resident memory that may be left of them once the kernel has forgotten them all, bytes.
const LEFT_BYTES: u64 = 64 << 20;
/// Time of two walkers on a half of the tree each, as a multiple of one's on the whole. They should
/// not need more; the rest is for what else the machine does.
const TWO_WALKERS: f64 = 1.5;

type Body = fn() -> Result<(), String>;

const TESTS: &[(&str, Body)] = &[
    ("handles::walk", handles_walk),
    ("handles::very_few_descriptors", || very_few_descriptors(false)),
    ("names::walk", names_walk),
    ("names::very_few_descriptors", || very_few_descriptors(true)),
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    if let Err(reason) = common::disk::private_mounts() {
        eprintln!("the tests of scale cannot run: {reason}");
        return ExitCode::FAILURE;
    }
    let trial = |(name, body): &(&str, Body)| {
        let body = *body;
        Trial::test(*name, move || Ok(body()?))
    };
    libtest_mimic::run(&args, TESTS.iter().map(trial).collect()).exit_code()
}

/// The `n`th file's path below `root`.
fn path(root: &Path, n: usize) -> PathBuf {
    root.join((n / PER_DIRECTORY).to_string()).join(n.to_string())
}

/// Makes `count` files whose content tells which one they are.
fn plant(root: &Path, count: usize) -> io::Result<()> {
    for n in 0..count {
        if n % PER_DIRECTORY == 0 {
            fs::create_dir(root.join((n / PER_DIRECTORY).to_string()))?;
        }
        fs::write(path(root, n), n.to_string())?;
    }
    Ok(())
}

/// Lists the directories `which`, and looks at every entry.
fn walk(root: &Path, which: impl Iterator<Item = usize>) -> Result<usize, String> {
    let mut seen = 0;
    for dir in which {
        let dir = root.join(dir.to_string());
        for entry in fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))? {
            let path = entry.map_err(text)?.path();
            let stat = fs::symlink_metadata(&path);
            let stat = stat.map_err(|error| format!("{}: {error}", path.display()))?;
            if !stat.is_file() || stat.size() == 0 {
                return Err(format!("{} is not what was made: {stat:?}", path.display()));
            }
            seen += 1;
        }
    }
    Ok(seen)
}

/// Each of `walkers` walks its part of the tree; how long all of them take.
fn timed(root: &Path, files: usize, walkers: usize) -> Result<Duration, String> {
    let (began, dirs) = (Instant::now(), files / PER_DIRECTORY);
    let seen = thread::scope(|scope| {
        let part = |part| scope.spawn(move || walk(root, (0..dirs).skip(part).step_by(walkers)));
        let parts: Vec<_> = (0..walkers).map(part).collect();
        let ends = parts.into_iter().map(|part| part.join().expect("no panic"));
        ends.sum::<Result<usize, String>>()
    })?;
    match seen == files {
        true => Ok(began.elapsed()),
        false => Err(format!("{seen} files of {files}")),
    }
}

/// Has the kernel forget every inode of a mount that nobody uses: a remount drops its dentries.
fn forget(daemon: &Daemon) -> Result<(), String> {
    let none = None::<&str>;
    for _ in 0..100 {
        mount(none, &daemon.mountpoint, none, MsFlags::MS_REMOUNT, none).map_err(text)?;
        // The root, and who has just looked.
        if daemon.stats()?.live.inodes <= 2 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(format!("the kernel still knows {} inodes", daemon.stats()?.live.inodes))
}

/// A daemon that may open `nofile` descriptors.
fn start(nofile: u32, source: &Path, mountpoint: &Path, options: &str) -> Result<Daemon, String> {
    let limit = format!("--nofile={nofile}:{nofile}");
    Daemon::start_through(&["prlimit", &limit], source, mountpoint, "auto", options)
}

/// A walk of everything: no error, bounded memory while it is known and after it is forgotten, and
/// two walkers are not slower than one.
fn handles_walk() -> Result<(), String> {
    const NOFILE: u32 = 1024;
    let files = match std::env::var("FUSEWIRE_SCALE") {
        Ok(count) => count.parse::<usize>().map_err(|error| format!("FUSEWIRE_SCALE: {error}"))?,
        Err(_) => FILES,
    };
    let files = files.next_multiple_of(PER_DIRECTORY);
    let disk = Disk::new((files as u64 * (20 << 10)).max(1 << 30))?;
    let source = disk.directory("source");
    plant(&source, files).map_err(|error| format!("make {files} files: {error}"))?;
    let daemon = start(NOFILE, &source, &disk.mountpoint("mount"), "entry_timeout=600")?;
    let at = &daemon.mountpoint;
    // What is needed once is there before anything is measured.
    timed(at, files.min(10 * PER_DIRECTORY), 1)?;
    forget(&daemon)?;
    let idle = daemon.stats()?.live;

    let (mut one, mut two) = (timed(at, files, 1)?, Duration::MAX);
    let known = daemon.stats()?.live;
    forget(&daemon)?;
    let left = daemon.stats()?.live;
    for _ in 0..4 {
        two = timed(at, files, 2)?;
        forget(&daemon)?;
        if two.as_secs_f64() <= one.as_secs_f64() * TWO_WALKERS {
            break;
        }
        one = timed(at, files, 1)?;
        forget(&daemon)?;
    }

    let each = known.rss_bytes.saturating_sub(idle.rss_bytes) / known.inodes.max(1);
    let kept = left.rss_bytes.saturating_sub(idle.rss_bytes);
    eprintln!(
        "{files} files: {} inodes known, {each} bytes each, {} KiB resident before, {} after; {} \
         descriptors at most {NOFILE}; one walker {one:.2?}, two {two:.2?}",
        known.inodes,
        idle.rss_bytes >> 10,
        left.rss_bytes >> 10,
        known.fds
    );
    if known.inodes < files as u64 {
        return Err(format!("{} inodes are known, of {files} files", known.inodes));
    }
    if each > BYTES_PER_INODE || kept > LEFT_BYTES {
        return Err(format!("{each} bytes for each inode, {kept} when all are forgotten"));
    }
    if two.as_secs_f64() > one.as_secs_f64() * TWO_WALKERS {
        return Err(format!("two walkers take {two:.2?}, one {one:.2?}"));
    }
    Ok(())
}

/// An overlay of `lower`, whose files have no handles that could be opened.
struct Overlay {
    merged: PathBuf,
    _mounted: Mounted,
}

impl Overlay {
    fn new(disk: &Disk, lower: &Path) -> Result<Self, String> {
        let (upper, work) = (disk.directory("upper"), disk.directory("work"));
        let merged = disk.mountpoint("merged");
        let options = format!(
            "lowerdir={},upperdir={},workdir={},index=off,nfs_export=off",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(Some("none"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|errno| format!("mount an overlay of {}: {errno}", lower.display()))?;
        let _mounted = Mounted::new(merged.clone());
        Ok(Overlay { merged, _mounted })
    }
}

/// Without handles: every file is still there after more of them were walked than there are
/// descriptors, whatever happened to the names above it.
fn names_walk() -> Result<(), String> {
    const NOFILE: u32 = 256;
    let disk = Disk::new(1 << 30)?;
    let lower = disk.directory("lower");
    plant(&lower, NAMED_FILES).map_err(|error| format!("make {NAMED_FILES} files: {error}"))?;
    let overlay = Overlay::new(&disk, &lower)?;
    // Long timeouts: the kernel comes back with nodeids, not with names.
    let options = "entry_timeout=600,attr_timeout=0";
    let daemon = start(NOFILE, &overlay.merged, &disk.mountpoint("mount"), options)?;
    let at = &daemon.mountpoint;
    if !daemon.report().contains("no file handles") {
        return Err(format!("it does not say that there are no handles\n{}", daemon.report()));
    }
    timed(at, NAMED_FILES, 2)?;
    let live = daemon.stats()?.live;
    eprintln!("{} inodes known, {} descriptors at most {NOFILE}", live.inodes, live.fds);
    if live.inodes < NAMED_FILES as u64 || live.fds > u64::from(NOFILE) {
        return Err(format!("not as many inodes, or more descriptors: {live:?}"));
    }
    let dirs = NAMED_FILES / PER_DIRECTORY;
    for dir in 0..dirs {
        fs::rename(at.join(dir.to_string()), at.join(format!("moved-{dir}")))
            .or_else(|error| match error.raw_os_error() {
                // What overlayfs answers for a directory that lies below only.
                Some(libc::EXDEV) => Ok(()),
                _ => Err(error),
            })
            .map_err(|error| format!("rename directory {dir}: {error}"))?;
    }
    for n in (0..NAMED_FILES).step_by(7) {
        let (dir, name) = (n / PER_DIRECTORY, n.to_string());
        let moved = at.join(format!("moved-{dir}"));
        let dir = if moved.exists() { moved } else { at.join(dir.to_string()) };
        let read = fs::read_to_string(dir.join(&name)).map_err(|error| format!("{n}: {error}"))?;
        if read != name {
            return Err(format!("file {n} holds {read:?}"));
        }
    }
    Ok(())
}

/// With 64 descriptors, of which the daemon needs some itself, files are walked, read, held open,
/// replaced and removed.
fn very_few_descriptors(overlaid: bool) -> Result<(), String> {
    const FILES: usize = 2 * PER_DIRECTORY;
    const HELD: usize = 16;
    let disk = Disk::new(256 << 20)?;
    let plain = disk.directory("source");
    plant(&plain, FILES).map_err(|error| format!("make {FILES} files: {error}"))?;
    let overlay = if overlaid { Some(Overlay::new(&disk, &plain)?) } else { None };
    let source = overlay.as_ref().map_or(&plain, |overlay| &overlay.merged);
    let daemon = start(64, source, &disk.mountpoint("mount"), "entry_timeout=600")?;
    let at = &daemon.mountpoint;
    let held: Vec<File> = (0..HELD)
        .map(|n| File::open(path(at, n)).map_err(|error| format!("hold {n} open: {error}")))
        .collect::<Result<_, _>>()?;
    timed(at, FILES, 2)?;
    for n in 0..FILES {
        let file = path(at, n);
        let fail = |error: io::Error| format!("{}: {error}", file.display());
        if fs::read_to_string(&file).map_err(fail)? != n.to_string() {
            return Err(format!("{} holds something else", file.display()));
        }
        match n % 50 {
            0 => fs::remove_file(&file).map_err(fail)?,
            1 => {
                let new = file.with_extension("new");
                fs::write(&new, "new").and_then(|()| fs::rename(&new, &file)).map_err(fail)?;
                if fs::read_to_string(&file).map_err(fail)? != "new" {
                    return Err(format!("{} was replaced, and is not", file.display()));
                }
            }
            _ => {}
        }
    }
    for (n, file) in held.into_iter().enumerate() {
        let read = io::read_to_string(file).map_err(|error| format!("held {n}: {error}"))?;
        if read != n.to_string() {
            return Err(format!("held {n} holds {read:?}"));
        }
    }
    let fds = daemon.stats()?.live.fds;
    if fds > 64 { Err(format!("{fds} descriptors of 64")) } else { Ok(()) }
}
