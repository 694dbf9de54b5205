//! One open file, and whether a READ of it may be answered from a replica.
//!
//! What is read is good if the replica was the file as the mount shows it, and nothing was done to it
//! until the bytes were out: it is looked at before and after. That both are one file is asked again
//! after a while, and whenever the kernel has been told something new of the file: else what lies here
//! could be older than what it was told, and would stay in its page cache as that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::figures::Figures;
use super::{Local, Locator, Miss, Replica, Stamp};
use crate::sys::{caller, objfd};

/// How long it is believed that a replica is the file: as long as the kernel believes attributes that it
/// was told of a source which nobody watches.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long it is not asked again whether there is a replica.
const PAUSE: Duration = Duration::from_millis(300);

/// What all opens of a file have in common.
#[derive(Debug, Default)]
pub struct Watched {
    /// Opens for writing (sequentially consistent: it is asked before and after a read).
    writers: AtomicU32,
    /// What the kernel was last told of the file.
    told: Mutex<Option<Stamp>>,
}

impl Watched {
    /// An open for writing begins.
    pub fn begin_writing(&self) {
        self.writers.fetch_add(1, SeqCst);
    }

    /// It is over.
    pub fn end_writing(&self) {
        self.writers.fetch_sub(1, SeqCst);
    }

    /// The kernel is going to be told this of the file.
    pub fn tell(&self, stamp: Stamp) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
    }

    fn is_written(&self) -> bool {
        self.writers.load(SeqCst) > 0
    }

    fn told(&self) -> Option<Stamp> {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an open file is read at the moment.
#[derive(Debug)]
enum State {
    /// Nobody has looked yet.
    Unknown,
    Found {
        replica: Arc<Replica>,
        at: Instant,
        /// What the kernel had been told by then.
        told: Option<Stamp>,
    },
    Missed {
        at: Instant,
    },
}

/// Reads an open file from its replica while that is the same.
#[derive(Debug)]
pub struct Reader {
    locator: Arc<dyn Locator>,
    figures: Arc<Figures>,
    /// Of the source.
    inode: u64,
    state: Mutex<State>,
}

impl Reader {
    pub(super) fn new(locator: Arc<dyn Locator>, figures: Arc<Figures>, inode: u64) -> Self {
        Reader { locator, figures, inode, state: Mutex::new(State::Unknown) }
    }

    /// Up to `len` bytes from `offset` of the file that is open through the mount as `opened`; `None` if
    /// they have to be read there.
    ///
    /// # Errors
    /// EWOULDBLOCK for a thread that others wait for, if it takes longer.
    pub fn read(
        &self,
        opened: &File,
        watched: &Watched,
        offset: u64,
        len: u32,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let read = match self.replica(opened, watched)? {
            Some(replica) => self.read_replica(&replica, watched, offset, len)?,
            None => None,
        };
        match &read {
            Some(bytes) => self.figures.read(bytes.len()),
            None => self.figures.read_through(),
        }
        Ok(read)
    }

    /// The replica, if it is one now.
    fn replica(&self, opened: &File, watched: &Watched) -> Result<Option<Arc<Replica>>, Errno> {
        if watched.is_written() {
            self.figures.checked(Some(Miss::Written));
            return Ok(None);
        }
        let told = watched.told();
        match &*self.state() {
            State::Found { replica, at, told: then } => {
                let nothing_new = told == *then || told == Some(replica.stamp);
                if nothing_new && at.elapsed() < BELIEVED && is_unchanged(replica) {
                    return Ok(Some(replica.clone()));
                }
            }
            State::Missed { at } if at.elapsed() < PAUSE => return Ok(None),
            State::Missed { .. } | State::Unknown => {}
        }
        if !caller::is_patient() {
            return Err(Errno::EWOULDBLOCK);
        }
        // Not under the lock: the distributed file system may not answer for a while.
        let found = self.locator.find(opened, self.inode);
        self.figures.checked(found.as_ref().err().copied());
        let at = Instant::now();
        let (state, replica) = match found {
            Ok(replica) => {
                let replica = Arc::new(replica);
                (State::Found { replica: replica.clone(), at, told }, Some(replica))
            }
            Err(_) => (State::Missed { at }, None),
        };
        *self.state() = state;
        Ok(replica)
    }

    /// Bytes of `replica`; `None` if it was not the same until they were read.
    fn read_replica(
        &self,
        replica: &Replica,
        watched: &Watched,
        offset: u64,
        len: u32,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| Errno::EINVAL)?];
        let count = match caller::is_patient() {
            true => read_all(&replica.file, &mut bytes, offset).ok(),
            false => match objfd::read_cached(&replica.file, offset, &mut bytes) {
                None => return Err(Errno::EWOULDBLOCK),
                count => count,
            },
        };
        let good = count.filter(|_| is_unchanged(replica) && !watched.is_written());
        let Some(count) = good else {
            let miss = if count.is_some() { Miss::Differs } else { Miss::Failed };
            self.figures.checked(Some(miss));
            *self.state() = State::Missed { at: Instant::now() };
            return Ok(None);
        };
        bytes.truncate(count);
        Ok(Some(bytes))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing was done to a replica since it was found.
fn is_unchanged(replica: &Replica) -> bool {
    Local::of(&replica.file).is_ok_and(|local| local == replica.local)
}

/// Fills `bytes` up to the end of the file.
fn read_all(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read_at(&mut bytes[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
