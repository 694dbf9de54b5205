//! What has to be told a second time: the kernel may have got, or may get, an answer from before the
//! change, which it believes all the same.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::answers::Answers;
use super::batch::Changed;
use crate::fs::NodeId;

/// Looks for which an inode is waited for that the kernel does not know: whoever gets the answer in
/// which it is first named may have to wait for a CPU. After that it is tried when twice as many have
/// gone by, and given up after some ten seconds.
const LOOKS: u16 = 50;
const LOOKS_AT_MOST: u16 = 1 << 12;

/// Looks after which it is told for the last time: whoever has got an answer may have to wait for a CPU
/// before it takes effect.
const ONCE_MORE: usize = 30;

/// Objects that have changed while answers were under way.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// Told again when the answers of `phase` are over.
    waiting: Changed,
    phase: Option<usize>,
    /// Told again when those that are under way after that are.
    next: Changed,
    /// Those answers are over: the kernel has them by the next look.
    due: Changed,
    /// What was told again, and in how many looks it will be for the last time.
    past: VecDeque<(usize, Changed)>,
    /// Inodes that the kernel did not know, and the looks since.
    unknown: FxHashMap<NodeId, u16>,
}

impl Later {
    pub(super) fn is_empty(&self) -> bool {
        let Later { waiting, next, due, past, unknown, .. } = self;
        let none = waiting.is_empty() && next.is_empty() && due.is_empty();
        none && past.is_empty() && unknown.is_empty()
    }

    /// Takes up what has changed, if any of `answers` is under way.
    pub(super) fn add(&mut self, changed: &Changed, answers: &Answers) {
        if answers.any() {
            self.next.append(changed);
        }
    }

    /// The kernel did not know `nodeid`.
    pub(super) fn add_unknown(&mut self, nodeid: NodeId) {
        self.unknown.entry(nodeid).or_default();
    }

    /// The inodes that have to be tried again.
    pub(super) fn unknown(&mut self) -> Vec<NodeId> {
        self.unknown.retain(|_, looks| {
            *looks += 1;
            *looks <= LOOKS_AT_MOST
        });
        let due = |looks: u16| looks < LOOKS || looks.is_power_of_two();
        let tried = self.unknown.iter().filter(|(_, looks)| due(**looks));
        tried.map(|(nodeid, _)| *nodeid).collect()
    }

    /// The kernel knows it by now.
    pub(super) fn told(&mut self, nodeid: NodeId) {
        self.unknown.remove(&nodeid);
    }

    /// What is to be told again now. Called once a look.
    pub(super) fn take_due(&mut self, answers: &Answers) -> Changed {
        let mut due = std::mem::take(&mut self.due);
        for (looks, _) in &mut self.past {
            *looks -= 1;
        }
        let last = self.past.pop_front_if(|(looks, _)| *looks == 0);
        if !due.is_empty() {
            self.past.push_back((ONCE_MORE, due.clone()));
        }
        if let Some((_, last)) = last {
            due.append(&last);
        }
        if self.phase.is_none_or(|phase| !answers.are_under_way(phase)) {
            self.due = std::mem::take(&mut self.waiting);
            self.waiting = std::mem::take(&mut self.next);
            self.phase = (!self.waiting.is_empty()).then(|| answers.turn());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::handle::FileHandle;

    fn changed(id: u8) -> Changed {
        let object = FileHandle::new(1, &[id; 8]).expect("short");
        Changed { objects: [object].into_iter().collect(), ..Changed::default() }
    }

    #[test]
    fn what_changes_during_an_answer_is_told_again_after_it() {
        let (mut later, answers) = (Later::default(), Answers::default());
        later.add(&changed(1), &answers);
        assert!(later.is_empty(), "no answer is under way");
        let first = answers.begin(0);
        later.add(&changed(1), &answers);
        assert!(later.take_due(&answers).is_empty());
        let second = answers.begin(1);
        later.add(&changed(2), &answers);
        for _ in 0..3 {
            assert!(later.take_due(&answers).is_empty());
        }
        drop(first);
        assert!(later.take_due(&answers).is_empty(), "the kernel may not have it yet");
        assert_eq!(later.take_due(&answers), changed(1));
        assert!(later.take_due(&answers).is_empty());
        drop(second);
        assert!(later.take_due(&answers).is_empty());
        assert_eq!(later.take_due(&answers), changed(2));
        let told: Vec<Changed> = (0..ONCE_MORE).map(|_| later.take_due(&answers)).collect();
        let again = told.iter().filter(|changed| !changed.is_empty()).collect::<Vec<_>>();
        assert_eq!(again, [&changed(1), &changed(2)], "once more after a while");
        assert!(later.is_empty());
    }

    #[test]
    fn an_unknown_inode_is_tried_for_a_while() {
        let mut later = Later::default();
        later.add_unknown(NodeId(5));
        later.add_unknown(NodeId(6));
        assert_eq!(later.unknown().len(), 2);
        later.told(NodeId(5));
        let mut tried = Vec::new();
        for look in 2..=LOOKS_AT_MOST {
            if later.unknown() == [NodeId(6)] {
                later.add_unknown(NodeId(6));
                tried.push(look);
            }
        }
        let seldom = [64, 128, 256, 512, 1024, 2048, 4096];
        assert_eq!(tried, (2..LOOKS).chain(seldom).collect::<Vec<_>>());
        assert!(later.unknown().is_empty() && later.is_empty());
    }
}
