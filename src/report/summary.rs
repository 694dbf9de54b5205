//! The comparison: per cell, the ratio to native with its interval, the noise band, the verdict,
//! and what the daemon did for it. This is `summary.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::statistics::{self, Interval, Verdict};
use crate::study::environment::Environment;
use crate::study::matrix::{Cell, Unit, Work};
use crate::study::sample::{Measurement, Outcome, Percentiles, Role, Sample, count};

/// The whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this document's layout.
    pub format: u32,
    /// How it was measured.
    pub method: Method,
    /// What it was measured on; the rest is in `environment.json`.
    pub environment: Environment,
    /// Geometric mean of the data cells' shares of native's rate.
    pub data_share_of_native_rate: Option<f64>,
    /// Geometric mean of the metadata cells' multiples of native's time.
    pub metadata_multiple_of_native_time: Option<f64>,
    /// The cells, in the order in which they are shown.
    pub cells: Vec<CellSummary>,
}

/// How it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Rounds.
    pub rounds: u32,
    /// Length of a fio job.
    pub fio_seconds: f64,
    /// Size of the test file.
    pub size_mib: u32,
    /// Seed of order, offsets and bootstrap.
    pub seed: u64,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellSummary {
    /// The cell.
    pub cell: Cell,
    /// What its figures are.
    pub unit: Unit,
    /// The comparison, or why there is none.
    pub result: CellResult,
}

/// The comparison of a cell, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellResult {
    /// Both systems were measured in at least one round.
    Compared(Box<Comparison>),
    /// Why not.
    Failed(String),
}

/// The comparison of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Rounds that count.
    pub rounds: usize,
    /// Median figure of all native runs.
    pub native: f64,
    /// Median figure through the mount.
    pub fusewire: f64,
    /// Per round, fusewire's figure over the geometric mean of its two native ones. Of a rate: a
    /// share of native, higher is better. Of a time: a multiple of native, lower is better.
    pub ratio: Interval,
    /// Native differs from native by up to this factor.
    pub noise_band: f64,
    /// What may be said.
    pub verdict: Verdict,
    /// Requests the daemon served for one operation of the application, by opcode.
    pub requests_per_operation: BTreeMap<String, f64>,
    /// CPU time of the daemon for one operation.
    pub daemon_cpu_us_per_operation: f64,
    /// CPU time of the client (fio, or the generator) for one operation, natively.
    pub native_cpu_us_per_operation: f64,
    /// The same through the mount.
    pub fusewire_cpu_us_per_operation: f64,
    /// Context switches of client and daemon for one operation, natively.
    pub native_switches_per_operation: f64,
    /// The same through the mount.
    pub fusewire_switches_per_operation: f64,
    /// Latency natively, medians over the runs.
    pub native_latency_ns: Percentiles,
    /// Latency through the mount.
    pub fusewire_latency_ns: Percentiles,
    /// What a reader must know before believing the figure.
    pub flags: Vec<String>,
}

/// The runs of one cell which count, by role, in the order of the rounds.
#[derive(Debug, Default)]
struct Rounds<'a> {
    native_a: Vec<&'a Measurement>,
    native_b: Vec<&'a Measurement>,
    fusewire: Vec<&'a Measurement>,
}

impl Summary {
    /// Compares.
    pub fn new(
        cells: &[Cell],
        samples: &[Sample],
        environment: &Environment,
        method: Method,
    ) -> Self {
        let cells: Vec<CellSummary> = cells
            .iter()
            .map(|cell| {
                let result = match rounds(cell, samples) {
                    Ok(rounds) => compare(cell, &rounds, environment, method.seed)
                        .map(|comparison| CellResult::Compared(Box::new(comparison))),
                    Err(reason) => Err(reason),
                };
                let result = result.unwrap_or_else(CellResult::Failed);
                CellSummary { cell: cell.clone(), unit: cell.unit(), result }
            })
            .collect();
        let mean = |rates: bool| {
            let ratios: Vec<f64> = cells
                .iter()
                .filter(|cell| cell.unit.is_rate() == rates)
                .filter_map(|cell| cell.comparison().map(|comparison| comparison.ratio.median))
                .collect();
            statistics::geometric_mean(&ratios)
        };
        Summary {
            format: 1,
            method,
            environment: environment.clone(),
            data_share_of_native_rate: mean(true),
            metadata_multiple_of_native_time: mean(false),
            cells,
        }
    }

