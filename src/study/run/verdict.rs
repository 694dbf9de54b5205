//! Whether a study that has ended was one: what its exit status says.

use super::super::error::StudyError;
use super::super::record::{Kind, Outcome, Sample, System};

/// An error if something has no figures that should have some. That another program can not do some of
/// the cells is a result. That it can do none of them is none, and neither is a study in which nothing
/// was compared with native.
pub(crate) fn verdict(systems: &[System], samples: &[Sample]) -> Result<(), StudyError> {
    let of = |system: &System| {
        let id = system.id.clone();
        samples.iter().filter(move |sample| sample.system == id)
    };
    let has_figures = |system: &System| of(system).any(|sample| why(sample).is_none());
    let has_failed = |system: &System| of(system).any(|s| matches!(s.outcome, Outcome::Failed(_)));
    let mut failed: Vec<(&str, &str, &str)> = Vec::new();
    for system in systems.iter().filter(|system| system.kind != Kind::Command) {
        for sample in of(system) {
            if let Outcome::Failed(why) = &sample.outcome {
                failed.push((&sample.cell, &sample.system, why));
            }
        }
    }
    failed.sort_unstable();
    failed.dedup();
    if let Some((cell, system, why)) = failed.first() {
        return Err(StudyError::CellsFailed {
            count: failed.len(),
            others: samples.iter().any(|sample| self::why(sample).is_none()),
            first: format!("{cell} on {system}: {why}"),
        });
    }
    let mounted = || systems.iter().filter(|system| system.kind != Kind::Native);
    let nothing_compared = !mounted().any(has_figures);
    let empty = mounted().filter(|system| !has_figures(system));
    let empty: Vec<&System> =
        empty.filter(|system| nothing_compared || has_failed(system)).collect();
    let first = empty.iter().find_map(|system| of(system).find_map(why));
    match first {
        None => Ok(()),
        Some(why) => Err(StudyError::NoFigures {
            systems: empty.iter().map(|system| system.id.clone()).collect(),
            first: why.to_owned(),
        }),
    }
}

/// Why there are no figures.
fn why(sample: &Sample) -> Option<&str> {
    match &sample.outcome {
        Outcome::Measured(_) => None,
        Outcome::Failed(why) | Outcome::Skipped(why) => Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(systems: &[(&str, Kind)], outcomes: &[(&str, &str, &str)]) -> String {
        let system = |(id, kind): &(&str, Kind)| System {
            id: (*id).to_owned(),
            kind: *kind,
            ..System::default()
        };
        let systems: Vec<System> =
            [("native", Kind::Native)].iter().chain(systems).map(system).collect();
        let sample = |(cell, system, outcome): &(&str, &str, &str)| Sample {
            sequence: 0,
            round: 0,
            cell: (*cell).to_owned(),
            system: (*system).to_owned(),
            outcome: match *outcome {
                "" => Outcome::Measured(Box::default()),
                "not installed" => Outcome::Skipped("not installed".to_owned()),
                why => Outcome::Failed(why.to_owned()),
            },
        };
        let native = [("a", "native", "")];
        let samples: Vec<Sample> = native.iter().chain(outcomes).map(sample).collect();
        verdict(&systems, &samples).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn what_another_program_can_not_do_is_a_result_if_it_can_do_anything() {
        let both = [("f", Kind::Fusewire), ("x", Kind::Command)];
        let f = ("a", "f", "");
        assert_eq!(said(&both, &[f, ("a", "x", ""), ("b", "x", "EIO")]), "");
        assert_eq!(said(&both, &[f, ("a", "x", "not installed")]), "", "it was not tried");
        assert_eq!(said(&both, &[f, ("a", "x", "EIO")]), "systems without figures: x: EIO");
        let skips = [f, ("a", "x", "not installed"), ("b", "x", "EIO")];
        assert_eq!(said(&both, &skips), "systems without figures: x: not installed");
    }

    #[test]
    fn a_study_that_compared_nothing_is_none() {
        let x = [("x", Kind::Command)];
        let want = "systems without figures: x: not installed";
        assert_eq!(said(&x, &[("a", "x", "not installed")]), want);
        assert_eq!(said(&[], &[]), "", "how native differs from itself is a study too");
    }

    #[test]
    fn what_native_or_fusewire_can_not_do_is_a_failure() {
        let f = [("f", Kind::Fusewire)];
        let twice = [("a", "f", "EIO"), ("a", "f", "EIO"), ("b", "f", "")];
        let want = "1 of the cells failed (the others have figures): a on f: EIO";
        assert_eq!(said(&f, &twice), want);
        assert_eq!(
            said(&[], &[("b", "native", "EIO")]),
            "1 of the cells failed (the others have figures): b on native: EIO"
        );
    }
}
