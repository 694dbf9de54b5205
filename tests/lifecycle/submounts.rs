//! File systems that are mounted inside the source: shown as they are natively, or kept out.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirEntryExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fusewire::mountinfo::MountTable;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use nix::unistd::syncfs;

use crate::Ground;
use crate::common::disk::{Disk, Mounted, bind};
use crate::common::shell::pattern;
use crate::common::text;
use crate::launch::{Launch, eventually};
use crate::tool::tool;

/// By when a change shows that was made behind the mount, where nobody tells of it.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)
}

/// A source with file systems inside. They go in this order: inner ones first.
struct Inside {
    source: PathBuf,
    mountpoint: PathBuf,
    _mounts: Vec<Mounted>,
    _disk: Disk,
}

fn memory(target: &Path, kind: &str, flags: MsFlags) -> Result<Mounted, String> {
    mount(Some("none"), target, Some(kind), flags, None::<&str>)
        .map_err(|errno| format!("mount {kind} on {}: {errno}", target.display()))?;
    Ok(Mounted::of(target))
}

/// `disk`, an ext4; in it `deep/memory`, a tmpfs; `twin`, a directory of the source's own file system
/// which lies elsewhere; `fixed`, another that can not be written to; `proc`.
fn inside(ground: &Ground) -> Result<Inside, String> {
    let (source, mountpoint) = ground.pair();
    let (elsewhere, _) = ground.pair();
    let at = |name: &str| source.join(name);
    for name in ["plain", "disk", "twin", "fixed", "proc", "late"] {
        fs::create_dir(at(name)).map_err(text)?;
    }
    fs::write(at("disk/beneath"), "covered").map_err(text)?;
    let disk = ground.image(64 << 20)?;
    let mut mounts = vec![bind(&disk.path(), &at("disk"), "")?];
    fs::create_dir_all(at("disk/deep/memory")).map_err(text)?;
    mounts.push(memory(&at("disk/deep/memory"), "tmpfs", MsFlags::MS_NOSUID)?);
    for (name, options) in [("twin", ""), ("fixed", "ro")] {
        let shown = elsewhere.join(name);
        fs::create_dir(&shown).map_err(text)?;
        fs::write(shown.join("file"), name).map_err(text)?;
        mounts.push(bind(&shown, &at(name), options)?);
    }
    mounts.push(memory(&at("proc"), "proc", MsFlags::empty())?);
    for folder in ["plain", "disk", "disk/deep", "disk/deep/memory", "twin"] {
        fs::write(at(folder).join("text"), folder).map_err(text)?;
        fs::write(at(folder).join("long"), pattern(5, 300_000)).map_err(text)?;
        fs::hard_link(at(folder).join("text"), at(folder).join("link")).map_err(text)?;
        symlink("text", at(folder).join("symbolic")).map_err(text)?;
        fs::create_dir(at(folder).join("empty")).map_err(text)?;
    }
    // Else ext4 moves blocks from "reserved" to "allocated" while they are compared.
    for at in [&source, &at("disk")] {
        File::open(at).map_err(text).and_then(|at| syncfs(at).map_err(text))?;
    }
    mounts.reverse();
    Ok(Inside { source, mountpoint, _mounts: mounts, _disk: disk })
}

