//! Disks that fail under the source: what cannot be read, what cannot be written, quotas, and file
//! systems that become read-only. The same disk without a mount is the oracle.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::mount::{MsFlags, mount};
use nix::unistd::{syncfs, truncate};
use tempfile::TempDir;

use crate::Ground;
use crate::common::disk::{Disk, Mounted, mount_at};
use crate::common::shell::pattern;
use crate::common::text;
use crate::launch::{Launch, eventually};
use crate::tool::{exclusively, tool};

const MODES: [&str; 4] = ["passthrough", "copy", "splice", "auto"];
const PAGE: usize = 4096;
/// What is written and lost.
const LOST_BYTES: i64 = 24 << 20;
/// RELEASE is sent after close(2) has returned.
const RELEASED_WITHIN: Duration = Duration::from_secs(15);

fn name(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |raw| format!("{:?}", Errno::from_raw(raw)))
}

/// Reads a file that is broken in part, page by page and from end to end: what is read must be what
/// was written, what is not must be told as EIO. How far an error reaches around the sectors that are
/// gone depends on the size of folios and read-aheads, natively too.
fn read_broken(path: &Path, written: &[u8], chunk: usize) -> Result<(), String> {
    let file = File::open(path).map_err(text)?;
    let mut page = vec![0; PAGE];
    let (mut right, mut refused) = (0, 0);
    for (at, expected) in written.chunks(PAGE).enumerate() {
        match file.read_at(&mut page, (at * PAGE) as u64) {
            Ok(count) if page[..count] == *expected => right += 1,
            Ok(count) => return Err(format!("page {at}: {count} bytes, and not what was written")),
            Err(error) if name(&error) == "EIO" => refused += 1,
            Err(error) => return Err(format!("page {at}: {error}")),
        }
    }
    if right == 0 || refused == 0 {
        return Err(format!("{right} pages are read, {refused} are refused"));
    }
    drop_cache(&file)?;
    // As cp does, which must not take an error for the end.
    let (mut stream, mut taken, mut buffer) = (&file, Vec::new(), vec![0; chunk]);
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break "the end".to_owned(),
            Ok(count) => taken.extend_from_slice(&buffer[..count]),
            Err(error) => break name(&error),
        }
    };
    let size = file.metadata().map_err(text)?.len();
    let same = written.starts_with(&taken);
    match end == "EIO" && same && !taken.is_empty() && size == written.len() as u64 {
        true => Ok(()),
        false => Err(format!("{} bytes, right: {same}, then {end}; size {size}", taken.len())),
    }
}

fn drop_cache(file: &File) -> Result<(), String> {
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(text)
}

