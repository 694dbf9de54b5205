//! The whole study as figures: `summary.json`. Every view of a study is drawn from this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell::{CellResult, Comparison, Figures, Row, Runs};
use super::results::Results;
use super::{headline, warnings};
use crate::report::statistics::{self, Verdict};
use crate::study::environment::Environment;
use crate::study::record::{Cell, FORMAT, Kind, NATIVE, NATIVE_AGAIN, System, Unit};

/// A study, compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Version of the layout of the folder it was made from.
    pub format: u32,
    /// Name of the study.
    pub study: String,
    /// What it says, a sentence each.
    pub headline: Vec<String>,
    /// What a reader must know before believing a figure.
    pub warnings: Vec<String>,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// Seed of the orders and of the bootstrap.
    pub seed: u64,
    /// All systems but the second native one, in the order of the study.
    pub systems: Vec<SystemDigest>,
    /// All cells, in the order of the study.
    pub cells: Vec<CellDigest>,
    /// What it was measured on.
    pub environment: Environment,
}

/// One system over all cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemDigest {
    /// The system.
    #[serde(flatten)]
    pub system: System,
    /// Geometric mean of its shares of native's rate, over the cells that are rates.
    pub share_of_native_rate: Option<f64>,
    /// Geometric mean of its multiples of native's time, over the cells that are times.
    pub multiple_of_native_time: Option<f64>,
    /// Cells by what may be said of them.
    pub verdicts: BTreeMap<Verdict, usize>,
    /// Cells that failed in every round.
    pub failed: usize,
    /// Cells that were not tried.
    pub skipped: usize,
}

/// One cell over all systems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellDigest {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// The factor by which native differs from itself; `None` if it never ran twice in a round.
    pub noise_band: Option<f64>,
    /// What came of it, by system, native first.
    pub results: Vec<Row>,
}

impl Digest {
    /// Compares.
    pub fn new(results: &Results) -> Self {
        let study = &results.study;
        let systems: Vec<&System> =
            study.systems.iter().filter(|system| system.id != NATIVE_AGAIN).collect();
        let cells: Vec<CellDigest> = study
            .cells
            .iter()
            .map(|cell| {
                let runs = Runs::of(cell, &results.samples, study.seed);
                let results = systems
                    .iter()
                    .map(|system| Row {
                        system: system.id.clone(),
                        result: runs.result(&system.id),
                    })
                    .collect();
                CellDigest { cell: cell.clone(), noise_band: runs.noise_band(), results }
            })
            .collect();
        let systems = systems.into_iter().map(|system| over_all_cells(system, &cells)).collect();
        let mut digest = Digest {
            format: FORMAT,
            study: study.name.clone(),
            headline: Vec::new(),
            warnings: Vec::new(),
            rounds: study.rounds,
            seed: study.seed,
            systems,
            cells,
            environment: results.environment.clone(),
        };
        digest.headline = headline::sentences(&digest);
        digest.warnings = warnings::of(&digest, results);
        digest
    }

    /// The systems that are compared with native.
    pub fn compared(&self) -> impl Iterator<Item = &SystemDigest> {
        self.systems.iter().filter(|digest| digest.system.id != NATIVE)
    }

    /// The title of a system.
    pub fn title<'a>(&'a self, system: &'a str) -> &'a str {
        let found = self.systems.iter().find(|digest| digest.system.id == system);
        found.map_or(system, |digest| &digest.system.title)
    }

    /// Whether the daemon of a system counts its requests: other programs' daemons do not.
    pub fn counts(&self, system: &str) -> bool {
        let found = self.systems.iter().find(|digest| digest.system.id == system);
        found.is_some_and(|digest| matches!(digest.system.kind, Kind::Fusewire | Kind::Null))
    }

    /// Whether a system can not keep up with a load.
    pub fn has_saturated(&self) -> bool {
        let rows = self.cells.iter().flat_map(|cell| &cell.results);
        rows.filter_map(|row| row.figures()).any(Figures::is_saturated)
    }

