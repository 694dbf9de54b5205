//! Which part of a table that all workers share is this worker's own.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts of a table that is divided among threads.
pub(super) const SHARDS: usize = 16;

/// The part of the calling thread: the same each time, and another thread's only if there are more
/// threads than parts.
pub(super) fn own() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Relaxed) % SHARDS;
    }
    OWN.with(|own| *own)
}
