//! Full disks and few descriptors.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::Ground;
use crate::common::shell::pattern;
use crate::common::text;
use crate::launch::{Launch, Served, eventually};
use crate::tool::{Tool, shell, tool};

const FILES: usize = 30_000;
const FOLDERS: usize = 30;
/// RLIMIT_NOFILE of a daemon that shows all of them.
const FEW: u32 = 256;
/// So many of them at least are for files that users have open.
const FOR_USERS: usize = 100;
const RESIDENT_BYTES: u64 = 100 << 20;

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// ENOSPC reaches the caller, what was written is intact, and once there is room work goes on.
pub(crate) fn full_disk(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let disk = ground.image(24 << 20)?;
        let (source, (_, mountpoint)) = (disk.directory("source"), ground.pair());
        let served = Launch::new(&source, &mountpoint, data).go()?;
        full(&mountpoint, &source).map_err(|reason| format!("{data}: {reason}"))?;
        let stats = served.stats()?;
        let wrong: Vec<_> =
            stats.requests.iter().filter(|(_, at)| at.errors.contains_key("EIO")).collect();
        if !wrong.is_empty() {
            return Err(format!("{data}: EIO for {wrong:?}"));
        }
        served.finish()?;
    }
    Ok(())
}

fn full(at: &Path, source: &Path) -> Result<(), String> {
    let before = pattern(11, 1 << 20);
    let mut kept = File::create(at.join("kept")).map_err(text)?;
    kept.write_all(&before).and_then(|()| kept.sync_all()).map_err(text)?;
    let mut filler = File::create(at.join("filler")).map_err(text)?;
    let block = pattern(12, 64 << 10);
    let mut taken = 0;
    let error = loop {
        match filler.write(&block[taken % block.len()..]) {
            Ok(count) => taken += count,
            Err(error) => break error,
        }
    };
    let size = filler.metadata().map_err(text)?.len();
    if errno(&error) != Errno::ENOSPC || size != taken as u64 {
        return Err(format!("{error} after {taken} bytes were taken, of which {size} are there"));
    }
    let refused = nix::fcntl::fallocate(&kept, nix::fcntl::FallocateFlags::empty(), 0, 20 << 20);
    if refused != Err(Errno::ENOSPC) {
        return Err(format!("fallocate on a full disk: {refused:?}"));
    }
    drop(filler);
    for place in [at, source] {
        let (kept, filler) = (fs::read(place.join("kept")), fs::read(place.join("filler")));
        let (kept, filler) = (kept.map_err(text)?, filler.map_err(text)?);
        let torn = filler.chunks(block.len()).position(|chunk| *chunk != block[..chunk.len()]);
        let same = kept.get(..before.len()) == Some(&before[..]);
        if !same || torn.is_some() || filler.len() != taken {
            let (place, kept, filled) = (place.display(), kept.len(), filler.len());
            return Err(format!(
                "in {place}: what was written first: {kept} bytes, the same: {same}; what filled the \
                 disk: {filled} bytes of {taken}, torn at block {torn:?}"
            ));
        }
    }
    fs::remove_file(at.join("filler")).map_err(text)?;
    // ext4 frees the blocks of an unlinked file once the daemon has let go of it.
    let mut last = String::new();
    let again = || -> io::Result<()> {
        fs::write(at.join("again"), pattern(13, 8 << 20))?;
        File::open(at.join("again"))?.sync_all()
    };
    for _ in 0..50 {
        match again() {
            Ok(()) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
        thread::sleep(Duration::from_millis(40));
    }
    Err(format!("with room again: {last}"))
}

fn listing(at: &Path) -> Tool {
    let columns = "%p %m %u %g %n %s %y\\n";
    let find = tool("find", "findutils").args([".", "-printf", columns]);
    find.within(at).limit(Duration::from_secs(60))
}

/// Thirty thousand files are walked, by several at once, through a daemon with few descriptors.
pub(crate) fn walk(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    plant(&source).map_err(|error| format!("make {FILES} files: {error}"))?;
    let mut expected: Vec<String> = listing(&source).run()?.lines().map(str::to_owned).collect();
    expected.sort();
    for data in ["auto", "copy"] {
        let launch = Launch { nofile: Some(FEW), ..Launch::new(&source, &mountpoint, data) };
        let served = launch.go()?;
        let running = [
            listing(&mountpoint).start()?,
            listing(&mountpoint).start()?,
            tool("find", "findutils").arg(&mountpoint).arg("-ls").start()?,
            tool("grep", "grep").args(["-rc", "nothing like it"]).arg(&mountpoint).start()?,
        ];
        let mut most = served.stats()?.live;
        let mut walked = Vec::new();
        for (number, running) in running.into_iter().enumerate() {
            let output = running.finish()?;
            let live = served.stats()?.live;
            most.fds = most.fds.max(live.fds);
            most.rss_bytes = most.rss_bytes.max(live.rss_bytes);
            if !output.stderr.is_empty() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(format!(
                    "{data}: walk {number}: {}",
                    said.lines().next().unwrap_or("")
                ));
            }
            walked.push(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        for walked in &walked[..2] {
            let mut lines: Vec<&str> = walked.lines().collect();
            lines.sort_unstable();
            if lines != expected {
                return Err(format!("{data}: {} lines, not {}", lines.len(), expected.len()));
            }
        }
        let listed = walked[2].lines().count();
        if listed != expected.len() {
            return Err(format!("{data}: find -ls lists {listed} of {}", expected.len()));
        }
        let (inodes, mib) = (served.stats()?.live.inodes, most.rss_bytes >> 20);
        eprintln!("walk, {data}: {inodes} inodes, {} descriptors, {mib} MiB resident", most.fds);
        if most.fds > u64::from(FEW) || most.rss_bytes > RESIDENT_BYTES {
            return Err(format!("{data}: too much: {most:?}"));
        }
        served.finish()?;
    }
    Ok(())
}

fn plant(source: &Path) -> io::Result<()> {
    for folder in 0..FOLDERS {
        let at = source.join(format!("folder-{folder}"));
        fs::create_dir(&at)?;
        for file in 0..FILES / FOLDERS {
            fs::write(at.join(format!("file-{file}")), &b"some text"[..file % 10])?;
        }
    }
    Ok(())
}

/// A daemon whose descriptors are all in the hands of users says so, and recovers.
pub(crate) fn few_descriptors(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        for number in 0..1000 {
            fs::write(source.join(format!("file-{number}")), "text").map_err(text)?;
        }
        let served =
            Launch { nofile: Some(FEW), ..Launch::new(&source, &mountpoint, data) }.go()?;
        if data == "passthrough" {
            read_many(&mountpoint, &served)?;
        }
        exhaust(&mountpoint, &served).map_err(|reason| format!("{data}: {reason}"))?;
        served.finish()?;
    }
    Ok(())
}

/// What programs do all day, through a daemon with as few descriptors as there may be.
pub(crate) fn programs(ground: &Ground) -> Result<(), String> {
    const LINE: &str = "find tree -type f | wc -l; cp -r tree copy; diff -r tree copy; cd copy; git init -q .; \
        git add -A; git -c user.name=a -c user.email=a@example.org commit -qm all; \
        rm folder-2/file-0; echo more >> folder-3/file-1; git status --porcelain";
    // Each queue and worker takes some.
    let cpus = u32::try_from(thread::available_parallelism().map_err(text)?.get()).map_err(text)?;
    let fewest = (48 + 8 * cpus).max(64);
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        for folder in 0..10 {
            let at = source.join(format!("tree/folder-{folder}"));
            fs::create_dir_all(&at).map_err(text)?;
            for file in 0..60 {
                fs::write(at.join(format!("file-{file}")), "some text").map_err(text)?;
            }
        }
        let launch = Launch { nofile: Some(fewest), ..Launch::new(&source, &mountpoint, data) };
        let served = launch.go()?;
        let work = shell(LINE).within(&mountpoint).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let said = work.env("GIT_CONFIG_NOSYSTEM", "1").run()?;
        let words: Vec<&str> = said.split_whitespace().collect();
        let fds = served.stats()?.live.fds;
        if words != ["600", "D", "folder-2/file-0", "M", "folder-3/file-1"]
            || fds > u64::from(fewest)
        {
            return Err(format!("{data}: {fds} descriptors, and {said}"));
        }
        served.finish()?;
    }
    Ok(())
}

