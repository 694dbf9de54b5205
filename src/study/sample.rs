//! What one run of one cell on one system yielded. Every sample is kept in `samples.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::matrix::Unit;
use super::record;

/// Who runs, and in which part of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Native, first half of A/A.
    NativeA,
    /// Through the mount.
    Fusewire,
    /// Native, second half of A/A.
    NativeB,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Place in the whole run, from 0.
    pub sequence: usize,
    /// Round, from 0.
    pub round: u32,
    /// [`super::matrix::Cell::id`].
    pub cell: String,
    /// Who ran.
    pub role: Role,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was measured.
    Measured(Measurement),
    /// It failed, for this reason.
    Failed(String),
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
    /// Latency of one operation (fio: completion latency).
    pub latency_ns: Percentiles,
    /// What the client (fio, or the generator's thread) consumed.
    pub client: Consumption,
    /// What the daemon did and consumed meanwhile; `None` natively.
    pub daemon: Option<DaemonWork>,
}

/// A latency distribution, nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
}

/// CPU time and context switches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Consumption {
    /// CPU time in user mode, microseconds.
    pub user_cpu_us: f64,
    /// CPU time in the kernel, microseconds.
    pub system_cpu_us: f64,
    /// Context switches of both kinds.
    pub switches: u64,
}

/// What the daemon did during a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonWork {
    /// Requests served, by opcode.
    pub requests: BTreeMap<String, u64>,
    /// What they consumed.
    pub consumption: Consumption,
}

impl From<record::Measurement> for Measurement {
    fn from(run: record::Measurement) -> Self {
        let record::Measurement { operations, bytes, seconds, latency, client, .. } = run;
        Measurement {
            operations,
            bytes,
            seconds,
            latency_ns: Percentiles { p50: latency.p50, p99: latency.p99, p999: latency.p999 },
            client: Consumption {
                user_cpu_us: client.user_cpu_us,
                system_cpu_us: client.system_cpu_us,
                switches: client.voluntary_switches + client.involuntary_switches,
            },
            daemon: None,
        }
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
            Unit::KiloOperationsPerSecond => operations / self.seconds / 1e3,
            Unit::MicrosecondsPerOperation => self.seconds * 1e6 / operations,
        })
    }
}

/// A count as a float: exact up to 2^53, which no run reaches.
pub(crate) fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_each_unit() {
        let run =
            Measurement { operations: 1000, bytes: 4_096_000, seconds: 0.5, ..Default::default() };
        assert_eq!(run.figure(Unit::MegabytesPerSecond), Some(8.192));
        assert_eq!(run.figure(Unit::KiloOperationsPerSecond), Some(2.0));
        assert_eq!(run.figure(Unit::MicrosecondsPerOperation), Some(500.0));
        assert_eq!(Measurement::default().figure(Unit::MegabytesPerSecond), None);
    }
}
