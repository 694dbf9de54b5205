//! Whether files that are opened are read from, as the last of them tell.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// So many opens of one kind make up for all before.
const MEMORY: i32 = 8;

/// How many more of the last opens were read from than were not (relaxed: a guess).
#[derive(Debug, Default)]
pub(super) struct Habit(AtomicI32);

impl Habit {
    /// A file is closed of which nothing was cached when it was opened.
    pub(super) fn closed(&self, was_read: bool) {
        let step = if was_read { 1 } else { -1 };
        let next = |now: i32| Some((now + step).clamp(-MEMORY, MEMORY));
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    /// Whether the next file that is opened is likely to be read from.
    pub(super) fn expects_reads(&self) -> bool {
        self.0.load(Relaxed) >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_done_and_forgets_what_was() {
        let habit = Habit::default();
        assert!(habit.expects_reads(), "who opens a file mostly reads it");
        for _ in 0..1000 {
            habit.closed(false);
        }
        assert!(!habit.expects_reads());
        for _ in 0..MEMORY {
            habit.closed(true);
        }
        assert!(habit.expects_reads());
    }
}