/// There is room for all descriptors before the daemon has a second thread: who makes room afterwards
/// waits for every CPU, and with it whoever has asked.
pub(crate) fn room_for_descriptors(ground: &Ground) -> Result<(), String> {
    const LIMIT: u32 = 3000;
    for foreground in [false, true] {
        let (source, mountpoint) = ground.pair();
        let launch =
            Launch { nofile: Some(LIMIT), foreground, ..Launch::new(&source, &mountpoint, "copy") };
        let served = launch.go()?;
        let status = format!("/proc/{}/status", served.stats()?.pid);
        let status = fs::read_to_string(status).map_err(text)?;
        let room = status.lines().find_map(|line| line.strip_prefix("FDSize:")).map(str::trim);
        if room.and_then(|room| room.parse().ok()).is_none_or(|room: u32| room < LIMIT) {
            return Err(format!("foreground {foreground}: room for {room:?} of {LIMIT}"));
        }
        served.finish()?;
    }
    Ok(())
}

/// What the kernel opens and reads by itself needs none of the daemon's descriptors, save for a moment
/// those of which something else is asked.
fn read_many(at: &Path, served: &Served) -> Result<(), String> {
    let open = |number| File::open(at.join(format!("file-{number}")));
    let open: Vec<File> = (0..1000).map(open).collect::<Result<_, _>>().map_err(text)?;
    for file in &open {
        file.sync_all().map_err(|error| format!("fsync of one of many: {error}"))?;
        let read = io::read_to_string(file).map_err(|error| format!("one of many: {error}"))?;
        if read != "text" {
            return Err(format!("one of many open files reads {read:?}"));
        }
    }
    let live = served.stats()?.live;
    if live.open_files != 1000 || live.fds > u64::from(FEW) {
        return Err(format!("a thousand open files: {live:?}"));
    }
    Ok(())
}

