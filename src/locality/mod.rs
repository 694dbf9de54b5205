//! Which local file holds the bytes of a file of a distributed file system, and until when.
//!
//! Names, attributes, permissions and writes stay with the distributed mount. A [`Locator`] knows one
//! such system: it finds the file on this machine's disk that holds what was opened through the mount,
//! if it may be read there as it is now. [`Reader`] has each READ answered from that file as long as
//! nothing about it changes, and says so if something does, upon which the mount is asked.
//!
//! The kernel is not given such a file as a backing file unless the user says so (`replica=held`): it
//! would read it until the last close, and no call takes it back. A rebalance empties a brick's file while
//! it is open, and a brick that has lost its network goes stale; a mapping of a writer would go behind the
//! distributed file system's back. What was read stays in FUSE's page cache, where reading it again costs
//! no request either, also by another open that finds the file as it was.

mod figures;
mod gfarm;
mod gluster;
mod reader;
mod stamp;

use std::fmt::Debug;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use nix::sys::stat::fstat;

use crate::config::{Config, Locality};
use crate::metrics::snapshot;
use crate::mountinfo::MountTable;
use figures::Figures;

pub use gfarm::run as ask_gfarm;
pub use reader::{Reader, Watched};
pub use stamp::{Local, Stamp};

/// Knows where one distributed file system keeps its files.
pub trait Locator: Debug + Send + Sync {
    /// As `-o locality=` calls it.
    fn name(&self) -> &'static str;

    /// Whether a file that is written to stays the local file that it was. Else a mapping would go on
    /// showing what was there before for as long as anybody has that open.
    fn writes_in_place(&self) -> bool;

    /// Why nothing is read where it lies, if that is known to be so for all files.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// The local file that holds the bytes of `opened`, which was opened through the distributed mount:
    /// as it is now, as the mount says that it is now, and whole. `inode` is the number under which it
    /// was found there before it was opened. May wait for the distributed file system.
    ///
    /// # Errors
    /// Why the file has to be read through the mount.
    fn find(&self, opened: &File, inode: u64) -> Result<Replica, Miss>;
}

/// A local file that holds what a file of the distributed mount does.
#[derive(Debug)]
pub struct Replica {
    /// Open for reading.
    pub file: File,
    /// What the mount said of the file when this was found to be the same.
    pub stamp: Stamp,
    /// The local file at that moment. Whatever is done to it shows here.
    pub local: Local,
}

/// Why a file is read through the distributed mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// It has no replica on this machine.
    Elsewhere,
    /// It is open for writing on this mount.
    Written,
    /// The replica is not what the mount says: it is being written to elsewhere, or out of date.
    Differs,
    /// It is cut or encoded: what lies here is not its bytes.
    Encoded,
    /// It is being moved, or was.
    Moved,
    /// A repair is due.
    Unhealed,
    /// The distributed file system has marked it in a way that is not known here.
    Marked,
    /// The distributed file system, or the local one, has refused something.
    Failed,
}

impl Miss {
    const ALL: [Miss; 8] = [
        Miss::Elsewhere,
        Miss::Written,
        Miss::Differs,
        Miss::Encoded,
        Miss::Moved,
        Miss::Unhealed,
        Miss::Marked,
        Miss::Failed,
    ];

    /// As `fusewire stats` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Miss::Elsewhere => "elsewhere",
            Miss::Written => "written here",
            Miss::Differs => "differs",
            Miss::Encoded => "encoded",
            Miss::Moved => "moved",
            Miss::Unhealed => "unhealed",
            Miss::Marked => "marked",
            Miss::Failed => "failed",
        }
    }
}

/// What is in force on a mount.
#[derive(Debug)]
pub struct Replicas {
    requested: Locality,
    locator: Result<Arc<dyn Locator>, String>,
    figures: Arc<Figures>,
}

