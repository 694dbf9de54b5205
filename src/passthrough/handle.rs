//! Open files and directories, by the `fh` that the kernel names them with.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crossbeam_utils::CachePadded;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::backing::IoMode;
use super::dir::DirStream;
use super::inode::Inode;
use super::shard::{self, SHARDS};
use crate::fs::{Fh, NodeId, Result};
use crate::locality::Reader;

/// What the kernel adds to the flags of an open that executes the file (`__FMODE_EXEC`).
const EXECUTES: OFlag = OFlag::from_bits_retain(0x20);

/// An open file.
#[derive(Debug, Clone)]
pub(super) struct OpenFile {
    /// A descriptor of the source, opened as the caller asked; `None` as long as the kernel does
    /// everything by itself.
    pub(super) file: Option<Arc<File>>,
    pub(super) inode: Arc<Inode>,
    pub(super) flags: OFlag,
    pub(super) mode: IoMode,
    /// What direct I/O of the source demands of offsets and sizes, bytes; 1 where the kernel sees
    /// to it.
    pub(super) direct_alignment: u32,
    /// Reads it where its bytes lie, if that may be elsewhere.
    pub(super) reader: Option<Arc<Reader>>,
}

impl OpenFile {
    /// Whether the source would take a transfer as aligned: the daemon, which reads and writes without
    /// O_DIRECT, would grant what the source refuses.
    pub(super) fn is_aligned(&self, flags: u32, offset: u64, size: u32) -> bool {
        let direct = OFlag::from_bits_retain(flags.cast_signed()).contains(OFlag::O_DIRECT);
        let mask = u64::from(self.direct_alignment) - 1;
        !direct || (offset | u64::from(size)) & mask == 0
    }
}

/// An open directory.
#[derive(Debug, Default)]
pub(super) struct OpenDir {
    pub(super) stream: Mutex<DirStream>,
}

/// Released directories whose memory each shard keeps for the next OPENDIR.
const SPARE_DIRS: usize = 8;

/// Open files and directories. A shard belongs to the worker that opens; the others come by when
/// they serve a request on what it has opened.
#[derive(Debug)]
pub(super) struct HandleTable {
    files: [CachePadded<RwLock<Slab<OpenFile>>>; SHARDS],
    dirs: [CachePadded<RwLock<Slab<Arc<OpenDir>>>>; SHARDS],
    spare_dirs: [CachePadded<Mutex<Vec<Arc<OpenDir>>>>; SHARDS],
    /// Descriptors of files and directories (relaxed: a few more or less than the limit do not
    /// matter).
    open: AtomicU64,
    limit: u64,
}

impl HandleTable {
    /// A table of files and directories with at most `limit` descriptors.
    pub(super) fn new(limit: u64) -> Self {
        let (files, dirs, spare_dirs) = Default::default();
        HandleTable { files, dirs, spare_dirs, open: AtomicU64::new(0), limit }
    }

    /// ENFILE if no more may be opened: each costs the daemon a descriptor, of which everything
    /// else must keep some.
    pub(super) fn admit(&self) -> Result<()> {
        if self.open.load(Relaxed) < self.limit { Ok(()) } else { Err(Errno::ENFILE) }
    }

    pub(super) fn open_file(&self, file: OpenFile) -> Fh {
        self.open.fetch_add(file.file.is_some().into(), Relaxed);
        insert(&self.files, file)
    }

    pub(super) fn open_dir(&self, dir: OwnedFd) -> Fh {
        self.open.fetch_add(1, Relaxed);
        let mut spare = lock(&self.spare_dirs[shard::own()]).pop().unwrap_or_default();
        let stream = Arc::get_mut(&mut spare).expect("nobody else has a released directory");
        stream.stream.get_mut().unwrap_or_else(PoisonError::into_inner).open(dir);
        insert(&self.dirs, spare)
    }

    pub(super) fn file(&self, fh: Fh) -> Result<OpenFile> {
        find(&self.files, fh)
    }

