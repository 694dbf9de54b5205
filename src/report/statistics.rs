//! Medians, bootstrap intervals and the verdict drawn from them. Pure.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// A median with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// The median of the sample.
    pub median: f64,
    /// Upper end.
    pub high: f64,
}

/// What may be said about a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval holds 1, and it and the band are narrow enough to show a difference.
    Same,
    /// No difference from native was shown, but one could have hidden, or hints at itself within the band.
    Unclear,
    /// Better than native.
    Faster,
    /// Worse than native.
    Slower,
    /// It can not keep up with the load: its latency is the length of a queue, and no figure of its own.
    Saturated,
}

const RESAMPLES: usize = 2000;
/// An interval whose ends are further apart than this factor says little.
const WIDE: f64 = 1.5;
/// "same" needs an interval and a band no wider than this factor. Of those tried on pairs of runs of one
/// study it is the largest with which hardly any cell is the same in one and different in the other.
pub const SAME_WITHIN: f64 = 1.2;

impl Interval {
    /// Whether it is too wide to say much.
    pub fn is_wide(&self) -> bool {
        self.high / self.low > WIDE
    }

    /// Whether 1 lies outside.
    fn excludes_one(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// The median: the middle value, or the mean of the two. `None` for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0),
    }
}

/// The median with its percentile bootstrap interval: the middle 95 % of the medians of resamples
/// with replacement. With fewer than six values it is in effect their whole range: wide, as it
/// should be. `None` for no values.
pub fn bootstrap_median(values: &[f64], seed: u64) -> Option<Interval> {
    resampled_median(values, RESAMPLES, seed)
}

fn resampled_median(values: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    let median = median(values)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut drawn = vec![0.0; values.len()];
    let mut medians: Vec<f64> =
        (0..resamples).filter_map(|_| resample(values, &mut drawn, &mut rng)).collect();
    medians.sort_unstable_by(f64::total_cmp);
    let tail = resamples * 25 / 1000;
    Some(Interval { low: medians[tail], median, high: medians[resamples - 1 - tail] })
}

/// By which factor the median changed from one set of values to another that has nothing to do with
/// it, with its percentile bootstrap interval. `None` if either has no values.
pub fn bootstrap_change(before: &[f64], after: &[f64], seed: u64) -> Option<Interval> {
    resampled_change(before, after, RESAMPLES, seed)
}

fn resampled_change(
    before: &[f64],
    after: &[f64],
    resamples: usize,
    seed: u64,
) -> Option<Interval> {
    let median = median(after)? / median(before)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut old, mut new) = (vec![0.0; before.len()], vec![0.0; after.len()]);
    let mut changes: Vec<f64> = (0..resamples)
        .filter_map(|_| {
            Some(resample(after, &mut new, &mut rng)? / resample(before, &mut old, &mut rng)?)
        })
        .collect();
    changes.sort_unstable_by(f64::total_cmp);
    let tail = changes.len() * 25 / 1000;
    Some(Interval { low: changes[tail], median, high: changes[changes.len() - 1 - tail] })
}

/// The median of a resample with replacement, drawn into `drawn`.
fn resample(values: &[f64], drawn: &mut [f64], rng: &mut StdRng) -> Option<f64> {
    drawn.fill_with(|| values[rng.random_range(0..values.len())]);
    drawn.sort_unstable_by(f64::total_cmp);
    middle(drawn)
}

/// The band around 1 in which native differs from native: the interval of the A/A ratios, made
/// symmetric (which of the two runs is called A means nothing). Given as its upper end, `h`; the
/// lower is `1 / h`.
pub fn noise_band(native_pairs: &[(f64, f64)], seed: u64) -> Option<f64> {
    let logs: Vec<f64> = native_pairs.iter().map(|(a, b)| (b / a).ln()).collect();
    let interval = bootstrap_median(&logs, seed)?;
    Some(interval.low.abs().max(interval.high.abs()).exp())
}

/// A difference is claimed only if the interval excludes 1 and the median lies outside the band; that
/// there is none, only if the interval holds 1 and none could hide in either.
/// `higher_is_better` tells a share of a rate from a multiple of a time.
pub fn verdict(ratio: Interval, band: f64, higher_is_better: bool) -> Verdict {
    let above = ratio.low > 1.0 && ratio.median > band;
    let below = ratio.high < 1.0 && ratio.median < 1.0 / band;
    let is_narrow = ratio.high / ratio.low <= SAME_WITHIN && band <= SAME_WITHIN;
    match (above, below) {
        (false, false) if is_narrow && !ratio.excludes_one() => Verdict::Same,
        (false, false) => Verdict::Unclear,
        (above, _) if above == higher_is_better => Verdict::Faster,
        _ => Verdict::Slower,
    }
}

