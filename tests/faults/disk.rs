//! A source whose file system refuses: over quota, shut down, turned read-only by an error.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};
use tempfile::TempDir;

use crate::common::disk::{Mounted, mount_at};
use crate::common::raw;
use crate::common::shell::{Shell, pattern};
use crate::launch::Launch;
use crate::tool::{exclusively, tool};
use crate::{Ground, text};

const MODES: [&str; 3] = ["passthrough", "copy", "splice"];
/// `_IOR('X', 125, __u32)`, and to stop without writing even the journal: what a power cut leaves.
const EXT4_IOC_SHUTDOWN: u64 = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// A file system of its own on a loop device, which can be mounted again.
struct Image {
    // Dropped in this order: the mount before the folder.
    mounted: Option<Mounted>,
    folder: TempDir,
}

impl Image {
    fn new(mkfs: &[&str], bytes: u64, options: &str) -> Result<Self, String> {
        Self::within(&std::env::temp_dir(), mkfs, bytes, options)
    }

    /// One whose bytes lie in this directory.
    fn within(directory: &Path, mkfs: &[&str], bytes: u64, options: &str) -> Result<Self, String> {
        let folder = TempDir::with_prefix_in("fusewire-test-", directory).map_err(text)?;
        let mut image = Image { mounted: None, folder };
        fs::create_dir(image.path()).map_err(text)?;
        let file = File::create(image.file()).map_err(text)?;
        file.set_len(bytes).map_err(text)?;
        tool(mkfs[0], "a package for it").args(&mkfs[1..]).arg(image.file()).run()?;
        image.mount(options)?;
        Ok(image)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn mount(&mut self, options: &str) -> Result<(), String> {
        let options = format!("loop,{options}");
        self.mounted = Some(exclusively(|| mount_at(&self.file(), &self.path(), &options))?);
        Ok(())
    }

    /// Mounts it once more, as after a crash.
    fn remount(&mut self, options: &str) -> Result<(), String> {
        tool("umount", "mount").arg(self.path()).run()?;
        self.mounted = None;
        self.mount(options)
    }
}

/// What each line answers, whatever that is.
fn answers(shell: &mut Shell, lines: &[&str]) -> Vec<String> {
    let answer = |line: &&str| match shell.run(line) {
        Ok(text) => format!("{line}: {text}"),
        Err(errno) => format!("{line}: {errno:?}"),
    };
    lines.iter().map(answer).collect()
}

fn same(data: &str, native: &[String], seen: &[String]) -> Result<(), String> {
    let differ = native.iter().zip(seen).filter(|(native, seen)| native != seen);
    let differ: Vec<_> = differ.map(|(native, seen)| format!("- {native}\n  + {seen}")).collect();
    match differ.is_empty() && native.len() == seen.len() {
        true => Ok(()),
        false => Err(format!("{data} (- native, + mount):\n  {}", differ.join("\n  "))),
    }
}

const QUOTA_BYTES: u64 = 8 << 20;
const ROOM_WITHIN: Duration = Duration::from_secs(60);

/// EDQUOT reaches the caller, what was taken before is intact, and with room again work goes on.
pub(crate) fn over_quota(ground: &Ground) -> Result<(), String> {
    let image = Image::new(&["mkfs.btrfs", "-q"], 256 << 20, "defaults")?;
    let btrfs =
        |args: &[&str], path: &Path| tool("btrfs", "btrfs-progs").args(args).arg(path).run();
    btrfs(&["-q", "quota", "enable"], &image.path())?;
    let limited = |name: &str| -> Result<PathBuf, String> {
        let volume = image.path().join(name);
        btrfs(&["-q", "subvolume", "create"], &volume)?;
        btrfs(&["-q", "qgroup", "limit", &QUOTA_BYTES.to_string()], &volume)?;
        Ok(volume)
    };
    let native = limited("native")?;
    let expected = fill(&native, &native).map_err(|reason| format!("natively: {reason}"))?;
    if !expected.iter().any(|line| line.ends_with("EDQUOT")) {
        return Err(format!("the quota itself does not work: {expected:?}"));
    }
    for data in MODES {
        let (source, (_, mountpoint)) = (limited(data)?, ground.pair());
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let seen = fill(&mountpoint, &source).map_err(|reason| format!("{data}: {reason}"))?;
        served.finish()?;
        same(data, &expected, &seen)?;
    }
    Ok(())
}

fn fill(at: &Path, behind: &Path) -> Result<Vec<String>, String> {
    let mut shell = Shell::at(at);
    let mut told = answers(&mut shell, &["put kept pat:1:1000000", "open k kept rw", "fsync k"]);
    told.extend(answers(&mut shell, &["open f filler rw,creat 644", "open b big rw,creat 644"]));
    // Block by block: what a call took in part depends on when space was reserved.
    let (mut taken, mut refusal) = (0, None);
    for _ in 0..2 * QUOTA_BYTES / 65536 {
        match shell.run(&format!("pwrite f {} pat:{taken}:65536", taken * 65536)) {
            Ok(count) if count == "65536" => taken += 1,
            Ok(_) => {}
            Err(errno) => {
                refusal = Some(errno);
                break;
            }
        }
    }
    told.push(format!("pwrite: {refusal:?}"));
    let when_full = [
        "fallocate f default 0 64M",
        "fallocate b default 0 64M",
        "fsync k",
        "pread k 0 100",
        "fsync f",
    ];
    told.extend(answers(&mut shell, &when_full));
    for place in [at, behind] {
        let read = fs::read(place.join("filler")).map_err(text)?;
        let right = |(block, bytes): (u64, &[u8])| *bytes == pattern(block, 65536);
        let right = (0..).zip(read.chunks(65536)).take_while(|block| right(*block)).count() as u64;
        if right < taken {
            return Err(format!("of {taken} blocks that were taken {right} are right"));
        }
    }
    told.extend(answers(&mut shell, &["close f", "close b", "unlink filler", "unlink big"]));
    // The space of a file that is gone is given back when the daemon and btrfs have let go of it.
    let file = File::open(behind).map_err(text)?;
    let mut again = || {
        let _ = nix::unistd::syncfs(&file);
        shell.run("put again pat:3:2000000")
    };
    let deadline = Instant::now() + ROOM_WITHIN;
    while again().is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    told.extend(answers(&mut shell, &["get again", "close k", "get kept"]));
    Ok(told)
}

/// Everything is refused at once, as if the disk had gone; what was synced is there when it is back.
pub(crate) fn shut_down(ground: &Ground) -> Result<(), String> {
    play(ground, "defaults", "EIO", |source| {
        let file = File::open(source).map_err(text)?;
        raw::ioctl_buffer(&file, EXT4_IOC_SHUTDOWN, &NO_LOG_FLUSH.to_ne_bytes())
            .map(drop)
            .map_err(text)
    })
}

/// An error has ext4 turn itself read-only under its users.
pub(crate) fn turned_read_only(ground: &Ground) -> Result<(), String> {
    play(ground, "errors=remount-ro", "EROFS", |source| {
        let device = fs::metadata(source).map_err(text)?.dev();
        let block = format!("/sys/dev/block/{}:{}", major(device), minor(device));
        let name = fs::canonicalize(&block).map_err(|error| format!("{block}: {error}"))?;
        let name = name.file_name().ok_or("a block device has a name")?;
        let trigger = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        fs::write(&trigger, "1").map_err(|error| format!("{}: {error}", trigger.display()))
    })
}

/// Before the fault, with files open in every way.
const BEFORE: &[&str] = &[
    "mkdir d 755",
    "put d/f hello",
    "open k kept rw,creat 644",
    "write k pat:1:300000",
    "fsync k",
    "open d . r,dir",
    "fsync d",
    "open w written rw,creat 644",
    "write w pat:2:100000",
    "open r kept r",
    "open a kept w,append",
];

/// After it. Nothing that a cache may answer, FUSE's own among them.
const AFTER: &[&str] = &[
    "write w more",
    "write a more",
    "pwrite k 1M pat:3:5000",
    "fsync k",
    "fsync w",
    "fdatasync w",
    "fsync d",
    "fallocate w default 0 1M",
    "ftruncate w 5",
    "truncate kept 5",
    "create new 644",
    "mkdir new-d 755",
    "symlink x new-l",
    "link kept new-h",
    "rename kept renamed",
    "unlink d/f",
    "rmdir d",
    "chmod kept 600",
    "setx kept user.a 1",
    "utimens kept 1 2",
    "open t . rw,tmpfile 644",
];

fn play(
    ground: &Ground,
    options: &str,
    errno: &str,
    fault: fn(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let mut native = Vec::new();
    for data in [&["native"], &MODES[..]].concat() {
        let mkfs = ["mkfs.ext4", "-q", "-F"];
        let mut image = Image::new(&mkfs, 32 << 20, options)?;
        let source = image.path().join("source");
        fs::create_dir(&source).map_err(text)?;
        let (_, mountpoint) = ground.pair();
        let served = match data {
            "native" => None,
            data => Some(Launch::new(&source, &mountpoint, data).go()?),
        };
        let at = if served.is_some() { &mountpoint } else { &source };
        let mut shell = Shell::at(at);
        for line in BEFORE {
            shell.run(line).map_err(|errno| format!("{data}: {line}: {errno}"))?;
        }
        fault(&source)?;
        let seen = answers(&mut shell, AFTER);
        drop(shell);
        if let Some(served) = served {
            served.finish().map_err(|reason| format!("{data}: {reason}"))?;
        }
        image.remount(options)?;
        let kept = fs::read(source.join("kept")).map_err(|error| format!("{data}: {error}"))?;
        if kept != pattern(1, 300_000) {
            return Err(format!("{data}: {} bytes of what was synced are left", kept.len()));
        }
        match data {
            "native" if !seen.iter().all(|line| line.ends_with(errno)) => {
                return Err(format!("the fault itself does not show: {seen:?}"));
            }
            "native" => native = seen,
            data => same(data, &native, &seen)?,
        }
    }
    Ok(())
}

/// After a device is gone: first what only data is needed for.
const DATA_GONE: &[&str] =
    &["pwrite w 0 pat:6:5000", "fsync w", "pread c 0 100", "get cold", "pread k 0 5", "stat kept"];

/// Then, once the file system has seen it too.
const ALL_GONE: &[&str] = &[
    "fsync d",
    "create new 644",
    "mkdir new-d 755",
    "rename kept renamed",
    "unlink d/f",
    "truncate kept 5",
    "chmod kept 600",
    "setx kept user.a 1",
    "pread k 0 5",
    "stat kept",
];

/// The device of the source is gone: here because its image lies on a file system that was shut down.
/// Errors are as without the mount, the daemon can be asked, and lets go of the device.
pub(crate) fn gone_beneath(ground: &Ground) -> Result<(), String> {
    let mut native = Vec::new();
    for data in [&["native"], &MODES[..]].concat() {
        let outer = Image::new(&["mkfs.ext4", "-q", "-F"], 64 << 20, "defaults")?;
        let device =
            Image::within(&outer.path(), &["mkfs.ext4", "-q", "-F"], 16 << 20, "defaults")?;
        let source = device.path().join("source");
        fs::create_dir(&source).map_err(text)?;
        let (_, mountpoint) = ground.pair();
        let served = match data {
            "native" => None,
            data => Some(Launch::new(&source, &mountpoint, data).go()?),
        };
        let mut shell = Shell::at(if served.is_some() { &mountpoint } else { &source });
        let cold = ["put cold pat:4:300000", "open c cold r", "open w other rw,creat 644"];
        for line in [BEFORE, &cold].concat() {
            shell.run(line).map_err(|errno| format!("{data}: {line}: {errno}"))?;
        }
        // FUSE has a page cache as well, and what is not written yet leaves neither.
        let mut behind = Shell::at(&source);
        for line in ["open d . r,dir", "syncfs d", "open c cold r", "fadvise c 0 0 dontneed"] {
            behind.run(line).map_err(|errno| format!("{data}: {line}: {errno}"))?;
        }
        shell.run("fadvise c 0 0 dontneed").map_err(text)?;
        let outer_root = File::open(outer.path()).map_err(text)?;
        raw::ioctl_buffer(&outer_root, EXT4_IOC_SHUTDOWN, &NO_LOG_FLUSH.to_ne_bytes())
            .map_err(text)?;
        let mut seen = answers(&mut shell, DATA_GONE);
        // Nobody is told of a new name that can not be kept before it is synced.
        let _ = shell.run("mkdir lost 755");
        if shell.run("fsync d").is_ok() {
            return Err(format!("{data}: a directory was synced, but there is no disk"));
        }
        seen.extend(answers(&mut shell, ALL_GONE));
        drop((shell, behind));
        if let Some(served) = served {
            served.stats().map_err(|reason| format!("{data}: {reason}"))?;
            served.finish().map_err(|reason| format!("{data}: {reason}"))?;
        }
        let refused = |line: &&String| line.ends_with("EIO") || line.ends_with("EROFS");
        match data {
            "native" if seen.iter().filter(refused).count() != 3 + 7 => {
                return Err(format!("the fault itself does not show: {seen:?}"));
            }
            "native" => native = seen,
            data => same(data, &native, &seen)?,
        }
    }
    Ok(())
}
