//! Takes the turns of an order and hands on what each yielded. Knows no mount, no workload and no
//! clock: those are behind [`Executor`] and [`Sink`], so that order, resumption and the handling of
//! failures are tested without them.

use super::order::Turn;
use crate::study::error::StudyError;
use crate::study::record::{Measurement, Outcome};

/// Does one turn.
pub(crate) trait Executor {
    /// Runs the cell on the system.
    fn execute(&mut self, turn: &Turn) -> Result<Measurement, TurnError>;
}

/// Hears of the turns.
pub(crate) trait Sink {
    /// A turn begins.
    fn begin(&mut self, turn: &Turn);
    /// A turn is over. What it yielded must be safe when this returns.
    fn keep(&mut self, turn: &Turn, outcome: &Outcome) -> Result<(), StudyError>;
}

/// Why a turn has no figures.
#[derive(Debug)]
pub(crate) enum TurnError {
    /// This cell failed on this system.
    Cell(String),
    /// This system can not be mounted.
    Mount(String),
    /// It was not tried.
    Skipped(String),
    /// Nothing more can be measured.
    Fatal(StudyError),
}

impl From<StudyError> for TurnError {
    fn from(error: StudyError) -> Self {
        TurnError::Fatal(error)
    }
}

/// So many failures to mount, with none in between that worked, and a system is not tried again.
const MOUNT_FAILURES: usize = 2;

