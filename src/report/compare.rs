//! `fusewire study compare A B`: what changed between two runs of a study, cell by cell.
//!
//! Compared are ratios to native, each study's own, so that a machine that was slower as a whole on
//! one of the days is no regression. A change counts only beyond what both studies' native runs
//! differ from themselves by.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use comfy_table::{Cell as Column, Color, Table, TableComponent, presets};
use serde::Serialize;

use super::differences;
use super::error::ReportError;
use super::statistics::{self, Interval, Verdict};
use super::study::cell::{CellResult, FEWEST_ROUNDS, Runs};
use super::study::results::Results;
use super::text::{self, number};
use crate::study::record::{Cell, NATIVE, NATIVE_AGAIN, Study, System};

/// Compare two runs of a study, cell by cell, and fail if the second is worse
///
/// Exit status 0 without a regression, 3 with one, 1 if the folders cannot be compared.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(args_override_self = true)]
pub struct Options {
    /// The folder of the study before
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The folder of the study after
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// A change for the worse of so much speed is a regression, if it lies beyond noise as well
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = parse_percent)]
    pub threshold: f64,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse::<f64>() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent),
        _ => Err("a number from 0 to below 100 is expected".into()),
    }
}

/// Two studies, compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The folder before.
    pub before: PathBuf,
    /// The folder after.
    pub after: PathBuf,
    /// What a change must reach to be a regression, per cent of speed.
    pub threshold_percent: f64,
    /// Cells on systems that both studies measured.
    pub changes: Vec<Change>,
    /// Cells on systems that were measured before and failed after. Each is a regression.
    pub failed: Vec<Failure>,
    /// What only one of the studies has or has measured, or has otherwise: not compared.
    pub not_compared: Vec<String>,
    /// What must be known before believing what was compared.
    pub beware: Vec<String>,
    /// Number of regressions, failures included.
    pub regressions: usize,
}

/// One cell on one system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Name of the cell.
    pub cell: String,
    /// What a reader sees.
    pub title: String,
    /// Name of the system.
    pub system: String,
    /// Ratio to native before: of rates a share, of times a multiple.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// Speed after over speed before, relative to native: above 1 is better.
    pub speed: Interval,
    /// The factor by which native alone may have changed; `None` without A/A in both studies.
    pub noise: Option<f64>,
    /// What may be said of the change.
    pub verdict: Verdict,
    /// Whether it is worse by more than the threshold.
    pub is_regression: bool,
    /// The smallest regression that would have been called one, per cent of speed; `None` if none would.
    pub visible_percent: Option<f64>,
}

/// One cell on one system that works no more.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// Name of the cell.
    pub cell: String,
    /// Name of the system.
    pub system: String,
    /// Why.
    pub reason: String,
}

/// Compares and prints; the answer is whether there is no regression.
///
/// # Errors
/// [`ReportError`]: a folder that cannot be read, or two that have nothing in common.
pub fn run(options: &Options) -> Result<bool, ReportError> {
    let (before, after) = (Results::read(&options.before)?, Results::read(&options.after)?);
    let comparison = Comparison::new(&before, &after, options.threshold);
    if comparison.changes.is_empty() && comparison.failed.is_empty() {
        let why = comparison.not_compared.first().map_or("no cell was measured", String::as_str);
        return Err(ReportError::content(
            &options.after,
            format!("nothing to compare with {}: {why}", options.before.display()),
        ));
    }
    let shown = match options.json {
        true => serde_json::to_string_pretty(&comparison)?,
        false => render(&comparison),
    };
    // A reader that has gone (`| head`) is no failure.
    let _ = writeln!(std::io::stdout(), "{shown}");
    Ok(comparison.regressions == 0)
}

