//! One open file, and whether a READ of it may be answered from a replica.
//!
//! What is read is good if the replica was the file as the mount shows it, and nothing was done to it
//! until the bytes were out: it is looked at before and after. That both are one file is asked again
//! after a while, and whenever the kernel has been told something new of the file: else what lies here
//! could be older than what it was told, and would stay in its page cache as that.
//!
//! What the kernel has cached outlives the open that it was read by only if all of it came from one state
//! of the replica, and the next open finds the file in that state.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
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
    /// What it has cached of it.
    cache: Mutex<Cache>,
}

/// What of a file is in the kernel's page cache.
#[derive(Debug, Default)]
struct Cache {
    /// What was read since the last open that had the kernel forget.
    holds: Holds,
    /// How many opens have had it forget.
    round: u64,
    /// Whether it has done so: the open is read from, so that its answer has arrived.
    begun: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Holds {
    #[default]
    Nothing,
    /// What this state of the replica does.
    State(Local),
    /// What nobody can tell where it is from.
    Mixed,
}

impl Cache {
    /// The kernel is told to forget; returns which time that is.
    fn forget(&mut self) -> u64 {
        *self = Cache { holds: Holds::Nothing, round: self.round + 1, begun: false };
        self.round
    }

    /// Something is cached, `new`, beside what is there.
    fn add(&mut self, new: Holds) {
        self.holds = match self.holds {
            Holds::Nothing => new,
            same if same == new => same,
            _ => Holds::Mixed,
        };
    }

    /// A read of an open arrives that had the kernel forget for the `round`th time, or after that.
    fn begin(&mut self, round: u64) {
        self.begun |= round == self.round;
    }

    /// The one state that everything is from.
    fn state(&self) -> Option<Local> {
        match self.holds {
            Holds::State(state) if self.begun => Some(state),
            _ => None,
        }
    }
}

impl Watched {
    /// An open for writing begins.
    pub fn begin_writing(&self) {
        self.writers.fetch_add(1, SeqCst);
        self.cache().add(Holds::Mixed);
    }

    /// It is over.
    pub fn end_writing(&self) {
        // An open meanwhile has had the kernel forget, and it may have been written to since.
        self.cache().add(Holds::Mixed);
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

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// How often the kernel has been told to forget the file by when this was opened.
    round: AtomicU64,
}

impl Reader {
    pub(super) fn new(locator: Arc<dyn Locator>, figures: Arc<Figures>, inode: u64) -> Self {
        let (state, round) = (Mutex::new(State::Unknown), AtomicU64::new(0));
        Reader { locator, figures, inode, state, round }
    }

    /// Whether the kernel may keep what it has cached of the file that this is for, which is being opened
    /// through the mount as `opened`. If not, it has to be told to forget it.
    pub fn keeps_cache(&self, opened: &File, watched: &Watched) -> bool {
        let state = watched.cache().state();
        // A thread that may not wait for it has the kernel forget.
        let is_same = |state| match self.replica(opened, watched) {
            Ok(Some(replica)) => replica.local == state,
            Ok(None) | Err(_) => false,
        };
        let mut keeps = state.is_some_and(is_same);
        let mut cache = watched.cache();
        // It may have been read from, or written to, while the distributed file system was asked.
        keeps &= cache.state() == state;
        let round = if keeps { cache.round } else { cache.forget() };
        self.round.store(round, Relaxed);
        keeps
    }

    /// Fills `bytes` from `offset` of the file that is open through the mount as `opened`, up to its end;
    /// tells how many they are, or `None` if they have to be read there.
    ///
    /// # Errors
    /// EWOULDBLOCK for a thread that others wait for, if it takes longer.
    pub fn read(
        &self,
        opened: &File,
        watched: &Watched,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<Option<usize>, Errno> {
        let read = match self.replica(opened, watched)? {
            Some(replica) => self.read_replica(&replica, watched, offset, bytes)?,
            None => None,
        };
        match &read {
            Some(count) => self.figures.read(*count),
            None => {
                self.brings(watched, Holds::Mixed);
                self.figures.read_through();
            }
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

    /// How many bytes of `replica` were read; `None` if it was not the same until they were.
    fn read_replica(
        &self,
        replica: &Replica,
        watched: &Watched,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<Option<usize>, Errno> {
        // Before it is read: an open that finds another state must not miss what is on its way.
        let settled = replica.local.is_settled()?;
        self.brings(watched, if settled { Holds::State(replica.local) } else { Holds::Mixed });
        let count = match caller::is_patient() {
            true => read_all(&replica.file, bytes, offset).ok(),
            false => match objfd::read_cached(&replica.file, offset, bytes) {
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
        Ok(Some(count))
    }

    /// A READ of this open is going to bring the kernel something of `new`.
    fn brings(&self, watched: &Watched, new: Holds) {
        let mut cache = watched.cache();
        cache.begin(self.round.load(Relaxed));
        cache.add(new);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u64) -> Local {
        let stamp = Stamp { size: 1, mtime: (1, 0), ctime: (1, 0) };
        Local { id: (1, number), stamp, mode: 0o100_644, nlink: 1 }
    }

    #[test]
    fn what_is_from_one_state_is_known_once_the_open_that_forgot_is_read_from() {
        let mut cache = Cache::default();
        let first = cache.forget();
        cache.add(Holds::State(state(1)));
        assert_eq!(cache.state(), None, "the kernel may not have heard of the open");
        cache.begin(first);
        assert_eq!(cache.state(), Some(state(1)));
        let second = cache.forget();
        cache.begin(first);
        cache.add(Holds::State(state(1)));
        assert_eq!(cache.state(), None, "an older open tells nothing of the newer one");
        cache.begin(second);
        assert_eq!(cache.state(), Some(state(1)));
    }

    #[test]
    fn what_is_from_several_states_is_known_as_none_until_it_is_forgotten() {
        for other in [Holds::State(state(2)), Holds::Mixed] {
            let mut cache = Cache::default();
            let round = cache.forget();
            cache.begin(round);
            cache.add(Holds::State(state(1)));
            cache.add(other);
            cache.add(Holds::State(state(1)));
            assert_eq!(cache.state(), None);
            let round = cache.forget();
            cache.begin(round);
            cache.add(Holds::State(state(1)));
            assert_eq!(cache.state(), Some(state(1)));
        }
    }

    #[test]
    fn what_is_cached_while_somebody_writes_is_not_known() {
        let watched = Watched::default();
        watched.begin_writing();
        let round = watched.cache().forget();
        watched.cache().begin(round);
        watched.cache().add(Holds::State(state(1)));
        watched.end_writing();
        assert_eq!(watched.cache().state(), None);
    }
}
