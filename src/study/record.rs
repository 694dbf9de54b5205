//! What a study leaves behind: the types of `study.json` and of the lines of `samples.jsonl`.
//!
//! The contract between who measures and who tells. Units are in the names; fields are added, and
//! [`FORMAT`] changes if the meaning of one does. A result folder also holds the study's own file as
//! `study.toml`, `environment.json`, and in `raw/` what fio printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::environment::InForce;
use super::sample::count;
use super::work::GIVE_UP;

/// Version of the layout of a result folder.
pub const FORMAT: u32 = 1;
/// The reference.
pub const NATIVE: &str = "native";
/// The reference again, in the same round: what it differs from itself by.
pub const NATIVE_AGAIN: &str = "native-again";

/// `study.json`: what was to be measured, everything resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// Name of the study.
    pub name: String,
    /// Seed of orders, offsets and names.
    pub seed: u64,
    /// Rounds.
    pub rounds: u32,
    /// Rows of the result, in the order in which they are shown.
    pub cells: Vec<Cell>,
    /// Columns of the result, the two native ones first, a ladder in its order.
    pub systems: Vec<System>,
}

/// One row: a workload with its parameters, cache state and threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Stable name.
    pub id: String,
    /// What a reader sees.
    pub title: String,
    /// Rows of one group are shown together.
    pub group: String,
    /// What its figures are.
    pub unit: Unit,
    /// Parameters of the workload, as in the study's file, lists expanded.
    pub workload: serde_json::Value,
    /// State of the caches when the timing starts: `cold`, `warm`, `direct`, ...
    pub cache: String,
    /// Threads, processes or jobs at work.
    pub threads: u32,
    /// The row of a published table that this one is like, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
}

/// One column: something that shows a directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Stable name.
    pub id: String,
    /// What a reader sees.
    pub title: String,
    /// What it is.
    pub kind: Kind,
    /// Arguments of its command.
    pub arguments: Vec<String>,
    /// What the study demanded to be in force.
    pub requested: BTreeMap<String, String>,
    /// What the daemon said was in force; `None` for systems without fusewire's counters.
    pub in_force: Option<InForce>,
}

/// What a system is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The directory itself.
    #[default]
    Native,
    /// fusewire over the directory.
    Fusewire,
    /// fusewire without a directory.
    Null,
    /// Another program that mounts.
    Command,
}

/// What the figures of a cell are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 10^6 bytes a second.
    MegabytesPerSecond,
    /// Operations a second.
    OperationsPerSecond,
    /// Microseconds an operation.
    MicrosecondsPerOperation,
    /// Seconds for the whole job.
    Seconds,
    /// 99th percentile of the latency, microseconds: of a load that is the same for all systems.
    MicrosecondsP99,
}

/// One line of `samples.jsonl`: one run of one cell on one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Place in the whole study, from 0.
    pub sequence: usize,
    /// Round, from 0.
    pub round: u32,
    /// [`Cell::id`].
    pub cell: String,
    /// [`System::id`].
    pub system: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was measured.
    Measured(Box<Measurement>),
    /// It failed, for this reason.
    Failed(String),
    /// It was not tried, for this reason.
    Skipped(String),
}

/// The figures of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Application operations done.
    pub operations: u64,
    /// Bytes read or written; 0 for metadata.
    pub bytes: u64,
    /// Time they took.
    pub seconds: f64,
    /// Latency of one operation.
    pub latency: Latency,
    /// What the client consumed.
    pub client: Consumption,
    /// What the daemon did and consumed meanwhile, with the servers of a distributed file system that the
    /// study names; `None` natively, if there are none.
    pub daemon: Option<DaemonWork>,
    /// Where one operation's time went, nanoseconds by layer, if it was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<BTreeMap<String, f64>>,
    /// CPU time that the hypervisor took away meanwhile, per cent of all.
    pub steal_percent: f64,
    /// What a reader must know before believing the figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// A latency distribution, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The distribution: upper end of a bucket, operations in it. Empty buckets are left out.
    pub buckets: Vec<(u64, u64)>,
}

/// CPU time, context switches and moves between CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Consumption {
    /// CPU time in user mode, microseconds.
    pub user_cpu_us: f64,
    /// CPU time in the kernel, microseconds.
    pub system_cpu_us: f64,
    /// Context switches because it waited.
    pub voluntary_switches: u64,
    /// Context switches because another was to run.
    pub involuntary_switches: u64,
    /// Moves from one CPU to another; `None` where the kernel does not tell.
    pub migrations: Option<u64>,
}

