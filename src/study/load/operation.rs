//! Single operations of the load generator: names known beforehand, every operation relative to one
//! directory descriptor where the system call allows it, so that nothing else is timed.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::MmapMut;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, close, read, symlinkat, unlinkat, write};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::study::prepare;
use crate::study::work::Operation;
use crate::sys::client;

/// What every file holds.
pub(crate) const SMALL_FILE: [u8; 4096] = [0x5a; 4096];
const XATTR: &std::ffi::CStr = c"user.fusewire";
const XATTR_VALUE: &[u8] = b"a value of ordinary length";
const BLOCK: u64 = 4096;

/// A directory and the names in it which belong to one thread.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    operation: Operation,
    /// Below the root of a system.
    directory: PathBuf,
    /// Before each name: tells threads in one directory apart.
    prefix: String,
    files: usize,
    /// Entries of the directory, of all threads.
    entries: usize,
}

impl Layout {
    /// `files` names of one of `threads` threads, in `turn` itself or in a directory below it.
    pub(crate) fn new(
        operation: Operation,
        turn: &Path,
        files: usize,
        (thread, threads, is_shared): (usize, usize, bool),
    ) -> Self {
        let (directory, entries) = match is_shared {
            true => (turn.to_owned(), files * threads),
            false => (turn.join(format!("t{thread}")), files),
        };
        let prefix = format!("{thread}-");
        Layout { operation, directory, prefix, files, entries }
    }

    /// The file system without storage as it is: its one file.
    pub(crate) fn of_null(operation: Operation) -> Self {
        let directory = PathBuf::new();
        Layout { operation, directory, prefix: "zeros".into(), files: 1, entries: 2 }
    }

    fn is_null(&self) -> bool {
        self.directory.as_os_str().is_empty()
    }

    fn name(&self, kind: char, index: usize) -> String {
        match self.is_null() {
            true => self.prefix.clone(),
            false => format!("{kind}{}{index:06}", self.prefix),
        }
    }

    /// Makes the directory and what the operation needs in it, natively.
    pub(crate) fn make(&self, native: &Path) -> std::io::Result<()> {
        let directory = native.join(&self.directory);
        fs::create_dir_all(&directory)?;
        for index in 0..self.files {
            let path = directory.join(self.name('f', index));
            match self.operation {
                Operation::Create
                | Operation::Symlink
                | Operation::MkdirRmdir
                | Operation::ReadDirect
                | Operation::StatNegative => {}
                Operation::Readlink => std::os::unix::fs::symlink("some/target", path)?,
                Operation::Getxattr => {
                    fs::write(&path, SMALL_FILE)?;
                    client::setxattr(&c_path(&path), XATTR, XATTR_VALUE)?;
                }
                _ => fs::write(path, SMALL_FILE)?,
            }
        }
        Ok(())
    }

    /// Opens the directory through the system at `root`.
    pub(crate) fn enter(&self, root: &Path, seed: u64) -> Result<Share, Errno> {
        let path = root.join(&self.directory);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(&path, flags, Mode::empty())?;
        let c_string = |name: String| CString::new(name).expect("made of letters and digits");
        let names = |kind| (0..self.files).map(move |index| c_string(self.name(kind, index)));
        let by_path = matches!(
            self.operation,
            Operation::Getxattr | Operation::GetxattrMissing | Operation::Setxattr
        );
        let paths = match by_path {
            true => {
                (0..self.files).map(|index| c_path(&path.join(self.name('f', index)))).collect()
            }
            false => Vec::new(),
        };
        let direct = match self.operation {
            Operation::ReadDirect => Some(Direct::open(root).map_err(errno)?),
            _ => None,
        };
        Ok(Share {
            operation: self.operation,
            dir,
            names: names('f').collect(),
            others: names('g').collect(),
            paths,
            entries: self.entries,
            direct,
            random: StdRng::seed_from_u64(seed),
        })
    }
}

/// What one thread works on, open through one system.
#[derive(Debug)]
pub(crate) struct Share {
    operation: Operation,
    dir: OwnedFd,
    names: Vec<CString>,
    /// The names after a rename.
    others: Vec<CString>,
    paths: Vec<CString>,
    entries: usize,
    direct: Option<Direct>,
    random: StdRng,
}

/// The shared test file, open with O_DIRECT, and a buffer that is aligned for it.
#[derive(Debug)]
struct Direct {
    file: File,
    blocks: u64,
    buffer: MmapMut,
}

impl Direct {
    fn open(root: &Path) -> std::io::Result<Self> {
        let mut options = File::options();
        let file =
            options.read(true).custom_flags(libc::O_DIRECT).open(prepare::data_file(root))?;
        let blocks = file.metadata()?.len() / BLOCK;
        Ok(Direct { file, blocks, buffer: MmapMut::map_anon(SMALL_FILE.len())? })
    }
}