fn listing(at: &Path, except: &str) -> Result<Vec<String>, String> {
    let columns = "%P %y %m %U %G %s %n %b %l %T@ %C@\\n";
    let find = tool("find", "findutils").args([".", "-path", except, "-prune", "-o"]);
    let find = find.args(["-printf", columns]).within(at).limit(Duration::from_secs(30));
    let mut lines: Vec<String> = find.run()?.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// The inode numbers of everything below, each as `stat` and as the listing of its directory tell it.
fn numbers(at: &Path, found: &mut Vec<(PathBuf, u64, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        if entry.file_name() == "proc" {
            continue;
        }
        let stat = fs::symlink_metadata(entry.path())?;
        found.push((entry.path(), stat.ino(), entry.ino()));
        if stat.is_dir() {
            numbers(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// Whether two that are not links of each other have one number.
fn collide(found: &[(PathBuf, u64, u64)]) -> Option<(&Path, &Path)> {
    let mut seen: HashMap<u64, &Path> = HashMap::new();
    found
        .iter()
        .filter(|(path, ..)| !path.ends_with("link"))
        .find_map(|(path, ino, _)| seen.insert(*ino, path).map(|other| (other, path.as_path())))
}

/// Names, attributes, data, sizes of the file systems, errors, and changes on either side.
pub(crate) fn as_native(ground: &Ground) -> Result<(), String> {
    for (data, options) in [
        ("auto", ""),
        ("copy", "allow_other,fd_cache=1"),
        ("passthrough", "transport=dev,fd_cache=1"),
        ("auto", "coherence=exclusive,allow_other"),
    ] {
        let inside = inside(ground)?;
        let launch = Launch::new(&inside.source, &inside.mountpoint, data).option(options);
        let served = launch.go()?;
        looks_the_same(&inside)
            .and_then(|()| is_worked_in(&inside))
            .and_then(|()| match options.contains("exclusive") {
                true => Ok(()),
                false => changes_show(&inside),
            })
            .map_err(|reason| format!("{data} {options}: {reason}\n{}", served.report()))?;
        let memory = inside.source.join("disk/deep/memory");
        if umount2(&memory, MntFlags::empty()) != Err(Errno::EBUSY) {
            return Err("a file system that is shown was unmounted".to_owned());
        }
        served.finish()?;
        umount2(&memory, MntFlags::empty()).map_err(|errno| format!("afterwards: {errno}"))?;
    }
    Ok(())
}

fn looks_the_same(inside: &Inside) -> Result<(), String> {
    let Inside { source, mountpoint, .. } = inside;
    for _ in 0..2 {
        let (native, shown) = (listing(source, "./proc")?, listing(mountpoint, "./proc")?);
        if let Some((native, shown)) = native.iter().zip(&shown).find(|(a, b)| a != b) {
            return Err(format!("natively {native}, shown {shown}"));
        }
        if native.len() != shown.len() || native.len() < 25 {
            return Err(format!("{} natively, {} are shown", native.len(), shown.len()));
        }
    }
    for folder in ["plain", "disk", "disk/deep/memory", "twin"] {
        for name in ["text", "long", "symbolic"] {
            let read = |at: &Path| fs::read(at.join(folder).join(name)).map_err(text);
            if read(source)? != read(mountpoint)? {
                return Err(format!("the content of {folder}/{name} differs"));
            }
        }
        let figures = |at: &Path| {
            let stat = statvfs(&at.join(folder)).map_err(text)?;
            Ok::<_, String>((stat.blocks(), stat.files(), stat.name_max(), stat.block_size()))
        };
        if figures(source)? != figures(mountpoint)? {
            return Err(format!("the sizes of the file system of {folder} differ"));
        }
    }
    let (mut native, mut shown) = (Vec::new(), Vec::new());
    numbers(source, &mut native).map_err(text)?;
    numbers(mountpoint, &mut shown).map_err(text)?;
    if collide(&native).is_none() {
        return Err("natively no two file systems have given the same number".to_owned());
    }
    if let Some((one, other)) = collide(&shown) {
        return Err(format!("{one:?} and {other:?} have the same number"));
    }
    let covered =
        |path: &Path| ["disk", "memory", "twin", "fixed"].iter().any(|n| path.ends_with(n));
    match shown.iter().find(|(path, stat, listed)| stat != listed && !covered(path)) {
        Some(found) => Err(format!("listed under another number: {found:?}")),
        None => Ok(()),
    }
}

fn is_worked_in(inside: &Inside) -> Result<(), String> {
    let Inside { source, mountpoint, .. } = inside;
    for at in [source, mountpoint] {
        let refused = [
            errno(fs::rename(at.join("plain/text"), at.join("disk/moved"))),
            errno(fs::rename(at.join("disk/text"), at.join("disk/deep/memory/moved"))),
            errno(fs::hard_link(at.join("plain/text"), at.join("twin/linked"))),
            errno(fs::remove_dir(at.join("disk"))),
            errno(fs::rename(at.join("disk"), at.join("other"))),
            errno(fs::write(at.join("fixed/file"), "new")),
            errno(fs::write(at.join("fixed/new"), "new")),
        ];
        use Errno::{EBUSY, EROFS, EXDEV};
        let expected = [EXDEV, EXDEV, EXDEV, EBUSY, EBUSY, EROFS, EROFS].map(Some);
        if refused != expected {
            return Err(format!("in {}: {refused:?}", at.display()));
        }
    }
    for folder in ["plain", "disk", "disk/deep/memory", "twin"] {
        let (behind, here) = (source.join(folder), mountpoint.join(folder));
        let work = || -> io::Result<bool> {
            fs::create_dir_all(here.join("made/in"))?;
            fs::write(here.join("made/in/file"), pattern(6, 1 << 20))?;
            fs::rename(here.join("made/in"), here.join("made/out"))?;
            fs::copy(mountpoint.join("plain/long"), here.join("made/copy"))?;
            File::open(here.join("made/out/file"))?.sync_all()?;
            File::options().append(true).open(here.join("made/copy"))?.set_len(1000)?;
            let mut open = File::open(here.join("made/copy"))?;
            fs::remove_file(here.join("made/copy"))?;
            let mut rest = Vec::new();
            let kept = open.read_to_end(&mut rest)? == 1000 && open.metadata()?.nlink() == 0;
            let made = fs::read(behind.join("made/out/file"))? == pattern(6, 1 << 20);
            fs::remove_dir_all(here.join("made"))?;
            Ok(kept && made && !behind.join("made").exists())
        };
        match work() {
            Ok(true) => {}
            other => return Err(format!("working in {folder}: {other:?}")),
        }
    }
    Ok(())
}

/// Also of what is open or was seen before, and none of the daemon's descriptors is good any more.
fn changes_show(inside: &Inside) -> Result<(), String> {
    let Inside { source, mountpoint, .. } = inside;
    for folder in ["disk", "disk/deep/memory", "twin", "plain"] {
        let (behind, here) = (source.join(folder), mountpoint.join(folder));
        let shows = |what: &str, holds: &dyn Fn() -> bool| match eventually(SHOWS_WITHIN, holds) {
            true => Ok(()),
            false => Err(format!("{folder}: {what} does not show")),
        };
        let listed = |name: &str| {
            fs::read_dir(&here).is_ok_and(|list| list.flatten().any(|e| e.file_name() == name))
        };
        let open = File::open(here.join("text")).map_err(text)?;
        if here.join("new").exists() || listed("new") {
            return Err(format!("{folder}: it is there already"));
        }
        fs::write(behind.join("new"), "new").map_err(text)?;
        shows("a new file", &|| {
            listed("new") && fs::read(here.join("new")).is_ok_and(|read| read == b"new")
        })?;
        fs::write(behind.join("new"), "changed").map_err(text)?;
        shows("its change", &|| fs::read(here.join("new")).is_ok_and(|read| read == b"changed"))?;
        fs::rename(behind.join("new"), behind.join("empty/moved")).map_err(text)?;
        shows("that it was moved", &|| {
            !listed("new") && !here.join("new").exists() && here.join("empty/moved").exists()
        })?;
        fs::remove_file(behind.join("text")).map_err(text)?;
        fs::remove_file(behind.join("empty/moved")).map_err(text)?;
        shows("that it was removed", &|| !here.join("text").exists())?;
        let read = io::read_to_string(&open).map_err(|error| format!("{folder}: open: {error}"))?;
        let stat = open.metadata().map_err(|error| format!("{folder}: fstat: {error}"))?;
        if (read.as_str(), stat.nlink()) != (folder, 1) {
            return Err(format!("{folder}: an open file reads {read:?}, {stat:?}"));
        }
    }
    Ok(())
}

/// A directory that shows at two places, and a link of a file that does: a change at one shows at the
/// other.
pub(crate) fn at_two_places(ground: &Ground) -> Result<(), String> {
    for (data, options) in [("copy", ""), ("auto", "allow_other")] {
        let (source, mountpoint) = ground.pair();
        let (elsewhere, _) = ground.pair();
        for name in ["first", "second", "links"] {
            fs::create_dir(source.join(name)).map_err(text)?;
        }
        fs::write(source.join("first/linked"), "old").map_err(text)?;
        fs::hard_link(source.join("first/linked"), elsewhere.join("linked")).map_err(text)?;
        let _mounted = [
            bind(&source.join("first"), &source.join("second"), "")?,
            bind(&elsewhere, &source.join("links"), "")?,
        ];
        let served = Launch::new(&source, &mountpoint, data).option(options).go()?;
        let at = |name: &str| mountpoint.join(name);
        let read = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
        for (here, there) in [("first", "second"), ("second", "first")] {
            let (made, seen) = (at(here).join("new"), format!("{there}/new"));
            if !read(&seen).is_empty() || !read("first/linked").starts_with("old") {
                return Err(format!("{seen} is there already, or the link is not"));
            }
            fs::write(&made, "new").map_err(text)?;
            let shows = |what: &str, holds: &dyn Fn() -> bool| match eventually(SHOWS_WITHIN, holds)
            {
                true => Ok(()),
                false => Err(format!("{data}: {what} at {made:?} does not show as {seen}")),
            };
            shows("a new file", &|| read(&seen) == "new")?;
            fs::write(&made, "newer").map_err(text)?;
            shows("its change", &|| read(&seen) == "newer")?;
            fs::remove_file(&made).map_err(text)?;
            shows("that it was removed", &|| !at(&seen).exists())?;
        }
        for (text_now, name) in [("older", "links/linked"), ("older still", "first/linked")] {
            fs::write(at(name), text_now).map_err(text)?;
            for other in ["links/linked", "second/linked", "first/linked"] {
                if !eventually(SHOWS_WITHIN, || read(other) == text_now) {
                    return Err(format!("{data}: {other} does not show what {name} was given"));
                }
            }
        }
        served.finish()?;
    }
    Ok(())
}

/// One that does not answer holds up neither the mount nor its end, and is not shown.
pub(crate) fn silent(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let (below, lower) = ground.pair();
    for name in ["silent", "memory"] {
        fs::create_dir(source.join(name)).map_err(text)?;
    }
    fs::write(source.join("silent/beneath"), "covered").map_err(text)?;
    let _memory = memory(&source.join("memory"), "tmpfs", MsFlags::empty())?;
    fs::write(source.join("memory/text"), "shown").map_err(text)?;
    let server = Launch::new(&below, &lower, "copy").option("transport=dev").go()?;
    let layers = format!("lowerdir={}:{}", lower.display(), below.display());
    let at = source.join("silent");
    mount(Some("none"), &at, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .map_err(|errno| format!("mount an overlay on {}: {errno}", at.display()))?;
    let overlay = Mounted::of(&at);
    server.signal(Signal::SIGSTOP)?;
    let shown = beside_a_silent_one(&source, &mountpoint);
    server.signal(Signal::SIGCONT)?;
    shown?;
    drop(overlay);
    server.finish()
}

fn beside_a_silent_one(source: &Path, mountpoint: &Path) -> Result<(), String> {
    let served = Launch::new(source, mountpoint, "auto").go()?;
    let seen = || -> io::Result<_> {
        let list = fs::read_dir(mountpoint.join("silent"))?.count();
        Ok((list, fs::read_to_string(mountpoint.join("memory/text"))?))
    };
    let seen = seen().map_err(text)?;
    let report = served.report();
    if seen != (1, "shown".to_owned()) || !report.contains("does not answer within 5 s") {
        return Err(format!("{seen:?}\n{report}"));
    }
    served.finish()
}

/// The kernel's own, what is served in user space, what was mounted later, and everything if that is
/// asked for. What may not be done in one that is shown is done nowhere.
pub(crate) fn kept_out(ground: &Ground) -> Result<(), String> {
    let names = |at: PathBuf| -> Result<Vec<String>, String> {
        let list = fs::read_dir(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        Ok(list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    let inside = inside(ground)?;
    let Inside { source, mountpoint, .. } = &inside;
    let (below, _) = ground.pair();
    fs::write(below.join("file"), "of a mount").map_err(text)?;
    fs::create_dir(source.join("mounted")).map_err(text)?;
    let first = Launch::new(&below, &source.join("mounted"), "copy").go()?;
    for (option, shows) in [("", true), ("one_file_system", false)] {
        let served = Launch::new(source, mountpoint, "auto").option(option).go()?;
        let late = memory(&source.join("late"), "tmpfs", MsFlags::empty())?;
        fs::write(source.join("late/file"), "late").map_err(text)?;
        for name in ["proc", "mounted", "late"] {
            let listed = names(mountpoint.join(name))?;
            if !listed.is_empty() {
                return Err(format!("{option}: {name} shows {listed:?}"));
            }
        }
        let listed = names(mountpoint.join("disk"))?;
        if listed.contains(&"deep".to_owned()) != shows || (listed == ["beneath"]) == shows {
            return Err(format!("{option}: disk shows {listed:?}"));
        }
        let table = MountTable::read().map_err(text)?;
        let mount = table.top_at(mountpoint).ok_or("it is not mounted")?;
        if mount.options.split(',').any(|option| option == "nosuid") != shows {
            return Err(format!("{option}: a tmpfs inside is nosuid: {}", mount.options));
        }
        fs::write(mountpoint.join("disk/through"), "the mount").map_err(text)?;
        if source.join("disk/through").exists() != shows {
            return Err(format!("{option}: what was written is not where it should be"));
        }
        let _ = fs::remove_file(source.join("disk/through"));
        drop(late);
        served.finish()?;
    }
    first.finish()
}