/// Takes all turns from the first that is not `done`. A cell that failed on a system is not tried
/// there again, so that one which fails after a long wait costs that wait once; everybody else goes on.
pub(crate) fn take(
    turns: &[Turn],
    done: &[Outcome],
    executor: &mut dyn Executor,
    sink: &mut dyn Sink,
) -> Result<(), StudyError> {
    let mut failures = Failures::default();
    for (turn, outcome) in turns.iter().zip(done) {
        if let Outcome::Failed(reason) = outcome {
            failures.cells.push((turn.cell, turn.system, reason.clone()));
        }
    }
    for turn in &turns[done.len().min(turns.len())..] {
        sink.begin(turn);
        let outcome = match failures.earlier(turn) {
            Some(reason) => Outcome::Failed(reason),
            None => match executor.execute(turn) {
                Ok(measurement) => {
                    failures.mounts.retain(|(system, _)| *system != turn.system);
                    Outcome::Measured(Box::new(measurement))
                }
                Err(TurnError::Cell(reason)) => {
                    failures.cells.push((turn.cell, turn.system, reason.clone()));
                    Outcome::Failed(reason)
                }
                Err(TurnError::Mount(reason)) => {
                    failures.mounts.push((turn.system, reason.clone()));
                    Outcome::Failed(reason)
                }
                Err(TurnError::Skipped(reason)) => Outcome::Skipped(reason),
                Err(TurnError::Fatal(error)) => return Err(error),
            },
        };
        sink.keep(turn, &outcome)?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Failures {
    cells: Vec<(usize, usize, String)>,
    mounts: Vec<(usize, String)>,
}

impl Failures {
    fn earlier(&self, turn: &Turn) -> Option<String> {
        let mut mounts = self.mounts.iter().filter(|(system, _)| *system == turn.system);
        if let Some((_, reason)) = mounts.nth(MOUNT_FAILURES - 1) {
            return Some(reason.clone());
        }
        let same = |(cell, system, _): &&(usize, usize, String)| {
            (*cell, *system) == (turn.cell, turn.system)
        };
        self.cells.iter().find(same).map(|(.., reason)| reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::order;
    use super::*;

    type Fails = fn(&Turn, usize) -> Option<TurnError>;

    struct Mock {
        calls: Vec<Turn>,
        fails: Fails,
    }

    impl Executor for Mock {
        fn execute(&mut self, turn: &Turn) -> Result<Measurement, TurnError> {
            self.calls.push(*turn);
            match (self.fails)(turn, self.calls.len()) {
                Some(error) => Err(error),
                None => Ok(Measurement { operations: 1, seconds: 1.0, ..Default::default() }),
            }
        }
    }

    #[derive(Default)]
    struct Kept(Vec<(Turn, Outcome)>);

    impl Sink for Kept {
        fn begin(&mut self, _: &Turn) {}
        fn keep(&mut self, turn: &Turn, outcome: &Outcome) -> Result<(), StudyError> {
            self.0.push((*turn, outcome.clone()));
            Ok(())
        }
    }

    fn turns() -> Vec<Turn> {
        order::order(&vec![vec![0, 1, 2]; 4], 3, 5)
    }

    fn took(done: &[Outcome], fails: Fails) -> (Mock, Kept, Result<(), StudyError>) {
        let (mut mock, mut kept) = (Mock { calls: Vec::new(), fails }, Kept::default());
        let result = take(&turns(), done, &mut mock, &mut kept);
        (mock, kept, result)
    }

    #[test]
    fn turns_are_taken_in_their_order() {
        let (mock, kept, result) = took(&[], |_, _| None);
        assert!(result.is_ok());
        assert_eq!(mock.calls, turns());
        assert_eq!(kept.0.iter().map(|(turn, _)| *turn).collect::<Vec<_>>(), turns());
    }

    #[test]
    fn a_resumed_study_takes_the_rest_as_it_would_have_been_taken() {
        let (_, whole, _) = took(&[], |_, _| None);
        let done: Vec<Outcome> = whole.0[..15].iter().map(|(_, outcome)| outcome.clone()).collect();
        let (mock, kept, _) = took(&done, |_, _| None);
        assert_eq!(mock.calls, turns()[15..]);
        assert_eq!(kept.0, whole.0[15..]);
        let all = vec![Outcome::Failed("x".into()); 36];
        assert!(took(&all, |_, _| None).0.calls.is_empty());
    }

    #[test]
    fn a_cell_that_fails_on_one_system_fails_alone_and_once() {
        let fails: Fails = |turn, _| {
            ((turn.cell, turn.system) == (1, 2)).then(|| TurnError::Cell("ENOSYS".into()))
        };
        let (mock, kept, result) = took(&[], fails);
        assert!(result.is_ok());
        let failed: Vec<&Turn> = kept
            .0
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
            .map(|(turn, _)| turn)
            .collect();
        assert_eq!(failed.len(), 3);
        assert!(failed.iter().all(|turn| (turn.cell, turn.system) == (1, 2)));
        assert_eq!(mock.calls.len(), 36 - 2, "tried once, not three times");
        // Nor is it tried again after an interruption.
        let done: Vec<Outcome> = kept.0[..24].iter().map(|(_, outcome)| outcome.clone()).collect();
        assert_eq!(took(&done, fails).0.calls.len(), 12 - 1);
    }

    #[test]
    fn a_system_that_can_not_be_mounted_is_tried_twice() {
        let (mock, kept, _) =
            took(&[], |turn, _| (turn.system == 1).then(|| TurnError::Mount("it hangs".into())));
        assert_eq!(mock.calls.iter().filter(|turn| turn.system == 1).count(), 2);
        let failed = kept.0.iter().filter(|(_, o)| *o == Outcome::Failed("it hangs".into()));
        assert_eq!(failed.count(), 12);
        assert_eq!(mock.calls.iter().filter(|turn| turn.system != 1).count(), 24);
    }

    #[test]
    fn what_was_skipped_is_asked_again_and_said_each_time() {
        let (mock, kept, _) = took(&[], |turn, _| {
            (turn.system == 1).then(|| TurnError::Skipped("not installed".into()))
        });
        assert_eq!((mock.calls.len(), kept.0.len()), (36, 36));
    }

    #[test]
    fn a_fatal_error_ends_the_study_at_once_and_keeps_what_was() {
        let (mock, kept, result) = took(&[], |_, calls| {
            (calls == 7).then_some(TurnError::Fatal(StudyError::Interrupted { signal: 15 }))
        });
        assert_eq!(result.expect_err("fatal").exit_code(), 143);
        assert_eq!((mock.calls.len(), kept.0.len()), (7, 6));
    }
}
