//! Takes the turns of a plan and keeps what each yielded. Knows no mount, no fio and no clock:
//! those are behind [`Executor`], so that order and failure handling are tested without them.

use super::error::StudyError;
use super::matrix::Cell;
use super::plan::Step;
use super::sample::{Measurement, Outcome, Role, Sample};

/// Does one turn.
pub trait Executor {
    /// Runs `cell` as `role`; `round` seeds what is random inside the cell.
    fn execute(&mut self, cell: &Cell, role: Role, round: u32) -> Result<Measurement, StepError>;
}

/// Sees the turns go by.
pub trait Progress {
    /// A turn begins.
    fn begin(&mut self, step: Step, cell: &Cell);
    /// A turn is over.
    fn end(&mut self, step: Step, cell: &Cell);
}

/// Why a turn has no figure.
#[derive(Debug)]
pub enum StepError {
    /// This cell cannot be measured on this system; the others can.
    Cell(String),
    /// Nothing more can be measured.
    Fatal(StudyError),
}

impl From<StudyError> for StepError {
    fn from(error: StudyError) -> Self {
        StepError::Fatal(error)
    }
}

/// Takes all turns. A cell that failed on a system is not tried there again, so that a workload
/// which fails after a long wait costs that wait once; its other system still runs.
pub fn run(
    cells: &[Cell],
    steps: &[Step],
    executor: &mut dyn Executor,
    progress: &mut dyn Progress,
) -> Result<Vec<Sample>, StudyError> {
    let mut samples: Vec<Sample> = Vec::with_capacity(steps.len());
    for (sequence, step) in steps.iter().enumerate() {
        let cell = &cells[step.cell];
        progress.begin(*step, cell);
        let earlier = samples.iter().find_map(|sample| match &sample.outcome {
            Outcome::Failed(reason) if sample.cell == cell.id && sample.role == step.role => {
                Some(reason.clone())
            }
            _ => None,
        });
        let outcome = match earlier {
            Some(reason) => Outcome::Failed(reason),
            None => match executor.execute(cell, step.role, step.round) {
                Ok(measurement) => Outcome::Measured(measurement),
                Err(StepError::Cell(reason)) => Outcome::Failed(reason),
                Err(StepError::Fatal(error)) => return Err(error),
            },
        };
        let (round, role) = (step.round, step.role);
        samples.push(Sample { sequence, round, cell: cell.id.clone(), role, outcome });
        progress.end(*step, cell);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{matrix, plan};

    struct Mock {
        calls: Vec<(String, Role, u32)>,
        fail: fn(&Cell, Role, usize) -> Option<StepError>,
    }

    impl Executor for Mock {
        fn execute(
            &mut self,
            cell: &Cell,
            role: Role,
            round: u32,
        ) -> Result<Measurement, StepError> {
            self.calls.push((cell.id.clone(), role, round));
            match (self.fail)(cell, role, self.calls.len()) {
                Some(error) => Err(error),
                None => Ok(Measurement { operations: 1, seconds: 1.0, ..Default::default() }),
            }
        }
    }

    #[derive(Default)]
    struct Seen(usize, usize);

    impl Progress for Seen {
        fn begin(&mut self, _: Step, _: &Cell) {
            self.0 += 1;
        }
        fn end(&mut self, _: Step, _: &Cell) {
            self.1 += 1;
        }
    }

    #[test]
    fn turns_are_taken_in_the_order_of_the_plan() {
        let cells = matrix::demo();
        let steps = plan::plan(cells.len(), 2, 5);
        let mut mock = Mock { calls: Vec::new(), fail: |_, _, _| None };
        let mut seen = Seen::default();
        let samples = run(&cells, &steps, &mut mock, &mut seen).expect("no step fails");
        assert_eq!((seen.0, seen.1), (steps.len(), steps.len()));
        for ((step, call), (index, sample)) in
            steps.iter().zip(&mock.calls).zip(samples.iter().enumerate())
        {
            assert_eq!(call, &(cells[step.cell].id.clone(), step.role, step.round));
            assert_eq!((sample.sequence, &sample.cell, sample.role), (index, &call.0, call.1));
        }
    }

    #[test]
    fn a_cell_that_fails_on_one_system_fails_alone_and_once() {
        let cells = matrix::demo();
        let steps = plan::plan(cells.len(), 3, 5);
        let mut mock = Mock {
            calls: Vec::new(),
            fail: |cell, role, _| {
                (cell.id == "stat" && role == Role::Fusewire)
                    .then(|| StepError::Cell("ENOSYS".into()))
            },
        };
        let samples = run(&cells, &steps, &mut mock, &mut Seen::default()).expect("goes on");
        let failed: Vec<_> =
            samples.iter().filter(|sample| matches!(sample.outcome, Outcome::Failed(_))).collect();
        assert_eq!(failed.len(), 3);
        assert!(failed.iter().all(|s| s.cell == "stat" && s.role == Role::Fusewire));
        assert_eq!(mock.calls.len(), steps.len() - 2, "tried once, not three times");
    }

    #[test]
    fn a_fatal_error_ends_the_run_at_once() {
        let cells = matrix::demo();
        let steps = plan::plan(cells.len(), 3, 5);
        let mut mock = Mock {
            calls: Vec::new(),
            fail: |_, _, calls| {
                (calls == 7).then_some(StepError::Fatal(StudyError::Interrupted { signal: 15 }))
            },
        };
        let error = run(&cells, &steps, &mut mock, &mut Seen::default()).expect_err("fatal");
        assert_eq!(error.exit_code(), 143);
        assert_eq!(mock.calls.len(), 7);
    }
}
