//! What a live mount counts, and how it is told.
//!
//! Each worker records into a shard of its own, so that no cache line is shared on the path of a
//! request; [`Metrics::requests`] merges the shards when somebody asks.

pub mod process;
pub mod snapshot;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use histogram::{AtomicHistogram, Config, Histogram};
use nix::errno::Errno;

use crate::abi::Opcode;
use snapshot::{Latency, Totals};

/// Buckets are 1/32 wide relative to their value; latencies beyond 68 s count as 68 s.
const BUCKET_POWER: u8 = 5;
const MAX_POWER: u8 = 36;
/// One more than the largest errno of Linux.
const ERRNOS: usize = 134;

/// Counters of all workers.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[CachePadded<Shard>]>,
}

/// Counters of one worker. Only that worker writes; anybody may read (relaxed: each figure is
/// exact, a set of them need not be of one instant).
#[derive(Debug)]
pub struct Shard {
    opcodes: Box<[OnceLock<Box<OpcodeCounters>>]>,
    malformed: AtomicU64,
    read_bytes: AtomicU64,
    spliced_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

#[derive(Debug)]
struct OpcodeCounters {
    errors: [AtomicU64; ERRNOS],
    latency: AtomicHistogram,
}

impl Metrics {
    /// Counters for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Metrics { shards: (0..workers).map(|_| CachePadded::new(Shard::new())).collect() }
    }

    /// The shard of worker `index`.
    pub fn shard(&self, index: usize) -> &Shard {
        &self.shards[index]
    }

    /// Figures per opcode that was seen, by name, and their sums.
    pub fn requests(&self) -> (BTreeMap<String, snapshot::Opcode>, Totals) {
        let mut totals = Totals::default();
        let mut by_name = BTreeMap::new();
        for opcode in Opcode::ALL {
            if let Some(figures) = self.opcode(*opcode) {
                totals.requests += figures.count;
                totals.errors += figures.errors.values().sum::<u64>();
                by_name.insert(opcode.name().to_owned(), figures);
            }
        }
        for shard in &self.shards {
            totals.malformed += shard.malformed.load(Relaxed);
            totals.read_bytes += shard.read_bytes.load(Relaxed);
            totals.spliced_bytes += shard.spliced_bytes.load(Relaxed);
            totals.written_bytes += shard.written_bytes.load(Relaxed);
        }
        (by_name, totals)
    }

    fn opcode(&self, opcode: Opcode) -> Option<snapshot::Opcode> {
        let mut errors = BTreeMap::new();
        let mut merged = Histogram::with_config(&config());
        for shard in &self.shards {
            let Some(counters) = shard.opcodes[index(opcode)].get() else { continue };
            for (raw, count) in (0..).zip(&counters.errors) {
                match count.load(Relaxed) {
                    0 => {}
                    count => {
                        *errors.entry(format!("{:?}", Errno::from_raw(raw))).or_insert(0) += count
                    }
                }
            }
            merged
                .checked_add_assign(&counters.latency.load())
                .expect("all have one configuration");
        }
        let count = merged.as_slice().iter().sum();
        (count > 0).then(|| snapshot::Opcode { count, errors, latency_ns: latency(&merged) })
    }
}

impl Shard {
    fn new() -> Self {
        Shard {
            opcodes: Opcode::ALL.iter().map(|_| OnceLock::new()).collect(),
            malformed: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            spliced_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }

    /// Counts a request of `opcode` that took `elapsed` from its arrival to the end of its reply.
    pub fn record(&self, opcode: Opcode, result: Result<(), Errno>, elapsed: Duration) {
        let counters = self.opcodes[index(opcode)].get_or_init(OpcodeCounters::new);
        if let Err(errno) = result {
            let slot = usize::try_from(errno as i32).unwrap_or(0);
            counters.errors[slot.min(ERRNOS - 1)].fetch_add(1, Relaxed);
        }
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let largest = (1 << MAX_POWER) - 1;
        counters.latency.increment(nanoseconds.min(largest)).expect("within the configured range");
    }

    /// Counts a request whose bytes lied.
    pub fn record_malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
    }

    /// Counts bytes answered to READ.
    pub fn record_read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts those of them that were spliced.
    pub fn record_spliced(&self, bytes: usize) {
        self.spliced_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts bytes accepted from WRITE.
    pub fn record_written(&self, bytes: u32) {
        self.written_bytes.fetch_add(u64::from(bytes), Relaxed);
    }
}

impl OpcodeCounters {
    fn new() -> Box<Self> {
        Box::new(OpcodeCounters {
            errors: [const { AtomicU64::new(0) }; ERRNOS],
            latency: AtomicHistogram::with_config(&config()),
        })
    }
}

fn config() -> Config {
    Config::new(BUCKET_POWER, MAX_POWER).expect("5 is less than 36, and 36 than 64")
}

/// Position of an opcode in [`Opcode::ALL`], which is sorted by number.
fn index(opcode: Opcode) -> usize {
    const TABLE: [usize; 64] = {
        let mut table = [0; 64];
        let mut position = 0;
        while position < Opcode::ALL.len() {
            table[Opcode::ALL[position] as usize] = position;
            position += 1;
        }
        table
    };
    TABLE[opcode as usize]
}

fn latency(histogram: &Histogram) -> Latency {
    let at = |quantile: f64| {
        let bucket = histogram.quantile_bucket(quantile).ok().flatten();
        bucket.map_or(0, |bucket| bucket.end())
    };
    Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_merged_and_errors_are_named() {
        let metrics = Metrics::new(2);
        for (worker, micros) in [(0, 10), (1, 10), (1, 1000)] {
            metrics.shard(worker).record(Opcode::Getattr, Ok(()), Duration::from_micros(micros));
        }
        metrics.shard(0).record(Opcode::Lookup, Err(Errno::ENOENT), Duration::from_micros(5));
        metrics.shard(1).record_malformed();
        let (requests, totals) = metrics.requests();
        assert_eq!(requests.keys().collect::<Vec<_>>(), ["GETATTR", "LOOKUP"]);
        assert_eq!(requests["GETATTR"].count, 3);
        assert_eq!(requests["LOOKUP"].errors["ENOENT"], 1);
        assert_eq!((totals.requests, totals.errors, totals.malformed), (4, 1, 1));
        let latency = &requests["GETATTR"].latency_ns;
        assert!((10_000..10_400).contains(&latency.p50), "{latency:?}");
        assert!((1_000_000..1_040_000).contains(&latency.max), "{latency:?}");
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_the_longest() {
        let metrics = Metrics::new(1);
        metrics.shard(0).record(Opcode::Fsync, Ok(()), Duration::from_secs(1000));
        assert_eq!(metrics.requests().0["FSYNC"].count, 1);
    }

    #[test]
    fn opcodes_have_distinct_slots() {
        let slots: Vec<usize> = Opcode::ALL.iter().map(|opcode| index(*opcode)).collect();
        assert_eq!(slots, (0..Opcode::ALL.len()).collect::<Vec<_>>());
    }
}
