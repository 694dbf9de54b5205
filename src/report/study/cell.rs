//! One cell on one system against native: figures, ratio, verdict, and what one operation cost.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::report::statistics::{self, Interval, Verdict};
use crate::study::record::{
    Cell, Consumption, Latency, Measurement, NATIVE, NATIVE_AGAIN, Outcome, Sample,
};
use crate::study::sample::count;

/// With fewer rounds the interval is no more than the few values themselves, and nothing is claimed.
pub(crate) const FEWEST_ROUNDS: usize = 3;
/// What answers its arrivals in more than so many times their time has a queue that grows.
const KEEPS_UP: f64 = 1.05;

/// A cell on one system, native included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// [`System::id`](crate::study::record::System::id).
    pub system: String,
    /// What came of it.
    pub result: CellResult,
}

/// What came of a cell on a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellResult {
    /// It was measured in at least one round.
    Measured(Box<Figures>),
    /// It failed in every round; the reason of the last one.
    Failed(String),
    /// It was not tried.
    Skipped(String),
}

/// The figures of a cell on a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Rounds that were measured.
    pub rounds: usize,
    /// Rounds in which it failed.
    pub failed_rounds: usize,
    /// The median over the rounds, in the unit of the cell, with its interval.
    pub value: Interval,
    /// Of an open loop: in how many times the time in which they arrived its operations were answered,
    /// median over the rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_of_arrival: Option<f64>,
    /// Against native; `None` for native itself, and without a round that has both.
    pub comparison: Option<Comparison>,
    /// Time of one operation as the application sees it, microseconds, median over the rounds.
    pub wall_us_per_operation: f64,
    /// Latency of one operation, medians over the rounds, nanoseconds.
    pub latency: Percentiles,
    /// What one operation cost.
    pub cost: Cost,
    /// Requests that the daemon served for one operation, by opcode.
    pub requests_per_operation: BTreeMap<String, f64>,
    /// Where the time of one operation went, nanoseconds by layer, where it was traced.
    pub layers_ns: Option<BTreeMap<String, f64>>,
    /// What who measured says must be known before believing the figures.
    pub flags: Vec<String>,
    /// CPU time that was stolen meanwhile, per cent: the worst round.
    pub steal_percent: f64,
    /// All rounds' distributions together: upper end of a bucket in nanoseconds, operations.
    #[serde(skip)]
    pub buckets: BTreeMap<u64, u64>,
}

/// A system against native.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Rounds that count: those with a native figure.
    pub rounds: usize,
    /// Per round, the figure over the geometric mean of the round's native ones. Of a rate: a share
    /// of native, higher is better. Of a time: a multiple of native, lower is better. It says nothing of
    /// what is saturated.
    pub ratio: Interval,
    /// What may be said.
    pub verdict: Verdict,
}

/// Latency percentiles, nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
}

/// What one operation of the application cost, client and daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time of the client, microseconds.
    pub client_cpu_us: f64,
    /// CPU time of the daemon, microseconds; `None` if there is none, or none that could be seen.
    pub daemon_cpu_us: Option<f64>,
    /// Context switches of both because they waited.
    pub voluntary_switches: f64,
    /// Context switches of both because another was to run.
    pub involuntary_switches: f64,
    /// Moves of both between CPUs; `None` where the kernel does not tell.
    pub migrations: Option<f64>,
}

/// The runs of one cell.
#[derive(Debug)]
pub struct Runs<'a> {
    cell: &'a Cell,
    /// By system, by round; of a run that was repeated the last one counts.
    outcomes: BTreeMap<&'a str, BTreeMap<u32, &'a Outcome>>,
    seed: u64,
}