impl Comparison {
    /// Compares.
    pub fn new(before: &Results, after: &Results, threshold_percent: f64) -> Self {
        let mut comparison = Comparison {
            before: before.folder.clone(),
            after: after.folder.clone(),
            threshold_percent,
            changes: Vec::new(),
            failed: Vec::new(),
            not_compared: one_sided(before, after),
            beware: differences::of(before, after),
            regressions: 0,
        };
        let mut missing = Missing::default();
        let native = |system: &System| [NATIVE, NATIVE_AGAIN].contains(&system.id.as_str());
        for old in &before.study.cells {
            let Some(new) = after.study.cells.iter().find(|cell| cell.id == old.id) else {
                continue;
            };
            if !is_same_work(old, new) {
                let problem = format!("cell {}: the same name, but other work", old.id);
                comparison.not_compared.push(problem);
                continue;
            }
            let both = before.study.systems.iter().filter(|system| {
                !native(system) && after.study.systems.iter().any(|other| other.id == system.id)
            });
            let old_runs = Runs::of(old, &before.samples, before.study.seed);
            let new_runs = Runs::of(new, &after.samples, after.study.seed);
            for system in both {
                if old_runs.is_saturated(&system.id) && new_runs.is_saturated(&system.id) {
                    let cell = &old.title;
                    comparison.not_compared.push(format!(
                        "{cell}, {}: it can not keep up in either, and lengths of queues tell nothing",
                        system.id
                    ));
                    continue;
                }
                let was_measured = !old_runs.ratios(&system.id).is_empty();
                match change(old, &system.id, [&old_runs, &new_runs], threshold_percent) {
                    Some(change) => comparison.changes.push(change),
                    None => match new_runs.result(&system.id) {
                        CellResult::Failed(reason) if was_measured => {
                            let (cell, system) = (old.id.clone(), system.id.clone());
                            comparison.failed.push(Failure { cell, system, reason });
                        }
                        now if was_measured => missing.add("after", &now, system, old),
                        _ if new_runs.ratios(&system.id).is_empty() => {}
                        _ => missing.add("before", &old_runs.result(&system.id), system, old),
                    },
                }
            }
        }
        comparison.not_compared.extend(missing.sentences());
        let worse = comparison.changes.iter().filter(|change| change.is_regression).count();
        comparison.regressions = worse + comparison.failed.len();
        comparison
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.changes.iter().filter(|change| change.verdict == verdict).count()
    }

    /// What could have been found at all: whoever reads "no regression" must know where one would hide.
    fn reach(&self) -> Option<String> {
        let threshold = self.threshold_percent;
        let visible = |change: &Change| change.visible_percent.unwrap_or(f64::INFINITY);
        let mut all: Vec<f64> = self.changes.iter().map(visible).collect();
        all.sort_unstable_by(f64::total_cmp);
        let blind = all.iter().filter(|percent| **percent > threshold + 1e-9).count();
        let half = *all.get(all.len().checked_sub(1)? / 2)?;
        let half = match half.is_finite() {
            true => format!("half of them would have shown one of {half:.0} %"),
            false => "half of them none at all".to_owned(),
        };
        (blind > 0).then(|| {
            format!(
                "{blind} of {} cells could not have shown a regression of {threshold} %, for noise or for \
                 want of rounds; {half}.",
                all.len()
            )
        })
    }
}

/// Cells on systems that only one of the studies measured, those with one reason together.
#[derive(Debug, Default)]
struct Missing(BTreeMap<(String, &'static str, String), Vec<String>>);

impl Missing {
    fn add(&mut self, when: &'static str, result: &CellResult, system: &System, cell: &Cell) {
        let reason = match result {
            CellResult::Failed(reason) | CellResult::Skipped(reason) => reason,
            CellResult::Measured(_) => "native has no figure",
        };
        let key = (system.id.clone(), when, reason.to_owned());
        self.0.entry(key).or_default().push(cell.title.clone());
    }

    fn sentences(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|((system, when, reason), cells)| {
            let cells = match &cells[..] {
                few @ ([_] | [_, _] | [_, _, _]) => few.join("; "),
                many => format!("{} cells ({}; ...)", many.len(), many[0]),
            };
            format!("{system} has no figure {when}: {cells}: {reason}")
        })
    }
}

/// Whether two cells of one name measure the same. The rate of a load is none of it: it is the same
/// share of what native did at its peak, which each study finds for itself.
fn is_same_work(old: &Cell, new: &Cell) -> bool {
    let work = |cell: &Cell| {
        let mut workload = cell.workload.clone();
        if let Some(parameters) = workload.as_object_mut() {
            parameters.remove("rate_per_second");
        }
        (cell.unit, workload, cell.cache.clone(), cell.threads)
    };
    work(old) == work(new)
}

/// What only one of the studies has.
fn one_sided<'a>(before: &'a Results, after: &'a Results) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, old: BTreeSet<&str>, new: BTreeSet<&str>| {
        for (only, ids) in [("before", old.difference(&new)), ("after", new.difference(&old))] {
            let ids: Vec<&str> = ids.copied().collect();
            if !ids.is_empty() {
                differences.push(format!("{what} only {only}: {}", ids.join(", ")));
            }
        }
    };
    let cells = |study: &'a Study| study.cells.iter().map(|cell| cell.id.as_str()).collect();
    let systems =
        |study: &'a Study| study.systems.iter().map(|system| system.id.as_str()).collect();
    compare("cells", cells(&before.study), cells(&after.study));
    compare("systems", systems(&before.study), systems(&after.study));
    differences
}