/// What the daemon did during a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonWork {
    /// Requests served, by opcode.
    pub requests: BTreeMap<String, u64>,
    /// What they consumed.
    pub consumption: Consumption,
}

impl Cell {
    /// Of an open loop: in how many times the time in which its operations arrived a run answered them.
    /// Much more than 1 tells that it can not keep up. `None` of everything else.
    pub fn times_of_arrival(&self, run: &Measurement) -> Option<f64> {
        let number = |name: &str| self.workload.get(name)?.as_f64();
        let (rate, seconds) = (number("rate_per_second")?, number("seconds")?);
        let took = run.seconds / seconds;
        // What was given up would have taken as much longer as there was left to do.
        let whole = count(run.operations.max(1)) / (rate * seconds);
        Some(if took < GIVE_UP { took } else { took / whole })
    }
}

impl Unit {
    /// Whether a larger figure is better, and the ratio a share of native's.
    pub fn is_rate(self) -> bool {
        matches!(self, Unit::MegabytesPerSecond | Unit::OperationsPerSecond)
    }
}

impl Measurement {
    /// The figure in this unit; `None` if nothing was done or no time passed.
    pub fn figure(&self, unit: Unit) -> Option<f64> {
        if self.operations == 0 || self.seconds <= 0.0 {
            return None;
        }
        let operations = count(self.operations);
        Some(match unit {
            Unit::MegabytesPerSecond => count(self.bytes) / self.seconds / 1e6,
            Unit::OperationsPerSecond => operations / self.seconds,
            Unit::MicrosecondsPerOperation => self.seconds * 1e6 / operations,
            Unit::Seconds => self.seconds,
            Unit::MicrosecondsP99 => count(self.latency.p99) / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_keep_up_takes_longer_than_its_arrivals() {
        let mut cell = Cell {
            id: "mkdir-rmdir-load50".into(),
            title: String::new(),
            group: String::new(),
            unit: Unit::MicrosecondsP99,
            workload: serde_json::json!({"seconds": 0.5, "rate_per_second": 2000.0}),
            cache: "warm".into(),
            threads: 1,
            published: None,
        };
        let run =
            |operations, seconds| Measurement { operations, seconds, ..Measurement::default() };
        let times: Vec<Option<f64>> = [run(990, 0.499), run(1010, 1.0), run(500, 1.5)]
            .iter()
            .map(|run| cell.times_of_arrival(run))
            .collect();
        assert_eq!(
            times,
            [Some(0.998), Some(2.0), Some(6.0)],
            "the last one was given up half way"
        );
        cell.workload = serde_json::json!({"seconds": 0.5, "rate_per_second": null});
        assert_eq!(cell.times_of_arrival(&run(10, 1.0)), None, "a closed loop has no arrivals");
    }

    #[test]
    fn a_sample_is_one_line_and_comes_back() {
        let measurement = Measurement {
            operations: 100,
            bytes: 409_600,
            seconds: 0.05,
            latency: Latency {
                p50: 400,
                p99: 9000,
                p999: 9500,
                buckets: vec![(410, 90), (9500, 10)],
            },
            ..Measurement::default()
        };
        for outcome in [
            Outcome::Measured(Box::new(measurement.clone())),
            Outcome::Failed("rename f000001: EIO".into()),
            Outcome::Skipped("bindfs is not installed".into()),
        ] {
            let (cell, system) = ("rename".into(), NATIVE.into());
            let sample = Sample { sequence: 7, round: 1, cell, system, outcome };
            let line = serde_json::to_string(&sample).expect("can be written");
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Sample>(&line).expect("can be read"), sample);
        }
        let figures = [
            (Unit::MegabytesPerSecond, 8.192),
            (Unit::OperationsPerSecond, 2000.0),
            (Unit::MicrosecondsPerOperation, 500.0),
            (Unit::Seconds, 0.05),
            (Unit::MicrosecondsP99, 9.0),
        ];
        for (unit, figure) in figures {
            assert_eq!(measurement.figure(unit), Some(figure), "{unit:?}");
        }
        assert_eq!(Measurement::default().figure(Unit::Seconds), None);
    }
}
