//! Sources that hold the mount point, go away, or are mounts of fusewire themselves.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::Ground;
use crate::common::text;
use crate::launch::{ENDS_WITHIN, Launch, Served};
use crate::tool::{settle, tool};

/// Longer than the kernel trusts a name or attributes by default.
const CACHE_EXPIRES: Duration = Duration::from_millis(1200);

fn find(at: &Path) -> Result<Vec<String>, String> {
    let found = tool("find", "findutils").args(["."]).within(at).limit(Duration::from_secs(15));
    let mut names: Vec<String> = found.run()?.lines().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// Inside the mount, the mount point is the empty directory that it covers.
pub(crate) fn holds_the_mount_point(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let (source, _) = ground.pair();
        let mountpoint = source.join("folder/here");
        fs::create_dir_all(&mountpoint).map_err(text)?;
        fs::write(source.join("folder/file"), "text").map_err(text)?;
        let served = Launch { foreground: true, ..Launch::new(&source, &mountpoint, data) }.go()?;
        let expected = [".", "./folder", "./folder/file", "./folder/here"];
        let seen = find(&mountpoint)?;
        if seen != expected {
            return Err(format!("inside the mount: {seen:?}"));
        }
        let inner = mountpoint.join("folder/here");
        let reach = || -> io::Result<usize> {
            fs::write(inner.join("below"), "covered")?;
            fs::write(mountpoint.join("folder/file"), "changed")?;
            Ok(fs::read_dir(&inner)?.count())
        };
        if reach().map_err(text)? != 1 {
            return Err("the covered directory does not hold what was written there".to_owned());
        }
        // From outside, the walk goes once through the mount.
        let seen = find(&source)?;
        let expected = [
            ".",
            "./folder",
            "./folder/file",
            "./folder/here",
            "./folder/here/folder",
            "./folder/here/folder/file",
            "./folder/here/folder/here",
            "./folder/here/folder/here/below",
        ];
        if seen != expected {
            return Err(format!("from outside: {seen:?}"));
        }
        served.finish()?;
        let below = fs::read_to_string(source.join("folder/here/below")).map_err(text)?;
        if below != "covered" {
            return Err(format!("what was written under the mount point: {below:?}"));
        }
    }
    Ok(())
}

/// `fusewire mount DIR DIR`.
pub(crate) fn is_the_mount_point(ground: &Ground) -> Result<(), String> {
    let (source, _) = ground.pair();
    fs::write(source.join("file"), "text").map_err(text)?;
    let served = Launch::new(&source, &source, "auto").go()?;
    let used = || -> io::Result<String> {
        fs::write(source.join("other"), "through the mount")?;
        fs::remove_file(source.join("file"))?;
        fs::read_to_string(source.join("other"))
    };
    used().map_err(|error| format!("mounted over itself: {error}"))?;
    if find(&source)? != [".", "./other"] {
        return Err("the names are not what they should be".to_owned());
    }
    served.signal(Signal::SIGTERM)?;
    served.ends_well(ENDS_WITHIN)?;
    let left = fs::read_to_string(source.join("other")).map_err(text)?;
    if left == "through the mount" { Ok(()) } else { Err(format!("left: {left:?}")) }
}

/// The source's file system is busy while it is shown; detached, it lives as long as it is.
pub(crate) fn is_unmounted(ground: &Ground) -> Result<(), String> {
    for flags in [MntFlags::empty(), MntFlags::MNT_DETACH] {
        let disk = ground.image(64 << 20)?;
        let source = disk.directory("source");
        let (_, mountpoint) = ground.pair();
        fs::write(source.join("file"), "text").map_err(text)?;
        let served = Launch::new(&source, &mountpoint, "auto").go()?;
        settle();
        let expected = if flags.is_empty() { Err(Errno::EBUSY) } else { Ok(()) };
        let unmounted = umount2(&disk.path(), flags);
        if unmounted != expected {
            return Err(format!("umount {flags:?} of the source: {unmounted:?}"));
        }
        let used = || -> io::Result<String> {
            fs::write(mountpoint.join("new"), "new")?;
            fs::File::open(mountpoint.join("new"))?.sync_all()?;
            fs::read_to_string(mountpoint.join("file"))
        };
        let read = used().map_err(|error| format!("after umount {flags:?}: {error}"))?;
        if read != "text" {
            return Err(format!("after umount {flags:?}: {read:?}"));
        }
        served.finish()?;
    }
    Ok(())
}

/// As in a working directory that was removed: nothing can be made, nothing hangs.
pub(crate) fn is_removed(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        fs::write(source.join("file"), "text").map_err(text)?;
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let held = fs::File::open(mountpoint.join("file")).map_err(text)?;
        fs::remove_dir_all(&source).map_err(text)?;
        thread::sleep(CACHE_EXPIRES);
        let errno = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        let enoent = Some(Errno::ENOENT as i32);
        let made = errno(fs::write(mountpoint.join("new"), "new"));
        let folder = errno(fs::create_dir(mountpoint.join("folder")));
        let found = errno(fs::metadata(mountpoint.join("file")).map(drop));
        if [made, folder, found] != [enoent; 3] {
            return Err(format!("in a removed source: {made:?}, {folder:?}, {found:?}"));
        }
        if !find(&mountpoint)?.iter().eq(["."].iter()) {
            return Err("a removed source lists names".to_owned());
        }
        let content =
            io::read_to_string(&held).map_err(|error| format!("an open file: {error}"))?;
        if content != "text" {
            return Err(format!("an open file of a removed source: {content:?}"));
        }
        drop(held);
        served.finish()?;
    }
    Ok(())
}