impl Share {
    /// Operations of one pass.
    pub(crate) fn per_pass(&self) -> usize {
        match self.operation {
            Operation::Readdir | Operation::ReaddirPlus => 1,
            Operation::ReadDirect => 64,
            _ => self.names.len(),
        }
    }

    /// Brings what the operation will meet into the caches of the system.
    pub(crate) fn look_up(&self) -> Result<(), Errno> {
        if self.operation == Operation::ReadDirect {
            return Ok(());
        }
        self.list(false)?;
        for name in &self.names {
            match fstatat(&self.dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                // What will be made is not there yet, and it is not looked for beforehand: a negative
                // dentry would help or hinder.
                Err(Errno::ENOENT) => break,
                result => result.map(drop)?,
            }
            if self.operation == Operation::Readlink {
                readlinkat(&self.dir, name.as_c_str())?;
            }
        }
        Ok(())
    }

    fn list(&self, and_stat: bool) -> Result<usize, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty())?;
        let mut found = 0;
        for entry in dir.iter() {
            let entry = entry?;
            if and_stat {
                fstatat(&self.dir, entry.file_name(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            found += 1;
        }
        Ok(found)
    }

    /// Does one operation; `pass` counts the passes over the names.
    pub(crate) fn operate(&mut self, pass: usize, index: usize) -> Result<(), Errno> {
        let name = self.names[index % self.names.len()].as_c_str();
        let no_follow = AtFlags::AT_SYMLINK_NOFOLLOW;
        match self.operation {
            Operation::Stat => fstatat(&self.dir, name, no_follow).map(drop),
            Operation::StatNegative => match fstatat(&self.dir, c"none", no_follow) {
                Err(Errno::ENOENT) => Ok(()),
                Ok(_) => Err(Errno::EEXIST),
                Err(errno) => Err(errno),
            },
            Operation::StatForced => client::stat_forced(self.dir.as_fd(), name),
            Operation::OpenClose => close(openat(&self.dir, name, READ, Mode::empty())?),
            Operation::OpenReadClose => {
                let file = openat(&self.dir, name, READ, Mode::empty())?;
                let mut bytes = [0; SMALL_FILE.len()];
                whole(read(&file, &mut bytes)?)?;
                close(file)
            }
            Operation::Create => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                let file = openat(&self.dir, name, flags, Mode::from_bits_truncate(0o644))?;
                whole(write(&file, &SMALL_FILE)?)?;
                close(file)
            }
            Operation::Readdir | Operation::ReaddirPlus => {
                match self.list(self.operation == Operation::ReaddirPlus)? {
                    entries if entries == self.entries + 2 => Ok(()),
                    // A listing that lost or invented names is no listing.
                    _ => Err(Errno::EBADMSG),
                }
            }
            Operation::Rename => {
                let other = self.others[index].as_c_str();
                let (from, to) = if pass.is_multiple_of(2) { (name, other) } else { (other, name) };
                renameat(&self.dir, from, &self.dir, to)
            }
            Operation::Unlink => unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir),
            Operation::MkdirRmdir => {
                mkdirat(&self.dir, name, Mode::from_bits_truncate(0o755))?;
                unlinkat(&self.dir, name, UnlinkatFlags::RemoveDir)
            }
            Operation::Symlink => symlinkat(c"some/target", &self.dir, name),
            Operation::Readlink => readlinkat(&self.dir, name).map(drop),
            Operation::Getxattr => {
                let mut value = [0; 256];
                let length = client::getxattr(&self.paths[index], XATTR, &mut value)?;
                if length == XATTR_VALUE.len() { Ok(()) } else { Err(Errno::EBADMSG) }
            }
            Operation::GetxattrMissing => {
                match client::getxattr(&self.paths[index], XATTR, &mut [0; 256]) {
                    Err(Errno::ENODATA) => Ok(()),
                    Ok(_) => Err(Errno::EEXIST),
                    Err(errno) => Err(errno),
                }
            }
            Operation::Setxattr => client::setxattr(&self.paths[index], XATTR, XATTR_VALUE),
            Operation::ReadDirect => {
                let Direct { file, blocks, buffer } =
                    self.direct.as_mut().expect("`enter` has opened it for this operation");
                let offset = self.random.random_range(0..*blocks) * BLOCK;
                whole(file.read_at(buffer, offset).map_err(errno)?)
            }
        }
    }

    /// What is operated on, for messages.
    pub(crate) fn object(&self, index: usize) -> String {
        self.names[index % self.names.len()].to_string_lossy().into_owned()
    }
}

const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC);

fn whole(length: usize) -> Result<(), Errno> {
    if length == SMALL_FILE.len() { Ok(()) } else { Err(Errno::EIO) }
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("the path of a directory that exists")
}