fn exhaust(at: &Path, served: &Served) -> Result<(), String> {
    let path = |number: usize| at.join(format!("file-{number}"));
    let open_one = |number: usize| File::options().read(true).write(true).open(path(number));
    // Everything is known, nothing is open: descriptors for this are recycled.
    for number in 0..1000 {
        fs::metadata(path(number)).map_err(|error| format!("stat file {number}: {error}"))?;
    }
    let mut open = Vec::new();
    let error = loop {
        match open_one(open.len()) {
            Ok(file) => open.push(file),
            Err(error) => break error,
        }
        if open.len() > FEW as usize {
            return Err(format!("{} files are open with {FEW} descriptors", open.len()));
        }
    };
    // Not EMFILE: it is not the caller who has too many.
    if errno(&error) != Errno::ENFILE || open.len() < FOR_USERS {
        return Err(format!("{error} with {} open and {FEW} descriptors", open.len()));
    }
    // Whoever opens nothing notices nothing.
    for number in 0..1000 {
        fs::metadata(path(number)).map_err(|error| format!("full, stat {number}: {error}"))?;
    }
    fs::rename(path(999), path(1000)).map_err(|error| format!("full, rename: {error}"))?;
    fs::rename(path(1000), path(999)).map_err(|error| format!("full, rename: {error}"))?;
    for file in &open {
        let read = io::read_to_string(file).map_err(|error| format!("an open file: {error}"))?;
        if read != "text" {
            return Err(format!("an open file reads {read:?}"));
        }
    }
    // One that is closed makes room for one that is opened, once the daemon has heard of it.
    for number in 900..920 {
        drop(open.pop());
        let mut last = None;
        let reopened = eventually(Duration::from_secs(10), || open_one(number).is_ok());
        if !reopened {
            last = open_one(number).err();
        }
        if let Some(error) = last {
            return Err(format!("after a close, open: {error}"));
        }
    }
    drop(open);
    let closed = || served.stats().is_ok_and(|stats| stats.live.open_files == 0);
    if !eventually(Duration::from_secs(15), closed) {
        return Err(format!("after all were closed: {:?}", served.stats()));
    }
    for number in 0..1000 {
        fs::read(path(number)).map_err(|error| format!("recovered, read {number}: {error}"))?;
    }
    let listed = fs::read_dir(at).map_err(text)?.count();
    if listed == 1000 { Ok(()) } else { Err(format!("{listed} names are listed")) }
}