    /// How many cells have no comparison, and the first of them with its reason.
    pub fn failure(&self) -> Option<(usize, String)> {
        let failed: Vec<String> = self
            .cells
            .iter()
            .filter_map(|cell| match &cell.result {
                CellResult::Failed(reason) => Some(format!("{}: {reason}", cell.cell.title)),
                CellResult::Compared(_) => None,
            })
            .collect();
        let first = failed.first()?.clone();
        Some((failed.len(), first))
    }
}

impl CellSummary {
    /// The comparison, if there is one.
    pub fn comparison(&self) -> Option<&Comparison> {
        match &self.result {
            CellResult::Compared(comparison) => Some(comparison),
            CellResult::Failed(_) => None,
        }
    }
}

impl Comparison {
    /// Requests of all opcodes for one operation.
    pub fn requests(&self) -> f64 {
        self.requests_per_operation.values().sum()
    }
}

/// Picks the rounds in which all three turns have a figure.
fn rounds<'a>(cell: &Cell, samples: &'a [Sample]) -> Result<Rounds<'a>, String> {
    let mut by_round: BTreeMap<u32, BTreeMap<Role, &Measurement>> = BTreeMap::new();
    let mut reason = None;
    for sample in samples.iter().filter(|sample| sample.cell == cell.id) {
        match &sample.outcome {
            Outcome::Measured(measurement) if measurement.figure(cell.unit()).is_some() => {
                by_round.entry(sample.round).or_default().insert(sample.role, measurement);
            }
            Outcome::Measured(_) => reason = Some("nothing was done".to_owned()),
            Outcome::Failed(why) => {
                let who = if sample.role == Role::Fusewire { "fusewire" } else { "native" };
                reason = Some(format!("{who}: {why}"));
            }
        }
    }
    let mut rounds = Rounds::default();
    for turns in by_round.values() {
        if let (Some(a), Some(b), Some(f)) =
            (turns.get(&Role::NativeA), turns.get(&Role::NativeB), turns.get(&Role::Fusewire))
        {
            rounds.native_a.push(a);
            rounds.native_b.push(b);
            rounds.fusewire.push(f);
        }
    }
    match (rounds.fusewire.is_empty(), reason) {
        (false, _) => Ok(rounds),
        (true, Some(reason)) => Err(reason),
        (true, None) => Err("no round is complete".into()),
    }
}

fn compare(
    cell: &Cell,
    rounds: &Rounds<'_>,
    environment: &Environment,
    seed: u64,
) -> Result<Comparison, String> {
    let unit = cell.unit();
    let figures = |runs: &[&Measurement]| -> Vec<f64> {
        runs.iter().filter_map(|run| run.figure(unit)).collect()
    };
    let (a, b, f) =
        (figures(&rounds.native_a), figures(&rounds.native_b), figures(&rounds.fusewire));
    let pairs: Vec<(f64, f64)> = a.iter().copied().zip(b.iter().copied()).collect();
    let ratios: Vec<f64> = f.iter().zip(&pairs).map(|(f, (a, b))| f / (a * b).sqrt()).collect();
    let native: Vec<&Measurement> = [rounds.native_a.as_slice(), &rounds.native_b].concat();
    let nothing = || "no figures".to_owned();
    let ratio = statistics::bootstrap_median(&ratios, seed).ok_or_else(nothing)?;
    let noise_band = statistics::noise_band(&pairs, seed).ok_or_else(nothing)?;
    let verdict = statistics::verdict(ratio, noise_band, unit.is_rate());
    let requests_per_operation = requests(&rounds.fusewire);
    let cpu = |run: &Measurement| run.client.user_cpu_us + run.client.system_cpu_us;
    let daemon = |run: &Measurement, value: fn(&crate::study::sample::DaemonWork) -> f64| {
        run.daemon.as_ref().map_or(0.0, value)
    };
    Ok(Comparison {
        rounds: ratios.len(),
        native: statistics::median(&figures(&native)).ok_or_else(nothing)?,
        fusewire: statistics::median(&f).ok_or_else(nothing)?,
        ratio,
        noise_band,
        verdict,
        daemon_cpu_us_per_operation: per_operation(&rounds.fusewire, |run| {
            daemon(run, |work| work.consumption.user_cpu_us + work.consumption.system_cpu_us)
        }),
        native_cpu_us_per_operation: per_operation(&native, cpu),
        fusewire_cpu_us_per_operation: per_operation(&rounds.fusewire, cpu),
        native_switches_per_operation: per_operation(&native, |run| count(run.client.switches)),
        fusewire_switches_per_operation: per_operation(&rounds.fusewire, |run| {
            count(run.client.switches) + daemon(run, |work| count(work.consumption.switches))
        }),
        native_latency_ns: latency(&native),
        fusewire_latency_ns: latency(&rounds.fusewire),
        flags: flags(cell, verdict, &rounds.fusewire, environment),
        requests_per_operation,
    })
}