impl Replicas {
    /// Looks what the source is, and whether its files can be read where they lie. `source` is a directory
    /// that is open for reading.
    ///
    /// # Errors
    /// Why not, if it is asked for by name.
    pub fn new(config: &Config, source: &File) -> Result<Self, String> {
        let (requested, path) = (config.locality, &config.source);
        let locator = match requested {
            Locality::Off => Err("not asked for".to_owned()),
            Locality::Auto => recognise(source, config),
            Locality::Gluster => trusted(source, path).and_then(|()| gluster::open(source)),
            Locality::Gfarm => trusted(source, path).and_then(|()| gfarm::open(source, config)),
        };
        match (&locator, requested) {
            (Ok(locator), _) => {
                tracing::info!(
                    system = locator.name(),
                    "files whose bytes lie on this machine are read there"
                );
            }
            (Err(reason), Locality::Auto) => {
                tracing::info!("all files are read through the source: {reason}");
            }
            (Err(_), Locality::Off) => {}
            (Err(reason), _) => {
                return Err(format!(
                    "-o locality={requested} can not be had: {reason}; leave it out, and all files are \
                     read through the source"
                ));
            }
        }
        Ok(Replicas { requested, locator, figures: Arc::default() })
    }

    /// Whether files may be read from replicas.
    pub fn any(&self) -> bool {
        self.locator.is_ok()
    }

    /// Whether the kernel may be given replicas to read by itself, if there are any.
    pub fn may_be_held(&self) -> bool {
        self.locator.as_ref().map_or(true, |locator| locator.writes_in_place())
    }

    /// A reader for one open file, which was found as the inode of this number of the source.
    pub fn reader(&self, inode: u64) -> Option<Arc<Reader>> {
        let locator = self.locator.as_ref().ok()?;
        Some(Arc::new(Reader::new(locator.clone(), self.figures.clone(), inode)))
    }

    /// The file that holds the bytes of `opened`, found as `inode`, for as long as it is trusted; counted.
    /// `None` if there is none now.
    pub fn find(&self, opened: &File, inode: u64) -> Option<Replica> {
        let found = self.locator.as_ref().ok()?.find(opened, inode);
        self.figures.checked(found.as_ref().err().copied());
        if found.is_ok() {
            self.figures.held();
        }
        found.ok()
    }

    /// What is in force, and what was read.
    pub fn describe(&self) -> snapshot::Locality {
        let mode = self.locator.as_ref().map_or("off", |locator| locator.name());
        let reason = match (&self.locator, self.requested) {
            (Ok(locator), _) => locator.trouble(),
            (Err(_), Locality::Off) => None,
            (Err(reason), _) => Some(reason.clone()),
        };
        let (mode, requested) = (mode.to_owned(), self.requested.to_string());
        self.figures.snapshot(snapshot::Locality { mode, requested, reason, ..Default::default() })
    }
}

/// The system behind the source.
fn recognise(source: &File, config: &Config) -> Result<Arc<dyn Locator>, String> {
    let trusted = || trusted(source, &config.source);
    if gluster::is_behind(source) {
        trusted().and_then(|()| gluster::open(source))
    } else if gfarm::is_behind(source) {
        trusted().and_then(|()| gfarm::open(source, config))
    } else {
        Err("no distributed file system is known behind the source".to_owned())
    }
}

/// Whoever serves the source says which local file is which, and of any size and time. Root's daemon
/// believes only root.
fn trusted(source: &File, path: &Path) -> Result<(), String> {
    let device = fstat(source).map_err(|errno| format!("{}: {errno}", path.display()))?.st_dev;
    let table = MountTable::read().map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let same =
        |mount: &&crate::mountinfo::Mount| device == nix::libc::makedev(mount.major, mount.minor);
    match table.iter().find(same).map(|mount| mount.super_option("user_id")) {
        Some(Some("0")) => Ok(()),
        Some(Some(user)) => Err(format!("the source is served by user {user}, not by root")),
        Some(None) => Err("the source is no FUSE mount".to_owned()),
        None => Err("the source's mount is not in /proc/self/mountinfo".to_owned()),
    }
}

/// The value of an extended attribute; `None` if there is none.
fn attribute(file: &File, name: &std::ffi::CStr) -> nix::Result<Option<Vec<u8>>> {
    // The kernel's own bound (XATTR_SIZE_MAX).
    let mut value = vec![0; 64 << 10];
    match crate::sys::objfd::fgetxattr(file, name, &mut value) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(nix::errno::Errno::ENODATA | nix::errno::Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names of all extended attributes.
fn attributes(file: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = crate::sys::objfd::listxattr(file, &mut names)?;
    names.truncate(len);
    Ok(names)
}