/// Two mounts of one source see each other's changes.
pub(crate) fn is_mounted_twice(ground: &Ground) -> Result<(), String> {
    let (source, first) = ground.pair();
    let (_, second) = ground.pair();
    for (one, other) in [("passthrough", "copy"), ("copy", "copy"), ("passthrough", "passthrough")]
    {
        let a = Launch::new(&source, &first, one).go()?;
        let b = Launch::new(&source, &second, other).go()?;
        change_by_turns(&first, &second).and_then(|()| change_by_turns(&second, &first)).map_err(
            |error| {
                let reports =
                    [&a, &b].map(|served| format!("{:?} {}", served.end(), served.report()));
                format!("{one} beside {other}: {error}\n{}", reports.join("\n"))
            },
        )?;
        a.finish()?;
        fs::metadata(second.join("kept")).map_err(text)?;
        b.finish()?;
    }
    Ok(())
}

fn change_by_turns(one: &Path, other: &Path) -> io::Result<()> {
    let path = |at: &Path| at.join("kept");
    fs::write(path(one), "first")?;
    thread::sleep(CACHE_EXPIRES);
    let mut seen = vec![fs::read_to_string(path(other))?];
    fs::write(path(one), "second, and longer")?;
    fs::write(one.join("passing"), "")?;
    fs::rename(one.join("passing"), one.join("renamed"))?;
    fs::metadata(other.join("renamed"))?;
    fs::remove_file(one.join("renamed"))?;
    thread::sleep(CACHE_EXPIRES);
    seen.push(fs::read_to_string(path(other))?);
    let gone = fs::metadata(other.join("renamed")).is_err();
    match seen == ["first", "second, and longer"] && gone {
        true => Ok(()),
        false => Err(io::Error::other(format!("seen: {seen:?}, gone: {gone}"))),
    }
}

/// A mount of a mount works, or says why it can not be had.
pub(crate) fn is_a_mount(ground: &Ground) -> Result<(), String> {
    for outer in ["passthrough", "copy"] {
        for inner in ["passthrough", "copy", "auto"] {
            let (source, below) = ground.pair();
            let (_, above) = ground.pair();
            let first = Launch::new(&source, &below, outer).go()?;
            match Launch::new(&below, &above, inner).go() {
                Ok(second) => stacked(second, &above, &source)
                    .map_err(|reason| format!("{inner} over {outer}: {reason}"))?,
                Err(reason) if inner == "passthrough" && reason.contains("passthrough can not") => {
                    eprintln!("{inner} over {outer}: {reason}");
                }
                Err(reason) => return Err(format!("{inner} over {outer}: {reason}")),
            }
            first.finish()?;
        }
    }
    Ok(())
}

fn stacked(second: Served, above: &Path, source: &Path) -> Result<(), String> {
    let content = crate::common::shell::pattern(9, 3 << 20);
    let used = || -> io::Result<bool> {
        fs::create_dir(above.join("folder"))?;
        fs::write(above.join("folder/new"), &content)?;
        fs::rename(above.join("folder/new"), above.join("file"))?;
        fs::File::open(above.join("file"))?.sync_all()?;
        fs::hard_link(above.join("file"), above.join("folder/link"))?;
        let through = fs::read(above.join("folder/link"))? == content;
        Ok(through && fs::read(source.join("file"))? == content)
    };
    if !used().map_err(text)? {
        return Err("what was written is not what is read".to_owned());
    }
    second.finish()
}

/// The lower of two stacked daemons is killed: the upper one answers errors and can be unmounted.
pub(crate) fn is_a_dead_mount(ground: &Ground) -> Result<(), String> {
    let (source, below) = ground.pair();
    let (_, above) = ground.pair();
    for name in ["file", "other"] {
        fs::write(source.join(name), "text").map_err(text)?;
    }
    let first = Launch::new(&source, &below, "copy").go()?;
    let second = Launch::new(&below, &above, "copy").go()?;
    fs::metadata(above.join("file")).map_err(text)?;
    first.signal(Signal::SIGKILL)?;
    thread::sleep(CACHE_EXPIRES);
    // What the dead mount has shown before, the kernel still knows.
    let stat = tool("stat", "coreutils").arg(above.join("other")).limit(Duration::from_secs(10));
    let output = stat.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() || !said.contains("not connected") {
        return Err(format!("over a dead mount: {output:?}"));
    }
    // The upper daemon holds its source, dead or not.
    if first.umount(&[]).is_ok() {
        return Err("a mount was unmounted which another daemon shows".to_owned());
    }
    first.umount(&["--lazy"])?;
    second.finish()
}
