//! How many descriptors are held only to save reopening an inode: bounded, second-chance lists.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crossbeam_utils::CachePadded;
use nix::errno::Errno;

use super::inode::{Inode, Shards};
use super::shard::{self, SHARDS};

type Clock = VecDeque<Weak<Inode>>;

/// The live inodes, whose descriptors may be closed at any time: a list for each worker of what it has
/// opened, oldest first, and one bound for all of them.
///
/// Lists are locked one at a time, and never by who holds a shard of inodes or a descriptor slot.
#[derive(Debug)]
pub(super) struct FdCache {
    capacity: usize,
    clocks: [CachePadded<Mutex<Clock>>; SHARDS],
    /// Entries of all lists (relaxed: changed along with them, read as a bound).
    entries: CachePadded<AtomicUsize>,
    /// The list that has to give way next.
    turn: AtomicUsize,
}

impl FdCache {
    pub(super) fn new(capacity: usize) -> Self {
        let (clocks, entries) = Default::default();
        FdCache { capacity, clocks, entries, turn: AtomicUsize::new(0) }
    }

    /// Takes up an inode that has just become live, and lets go of others beyond the capacity.
    pub(super) fn admit(&self, shards: &Shards, inode: &Arc<Inode>) {
        // Counted before somebody else can take it out.
        let entries = self.entries.fetch_add(1, Relaxed) + 1;
        self.clock(shard::own()).push_back(Arc::downgrade(inode));
        let mut excess = entries.saturating_sub(self.capacity);
        for _ in 0..SHARDS {
            if excess == 0 {
                break;
            }
            let mut clock = self.clock(self.turn.fetch_add(1, Relaxed) % SHARDS);
            let before = clock.len();
            evict(&mut clock, shards, excess);
            excess -= self.gone(before, &clock);
        }
    }

    /// Runs `open`, and if descriptors have run out, closes cached ones until it works. ENFILE if
    /// they are not enough: it is not the caller who has too many files open.
    pub(super) fn make_room<T>(
        &self,
        shards: &Shards,
        mut open: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        loop {
            match open() {
                Err(Errno::EMFILE | Errno::ENFILE) => {
                    let (mut closed, mut left) = (0, 0);
                    for clock in 0..SHARDS {
                        let mut clock = self.clock(clock);
                        let before = clock.len();
                        closed += evict(&mut clock, shards, before.div_ceil(2));
                        self.gone(before, &clock);
                        left += clock.len();
                    }
                    if closed == 0 && left == 0 && !shards.let_go_of_named() {
                        return Err(Errno::ENFILE);
                    }
                }
                result => return result,
            }
        }
    }

    /// Closes what was not used since this was last called; tells whether anything is left.
    ///
    /// A descriptor, or a backing file, keeps the space of a file that somebody has deleted behind
    /// the mount; so none is kept for longer than it is of use.
    pub(super) fn age(&self, shards: &Shards) -> bool {
        let mut left = false;
        for clock in 0..SHARDS {
            let mut clock = self.clock(clock);
            let before = clock.len();
            clock.retain(|inode| {
                let Some(inode) = inode.upgrade() else { return false };
                let keep = inode.take_used();
                if !keep {
                    inode.close_cached();
                    shards.retire(&inode);
                }
                keep
            });
            self.gone(before, &clock);
            left |= !clock.is_empty();
        }
        left
    }

    /// Inodes of the lists that have a descriptor.
    pub(super) fn len(&self) -> u64 {
        let open = |clock| {
            let open = |inode: &Weak<Inode>| inode.upgrade().is_some_and(|inode| inode.has_fd());
            self.clock(clock).iter().filter(|inode| open(inode)).count() as u64
        };
        (0..SHARDS).map(open).sum()
    }

    fn clock(&self, index: usize) -> MutexGuard<'_, Clock> {
        self.clocks[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a list has lost since it had `before` entries.
    fn gone(&self, before: usize, clock: &Clock) -> usize {
        let gone = before - clock.len();
        self.entries.fetch_sub(gone, Relaxed);
        gone
    }
}

/// Takes `count` inodes out and closes their descriptors; tells how many were closed. One that was
/// used since it last came up gets another round.
fn evict(clock: &mut Clock, shards: &Shards, count: usize) -> usize {
    let (mut chances, mut closed) = (clock.len(), 0);
    let mut taken = 0;
    while taken < count {
        let Some(oldest) = clock.pop_front() else { break };
        match oldest.upgrade() {
            Some(inode) if chances > 0 && inode.take_used() => {
                chances -= 1;
                clock.push_back(oldest);
            }
            Some(inode) => {
                closed += usize::from(inode.close_cached());
                shards.retire(&inode);
                taken += 1;
            }
            None => taken += 1,
        }
    }
    closed
}

#[cfg(test)]
mod tests;
