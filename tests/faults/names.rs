//! Directories with very many entries, and objects deeper than a path can name.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, Whence, lseek, read, unlinkat, write};

use crate::common::raw::{Dirent, getdents};
use crate::launch::Launch;
use crate::{Ground, text};

/// Entries, if `FUSEWIRE_ENTRIES` does not say otherwise.
pub(crate) const ENTRIES: usize = 50_000;
const ROOM: usize = 32 << 10;
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

pub(crate) fn entries_to_make() -> usize {
    std::env::var("FUSEWIRE_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(ENTRIES)
}

fn list(directory: &OwnedFd) -> Result<Vec<Dirent>, String> {
    let mut all = Vec::new();
    loop {
        match getdents(directory, ROOM).map_err(|errno| format!("getdents: {errno}"))? {
            entries if entries.is_empty() => return Ok(all),
            entries => all.extend(entries),
        }
    }
}

/// Each entry is listed once, whatever is made and removed beside it meanwhile; and every position
/// that was told is good to go on from.
pub(crate) fn very_many(ground: &Ground) -> Result<(), String> {
    let (count, (source, _)) = (entries_to_make(), ground.pair());
    fs::create_dir(source.join("many")).map_err(text)?;
    for number in 0..count {
        File::create(source.join(format!("many/entry-{number}"))).map_err(text)?;
    }
    for (data, options) in [("auto", "transport=auto"), ("copy", "transport=dev")] {
        let (_, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, data).option(options).go()?;
        let (here, behind) = (mountpoint.join("many"), source.join("many"));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for (who, at) in [("here", &here), ("behind", &behind)] {
                let over = &over;
                scope.spawn(move || come_and_go(at, who, over));
            }
            let listed = (0..3).try_for_each(|_| is_complete(&here, count));
            over.store(true, Relaxed);
            listed
        })
        .map_err(|reason| format!("{data}: {reason}"))?;
        positions(&here).map_err(|reason| format!("{data}: {reason}"))?;
        let began = Instant::now();
        let found = (0..count).filter(|number| here.join(format!("entry-{number}")).exists());
        if found.count() != count {
            return Err(format!("{data}: not every entry is found by its name"));
        }
        eprintln!("very many, {data}: {count} looked up in {:.1?}", began.elapsed());
        served.finish()?;
    }
    Ok(())
}

/// Names that are there for a moment, each once.
fn come_and_go(at: &Path, who: &str, over: &AtomicBool) {
    for number in 0.. {
        if over.load(Relaxed) {
            return;
        }
        let path = at.join(format!("passing-{who}-{number}"));
        File::create(&path).expect("create");
        fs::remove_file(&path).expect("remove");
    }
}

fn is_complete(at: &Path, count: usize) -> Result<(), String> {
    let began = Instant::now();
    let directory = open(at, DIRECTORY, Mode::empty()).map_err(text)?;
    let (mut lasting, mut seen) = (0, HashSet::new());
    for entry in list(&directory)? {
        lasting += usize::from(entry.name.starts_with(b"entry-"));
        if !seen.insert(entry.name.clone()) {
            return Err(format!("{} is listed twice", String::from_utf8_lossy(&entry.name)));
        }
    }
    eprintln!("very many: {lasting} of {} names listed in {:.1?}", seen.len(), began.elapsed());
    if lasting == count { Ok(()) } else { Err(format!("{lasting} of {count} are listed")) }
}

/// What telldir(3) and seekdir(3) do.
fn positions(at: &Path) -> Result<(), String> {
    let directory = open(at, DIRECTORY, Mode::empty()).map_err(text)?;
    let all = list(&directory)?;
    for at in (0..all.len() - 1).step_by(all.len() / 50 + 1) {
        lseek(&directory, all[at].next, Whence::SeekSet).map_err(text)?;
        let next = getdents(&directory, ROOM).map_err(text)?;
        if next.first().map(|entry| &entry.name) != Some(&all[at + 1].name) {
            return Err(format!("entry {at} does not lead to the next: {:?}", next.first()));
        }
    }
    lseek(&directory, 0, Whence::SeekSet).map_err(text)?;
    match list(&directory)? == all {
        true => Ok(()),
        false => Err("rewound, it lists something else".to_owned()),
    }
}

const STEPS: usize = 40;
const NAME_BYTES: usize = 250;

/// Step by step one gets deeper than PATH_MAX, on a mount as natively.
pub(crate) fn deeper_than_a_path(ground: &Ground) -> Result<(), String> {
    let (plain, _) = ground.pair();
    let native = descend(&plain).map_err(|errno| format!("natively: {errno}"))?;
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let seen = descend(&mountpoint).map_err(|errno| format!("{data}: {errno}"))?;
        if seen != native {
            return Err(format!("{data}: {seen}, natively {native}"));
        }
        let left = fs::read_dir(&source).map_err(text)?.count();
        served.finish()?;
        if left != 0 {
            return Err(format!("{data}: {left} names are left"));
        }
    }
    Ok(())
}

/// Makes directories below each other, works at the bottom, and removes them again.
fn descend(root: &Path) -> Result<String, Errno> {
    let name = |step: usize| format!("{step:0>NAME_BYTES$}");
    let mut dirs = vec![open(root, DIRECTORY, Mode::empty())?];
    for step in 0..STEPS {
        let at = dirs.last().expect("the root is there");
        mkdirat(at, name(step).as_str(), Mode::S_IRWXU)?;
        let next = openat(at, name(step).as_str(), DIRECTORY, Mode::empty())?;
        dirs.push(next);
    }
    let told = at_the_bottom(dirs.last().expect("the root is there").as_fd())?;
    let whole: String = (0..STEPS).map(|step| name(step) + "/").collect();
    let too_long = open(&root.join(whole), DIRECTORY, Mode::empty()).map(drop);
    for step in (0..STEPS).rev() {
        unlinkat(&dirs[step], name(step).as_str(), UnlinkatFlags::RemoveDir)?;
    }
    Ok(format!("{told}; all at once: {too_long:?}"))
}

fn at_the_bottom(at: BorrowedFd<'_>) -> Result<String, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let file = openat(at, "file", flags, Mode::from_bits_truncate(0o644))?;
    write(&file, b"deep down")?;
    lseek(&file, 0, Whence::SeekSet)?;
    let mut buffer = [0; 20];
    let count = read(&file, &mut buffer)?;
    renameat(at, "file", at, "moved")?;
    let names: Vec<String> = getdents(at, ROOM)?
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    unlinkat(at, "moved", UnlinkatFlags::NoRemoveDir)?;
    Ok(format!("{:?} {names:?} {}", &buffer[..count], fstat(&file)?.st_nlink))
}
