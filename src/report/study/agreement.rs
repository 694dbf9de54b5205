//! The two views of where the time goes, held against each other: what a change of one thing does to the
//! time of an operation, and what it does to the sum of the traced layers.

use std::collections::BTreeMap;

use super::cell::Figures;
use super::digest::Digest;
use super::steps;
use crate::study::record::Kind;

/// By so much of an operation's time, the longer of the two, the views may differ.
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
    pub(super) measured: f64,
    /// What it adds to the sum of the traced layers.
    pub(super) traced: f64,
    /// The layer that changes most, for readers, and by how much.
    pub(super) layer: (&'a str, f64),
    /// How far the two are apart, as a share of the operation's time.
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
    let [old, new] = [before, after].map(|(_, figures, _)| figures.wall_us_per_operation);
    let names = steps::layer_names([before.2, after.2].into_iter());
    let of =
        |layers: &BTreeMap<String, f64>, name: &str| layers.get(name).copied().unwrap_or(0.0) / 1e3;
    let change = |name: &str| of(after.2, name) - of(before.2, name);
    let most = names.into_iter().max_by(|a, b| change(a).abs().total_cmp(&change(b).abs()));
    let sum = |layers: &BTreeMap<String, f64>| layers.values().sum::<f64>() / 1e3;
    let (measured, traced) = (new - old, sum(after.2) - sum(before.2));
    Step {
        cell,
        from: before.0,
        to: after.0,
        measured,
        traced,
        layer: most.map_or(("", 0.0), |name| (steps::layer_words(name).0, change(name))),
        deviation: (traced - measured).abs() / old.max(new).max(f64::MIN_POSITIVE),
    }
}

/// What the steps come to, in a sentence.
pub(super) fn sentence(steps: &[Step<'_>]) -> String {
    let agree = steps.iter().filter(|step| step.agrees()).count();
    let rest = match steps.len() - agree {
        0 => String::new(),
        _ => " Of the others believe the measured size, and the trace only for its shares.".into(),
    };
    format!(
        "What a step adds to the time of an operation, µs, measured without a trace and as the sum of the \
         traced layers. {agree} of {} steps agree within {:.0} % of the operation's time.{rest}",
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
        assert!((step.measured + 32.0).abs() < 0.01 && (step.traced + 32.0).abs() < 0.01);
        assert!(step.agrees() && step.deviation < 0.001);
        assert!(sentence(&found).contains("1 of 1 steps agree within 25 %"));
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
        assert!((found[0].deviation - 0.585).abs() < 0.01, "{found:?}");
        let said = sentence(&found);
        assert!(said.contains("0 of 1 steps agree") && said.contains("Of the others"), "{said}");
    }
}