impl<'a> Runs<'a> {
    /// Picks the runs of `cell`; `seed` is the bootstrap's.
    pub fn of(cell: &'a Cell, samples: &'a [Sample], seed: u64) -> Self {
        let mut outcomes: BTreeMap<&str, BTreeMap<u32, &Outcome>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| sample.cell == cell.id) {
            outcomes.entry(&sample.system).or_default().insert(sample.round, &sample.outcome);
        }
        Runs { cell, outcomes, seed }
    }

    /// The seed of the bootstrap.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The factor by which native differs from itself; `None` if it never ran twice in a round.
    pub fn noise_band(&self) -> Option<f64> {
        let (first, again) = (self.figures(NATIVE), self.figures(NATIVE_AGAIN));
        let pairs: Vec<(f64, f64)> =
            first.iter().filter_map(|(round, a)| Some((*a, *again.get(round)?))).collect();
        statistics::noise_band(&pairs, self.seed)
    }

    /// Why there is no figure.
    fn missing(&self, outcomes: &[&Outcome]) -> CellResult {
        let last = outcomes.iter().rev().find(|outcome| !matches!(outcome, Outcome::Measured(_)));
        // In each round all systems have their turn that are to have one.
        let is_over = self.outcomes.values().any(|runs| runs.keys().any(|round| *round > 0));
        match last {
            Some(Outcome::Failed(reason)) => CellResult::Failed(reason.clone()),
            Some(Outcome::Skipped(reason)) => CellResult::Skipped(reason.clone()),
            _ if !outcomes.is_empty() => CellResult::Failed("nothing was done".into()),
            _ if is_over => CellResult::Skipped("the study does not ask for it".into()),
            _ => CellResult::Skipped("not measured: the study was interrupted before".into()),
        }
    }

    /// What came of the cell on `system`. The runs of [`NATIVE_AGAIN`] count as native's.
    pub fn result(&self, system: &str) -> CellResult {
        let own = self.outcomes.get(system);
        let mut outcomes: Vec<&Outcome> =
            own.iter().flat_map(|runs| runs.values().copied()).collect();
        if system == NATIVE {
            let again = self.outcomes.get(NATIVE_AGAIN);
            outcomes.extend(again.iter().flat_map(|runs| runs.values()));
        }
        let usable = |run: &Measurement| run.figure(self.cell.unit).is_some();
        let runs: Vec<&Measurement> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Measured(run) if usable(run) => Some(&**run),
                _ => None,
            })
            .collect();
        let values: Vec<f64> = runs.iter().filter_map(|run| run.figure(self.cell.unit)).collect();
        let Some(value) = statistics::bootstrap_median(&values, self.seed) else {
            return self.missing(&outcomes);
        };
        let times = times_of_arrival(self.cell, &runs);
        let failed = |outcome: &&&Outcome| matches!(outcome, Outcome::Failed(_));
        let wall = |run: &&Measurement| run.seconds * 1e6 / count(run.operations.max(1));
        CellResult::Measured(Box::new(Figures {
            rounds: own.map_or(0, |own| {
                own.values().filter(|outcome| matches!(outcome, Outcome::Measured(_))).count()
            }),
            failed_rounds: outcomes.iter().filter(failed).count(),
            value,
            times_of_arrival: times,
            comparison: (system != NATIVE).then(|| self.compare(system, times)).flatten(),
            wall_us_per_operation: median(runs.iter().map(wall)),
            latency: Percentiles {
                p50: median(runs.iter().map(|run| count(run.latency.p50))),
                p99: median(runs.iter().map(|run| count(run.latency.p99))),
                p999: median(runs.iter().map(|run| count(run.latency.p999))),
            },
            cost: cost(&runs),
            requests_per_operation: requests(&runs),
            layers_ns: layers(&runs),
            flags: flags(&runs),
            steal_percent: runs.iter().map(|run| run.steal_percent).fold(0.0, f64::max),
            buckets: buckets(runs.iter().map(|run| &run.latency)),
        }))
    }

    /// The ratios to native of the rounds that have both.
    pub fn ratios(&self, system: &str) -> Vec<f64> {
        let (first, again) = (self.figures(NATIVE), self.figures(NATIVE_AGAIN));
        self.figures(system)
            .iter()
            .filter_map(|(round, figure)| {
                let native: Vec<f64> =
                    [first.get(round), again.get(round)].into_iter().flatten().copied().collect();
                Some(figure / statistics::geometric_mean(&native)?)
            })
            .collect()
    }

    /// Whether a system can not keep up with the load of the cell.
    pub fn is_saturated(&self, system: &str) -> bool {
        let outcomes = self.outcomes.get(system).into_iter().flat_map(BTreeMap::values);
        let runs: Vec<&Measurement> = outcomes
            .filter_map(|outcome| match outcome {
                Outcome::Measured(run) => Some(&**run),
                _ => None,
            })
            .collect();
        falls_behind(times_of_arrival(self.cell, &runs))
    }

    fn compare(&self, system: &str, times_of_arrival: Option<f64>) -> Option<Comparison> {
        let ratios = self.ratios(system);
        let ratio = statistics::bootstrap_median(&ratios, self.seed)?;
        let verdict = match self.noise_band() {
            _ if falls_behind(times_of_arrival) => Verdict::Saturated,
            Some(band) if ratios.len() >= FEWEST_ROUNDS => {
                statistics::verdict(ratio, band, self.cell.unit.is_rate())
            }
            // Without A/A nobody knows what this machine calls a difference.
            _ => Verdict::Unclear,
        };
        Some(Comparison { rounds: ratios.len(), ratio, verdict })
    }

    /// The figures of a system by round.
    fn figures(&self, system: &str) -> BTreeMap<u32, f64> {
        let runs = self.outcomes.get(system).into_iter().flatten();
        runs.filter_map(|(round, outcome)| match outcome {
            Outcome::Measured(run) => Some((*round, run.figure(self.cell.unit)?)),
            _ => None,
        })
        .collect()
    }
}