    /// Keeps a descriptor for an open file that has none, as long as more may be opened.
    pub(super) fn keep(&self, fh: Fh, file: &Arc<File>) {
        let (shard, place, generation) = split(fh);
        let mut slab = self.files[shard].write().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = slab.get_mut(place, generation)
            && open.file.is_none()
            && self.admit().is_ok()
        {
            open.file = Some(file.clone());
            self.open.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn dir(&self, fh: Fh) -> Result<Arc<OpenDir>> {
        find(&self.dirs, fh)
    }

    /// Whether a program runs from the file `nodeid`, or did until a moment ago.
    pub(super) fn is_run(&self, nodeid: NodeId) -> bool {
        self.is_open(nodeid, |flags| flags.contains(EXECUTES))
    }

    /// Whether somebody may write to the file `nodeid`, or could until a moment ago.
    pub(super) fn is_open_to_write(&self, nodeid: NodeId) -> bool {
        self.is_open(nodeid, |flags| flags & OFlag::O_ACCMODE != OFlag::O_RDONLY)
    }

    /// Whether a file is open with such flags. Looks at every open file.
    fn is_open(&self, nodeid: NodeId, so: impl Fn(OFlag) -> bool) -> bool {
        let is = |open: &OpenFile| open.inode.nodeid == nodeid && so(open.flags);
        self.files.iter().any(|slab| {
            let slab = slab.read().unwrap_or_else(PoisonError::into_inner);
            slab.places.iter().filter_map(|place| place.value.as_ref()).any(is)
        })
    }

    pub(super) fn close_file(&self, fh: Fh) -> Option<OpenFile> {
        let closed = remove(&self.files, fh);
        let had_one = closed.as_ref().is_some_and(|closed| closed.file.is_some());
        self.open.fetch_sub(had_one.into(), Relaxed);
        closed
    }

    pub(super) fn close_dir(&self, fh: Fh) {
        let Some(mut closed) = remove(&self.dirs, fh) else { return };
        self.open.fetch_sub(1, Relaxed);
        // One that somebody still reads goes with the last of them.
        if let Some(dir) = Arc::get_mut(&mut closed) {
            dir.stream.get_mut().unwrap_or_else(PoisonError::into_inner).close();
            let mut spare = lock(&self.spare_dirs[shard::own()]);
            if spare.len() < SPARE_DIRS {
                spare.push(closed);
            }
        }
    }

    /// Open files and open directories.
    pub(super) fn counts(&self) -> (u64, u64) {
        (count(&self.files), count(&self.dirs))
    }
}

/// Values in numbered places that are used again.
#[derive(Debug)]
struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// How often it was given back: an `fh` names one use of a place, not the next.
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts `value` into a free place; tells the place and its generation.
    fn insert(&mut self, value: T) -> (u32, u32) {
        if let Some(at) = self.free.pop()
            && let Some(place) = self.places.get_mut(index(at))
        {
            place.value = Some(value);
            return (at, place.generation);
        }
        let at = u32::try_from(self.places.len()).expect("descriptors are far fewer");
        self.places.push(Place { generation: 0, value: Some(value) });
        // So that giving one back never has to ask for memory.
        self.free.reserve(self.places.len() - self.free.len());
        (at, 0)
    }

    fn get(&self, at: u32, generation: u32) -> Option<&T> {
        let place = self.places.get(index(at)).filter(|place| place.generation == generation)?;
        place.value.as_ref()
    }

    fn get_mut(&mut self, at: u32, generation: u32) -> Option<&mut T> {
        let place =
            self.places.get_mut(index(at)).filter(|place| place.generation == generation)?;
        place.value.as_mut()
    }

    fn remove(&mut self, at: u32, generation: u32) -> Option<T> {
        let place = self.places.get_mut(index(at))?;
        let value = if place.generation == generation { place.value.take() } else { None };
        if value.is_some() {
            place.generation = place.generation.wrapping_add(1);
            self.free.push(at);
        }
        value
    }

    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

/// An `fh` is the generation in its upper half, and the place and shard in the lower.
#[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits")]
fn split(fh: Fh) -> (usize, u32, u32) {
    let (generation, low) = ((fh.0 >> 32) as u32, fh.0 as u32);
    (index(low) % SHARDS, low / SHARDS as u32, generation)
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

type Shards<T> = [CachePadded<RwLock<Slab<T>>>];

fn insert<T>(shards: &Shards<T>, value: T) -> Fh {
    let own = shard::own();
    let mut slab = shards[own].write().unwrap_or_else(PoisonError::into_inner);
    let (place, generation) = slab.insert(value);
    let low = u64::from(place) * SHARDS as u64 + own as u64;
    Fh((u64::from(generation) << 32) | low)
}

fn find<T: Clone>(shards: &Shards<T>, fh: Fh) -> Result<T> {
    let (shard, place, generation) = split(fh);
    let slab = shards[shard].read().unwrap_or_else(PoisonError::into_inner);
    slab.get(place, generation).cloned().ok_or(Errno::EBADF)
}

fn remove<T>(shards: &Shards<T>, fh: Fh) -> Option<T> {
    let (shard, place, generation) = split(fh);
    let mut slab = shards[shard].write().unwrap_or_else(PoisonError::into_inner);
    slab.remove(place, generation)
}

fn count<T>(shards: &Shards<T>) -> u64 {
    let len = |slab: &CachePadded<RwLock<Slab<T>>>| {
        slab.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    };
    shards.iter().map(len).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_but_never_under_the_same_name() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        let other = slab.insert("other");
        assert_eq!(slab.remove(first.0, first.1), Some("first"));
        assert_eq!(slab.remove(first.0, first.1), None, "released twice");
        let second = slab.insert("second");
        assert_eq!((second.0, second.1), (first.0, first.1 + 1));
        assert_eq!(slab.get(first.0, first.1), None);
        assert_eq!(slab.get(second.0, second.1), Some(&"second"));
        assert_eq!(slab.get(other.0, other.1), Some(&"other"));
        assert_eq!((slab.len(), slab.get(7, 0)), (2, None));
    }

    #[test]
    fn a_name_that_was_never_given_is_none() {
        let table = HandleTable::new(10);
        for raw in [0, 1, 17, 1 << 32, u64::MAX] {
            assert!(table.file(Fh(raw)).is_err() && table.dir(Fh(raw)).is_err());
            assert!(table.close_file(Fh(raw)).is_none());
            table.close_dir(Fh(raw));
        }
        assert_eq!(table.counts(), (0, 0));
        table.admit().expect("nothing is open");
    }

    #[test]
    fn directories_of_several_threads_are_told_apart_and_closed_by_any() {
        let table = HandleTable::new(100);
        let open = || -> OwnedFd { File::open("/").expect("every machine has it").into() };
        let handles: Vec<Fh> = std::thread::scope(|scope| {
            let threads = (0..20).map(|_| scope.spawn(|| table.open_dir(open())));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(table.counts(), (0, 20));
        for fh in &handles {
            table.dir(*fh).expect("open");
            table.close_dir(*fh);
            assert!(table.dir(*fh).is_err());
        }
        assert_eq!(table.counts(), (0, 0));
    }
}
