//! Answers under way that the kernel will take at their word, whatever it is notified of meanwhile.
//!
//! An object that the kernel does not know yet can not be told of; and some answers (to SETATTR, LINK
//! and all that creates) it believes although a notification came after the question. Whoever
//! notifies has to know when those that may be older than a change are over.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use crossbeam_utils::CachePadded;

/// More than there are threads that serve, mostly.
const LANES: usize = 16;

/// Counts such answers in two phases: those that began before [`turn`](Self::turn), and after.
#[derive(Debug, Default)]
pub struct Answers {
    phase: AtomicUsize,
    lanes: [CachePadded<[AtomicU64; 2]>; LANES],
}

/// An answer under way, until it is dropped.
#[derive(Debug)]
pub struct Answer<'a>(&'a AtomicU64);

impl Answers {
    /// An answer begins; the source is not looked at before. `lane` is best the thread's own.
    pub fn begin(&self, lane: usize) -> Answer<'_> {
        let count = &self.lanes[lane % LANES][self.phase.load(SeqCst) % 2];
        count.fetch_add(1, SeqCst);
        Answer(count)
    }

    /// Whether any is under way.
    pub fn any(&self) -> bool {
        self.are_under_way(0) || self.are_under_way(1)
    }

    /// Counts those that begin from now on apart from the others; the phase of the others, for
    /// [`are_under_way`](Self::are_under_way).
    pub fn turn(&self) -> usize {
        self.phase.fetch_add(1, SeqCst) % 2
    }

    /// Whether any of `phase` is still under way. One that read the phase just before it turned may
    /// be counted in it yet: it has not looked at the source.
    pub fn are_under_way(&self, phase: usize) -> bool {
        self.lanes.iter().any(|lane| lane[phase % 2].load(SeqCst) > 0)
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_before_a_turn_are_told_from_those_after() {
        let answers = Answers::default();
        assert!(!answers.any());
        let (first, second) = (answers.begin(3), answers.begin(LANES + 3));
        assert!(answers.any());
        let before = answers.turn();
        let third = answers.begin(0);
        assert!(answers.are_under_way(before));
        drop(first);
        assert!(answers.are_under_way(before));
        drop(second);
        assert!(!answers.are_under_way(before) && answers.any());
        let before = answers.turn();
        assert!(answers.are_under_way(before));
        drop(third);
        assert!(!answers.any());
    }
}
