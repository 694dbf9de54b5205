//! How many descriptors are held only to save reopening an inode: a bounded, second-chance list.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::errno::Errno;

use super::inode::Inode;

/// The inodes whose descriptor may be closed at any time, oldest first.
#[derive(Debug)]
pub(super) struct FdCache {
    capacity: usize,
    clock: Mutex<VecDeque<Weak<Inode>>>,
}

impl FdCache {
    pub(super) fn new(capacity: usize) -> Self {
        FdCache { capacity, clock: Mutex::new(VecDeque::new()) }
    }

    /// Takes up an inode that has just got a descriptor, and closes others beyond the capacity.
    ///
    /// Must not be called with the inode's own descriptor slot locked.
    pub(super) fn admit(&self, inode: &Arc<Inode>) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.push_back(Arc::downgrade(inode));
        let excess = clock.len().saturating_sub(self.capacity);
        evict(&mut clock, excess);
    }

    /// Runs `open`, and if descriptors have run out, closes cached ones until it works. ENFILE if
    /// they are not enough: it is not the caller who has too many files open.
    pub(super) fn make_room<T>(
        &self,
        mut open: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        loop {
            match open() {
                Err(Errno::EMFILE | Errno::ENFILE) => {
                    let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
                    let half = clock.len().div_ceil(2);
                    if evict(&mut clock, half) == 0 && clock.is_empty() {
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
    pub(super) fn age(&self) -> bool {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.retain(|inode| {
            let Some(inode) = inode.upgrade() else { return false };
            let keep = inode.take_used();
            if !keep {
                inode.close_cached();
            }
            keep
        });
        !clock.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.iter().filter(|inode| inode.strong_count() > 0).count() as u64
    }
}

/// Takes `count` inodes out and closes their descriptors; tells how many were closed. One that was
/// used since it last came up gets another round.
fn evict(clock: &mut VecDeque<Weak<Inode>>, count: usize) -> usize {
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
                taken += 1;
            }
            None => taken += 1,
        }
    }
    closed
}

#[cfg(test)]
mod tests;
