//! The two views of where the time goes, held against each other: what a change of one thing does to the
//! time of an operation, and what it does to the sum of the traced layers.

use std::collections::BTreeMap;

use super::cell::Figures;
use super::digest::Digest;
use super::steps;
use crate::report::statistics::Interval;
use crate::study::record::Kind;

/// By so much of an operation's time, the longer of the two, the trace may lie outside of what was
/// measured.
const BOUND: f64 = 0.25;

/// From one system to the next, in one cell.
#[derive(Debug, PartialEq)]
pub(super) struct Step<'a> {
    /// Title of the cell.
    pub(super) cell: &'a str,
    /// Title of the system before.
    pub(super) from: &'a str,
    /// Title of the system after.
    pub(super) to: &'a str,
    /// What it adds to the untraced time of an operation, microseconds; below 0 if it takes away.
    pub(super) measured: Interval,
    /// What it adds to the sum of the traced layers.
    pub(super) traced: f64,
    /// The layer that changes most, for readers, and by how much.
    pub(super) layer: (&'a str, f64),
    /// How far the trace lies outside of the interval, as a share of the operation's time.
    pub(super) deviation: f64,
}

impl Step<'_> {
    /// Whether the trace may be believed for the size of this step.
    pub(super) fn agrees(&self) -> bool {
        self.deviation <= BOUND
    }
}

/// All steps between neighbours that were both traced: the one without storage, then those of fusewire,
/// in the order of the study.
pub(super) fn of(digest: &Digest) -> Vec<Step<'_>> {
    let ours = |kind| matches!(kind, Kind::Fusewire | Kind::Null);
    let mut found = Vec::new();
    for cell in &digest.cells {
        let traced: Vec<_> = digest
            .systems
            .iter()
            .filter(|system| ours(system.system.kind))
            .filter_map(|system| {
                let figures = cell.figures(&system.system.id)?;
                Some((system.system.title.as_str(), figures, figures.layers_ns.as_ref()?))
            })
            .collect();
        let title = cell.cell.title.as_str();
        found.extend(traced.windows(2).map(|pair| step(title, &pair[0], &pair[1])));
    }
    found
}

type Traced<'a> = (&'a str, &'a Figures, &'a BTreeMap<String, f64>);

fn step<'a>(cell: &'a str, before: &Traced<'a>, after: &Traced<'a>) -> Step<'a> {
    let [old, new] = [before, after].map(|(_, figures, _)| wall(figures));
    let names = steps::layer_names([before.2, after.2].into_iter());
    let of =
        |layers: &BTreeMap<String, f64>, name: &str| layers.get(name).copied().unwrap_or(0.0) / 1e3;
    let change = |name: &str| of(after.2, name) - of(before.2, name);
    let most = names.into_iter().max_by(|a, b| change(a).abs().total_cmp(&change(b).abs()));
    let sum = |layers: &BTreeMap<String, f64>| layers.values().sum::<f64>() / 1e3;
    let traced = sum(after.2) - sum(before.2);
    let measured = Interval {
        low: new.low - old.high,
        median: new.median - old.median,
        high: new.high - old.low,
    };
    let outside = (measured.low - traced).max(traced - measured.high).max(0.0);
    Step {
        cell,
        from: before.0,
        to: after.0,
        measured,
        traced,
        layer: most.map_or(("", 0.0), |name| (steps::layer_words(name).0, change(name))),
        deviation: outside / old.median.max(new.median).max(f64::MIN_POSITIVE),
    }
}

/// The time of an operation, microseconds, with an interval as wide as that of the cell's figure, which
/// may be a rate.
pub(super) fn wall(figures: &Figures) -> Interval {
    let Interval { low, median, high } = figures.value;
    let time = figures.wall_us_per_operation;
    let spread = if low > 0.0 { (high / median).max(median / low) } else { 1.0 };
    Interval { low: time / spread, median: time, high: time * spread }
}

/// What the steps come to, in a sentence.
pub(super) fn sentence(steps: &[Step<'_>]) -> String {
    let agree = steps.iter().filter(|step| step.agrees()).count();
    let rest = match steps.len() - agree {
        0 => String::new(),
        _ => " Of the others believe the measured size, and the trace only for its shares.".into(),
    };
    format!(
        "What a step adds to the time of an operation, µs, measured without a trace (with the interval that \
         the rounds of both leave) and as the sum of the traced layers. In {agree} of {} steps the trace \
         lies within that interval, or outside of it by no more than {:.0} % of the operation's time.{rest}",
        steps.len(),
        BOUND * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;

    #[test]
    fn steps_between_traced_neighbours_are_held_against_the_trace() {
        let digest = fixture::digest();
        let found = of(&digest);
        let [step] = &found[..] else { panic!("{found:?}") };
        assert_eq!(step.cell, "open + close, 1 thread");
        assert_eq!((step.from, step.to, step.layer.0), ("FAST'17 Base", "fusewire", "client"));
        // From 40 to 8 µs, and the fixture's layers make up the whole of both.
        assert!((step.measured.median + 32.0).abs() < 0.01 && (step.traced + 32.0).abs() < 0.01);
        assert!(step.measured.low < -32.0 && step.measured.high > -32.0, "{:?}", step.measured);
        assert!(step.agrees() && step.deviation < 0.001);
        assert!(sentence(&found).contains("In 1 of 1 steps the trace lies within"));
    }

    #[test]
    fn a_trace_that_tells_something_else_is_told_on() {
        let mut results = fixture::results();
        for sample in results.samples.iter_mut().filter(|sample| sample.system == "default") {
            if let crate::study::record::Outcome::Measured(run) = &mut sample.outcome
                && let Some(layers) = &mut run.layers
            {
                layers.insert("wake_up".into(), 25_000.0);
            }
        }
        let digest = Digest::new(&results);
        let found = of(&digest);
        assert!(!found[0].agrees(), "{found:?}");
        // By 23.4 µs of 40, less what the interval allows for.
        assert!((0.5..0.585).contains(&found[0].deviation), "{found:?}");
        let said = sentence(&found);
        assert!(said.contains("In 0 of 1 steps") && said.contains("Of the others"), "{said}");
    }
}