/// Geometric mean. `None` for no values.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let count = u32::try_from(values.len()).ok().filter(|count| *count > 0)?;
    Some((values.iter().map(|value| value.ln()).sum::<f64>() / f64::from(count)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A normal deviate, by the sum of twelve uniform ones.
    fn normal(rng: &mut StdRng) -> f64 {
        (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn the_interval_of_few_values_is_their_range_and_of_one_is_a_point() {
        let interval = bootstrap_median(&[0.9, 1.0, 1.3], 1).expect("values");
        assert_eq!((interval.low, interval.median, interval.high), (0.9, 1.0, 1.3));
        let interval = bootstrap_median(&[2.0], 1).expect("a value");
        assert_eq!((interval.low, interval.high), (2.0, 2.0));
        assert_eq!(bootstrap_median(&[], 1), None);
    }

    #[test]
    fn a_change_is_found_and_covered() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut sample = |scale: f64| -> Vec<f64> {
            (0..9).map(|_| scale * (0.05 * normal(&mut rng)).exp()).collect()
        };
        let covered = (0..100)
            .filter(|trial| {
                let (before, after) = (sample(2.0), sample(3.0));
                let change = resampled_change(&before, &after, 400, *trial).expect("values");
                change.low <= 1.5 && 1.5 <= change.high
            })
            .count();
        assert!((90..=100).contains(&covered), "{covered} of 100");
        assert_eq!(bootstrap_change(&[], &[1.0], 1), None);
        let change = bootstrap_change(&[2.0], &[3.0], 1).expect("values");
        assert_eq!((change.low, change.median, change.high), (1.5, 1.5, 1.5));
    }

    #[test]
    fn the_seed_decides_the_interval() {
        let values: Vec<f64> = (0..40).map(|value| f64::from(value * value)).collect();
        assert_eq!(bootstrap_median(&values, 3), bootstrap_median(&values, 3));
    }

    #[test]
    fn the_interval_covers_the_true_median_as_often_as_it_says() {
        // Symmetric, and skewed as latencies are: exp of a normal deviate has median 1.
        for (skewed, truth) in [(false, 0.0), (true, 1.0)] {
            let shape = |z: f64| if skewed { z.exp() } else { z };
            let mut rng = StdRng::seed_from_u64(11);
            let covered = (0..300)
                .filter(|trial| {
                    let values: Vec<f64> = (0..25).map(|_| shape(normal(&mut rng))).collect();
                    let interval = resampled_median(&values, 400, *trial).expect("values");
                    interval.low <= truth && truth <= interval.high
                })
                .count();
            assert!((276..=298).contains(&covered), "{covered} of 300");
        }
    }

    #[test]
    fn native_against_itself_differs_in_no_more_than_5_of_100_cells() {
        let mut rng = StdRng::seed_from_u64(5);
        // Three ratios lie on one side of 1 in a quarter of all cases, five in a sixteenth.
        for (rounds, noise, fewest_same) in
            [(3, 0.02, 60), (5, 0.02, 80), (8, 0.02, 85), (5, 0.2, 0), (8, 0.1, 0)]
        {
            let verdicts: Vec<Verdict> = (0..100)
                .map(|trial| {
                    let mut pairs = Vec::new();
                    let mut ratios = Vec::new();
                    for _ in 0..rounds {
                        let mut run = || (noise * normal(&mut rng)).exp();
                        let (a, b, third) = (run(), run(), run());
                        pairs.push((a, b));
                        ratios.push(third / (a * b).sqrt());
                    }
                    let ratio = bootstrap_median(&ratios, trial).expect("values");
                    let band = noise_band(&pairs, trial).expect("values");
                    verdict(ratio, band, true)
                })
                .collect();
            let number = |wanted| verdicts.iter().filter(|found| **found == wanted).count();
            let (same, claimed) =
                (number(Verdict::Same), number(Verdict::Faster) + number(Verdict::Slower));
            assert!(claimed <= 5, "{claimed} of 100 with {rounds} rounds");
            assert!(same >= fewest_same, "{same} of 100 with {rounds} rounds");
        }
    }

    #[test]
    fn a_true_difference_is_found() {
        let ratio = Interval { low: 0.80, median: 0.85, high: 0.90 };
        assert_eq!(verdict(ratio, 1.05, true), Verdict::Slower);
        assert_eq!(verdict(ratio, 1.05, false), Verdict::Faster);
        assert_eq!(verdict(ratio, 1.19, true), Verdict::Unclear, "native alone varies as much");
        let ratio = Interval { low: 0.80, median: 0.85, high: 1.01 };
        assert_eq!(verdict(ratio, 1.05, true), Verdict::Unclear, "it holds 1, and 0.8 as well");
        let ratio = Interval { low: 0.86, median: 0.93, high: 1.01 };
        assert_eq!(verdict(ratio, 1.05, true), Verdict::Same, "the interval holds 1");
        let still = Interval { low: 0.98, median: 1.0, high: 1.02 };
        assert_eq!(verdict(still, 1.05, true), Verdict::Same);
        assert_eq!(verdict(still, 3.0, true), Verdict::Unclear, "native alone varies wildly");
        let ratio = Interval { low: 1.1, median: 1.2, high: 1.3 };
        assert_eq!(verdict(ratio, 1.05, true), Verdict::Faster);
        assert_eq!(verdict(ratio, 1.05, false), Verdict::Slower);
    }

    #[test]
    fn what_excludes_1_is_never_the_same() {
        let inside = Interval { low: 1.34, median: 1.44, high: 1.55 };
        assert_eq!(verdict(inside, 1.46, false), Verdict::Unclear, "x1.44 within A/A");
        let narrow = Interval { low: 1.01, median: 1.02, high: 1.03 };
        assert_eq!(verdict(narrow, 1.05, false), Verdict::Unclear);
        assert_eq!(verdict(narrow, 1.01, false), Verdict::Slower);
    }

    #[test]
    fn the_documents_tell_the_limit() {
        let told = include_str!("../../docs/studies.md");
        assert!(told.contains(&format!("no wider than x{SAME_WITHIN}")), "{SAME_WITHIN}");
    }

    #[test]
    fn the_band_is_symmetric() {
        let there = noise_band(&[(1.0, 1.1), (1.0, 1.1)], 1).expect("values");
        let back = noise_band(&[(1.1, 1.0), (1.1, 1.0)], 1).expect("values");
        assert!((there - 1.1).abs() < 1e-9 && (there - back).abs() < 1e-9);
    }

    #[test]
    fn geometric_means() {
        assert_eq!(geometric_mean(&[]), None);
        assert!((geometric_mean(&[1.0, 4.0]).expect("values") - 2.0).abs() < 1e-12);
    }
}