/// What the disk can not read is an error: not the end of the file, not zeros.
pub(crate) fn unreadable(ground: &Ground) -> Result<(), String> {
    let disk = ground.image(24 << 20)?;
    let source = disk.directory("source");
    // Larger than half of the disk, so that some of it lies in the half that is going to vanish.
    let (path, content) = (source.join("file"), pattern(31, 15 << 20));
    fs::write(&path, &content).map_err(text)?;
    let file = File::open(&path).map_err(text)?;
    file.sync_all().and_then(|()| syncfs(&file).map_err(Into::into)).map_err(text)?;
    drop_cache(&file)?;
    // Nothing is written back any more, which would give the image its old length again.
    let (none, flags) = (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    mount(none, &disk.path(), none, flags, none)
        .map_err(|errno| format!("make the disk read-only: {errno}"))?;
    truncate_image(&disk, 12 << 20)?;
    for chunk in [64 << 10, 1 << 20] {
        read_broken(&path, &content, chunk).map_err(|reason| format!("natively: {reason}"))?;
        for data in MODES {
            let (_, mountpoint) = ground.pair();
            let served = Launch::new(&source, &mountpoint, data).go()?;
            drop_cache(&file)?;
            read_broken(&mountpoint.join("file"), &content, chunk)
                .map_err(|reason| format!("{data}, by {chunk}: {reason}"))?;
            served.finish()?;
        }
    }
    Ok(())
}

/// Reads of a loop device beyond the end of its file are errors.
fn truncate_image(disk: &Disk, bytes: u64) -> Result<(), String> {
    let image = format!("/proc/self/fd/{}", disk.image()?.as_raw_fd());
    let image = File::options().write(true).open(image).map_err(text)?;
    image.set_len(bytes).map_err(text)
}

/// A disk with a file whose blocks are allocated and not written, and whose image lies on a file
/// system that is full by now: they can not be written.
struct Starved {
    source: PathBuf,
    // Dropped in this order: the disk before what holds its image.
    _disk: Mounted,
    _store: Mounted,
    _folder: TempDir,
}

impl Starved {
    fn new() -> Result<Self, String> {
        let folder = TempDir::with_prefix("fusewire-test-").map_err(text)?;
        let (store, at) = (folder.path().join("store"), folder.path().join("disk"));
        fs::create_dir(&store).and_then(|()| fs::create_dir(&at)).map_err(text)?;
        let size = ["-t", "tmpfs", "-o", "size=16m", "starved"];
        tool("mount", "mount").args(size).arg(&store).run()?;
        let kept = Mounted::of(&store);
        let image = store.join("ext4.image");
        File::create(&image).and_then(|file| file.set_len(64 << 20)).map_err(text)?;
        // A journal would meet the error as well, and make the whole file system read-only.
        let options = ["-q", "-F", "-m", "0", "-O", "^has_journal"];
        tool("mkfs.ext4", "e2fsprogs").args(options).arg(&image).run()?;
        let disk = exclusively(|| mount_at(&image, &at, "loop,errors=continue"))?;
        let source = at.join("source");
        fs::create_dir(&source).map_err(text)?;
        let file = File::create(source.join("file")).map_err(text)?;
        fallocate(&file, FallocateFlags::empty(), 0, LOST_BYTES).map_err(text)?;
        syncfs(&file).map_err(text)?;
        let mut filler = File::create(store.join("filler")).map_err(text)?;
        while filler.write_all(&[1; PAGE]).is_ok() {}
        Ok(Starved { source, _disk: disk, _store: kept, _folder: folder })
    }
}

/// What fsync says to each who has the file open of pages that the disk has not taken.
fn written(at: &Path) -> Result<String, String> {
    let open = || File::options().read(true).write(true).open(at.join("file"));
    let (mut writer, other) = (open().map_err(text)?, open().map_err(text)?);
    let size = usize::try_from(LOST_BYTES).map_err(text)?;
    let wrote = writer.write_all(&pattern(32, size));
    let mut told = format!("write {:?}", wrote.map_err(|error| name(&error)));
    let mut sync = |who: &str, file: &File| {
        told += &format!("; fsync by {who} {:?}", file.sync_all().map_err(|error| name(&error)));
    };
    sync("the writer", &writer);
    sync("the writer", &writer);
    sync("another", &other);
    sync("another", &other);
    sync("who comes late", &open().map_err(text)?);
    Ok(told)
}

/// fsync tells each open file once that something was lost.
pub(crate) fn unwritable(_: &Ground) -> Result<(), String> {
    let native = written(&Starved::new()?.source)?;
    if !native.contains("fsync by the writer Err") {
        return Err(format!("the disk itself is not broken as it should be: {native}"));
    }
    for data in MODES {
        let starved = Starved::new()?;
        let mountpoint = TempDir::with_prefix("fusewire-test-").map_err(text)?;
        let served = Launch::new(&starved.source, mountpoint.path(), data).go()?;
        let seen = written(mountpoint.path())?;
        served.finish()?;
        if seen != native {
            return Err(format!("{data}:\nnative: {native}\nmount:  {seen}"));
        }
    }
    Ok(())
}

/// What users meet on a file system that is read-only.
fn refusals(at: &Path) -> String {
    let tell = |result: io::Result<()>| match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => name(&error),
    };
    [
        ("create", tell(File::create_new(at.join("new")).map(drop))),
        ("open to write", tell(File::options().write(true).open(at.join("file")).map(drop))),
        ("mkdir", tell(fs::create_dir(at.join("directory")))),
        ("rename", tell(fs::rename(at.join("file"), at.join("renamed")))),
        ("remove", tell(fs::remove_file(at.join("file")))),
        ("chmod", tell(fs::set_permissions(at.join("file"), Permissions::from_mode(0o600)))),
        ("truncate", tell(truncate(&at.join("file"), 1).map_err(Into::into))),
        ("read", tell(fs::read(at.join("file")).map(drop))),
        ("list", tell(fs::read_dir(at).map(drop))),
    ]
    .map(|(what, answer)| format!("{what}: {answer}"))
    .join(", ")
}

/// A source that is remounted read-only: not while a file is open to be written, through the mount
/// as natively; then what users meet is what they meet natively, and it can be undone.
pub(crate) fn read_only(ground: &Ground) -> Result<(), String> {
    for data in MODES {
        let disk = ground.image(16 << 20)?;
        let source = disk.directory("source");
        let (_, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, data).go()?;
        fs::write(mountpoint.join("file"), "text").map_err(text)?;
        let remount = |flags| {
            mount(
                None::<&str>,
                &disk.path(),
                None::<&str>,
                flags | MsFlags::MS_REMOUNT,
                None::<&str>,
            )
        };
        let mut open = File::options().append(true).open(mountpoint.join("file")).map_err(text)?;
        let busy = remount(MsFlags::MS_RDONLY);
        if busy != Err(Errno::EBUSY) {
            return Err(format!("{data}: remounted read-only under a writer: {busy:?}"));
        }
        open.write_all(b" and more").map_err(|error| format!("{data}: {error}"))?;
        drop(open);
        if !eventually(RELEASED_WITHIN, || remount(MsFlags::MS_RDONLY).is_ok()) {
            return Err(format!("{data}: a closed file keeps the source from being read-only"));
        }
        let (native, seen) = (refusals(&source), refusals(&mountpoint));
        if native != seen || !native.contains("create: EROFS") {
            return Err(format!("{data}:\nnative: {native}\nmount:  {seen}"));
        }
        remount(MsFlags::empty()).map_err(text)?;
        fs::write(mountpoint.join("file"), "again").map_err(|error| format!("{data}: {error}"))?;
        let read = fs::read_to_string(source.join("file")).map_err(text)?;
        if read != "again" {
            return Err(format!("{data}: writable again, but reads {read:?}"));
        }
        served.finish()?;
    }
    Ok(())
}
