//! Distributions of latency: recorded in buckets 3 % wide, kept in coarser ones.

use histogram::Histogram;

use crate::study::record::Latency;

/// Buckets are 1/32 wide relative to their value, and go up to 137 s.
const BUCKET_POWER: u8 = 5;
const MAX_POWER: u8 = 37;
/// What is kept for a chart: 1/8 wide.
const KEPT_POWER: u8 = 3;

/// A distribution that is being recorded.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(Histogram);

impl Recorder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Recorder(Histogram::new(BUCKET_POWER, MAX_POWER).expect("5 is less than 37"))
    }

    /// Counts `times` operations that took this long.
    pub(crate) fn add(&mut self, nanoseconds: u64, times: u64) {
        let largest = (1 << MAX_POWER) - 1;
        self.0.add(nanoseconds.min(largest), times).expect("within the configured range");
    }

    /// Adds what another has counted.
    pub(crate) fn merge(&mut self, other: &Recorder) {
        self.0.checked_add_assign(&other.0).expect("both have one configuration");
    }

    /// Operations counted.
    pub(crate) fn count(&self) -> u64 {
        self.0.as_slice().iter().sum()
    }

    /// Percentiles and compact buckets.
    pub(crate) fn latency(&self) -> Latency {
        let at = |quantile: f64| {
            let bucket = self.0.quantile_bucket(quantile).ok().flatten();
            // The middle of a bucket, so that a percentile errs to no side.
            bucket.map_or(0, |bucket| bucket.start().midpoint(bucket.end()))
        };
        let kept = self.0.downsample(KEPT_POWER).expect("3 is less than 5");
        let buckets = kept.iter().filter(|bucket| bucket.count() > 0);
        Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            buckets: buckets.map(|bucket| (bucket.end(), bucket.count())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_buckets_are_those_of_what_was_added() {
        let (mut recorder, mut other) = (Recorder::new(), Recorder::new());
        (1..=990_u64).for_each(|value| recorder.add(value * 100, 1));
        other.add(5_000_000, 10);
        recorder.merge(&other);
        let latency = recorder.latency();
        for (found, want) in [(latency.p50, 50_000.0), (latency.p99, 99_000.0), (latency.p999, 5e6)]
        {
            assert!((found as f64 / want - 1.0).abs() < 0.04, "{found} is not near {want}");
        }
        assert_eq!(latency.buckets.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        assert!(latency.buckets.len() < 80, "{}", latency.buckets.len());
        assert!(latency.buckets.is_sorted());
        assert_eq!(Recorder::new().latency(), Latency::default());
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut recorder = Recorder::new();
        recorder.add(u64::MAX, 3);
        assert_eq!(recorder.count(), 3);
    }
}
