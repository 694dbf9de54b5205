//! File handles (name_to_handle_at, open_by_handle_at, what NFS hands out) of a mount that shows a whole
//! file system.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use fusewire::sys::handle::FileHandle;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::Ground;
use crate::common::text;
use crate::launch::{Launch, Served, eventually};

const IMAGE_BYTES: u64 = 64 << 20;
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(20);

fn handle(at: &Path) -> Result<FileHandle, String> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let object = nix::fcntl::open(at, flags, Mode::empty()).map_err(text)?;
    FileHandle::of(object.as_fd())
        .map_err(|errno| format!("the handle of {}: {errno}", at.display()))
}

fn open(mountpoint: &Path, handle: &FileHandle, flags: OFlag) -> Result<OwnedFd, Errno> {
    let mount = File::open(mountpoint).map_err(|_| Errno::ENOENT)?;
    handle.open(mount.as_fd(), flags.bits())
}

fn read(mountpoint: &Path, handle: &FileHandle) -> Result<String, String> {
    let file =
        open(mountpoint, handle, OFlag::O_RDONLY).map_err(|errno| format!("open: {errno}"))?;
    let mut content = String::new();
    File::from(file).read_to_string(&mut content).map_err(text)?;
    Ok(content)
}

/// Lets the kernel forget all inodes but those in use.
fn forget(served: &Served) -> Result<(), String> {
    let forgotten = || {
        let dropped = fs::write("/proc/sys/vm/drop_caches", "2").is_ok();
        dropped && served.stats().is_ok_and(|stats| stats.live.inodes <= 1)
    };
    match eventually(FORGOTTEN_WITHIN, forgotten) {
        true => Ok(()),
        false => Err(format!("the kernel does not forget: {:?}", served.stats()?.live)),
    }
}

/// They open what they did when the kernel has forgotten it, and when the daemon is another.
pub(crate) fn last(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let image = ground.image(IMAGE_BYTES)?;
        let (source, (_, mountpoint)) = (image.path(), ground.pair());
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let deep = mountpoint.join("a/b/c");
        fs::create_dir_all(&deep).map_err(text)?;
        fs::write(mountpoint.join("file"), "one").map_err(text)?;
        fs::write(deep.join("file"), "deep").map_err(text)?;
        let handles =
            ["file", "a/b/c/file", "a/b/c", ""].map(|name| handle(&mountpoint.join(name)));
        let [file, deep_file, directory, root] = handles;
        let (file, deep_file, directory, root) = (file?, deep_file?, directory?, root?);
        let opens = |when: &str| -> Result<(), String> {
            let contents = (read(&mountpoint, &file)?, read(&mountpoint, &deep_file)?);
            let at = |handle| {
                let opened = open(&mountpoint, handle, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
                let opened = opened.map_err(|errno| format!("{when}: a directory: {errno}"))?;
                let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened));
                Ok::<_, String>((fs::read_link(link).map_err(text)?, opened))
            };
            let ((path, opened), (root, _)) = (at(&directory)?, at(&root)?);
            if (path.as_path(), root.as_path()) != (&deep, &mountpoint) {
                return Err(format!("{when}: directories were opened at {path:?} and {root:?}"));
            }
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let through = openat(&opened, c"../../../file", flags, Mode::empty()).map_err(text)?;
            let mut again = String::new();
            File::from(through).read_to_string(&mut again).map_err(text)?;
            match (&contents.0, contents.1.as_str()) == (&again, "deep") {
                true => Ok(()),
                false => Err(format!("{when}: read {contents:?}, and {again:?} by the names")),
            }
        };
        opens("known")?;
        forget(&served)?;
        opens("forgotten")?;
        forget(&served)?;
        let writable = open(&mountpoint, &file, OFlag::O_WRONLY | OFlag::O_APPEND);
        File::from(writable.map_err(text)?).write_all(b" two").map_err(text)?;
        served.finish()?;
        let served = Launch::new(&source, &mountpoint, data).go()?;
        opens("mounted again")?;
        if read(&mountpoint, &file)? != "one two" {
            return Err("what was appended by a handle is not there".to_owned());
        }
        fs::remove_file(mountpoint.join("file")).map_err(text)?;
        fs::remove_file(source.join("a/b/c/file")).map_err(text)?;
        // The same numbers, perhaps, for others.
        fs::write(source.join("other"), "other").map_err(text)?;
        fs::write(mountpoint.join("another"), "another").map_err(text)?;
        forget(&served)?;
        for gone in [&file, &deep_file] {
            let opened = open(&mountpoint, gone, OFlag::O_RDONLY).map(drop);
            if opened != Err(Errno::ESTALE) {
                return Err(format!("{data}: a removed file's handle: {opened:?}"));
            }
        }
        served.finish()?;
    }
    Ok(())
}

/// A part of a file system has none: they would reach beyond it, or fail one day.
pub(crate) fn of_a_part(ground: &Ground) -> Result<(), String> {
    let image = ground.image(IMAGE_BYTES)?;
    let (_, mountpoint) = ground.pair();
    let source = image.directory("part");
    fs::write(source.join("file"), "").map_err(text)?;
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    match handle(&mountpoint.join("file")) {
        Ok(_) => Err("there is a handle".to_owned()),
        Err(reason) if reason.contains("EOPNOTSUPP") => served.finish(),
        Err(reason) => Err(reason),
    }
}
