//! The whole study as figures: `summary.json`. Every view of a study is drawn from this.

use std::collections::{BTreeMap, BTreeSet};

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
    /// What its own file says that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
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
    /// Geometric mean of its shares of native's rate, over the cells that are rates and that all systems
    /// have.
    pub share_of_native_rate: Option<f64>,
    /// Number of those cells.
    #[serde(default)]
    pub rate_cells: usize,
    /// Geometric mean of its multiples of native's time, over the cells that are times and that all
    /// systems have.
    pub multiple_of_native_time: Option<f64>,
    /// Number of those cells.
    #[serde(default)]
    pub time_cells: usize,
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
        let mut cells: Vec<CellDigest> = study
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
        for system in systems.iter().filter(|system| system.kind == Kind::Command) {
            forget_what_was_not_seen(&system.id, &mut cells);
        }
        let means = [true, false].map(|rates| common(&systems, &cells, rates));
        let systems = systems.iter().map(|system| over_all_cells(system, &cells, &means)).collect();
        let mut digest = Digest {
            format: FORMAT,
            study: study.name.clone(),
            title: results.title.clone(),
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

    /// What all are compared with, as a name: native, or what the study calls it.
    pub fn reference(&self) -> &str {
        self.title(NATIVE)
    }

    /// The same in a sentence.
    pub fn the_reference(&self) -> String {
        match self.reference() {
            NATIVE => NATIVE.to_owned(),
            other => format!("the {other}"),
        }
    }

    /// Number of cells of a kind that any system has a ratio in: no mean is over more.
    pub fn cells_of(&self, rates: bool) -> usize {
        compared_cells(&self.cells, rates).len()
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

    /// Whether the systems are steps that differ by one change each: the study is called so, or the title
    /// of each of ours but the first is what it adds.
    pub fn is_ladder(&self) -> bool {
        let steps = || self.systems.iter().filter(|digest| digest.system.kind == Kind::Fusewire);
        let adds = |step: &SystemDigest| step.system.title.starts_with('+');
        steps().count() > 1 && (self.study.contains("ladder") || steps().skip(1).all(adds))
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

/// A daemon that consumed nothing in any cell is one that nobody found, as of a command that went to the
/// background.
fn forget_what_was_not_seen(system: &str, cells: &mut [CellDigest]) {
    let rows = || cells.iter().filter_map(|cell| cell.figures(system));
    if rows().any(|figures| figures.cost.daemon_cpu_us.is_some_and(|cpu| cpu > 0.0)) {
        return;
    }
    for row in cells.iter_mut().flat_map(|cell| &mut cell.results) {
        if let (true, CellResult::Measured(figures)) = (row.system == system, &mut row.result) {
            figures.cost.daemon_cpu_us = None;
        }
    }
}

/// The cells of a kind in which anything was compared. A mean over loads, of which some are too much,
/// says nothing.
fn compared_cells(cells: &[CellDigest], rates: bool) -> Vec<&CellDigest> {
    cells
        .iter()
        .filter(|cell| cell.cell.unit != Unit::MicrosecondsP99)
        .filter(|cell| cell.cell.unit.is_rate() == rates)
        .filter(|cell| cell.comparisons().next().is_some())
        .collect()
}

/// Those of them that all systems have a ratio in, so that means can stand beside each other. What has no
/// storage lacks cells by its nature, and what has hardly any would leave none: neither is asked.
fn common(systems: &[&System], cells: &[CellDigest], rates: bool) -> BTreeSet<String> {
    let cells = compared_cells(cells, rates);
    let has = |cell: &CellDigest, system: &System| {
        cell.row(&system.id).is_some_and(|row| row.comparison().is_some())
    };
    let asked: Vec<&System> = systems
        .iter()
        .copied()
        .filter(|system| system.id != NATIVE && system.kind != Kind::Null)
        .filter(|system| {
            2 * cells.iter().filter(|cell| has(cell, system)).count() >= cells.len().max(1)
        })
        .collect();
    let shared = cells.iter().filter(|cell| asked.iter().all(|system| has(cell, system)));
    shared.map(|cell| cell.cell.id.clone()).collect()
}

fn over_all_cells(
    system: &System,
    cells: &[CellDigest],
    [rates, times]: &[BTreeSet<String>; 2],
) -> SystemDigest {
    let ratios = |common: &BTreeSet<String>| -> Vec<f64> {
        let cells = cells.iter().filter(|cell| common.contains(&cell.cell.id));
        cells.filter_map(|cell| Some(cell.row(&system.id)?.comparison()?.ratio.median)).collect()
    };
    let (rates, times) = (ratios(rates), ratios(times));
    let mut digest = SystemDigest {
        system: system.clone(),
        share_of_native_rate: statistics::geometric_mean(&rates),
        rate_cells: rates.len(),
        multiple_of_native_time: statistics::geometric_mean(&times),
        time_cells: times.len(),
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
        // Without unlink, which fusewire failed: its mean stands beside.
        assert!((multiple - 9.49).abs() < 0.02, "{multiple}");
        assert_eq!((base.time_cells, digest.cells_of(false)), (2, 3));
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
        assert_eq!((base.cost.client_cpu_us, base.cost.daemon_cpu_us), (3.0, Some(12.0)));
        assert_eq!((base.cost.voluntary_switches, base.cost.involuntary_switches), (4.0, 0.5));
        assert_eq!(base.cost.migrations, Some(0.1));
        assert!((base.wall_us_per_operation - 40.0).abs() < 1.0);
        let native = cell.figures(NATIVE).expect("was measured");
        assert_eq!(native.buckets.values().sum::<u64>(), 6 * 1000, "both native systems count");
    }

    #[test]
    fn a_daemon_that_nobody_saw_has_no_cost() {
        let mut results = fixture::results();
        for system in &mut results.study.systems {
            if system.id == "base" {
                system.kind = Kind::Command;
            }
        }
        let cost = |results: &Results| {
            let digest = Digest::new(results);
            digest.cells[1].figures("base").expect("was measured").cost.daemon_cpu_us
        };
        assert_eq!(cost(&results), Some(12.0));
        for sample in results.samples.iter_mut().filter(|sample| sample.system == "base") {
            if let Outcome::Measured(run) = &mut sample.outcome
                && let Some(work) = &mut run.daemon
            {
                work.consumption = crate::study::record::Consumption::default();
            }
        }
        assert_eq!(cost(&results), None);
    }

    #[test]
    fn what_has_no_storage_takes_no_cell_from_the_means() {
        let mut results = fixture::results();
        let of = |id: &str, results: &Results| {
            let digest = Digest::new(results);
            let found = digest.systems.iter().find(|found| found.system.id == id);
            found.map(|found| (found.time_cells, found.rate_cells)).expect("is there")
        };
        assert_eq!((of("base", &results), of("default", &results)), ((2, 1), (2, 1)));
        let system = results.study.systems.iter_mut().find(|system| system.id == "default");
        system.expect("is there").kind = Kind::Null;
        assert_eq!((of("base", &results), of("default", &results)), ((3, 1), (2, 1)));
    }

    #[test]
    fn a_ladder_is_called_so_or_says_what_each_step_adds() {
        let mut digest = fixture::digest();
        assert!(digest.is_ladder());
        digest.study = "steps".into();
        assert!(!digest.is_ladder());
        let ours = digest.systems.iter_mut().filter(|it| it.system.kind == Kind::Fusewire);
        for system in ours.skip(1) {
            system.system.title.insert_str(0, "+ ");
        }
        assert!(digest.is_ladder());
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