impl Row {
    /// The figures, if it was measured.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.result {
            CellResult::Measured(figures) => Some(figures),
            _ => None,
        }
    }

    /// The comparison with native, if there is one.
    pub fn comparison(&self) -> Option<&Comparison> {
        self.figures()?.comparison.as_ref()
    }
}

impl Figures {
    /// Whether it can not keep up with the load: its latencies are lengths of a queue.
    pub fn is_saturated(&self) -> bool {
        falls_behind(self.times_of_arrival)
    }

    /// Requests of all opcodes for one operation.
    pub fn requests(&self) -> f64 {
        self.requests_per_operation.values().sum()
    }
}

fn times_of_arrival(cell: &Cell, runs: &[&Measurement]) -> Option<f64> {
    let times: Vec<f64> = runs.iter().filter_map(|run| cell.times_of_arrival(run)).collect();
    statistics::median(&times)
}

fn falls_behind(times_of_arrival: Option<f64>) -> bool {
    times_of_arrival.is_some_and(|times| times > KEEPS_UP)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    statistics::median(&values.collect::<Vec<_>>()).unwrap_or(0.0)
}

fn operations(runs: &[&Measurement]) -> f64 {
    count(runs.iter().map(|run| run.operations).sum::<u64>().max(1))
}

fn cost(runs: &[&Measurement]) -> Cost {
    let operations = operations(runs);
    let cpu = |used: &Consumption| used.user_cpu_us + used.system_cpu_us;
    let daemons =
        || runs.iter().filter_map(|run| run.daemon.as_ref()).map(|work| &work.consumption);
    let all = || runs.iter().map(|run| &run.client).chain(daemons());
    let both = |value: fn(&Consumption) -> u64| count(all().map(value).sum()) / operations;
    let migrations: Option<u64> = all().map(|used| used.migrations).sum();
    Cost {
        client_cpu_us: runs.iter().map(|run| cpu(&run.client)).sum::<f64>() / operations,
        daemon_cpu_us: daemons().map(cpu).reduce(|sum, cpu| sum + cpu).map(|sum| sum / operations),
        voluntary_switches: both(|used| used.voluntary_switches),
        involuntary_switches: both(|used| used.involuntary_switches),
        migrations: migrations.map(|moves| count(moves) / operations),
    }
}

fn requests(runs: &[&Measurement]) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (opcode, served) in
        runs.iter().filter_map(|run| run.daemon.as_ref()).flat_map(|work| &work.requests)
    {
        *sums.entry(opcode.clone()).or_default() += served;
    }
    let operations = operations(runs);
    sums.into_iter().map(|(opcode, sum)| (opcode, count(sum) / operations)).collect()
}

/// Those of the traced run that took the median time: medians of each layer would not add up.
fn layers(runs: &[&Measurement]) -> Option<BTreeMap<String, f64>> {
    let mut traced: Vec<&BTreeMap<String, f64>> =
        runs.iter().filter_map(|run| run.layers.as_ref()).collect();
    let sum = |layers: &BTreeMap<String, f64>| layers.values().sum::<f64>();
    traced.sort_by(|a, b| sum(a).total_cmp(&sum(b)));
    traced.get(traced.len().saturating_sub(1) / 2).map(|layers| (*layers).clone())
}

fn buckets<'a>(latencies: impl Iterator<Item = &'a Latency>) -> BTreeMap<u64, u64> {
    let mut merged = BTreeMap::new();
    for (end, operations) in latencies.flat_map(|latency| &latency.buckets) {
        *merged.entry(*end).or_default() += operations;
    }
    merged
}

fn flags(runs: &[&Measurement]) -> Vec<String> {
    let all: BTreeSet<&String> = runs.iter().flat_map(|run| &run.flags).collect();
    all.into_iter().cloned().collect()
}
