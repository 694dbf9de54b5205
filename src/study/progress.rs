//! The progress bar on stderr: which turn, how far, how long still. Its unit is the expected time
//! of a turn, so that the time left is right although turns differ.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::matrix::{Cell, Work};
use super::plan::Step;
use super::runner::Progress;
use super::sample::Role;

/// fio's own start and end, and the preparation of the cache.
const FIO_OVERHEAD: Duration = Duration::from_millis(350);

/// What a turn is expected to take.
pub(crate) fn expected(cell: &Cell, role: Role, fio_seconds: f64) -> Duration {
    match (cell.work, role) {
        (Work::Fio(_), _) => FIO_OVERHEAD + Duration::from_secs_f64(fio_seconds),
        (Work::Metadata(_), Role::Fusewire) => Duration::from_millis(500),
        (Work::Metadata(_), _) => Duration::from_millis(200),
    }
}

/// The bar.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    rounds: u32,
    fio_seconds: f64,
}

impl Bar {
    /// A bar over all turns.
    pub(crate) fn new(cells: &[Cell], steps: &[Step], rounds: u32, fio_seconds: f64) -> Self {
        let total = steps
            .iter()
            .map(|step| expected(&cells[step.cell], step.role, fio_seconds))
            .sum::<Duration>();
        let bar = ProgressBar::new(milliseconds(total));
        let style = ProgressStyle::with_template(
            "[{elapsed_precise}] {bar:30} {percent:>3} %  {eta} left  {msg}",
        )
        .expect("the template is a constant that parses");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Bar { bar, rounds, fio_seconds }
    }

    /// Takes the bar away; what follows is the result.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn begin(&mut self, step: Step, cell: &Cell) {
        let who = match step.role {
            Role::NativeA | Role::NativeB => "native",
            Role::Fusewire => "fusewire",
        };
        let (round, rounds) = (step.round + 1, self.rounds);
        self.bar.set_message(format!("round {round}/{rounds}: {}, {who}", cell.title));
    }

    fn end(&mut self, step: Step, cell: &Cell) {
        self.bar.inc(milliseconds(expected(cell, step.role, self.fio_seconds)));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
