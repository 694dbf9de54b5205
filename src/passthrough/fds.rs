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

    /// Runs `open`, and if descriptors have run out, closes half of the cached ones and tries again.
    pub(super) fn make_room<T>(
        &self,
        mut open: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match open() {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
                let half = clock.len().div_ceil(2);
                evict(&mut clock, half);
                drop(clock);
                open()
            }
            result => result,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// Closes `count` descriptors. One that was used since it last came up gets another round.
fn evict(clock: &mut VecDeque<Weak<Inode>>, count: usize) {
    let mut chances = clock.len();
    let mut evicted = 0;
    while evicted < count {
        let Some(oldest) = clock.pop_front() else { return };
        let Some(inode) = oldest.upgrade() else {
            evicted += 1;
            continue;
        };
        if chances > 0 && inode.take_used() {
            chances -= 1;
            clock.push_back(oldest);
        } else {
            inode.close_cached();
            evicted += 1;
        }
    }
}
