//! Something that one at a time may use, and for which nobody waits longer than it is worth.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Holds a `T`, or nothing, which is lent to one after the other.
#[derive(Debug)]
pub(super) struct Turn<T> {
    back: Sender<Option<T>>,
    lent: Receiver<Option<T>>,
}

impl<T> Clone for Turn<T> {
    fn clone(&self) -> Self {
        Turn { back: self.back.clone(), lent: self.lent.clone() }
    }
}

impl<T> Turn<T> {
    pub(super) fn new(held: T) -> Self {
        let (back, lent) = bounded(1);
        let turn = Turn { back, lent };
        turn.give(Some(held));
        turn
    }

    /// What is held; to be given back. `None` if others have it for all that time.
    pub(super) fn take(&self, patience: Duration) -> Option<Option<T>> {
        self.lent.recv_timeout(patience).ok()
    }

    /// Gives back what was taken, or something in its place.
    pub(super) fn give(&self, held: Option<T>) {
        // There is room, as it was taken out; and this holds the other end.
        let _ = self.back.try_send(held);
    }

    /// Has this held from now on, as soon as whoever uses it is through.
    pub(super) fn replace(&self, held: T) {
        // This holds the other end.
        let _ = self.lent.recv();
        self.give(Some(held));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_waits_in_vain_gives_up() {
        let turn = Turn::new(1);
        let patience = Duration::from_millis(20);
        assert_eq!(turn.take(patience), Some(Some(1)));
        let began = Instant::now();
        assert_eq!(turn.take(patience), None);
        assert!(began.elapsed() >= patience);
        turn.give(None);
        assert_eq!(turn.take(patience), Some(None));
        turn.give(None);
        turn.replace(2);
        assert_eq!(turn.clone().take(patience), Some(Some(2)));
    }
}