fn change(
    cell: &Cell,
    system: &str,
    [old, new]: [&Runs<'_>; 2],
    threshold_percent: f64,
) -> Option<Change> {
    let (before, after) = (old.ratios(system), new.ratios(system));
    let is_rate = cell.unit.is_rate();
    let speed = match is_rate {
        true => statistics::bootstrap_change(&before, &after, old.seed()),
        false => statistics::bootstrap_change(&after, &before, old.seed()),
    }?;
    // Both studies' native runs were noisy on their own; without A/A there is nothing to judge by.
    let noise = old.noise_band().zip(new.noise_band()).map(|(old, new)| old * new);
    let noise_to_judge_by = noise.filter(|_| before.len().min(after.len()) >= FEWEST_ROUNDS);
    let verdict =
        noise_to_judge_by.map_or(Verdict::Unclear, |noise| statistics::verdict(speed, noise, true));
    let threshold = 1.0 - threshold_percent / 100.0;
    // A study has many cells, and whoever runs it again wants no alarm from chance: more than to be
    // called slower, the whole interval has to lie beyond what native does alone.
    let is_beyond_noise = noise.is_some_and(|noise| speed.high * noise < 1.0);
    let is_regression = verdict == Verdict::Slower && is_beyond_noise && speed.median < threshold;
    // The same interval, around a slower median, until it lies beyond noise.
    let visible = noise_to_judge_by.map(|noise| speed.median / (speed.high * noise));
    Some(Change {
        cell: cell.id.clone(),
        title: cell.title.clone(),
        system: system.to_owned(),
        before: statistics::median(&before)?,
        after: statistics::median(&after)?,
        speed,
        noise,
        verdict,
        is_regression,
        visible_percent: visible.map(|speed| (1.0 - speed.min(threshold)) * 100.0),
    })
}

/// A table of the changes, the worst first, and what they come to.
fn render(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for line in [TableComponent::HeaderLines, TableComponent::MiddleHeaderIntersections] {
        table.set_style(line, '─');
    }
    table.set_header([
        "cell",
        "system",
        "before",
        "after",
        "speed after / before\n[95 % interval]",
        "native alone",
        "",
    ]);
    let mut changes: Vec<&Change> = comparison.changes.iter().collect();
    changes.sort_by(|a, b| a.speed.median.total_cmp(&b.speed.median));
    for change in changes {
        let verdict = match change.is_regression {
            true => Column::new("REGRESSION").fg(Color::Red),
            false => Column::new(text::verdict(change.verdict)),
        };
        let speed = change.speed;
        table.add_row([
            Column::new(&change.title),
            Column::new(&change.system),
            Column::new(number(change.before)),
            Column::new(number(change.after)),
            Column::new(format!(
                "{} [{}, {}]",
                number(speed.median),
                number(speed.low),
                number(speed.high)
            )),
            Column::new(change.noise.map_or_else(|| "-".to_owned(), text::band)),
            verdict,
        ]);
    }
    let mut lines = vec![format!("{table}\n")];
    lines.extend(comparison.failed.iter().map(|failure| {
        format!("REGRESSION: {} on {} fails now: {}", failure.cell, failure.system, failure.reason)
    }));
    lines.extend(comparison.not_compared.iter().map(|text| format!("Not compared: {text}.")));
    lines.extend(comparison.beware.iter().map(|text| format!("Beware: {text}.")));
    lines.push(format!(
        "{} compared: {} same, {} faster, {} slower, {} unclear; {} regressions beyond {} % and noise.",
        comparison.changes.len() + comparison.failed.len(),
        comparison.count(Verdict::Same),
        comparison.count(Verdict::Faster),
        comparison.count(Verdict::Slower),
        comparison.count(Verdict::Unclear),
        comparison.regressions,
        comparison.threshold_percent
    ));
    lines.extend(comparison.reach());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::report::study::fixture;
    use crate::study::record::{Measurement, Outcome};

    /// The fixture with each run's time changed.
    fn results(mut factor: impl FnMut(&str, &str) -> f64) -> Results {
        let mut results = fixture::results();
        for sample in &mut results.samples {
            if let Outcome::Measured(run) = &mut sample.outcome {
                run.seconds *= factor(&sample.cell, &sample.system);
            }
        }
        results
    }

    fn find<'a>(comparison: &'a Comparison, cell: &str, system: &str) -> &'a Change {
        let mut changes = comparison.changes.iter();
        changes.find(|change| change.cell == cell && change.system == system).expect("is compared")
    }

    #[test]
    fn a_study_against_itself_has_no_regression() {
        let results = fixture::results();
        let comparison = Comparison::new(&results, &results, 0.0);
        assert_eq!((comparison.regressions, comparison.changes.len()), (0, 7));
        assert!(comparison.changes.iter().all(|change| change.verdict == Verdict::Same));
        assert_eq!(comparison.not_compared, Vec::<String>::new());
        assert_eq!(comparison.beware, Vec::<String>::new());
        assert_eq!(Comparison::new(&results, &results, 5.0).reach(), None);
    }

    #[test]
    fn loads_are_compared_whatever_the_peak_was() {
        let mut before = fixture::results();
        fixture::saturate(&mut before, "open-2", "nobody");
        let mut after = before.clone();
        let cell = after.study.cells.iter_mut().find(|cell| cell.id == "open-2");
        cell.expect("is there").workload["rate_per_second"] = 3000.0.into();
        for sample in &mut after.samples {
            if let Outcome::Measured(run) = &mut sample.outcome {
                run.operations = run.operations * 3 / 2;
            }
        }
        let comparison = Comparison::new(&before, &after, 5.0);
        assert_eq!(comparison.not_compared, Vec::<String>::new());
        find(&comparison, "open-2", "default");
        let told = comparison.beware.join("\n");
        assert!(told.contains("peak") && told.contains("x1.50"), "{told}");
    }

    #[test]
    fn what_was_measured_and_is_not_any_more_is_told_with_its_reason() {
        let before = fixture::results();
        let mut after = fixture::results();
        for sample in after.samples.iter_mut().filter(|sample| sample.system == "base") {
            sample.outcome = Outcome::Skipped("it is gone".into());
        }
        let told = |before, after| Comparison::new(before, after, 5.0).not_compared;
        let cells = "4 cells (seq read 1M, buffered; ...): it is gone";
        assert_eq!(told(&before, &after), [format!("base has no figure after: {cells}")]);
        assert_eq!(told(&after, &before), [format!("base has no figure before: {cells}")]);
        let text = render(&Comparison::new(&before, &after, 5.0));
        assert!(text.contains("Not compared: base has no figure after"), "{text}");
    }

    #[test]
    fn what_could_not_have_been_found_is_told() {
        let noisy = || results(|_, system| if system == NATIVE_AGAIN { 1.1 } else { 1.0 });
        let comparison = Comparison::new(&noisy(), &noisy(), 5.0);
        let change = find(&comparison, "open-1", "default");
        // Native differs from itself by a tenth in both.
        let visible = change.visible_percent.expect("has A/A");
        assert!((15.0..22.0).contains(&visible), "{visible}");
        let reach = comparison.reach().expect("it is blind");
        assert!(
            reach.starts_with("7 of 7 cells could not have shown a regression of 5 %"),
            "{reach}"
        );
        let mut short = noisy();
        short.samples.retain(|sample| sample.round < 2);
        let comparison = Comparison::new(&noisy(), &short, 5.0);
        let reach = comparison.reach().expect("it is blind");
        assert!(reach.ends_with("half of them none at all."), "{reach}");
    }

    #[test]
    fn what_became_slower_is_a_regression_beyond_the_threshold_alone() {
        let before = results(|_, _| 1.0);
        let after = results(|cell, system| match (cell, system) {
            ("read" | "open-1", "default") => 1.3,
            ("open-2", "default") => 0.5,
            _ => 1.0,
        });
        let comparison = Comparison::new(&before, &after, 5.0);
        assert_eq!(comparison.regressions, 2, "a rate and a time");
        for cell in ["read", "open-1"] {
            let change = find(&comparison, cell, "default");
            assert!(change.is_regression && change.verdict == Verdict::Slower, "{change:?}");
            assert!((change.speed.median - 1.0 / 1.3).abs() < 0.01, "{change:?}");
        }
        assert_eq!(find(&comparison, "open-2", "default").verdict, Verdict::Faster);
        let text = render(&comparison);
        assert!(text.contains("2 regressions beyond 5 %"), "{text}");
        assert!(text.lines().nth(3).is_some_and(|line| line.contains("REGRESSION")), "{text}");
        assert_eq!(Comparison::new(&before, &after, 30.0).regressions, 0);
    }

    #[test]
    fn what_native_alone_may_do_is_no_regression() {
        // Native differs from itself by a tenth each time; a fifth slower and a little more, give or take
        // a twentieth.
        let noisy = || results(|_, system| if system == NATIVE_AGAIN { 1.1 } else { 1.0 });
        let mut after = noisy();
        for sample in after.samples.iter_mut().filter(|sample| sample.system == "default") {
            if let Outcome::Measured(run) = &mut sample.outcome {
                run.seconds *= [1.215, 1.157, 1.276][sample.round as usize];
            }
        }
        let comparison = Comparison::new(&noisy(), &after, 5.0);
        let change = find(&comparison, "open-1", "default");
        assert!(change.verdict == Verdict::Slower && !change.is_regression, "{change:?}");
        assert_eq!(comparison.regressions, 0);
    }

    #[test]
    fn a_slower_machine_is_no_regression() {
        let comparison = Comparison::new(&results(|_, _| 1.0), &results(|_, _| 3.0), 0.0);
        assert_eq!(comparison.regressions, 0);
    }

    #[test]
    fn what_fails_now_is_a_regression_and_what_failed_before_is_none() {
        let before = fixture::results();
        let mut after = fixture::results();
        for sample in &mut after.samples {
            match (sample.cell.as_str(), sample.system.as_str()) {
                ("read", "default") => sample.outcome = Outcome::Failed("read: EIO".into()),
                ("unlink", "default") => {
                    let run = Measurement { operations: 1, seconds: 1.0, ..Measurement::default() };
                    sample.outcome = Outcome::Measured(Box::new(run));
                }
                _ => {}
            }
        }
        let comparison = Comparison::new(&before, &after, 5.0);
        assert_eq!(comparison.regressions, 1);
        assert_eq!(comparison.failed[0].reason, "read: EIO");
        assert!(render(&comparison).contains("read on default fails now: read: EIO"));
        assert_eq!(Comparison::new(&after, &before, 5.0).failed[0].cell, "unlink");
    }

    #[test]
    fn what_differs_is_not_compared_but_named() {
        let before = fixture::results();
        let mut after = fixture::results();
        after.study.cells[0].cache = "cold".into();
        after.study.cells[1].id = "opens".into();
        after.study.systems[2].arguments = vec!["--other".into()];
        after.study.systems[3].id = "product".into();
        after.environment.cpus = 64;
        let comparison = Comparison::new(&before, &after, 5.0);
        let told = [comparison.not_compared, comparison.beware].concat().join("\n");
        for part in [
            "cells only before: open-1",
            "cells only after: opens",
            "systems only before: default",
            "system base had other arguments before: --base",
            "another machine",
            "cell read: the same name, but other work",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        assert_eq!(comparison.changes.len(), 2, "open-2 and unlink on base");
    }

    #[test]
    fn noise_is_hardly_ever_a_regression() {
        let mut rng = StdRng::seed_from_u64(17);
        for noise in [0.03, 0.3] {
            let mut compared = 0;
            let mut wrong = 0;
            for _ in 0..12 {
                let mut run = || {
                    let deviate = (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0;
                    (noise * deviate).exp()
                };
                let before = results(|_, _| run());
                let after = results(|_, _| run());
                let comparison = Comparison::new(&before, &after, 0.0);
                compared += comparison.changes.len();
                wrong += comparison.regressions;
            }
            assert!(wrong * 100 <= compared * 2, "{wrong} of {compared} with noise {noise}");
        }
    }

    #[test]
    fn folders_with_nothing_in_common_are_refused() {
        let (a, b) = (fixture::folder(), fixture::folder());
        std::fs::write(b.path().join("samples.jsonl"), "").expect("can be written");
        let options = |after: &Path| Options {
            before: a.path().to_owned(),
            after: after.to_owned(),
            threshold: 5.0,
            json: true,
        };
        let error = run(&options(b.path())).expect_err("has no samples").to_string();
        assert!(error.contains("nothing to compare with"), "{error}");
        let error = run(&options(Path::new("/nowhere"))).expect_err("no such folder").to_string();
        assert!(error.contains("study ls"), "{error}");
    }

    #[test]
    fn thresholds_are_percentages() {
        assert_eq!(parse_percent("5"), Ok(5.0));
        assert_eq!(parse_percent("2.5 %"), Ok(2.5));
        for wrong in ["-1", "100", "x", "NaN"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
