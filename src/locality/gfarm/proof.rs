//! Whether a spool is the one that the storage node of this machine reads.
//!
//! Another node's spool, or an old copy of this one's, may have a file under the same number. So with the
//! first file that is found the node is had open it, and must open the same. A node that hands out no file
//! of this machine shows nothing: after a few attempts it is left in peace for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many files in a row nothing may be shown with.
const ATTEMPTS: u32 = 3;
/// Until it is tried once more.
const PAUSE: Duration = Duration::from_secs(60);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Proof(Mutex<State>);

#[derive(Debug)]
enum State {
    Unknown { attempts: u32 },
    Proven,
    Refuted,
    Unprovable { since: Instant, reason: String },
}

/// What a reader has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is.
    Proven,
    /// It is not, or nothing shows it.
    Distrusted,
    /// The next file is to show it.
    Open,
}

impl Default for State {
    fn default() -> Self {
        State::Unknown { attempts: 0 }
    }
}

impl Proof {
    pub(super) fn verdict(&self) -> Verdict {
        match &*self.state() {
            State::Proven => Verdict::Proven,
            State::Refuted => Verdict::Distrusted,
            State::Unprovable { since, .. } if since.elapsed() < PAUSE => Verdict::Distrusted,
            State::Unprovable { .. } | State::Unknown { .. } => Verdict::Open,
        }
    }

    /// The node has opened the same file.
    pub(super) fn is_given(&self) {
        *self.state() = State::Proven;
    }

    /// It has opened another; whether that was not known before.
    pub(super) fn is_refuted(&self) -> bool {
        let before = std::mem::replace(&mut *self.state(), State::Refuted);
        !matches!(before, State::Refuted)
    }

    /// It has shown nothing, for this reason; whether that is told now, and has not been before.
    pub(super) fn is_missing(&self, reason: &str) -> bool {
        let mut state = self.state();
        let told = match &mut *state {
            State::Unknown { attempts } => {
                *attempts += 1;
                if *attempts < ATTEMPTS {
                    return false;
                }
                true
            }
            State::Unprovable { .. } => false,
            State::Proven | State::Refuted => return false,
        };
        *state = State::Unprovable { since: Instant::now(), reason: reason.to_owned() };
        told
    }

    /// Why no file is read from the spool, if none is.
    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.state() {
            State::Refuted => {
                Some("the spool is not that of this machine's storage node".to_owned())
            }
            State::Unprovable { reason, .. } => {
                Some(format!("nothing shows that the spool is the storage node's: {reason}"))
            }
            State::Unknown { .. } | State::Proven => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_once_stays() {
        let proof = Proof::default();
        assert_eq!(proof.verdict(), Verdict::Open);
        proof.is_given();
        assert!(!proof.is_missing("late"));
        assert_eq!((proof.verdict(), proof.trouble()), (Verdict::Proven, None));
        let proof = Proof::default();
        assert!(proof.is_refuted() && !proof.is_refuted() && !proof.is_missing("late"));
        assert_eq!(proof.verdict(), Verdict::Distrusted);
        assert!(proof.trouble().is_some());
    }

    #[test]
    fn a_node_that_shows_nothing_is_told_of_once_and_asked_again_later() {
        let proof = Proof::default();
        for attempt in 1..=ATTEMPTS {
            assert_eq!((proof.verdict(), proof.trouble()), (Verdict::Open, None));
            assert_eq!(proof.is_missing("no file"), attempt == ATTEMPTS);
        }
        assert_eq!(proof.verdict(), Verdict::Distrusted);
        assert!(proof.trouble().expect("it is told").ends_with("no file"));
        *proof.state() = State::Unprovable {
            since: Instant::now().checked_sub(PAUSE).expect("since the machine was started"),
            reason: "no file".to_owned(),
        };
        assert_eq!(proof.verdict(), Verdict::Open);
        assert!(!proof.is_missing("no file"), "it was told before");
        assert_eq!(proof.verdict(), Verdict::Distrusted);
    }
}
