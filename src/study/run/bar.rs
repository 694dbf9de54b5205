//! Progress on standard error: which turn, how far, how long still. Times are those that the same turns
//! took before, so that what is left gets truer with every round.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::file::cells::Planned;
use super::super::file::systems::PlannedSystem;
use super::super::record::Kind;
use super::super::say;
use super::super::work::{Task, Work};
use super::live;
use super::order::Turn;

/// Mounting, asking for counters, unmounting.
const MOUNT: Duration = Duration::from_millis(100);
/// fio's own start and end, and the preparation of the cache.
const FIO: Duration = Duration::from_millis(270);

/// What a turn is expected to take before one was taken.
fn guess(planned: &Planned, kind: Kind) -> Duration {
    let mounted = kind != Kind::Native;
    let slower = |native: f64, factor: f64| {
        Duration::from_secs_f64(if mounted { native * factor } else { native })
    };
    let work = match &planned.work {
        Work::Fio(job) => FIO + Duration::from_secs_f64(job.seconds),
        Work::Operation(work) if work.operation.is_consuming() => {
            slower(6e-5 * (work.files * work.threads) as f64, 2.0)
        }
        Work::Operation(work) => {
            let making = 3e-5 * (work.files * work.threads) as f64;
            Duration::from_secs_f64(making + work.seconds)
        }
        Work::Personality(work) => slower(6e-5 * (work.operations + work.files) as f64, 2.5),
        Work::Job(job) => match job.task {
            Task::Build => slower(1.0, 1.1),
            Task::GitAdd => slower(1.0, 2.5),
            _ => slower(0.4, 2.5),
        },
    };
    if mounted { work + MOUNT } else { work + Duration::from_millis(30) }
}

/// All turns, with what each of them is expected to take.
#[derive(Debug)]
pub(crate) struct Bar<'a> {
    bar: ProgressBar,
    cells: &'a [Planned],
    systems: &'a [PlannedSystem],
    turns: &'a [Turn],
    rounds: u32,
    /// Whether some are run a second time, to be traced.
    traces: bool,
    /// How much longer turns take here than is guessed.
    slower: f64,
    /// By cell, system, and whether it was traced: how long the last one took.
    took: HashMap<(usize, usize, bool), Duration>,
    begun: Instant,
}

impl<'a> Bar<'a> {
    /// A bar over all turns, of which `done` are done; some are traced as well if that is asked for.
    pub(crate) fn new(
        cells: &'a [Planned],
        systems: &'a [PlannedSystem],
        turns: &'a [Turn],
        done: usize,
        traces: bool,
    ) -> Self {
        let bar = ProgressBar::new(turns.len() as u64);
        let template = "[{elapsed_precise}] {bar:30} {pos}/{len}  {msg}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.expect("the template is a constant that parses"));
        bar.set_position(done as u64);
        bar.enable_steady_tick(Duration::from_millis(250));
        let rounds = turns.last().map_or(0, |turn| turn.round + 1);
        let (took, begun) = (HashMap::new(), Instant::now());
        Bar { bar, cells, systems, turns, rounds, traces, slower: 1.0, took, begun }
    }

    /// All turns are known to take so long on another machine, or so, if nothing is traced.
    pub(crate) fn takes(mut self, minutes: f64) -> Self {
        // Without what is traced.
        let traces = std::mem::take(&mut self.traces);
        let guess = self.left(0).as_secs_f64();
        self.traces = traces;
        self.slower = if guess > 0.0 { (minutes * 60.0 / guess).max(1.0) } else { 1.0 };
        self
    }

    /// What the turns from `sequence` on will take.
    pub(crate) fn left(&self, sequence: usize) -> Duration {
        let expected = |turn: &Turn| {
            let known = self.took.get(&(turn.cell, turn.system, self.is_traced(turn))).copied();
            let kind = self.systems[turn.system].system.kind;
            let runs = if self.is_traced(turn) { 2 } else { 1 };
            known.unwrap_or_else(|| {
                (runs * guess(&self.cells[turn.cell], kind)).mul_f64(self.slower)
            })
        };
        self.turns[sequence..].iter().map(expected).sum()
    }

    fn is_traced(&self, turn: &Turn) -> bool {
        let (work, kind) = (&self.cells[turn.cell].work, self.systems[turn.system].system.kind);
        self.traces && live::has_layers(turn.round, work, kind)
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self, turn: &Turn) {
        self.begun = Instant::now();
        let (cell, system) = (&self.cells[turn.cell].cell, &self.systems[turn.system].system);
        let (round, rounds, left) = (turn.round + 1, self.rounds, words(self.left(turn.sequence)));
        let (cell, system) = (&cell.title, &system.title);
        self.bar.set_message(format!("{left} left; round {round}/{rounds}: {cell}, {system}"));
        // Where nobody sees a bar a line for each round says the same.
        let begins_round = turn.sequence == 0 || self.turns[turn.sequence - 1].round != turn.round;
        if begins_round && self.bar.is_hidden() {
            say::line(format_args!("round {round}/{rounds}, {left} left"));
        }
    }

    /// A turn is over.
    pub(crate) fn end(&mut self, turn: &Turn) {
        let key = (turn.cell, turn.system, self.is_traced(turn));
        self.took.insert(key, self.begun.elapsed());
        self.bar.inc(1);
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| say::line(text));
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `45 s`, `3 min`, `1 h 20 min`.
pub(crate) fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::file::{cells, parse, systems};
    use super::super::order;
    use super::*;

    #[test]
    fn what_is_left_shrinks_and_learns() {
        let text = "name = \"a\"\ntitle = \"b\"\n[[cells]]\nworkload = \"stat\"\n";
        let file = parse(text, "a").expect("well-formed");
        let cells = cells::expand(&file).expect("well-formed");
        let systems = systems::resolve(&file).expect("well-formed");
        let turns = order::order(&[vec![0, 1]], 10, 1);
        let mut bar = Bar::new(&cells, &systems, &turns, 0, false);
        assert_eq!(words(Bar::new(&cells, &systems, &turns, 0, false).takes(9.0).left(0)), "9 min");
        let (all, half) = (bar.left(0), bar.left(10));
        assert!(all > half && half > Duration::ZERO && bar.left(20).is_zero());
        for turn in &turns[..2] {
            bar.begin(turn);
            bar.end(turn);
        }
        assert!(bar.left(2) < half, "these turns take no time at all");
    }

    #[test]
    fn what_is_traced_is_run_twice_in_some_rounds() {
        let text = "name = \"a\"\ntitle = \"b\"\n[[system]]\nid = \"null\"\nkind = \"null\"\n\
                    [[cells]]\nworkload = \"stat\"\n";
        let file = parse(text, "a").expect("well-formed");
        let cells = cells::expand(&file).expect("well-formed");
        let systems = systems::resolve(&file).expect("well-formed");
        let left = |systems_of: &[Vec<usize>], traces| {
            let turns = order::order(systems_of, 6, 1);
            Bar::new(&cells, &systems, &turns, 0, traces).left(0)
        };
        assert_eq!(left(&[vec![0, 1]], true), left(&[vec![0, 1]], false), "all of it is native");
        assert_eq!(left(&[vec![2]], true) * 2, left(&[vec![2]], false) * 3);
    }

    #[test]
    fn times_are_told_as_people_tell_them() {
        for (seconds, text) in
            [(45, "45 s"), (170, "3 min"), (4800, "80 min"), (6000, "1 h 40 min")]
        {
            assert_eq!(words(Duration::from_secs(seconds)), text);
        }
    }
}