fn operations(runs: &[&Measurement]) -> f64 {
    count(runs.iter().map(|run| run.operations).sum::<u64>().max(1))
}

/// A total over all runs, for one operation.
fn per_operation(runs: &[&Measurement], value: impl Fn(&Measurement) -> f64) -> f64 {
    runs.iter().map(|run| value(run)).sum::<f64>() / operations(runs)
}

fn requests(runs: &[&Measurement]) -> BTreeMap<String, f64> {
    let mut totals: BTreeMap<String, f64> = BTreeMap::new();
    for (opcode, served) in
        runs.iter().filter_map(|run| run.daemon.as_ref()).flat_map(|work| &work.requests)
    {
        *totals.entry(opcode.clone()).or_default() += count(*served);
    }
    totals.values_mut().for_each(|total| *total /= operations(runs));
    totals
}

fn latency(runs: &[&Measurement]) -> Percentiles {
    let middle = |value: fn(&Percentiles) -> u64| {
        let mut values: Vec<u64> = runs.iter().map(|run| value(&run.latency_ns)).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    Percentiles {
        p50: middle(|latency| latency.p50),
        p99: middle(|latency| latency.p99),
        p999: middle(|latency| latency.p999),
    }
}

/// Proves what was measured: a passthrough cell whose bytes went through the daemon, or a direct
/// copy cell whose bytes did not, is not what its row says.
fn flags(
    cell: &Cell,
    verdict: Verdict,
    runs: &[&Measurement],
    environment: &Environment,
) -> Vec<String> {
    let mut flags = Vec::new();
    let mode = environment.in_force.as_ref().map(|in_force| in_force.data.mode.as_str());
    let moved: u64 = runs
        .iter()
        .filter_map(|run| run.daemon.as_ref())
        .flat_map(|work| ["READ", "WRITE"].map(|opcode| work.requests.get(opcode).copied()))
        .flatten()
        .sum();
    let by_daemon = matches!(mode, Some("copy" | "splice"));
    if let Work::Fio(job) = cell.work {
        if mode == Some("passthrough") && moved > 0 {
            flags.push(format!("{moved} READ/WRITE requests although passthrough is in force"));
        }
        if by_daemon && moved == 0 && job.direct_queue_depth.is_some() {
            flags.push("O_DIRECT, yet no READ/WRITE request reached the daemon".into());
        }
        if by_daemon && verdict == Verdict::Faster && job.direct_queue_depth.is_some() {
            flags.push(
                "faster than native because the daemon's own I/O hit the page cache, not the device"
                    .into(),
            );
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::study::matrix;
    use crate::study::sample::DaemonWork;

    fn comparison(summary: &Summary, id: &str) -> Comparison {
        let cell = summary.cells.iter().find(|cell| cell.cell.id == id).expect("is in the fixture");
        cell.comparison().expect("was measured").clone()
    }

    #[test]
    fn rates_are_shares_and_times_are_multiples() {
        let summary = fixture::summary();
        let read = comparison(&summary, "buffered-read-1m");
        assert!((read.ratio.median - 0.8).abs() < 1e-9);
        assert!((read.native - 1000.0 / 0.99).abs() < 1e-6);
        assert_eq!(read.verdict, Verdict::Slower);
        let open = comparison(&summary, "open-close");
        assert!((open.ratio.median - 10.0).abs() < 1e-9);
        assert!((open.native - 4.0).abs() < 1e-9);
        assert_eq!(open.verdict, Verdict::Slower);
    }

    #[test]
    fn what_one_operation_cost() {
        let open = comparison(&fixture::summary(), "open-close");
        assert_eq!(open.requests(), 2.0);
        assert_eq!(open.daemon_cpu_us_per_operation, 12.0);
        assert_eq!(open.fusewire_switches_per_operation, 2.0);
        assert_eq!(open.native_switches_per_operation, 0.0);
    }

    #[test]
    fn a_failed_cell_says_who_and_why() {
        let (count, first) = fixture::summary().failure().expect("unlink failed");
        assert_eq!(count, 1);
        assert_eq!(first, "unlink: fusewire: Unlink failed on file 0: EIO");
    }

    #[test]
    fn a_round_without_all_three_turns_does_not_count() {
        let mut samples = fixture::samples();
        samples.retain(|sample| sample.round != 1 || sample.role != Role::NativeB);
        let (cells, environment) = (fixture::cells(), fixture::environment());
        let summary = Summary::new(&cells, &samples, &environment, fixture::METHOD);
        assert_eq!(comparison(&summary, "open-close").rounds, 2);
    }

    #[test]
    fn bytes_that_went_the_wrong_way_are_flagged() {
        let mut samples = fixture::samples();
        for sample in &mut samples {
            if let Outcome::Measured(Measurement { daemon: Some(work), .. }) = &mut sample.outcome {
                work.requests.insert("READ".into(), 5);
            }
        }
        let (cells, mut environment) = (fixture::cells(), fixture::environment());
        let summary = Summary::new(&cells, &samples, &environment, fixture::METHOD);
        let read = comparison(&summary, "buffered-read-1m");
        assert_eq!(read.flags, ["15 READ/WRITE requests although passthrough is in force"]);
        assert!(comparison(&summary, "open-close").flags.is_empty(), "not a data cell");

        environment.in_force.as_mut().expect("is set").data.mode = "copy".into();
        let summary = Summary::new(&cells, &samples, &environment, fixture::METHOD);
        assert!(comparison(&summary, "buffered-read-1m").flags.is_empty());
    }

    #[test]
    fn direct_copies_are_flagged_if_they_were_not_direct() {
        let cell = matrix::demo().into_iter().find(|cell| cell.id == "direct-write-1m-qd1");
        let cell = cell.expect("is in the demo");
        let mut environment = fixture::environment();
        environment.in_force.as_mut().expect("is set").data.mode = "copy".into();
        let run = |requests: u64| Measurement {
            operations: 10,
            daemon: Some(DaemonWork {
                requests: BTreeMap::from([("WRITE".into(), requests)]),
                ..DaemonWork::default()
            }),
            ..Measurement::default()
        };
        assert_eq!(flags(&cell, Verdict::Slower, &[&run(10)], &environment), Vec::<String>::new());
        assert!(flags(&cell, Verdict::Faster, &[&run(10)], &environment)[0].contains("page cache"));
        assert!(flags(&cell, Verdict::Same, &[&run(0)], &environment)[0].contains("no READ/WRITE"));
    }

    #[test]
    fn the_document_survives_json() {
        let summary = fixture::summary();
        let text = serde_json::to_string(&summary).expect("can be written");
        let back: Summary = serde_json::from_str(&text).expect("can be read");
        assert_eq!(back.cells.len(), summary.cells.len());
        assert_eq!(back.environment, summary.environment);
        let samples = fixture::samples();
        let text = serde_json::to_string(&samples).expect("can be written");
        assert_eq!(serde_json::from_str::<Vec<Sample>>(&text).expect("can be read"), samples);
    }
}
