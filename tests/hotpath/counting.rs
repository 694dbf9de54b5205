//! An allocator that counts.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The system's allocator, and who has asked it for memory how often.
struct Counting;

thread_local! {
    /// This thread.
    pub(crate) static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// All threads that serve requests. Relaxed: whoever looks has been told that they are done.
pub(crate) static SERVING: AtomicU64 = AtomicU64::new(0);

fn count() {
    ASKED.set(ASKED.get() + 1);
    if serves() {
        SERVING.fetch_add(1, Relaxed);
    }
}

/// Whether this thread is called as those that serve are: one of a queue's, or a worker, or one that
/// does what takes long.
fn serves() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes up to 16 bytes, the zero at the end included, where it is told to.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    ["queue-", "worker", "offload"].iter().any(|kind| name.starts_with(kind.as_bytes()))
}

// SAFETY: every method passes its arguments on to the system's allocator, which upholds the
// contract, and returns what that returned. The counter is a constant-initialized cell without a
// destructor: touching it neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises about `layout` are the system's requirements.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from the system's allocator with `layout`; the rest as in `alloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from the system's allocator with `layout`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