    /// Whether the systems are steps that differ by one change each.
    pub fn is_ladder(&self) -> bool {
        let steps = self.systems.iter().filter(|digest| digest.system.kind == Kind::Fusewire);
        self.study.contains("ladder") && steps.count() > 1
    }
}

impl CellDigest {
    /// What came of the cell on a system.
    pub fn row(&self, system: &str) -> Option<&Row> {
        self.results.iter().find(|row| row.system == system)
    }

    /// The figures of the cell on a system, if it was measured there.
    pub fn figures(&self, system: &str) -> Option<&Figures> {
        self.row(system)?.figures()
    }

    /// The systems that were measured, native left out, with their comparison.
    pub fn comparisons(&self) -> impl Iterator<Item = (&str, &Figures, &Comparison)> {
        self.results.iter().filter_map(|row| {
            let figures = row.figures()?;
            Some((row.system.as_str(), figures, figures.comparison.as_ref()?))
        })
    }
}

fn over_all_cells(system: &System, cells: &[CellDigest]) -> SystemDigest {
    let mean = |rates: bool| {
        // A mean over loads, of which some are too much, says nothing.
        let of_kind = cells
            .iter()
            .filter(|cell| cell.cell.unit != Unit::MicrosecondsP99)
            .filter(|cell| cell.cell.unit.is_rate() == rates);
        let ratios: Vec<f64> = of_kind
            .filter_map(|cell| Some(cell.row(&system.id)?.comparison()?.ratio.median))
            .collect();
        statistics::geometric_mean(&ratios)
    };
    let mut digest = SystemDigest {
        system: system.clone(),
        share_of_native_rate: mean(true),
        multiple_of_native_time: mean(false),
        verdicts: BTreeMap::new(),
        failed: 0,
        skipped: 0,
    };
    for row in cells.iter().filter_map(|cell| cell.row(&system.id)) {
        match &row.result {
            CellResult::Failed(_) => digest.failed += 1,
            CellResult::Skipped(_) => digest.skipped += 1,
            CellResult::Measured(figures) => {
                if let Some(comparison) = &figures.comparison {
                    *digest.verdicts.entry(comparison.verdict).or_default() += 1;
                }
            }
        }
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;
    use crate::study::record::Outcome;

    fn comparison(digest: &Digest, cell: &str, system: &str) -> Comparison {
        let cell = digest.cells.iter().find(|found| found.cell.id == cell).expect("is there");
        cell.row(system).and_then(Row::comparison).expect("was compared").clone()
    }

    #[test]
    fn rates_are_shares_and_times_are_multiples() {
        let digest = fixture::digest();
        let read = comparison(&digest, "read", "default");
        assert!((read.ratio.median - 0.8).abs() < 0.01, "{read:?}");
        assert_eq!(read.verdict, Verdict::Slower);
        let stat = comparison(&digest, "open-1", "base");
        assert!((stat.ratio.median - 10.0).abs() < 0.1, "{stat:?}");
        let base = digest.systems.iter().find(|found| found.system.id == "base").expect("is there");
        let multiple = base.multiple_of_native_time.expect("has times");
        assert!((multiple - 9.32).abs() < 0.1, "{multiple}");
        assert_eq!((base.verdicts[&Verdict::Slower], base.skipped), (4, 1));
    }

    #[test]
    fn the_second_native_system_is_no_system_of_its_own() {
        let digest = fixture::digest();
        let ids: Vec<&str> = digest.systems.iter().map(|found| found.system.id.as_str()).collect();
        assert_eq!(ids, ["native", "base", "default", "peer"]);
        let cell = &digest.cells[0];
        let native = cell.figures(NATIVE).expect("was measured");
        assert_eq!(native.rounds, 3);
        assert!(native.comparison.is_none());
    }

    #[test]
    fn what_one_operation_cost() {
        let digest = fixture::digest();
        let cell = digest.cells.iter().find(|cell| cell.cell.id == "open-1").expect("is there");
        let base = cell.figures("base").expect("was measured");
        assert_eq!(base.requests(), 2.0);
        assert_eq!(base.requests_per_operation["OPEN"], 1.0);
        assert_eq!((base.cost.client_cpu_us, base.cost.daemon_cpu_us), (3.0, 12.0));
        assert_eq!((base.cost.voluntary_switches, base.cost.involuntary_switches), (4.0, 0.5));
        assert_eq!(base.cost.migrations, Some(0.1));
        assert!((base.wall_us_per_operation - 40.0).abs() < 1.0);
        let native = cell.figures(NATIVE).expect("was measured");
        assert_eq!(native.buckets.values().sum::<u64>(), 6 * 1000, "both native systems count");
    }

    #[test]
    fn failed_and_skipped_cells_say_why() {
        let digest = fixture::digest();
        let cell = digest.cells.iter().find(|cell| cell.cell.id == "unlink").expect("is there");
        let result = |system: &str| cell.row(system).expect("has a row").result.clone();
        assert_eq!(result("default"), CellResult::Failed("unlink: EIO".into()));
        assert_eq!(result("peer"), CellResult::Skipped("bindfs is not installed".into()));
        let counts = |id: &str| {
            let found = digest.systems.iter().find(|found| found.system.id == id);
            found.map(|found| (found.failed, found.skipped)).expect("is there")
        };
        assert_eq!(counts("default"), (1, 1));
        assert_eq!(counts("peer"), (0, 5));
    }

    #[test]
    fn a_round_without_a_native_figure_does_not_count() {
        let mut results = fixture::results();
        results.samples.retain(|sample| {
            sample.round != 1 || !sample.system.starts_with(NATIVE) || sample.cell != "read"
        });
        let digest = Digest::new(&results);
        let found = comparison(&digest, "read", "default");
        assert_eq!((found.rounds, found.verdict), (2, Verdict::Unclear), "two are too few");
        // One of the two suffices for a ratio, but then nothing tells what a difference is.
        results.samples.retain(|sample| sample.system != NATIVE_AGAIN);
        let digest = Digest::new(&results);
        assert_eq!(comparison(&digest, "read", "default").verdict, Verdict::Unclear);
        results.samples.retain(|sample| sample.system != NATIVE);
        let digest = Digest::new(&results);
        assert!(digest.cells.iter().all(|cell| cell.comparisons().next().is_none()));
    }

    #[test]
    fn a_run_that_was_repeated_counts_once() {
        let mut results = fixture::results();
        let mut again = results.samples.clone();
        for sample in &mut again {
            if let Outcome::Measured(run) = &mut sample.outcome {
                run.seconds *= 2.0;
            }
        }
        results.samples.extend(again);
        let digest = Digest::new(&results);
        let open = digest.cells.iter().find(|cell| cell.cell.id == "open-1").expect("is there");
        let native = open.figures(NATIVE).expect("was measured");
        assert_eq!((native.rounds, open.cell.unit), (3, Unit::MicrosecondsPerOperation));
        assert!((native.value.median - 8.0).abs() < 0.2, "the last counts: {native:?}");
    }

    #[test]
    fn what_a_study_does_not_ask_for_was_not_interrupted() {
        let mut results = fixture::results();
        results.samples.retain(|sample| sample.system != "peer" || sample.cell != "read");
        let digest = Digest::new(&results);
        let cell = digest.cells.iter().find(|cell| cell.cell.id == "read").expect("is there");
        let row = cell.results.iter().find(|row| row.system == "peer").expect("is there");
        let wanted = CellResult::Skipped("the study does not ask for it".into());
        assert_eq!(row.result, wanted);
    }

    #[test]
    fn a_study_without_samples_is_a_digest_without_figures() {
        let mut results = fixture::results();
        results.samples.clear();
        let digest = Digest::new(&results);
        assert!(digest.cells.iter().flat_map(|cell| &cell.results).all(|row| {
            matches!(&row.result, CellResult::Skipped(why) if why.contains("interrupted"))
        }));
    }

    #[test]
    fn the_document_survives_json() {
        let digest = fixture::digest();
        let text = serde_json::to_string(&digest).expect("can be written");
        let back: Digest = serde_json::from_str(&text).expect("can be read");
        assert_eq!(back.cells.len(), digest.cells.len());
        assert_eq!(back.systems[1].system, digest.systems[1].system);
        assert_eq!(back.headline, digest.headline);
    }
}
