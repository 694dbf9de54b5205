//! Arrivals of an open loop: independent of each other, at a mean rate.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The kernel wakes a sleeper this late or more: the rest is waited for awake.
const WAKE: Duration = Duration::from_micros(60);

/// A seeded Poisson process.
#[derive(Debug)]
pub(crate) struct Arrivals {
    mean_seconds: f64,
    at: Duration,
    random: StdRng,
}

impl Arrivals {
    /// `rate` arrivals a second.
    pub(crate) fn new(rate: f64, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Arrivals { mean_seconds: 1.0 / rate, at: Duration::ZERO, random }
    }

    /// The next arrival, from the start; `None` once `end` has passed.
    pub(crate) fn next_within(&mut self, end: Duration) -> Option<Duration> {
        let uniform: f64 = self.random.random();
        let gap = -(1.0 - uniform).ln() * self.mean_seconds;
        self.at += Duration::from_secs_f64(gap.min(3600.0));
        (self.at < end).then_some(self.at)
    }
}

/// Waits without being late: asleep at first, then awake.
pub(crate) fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > WAKE {
        std::thread::sleep(left - WAKE);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_a_poisson_process() {
        let mut arrivals = Arrivals::new(1000.0, 7);
        let times: Vec<f64> = std::iter::from_fn(|| arrivals.next_within(Duration::from_secs(20)))
            .map(|at| at.as_secs_f64())
            .collect();
        assert!((19_400..20_600).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Of exponential gaps a share of 1/e is longer than the mean.
        let long = gaps.iter().filter(|gap| **gap > 0.001).count() as f64 / gaps.len() as f64;
        assert!((0.35..0.39).contains(&long), "{long}");
    }

    #[test]
    fn nothing_begins_before_it_is_due() {
        let due = Instant::now() + Duration::from_millis(3);
        wait_until(due);
        assert!(Instant::now() >= due);
        wait_until(due);
    }
}
