//! Makes a sequence that fails as short as it gets.

use std::time::{Duration, Instant};

use crate::steps::Step;

/// Removes steps as long as `fails` holds, ever smaller pieces at a time, until no single step can go
/// or `limit` is over.
pub(crate) fn shrink(
    steps: &[Step],
    limit: Duration,
    mut fails: impl FnMut(&[Step]) -> bool,
) -> Vec<Step> {
    let began = Instant::now();
    let mut steps = steps.to_vec();
    let mut piece = steps.len().div_ceil(2).max(1);
    loop {
        let mut shorter = false;
        // From the end: what comes late depends on what came before.
        let mut end = steps.len();
        while end > 0 && began.elapsed() < limit {
            let start = end.saturating_sub(piece);
            let without = [&steps[..start], &steps[end..]].concat();
            if fails(&without) {
                steps = without;
                shorter = true;
            }
            end = start;
        }
        if began.elapsed() >= limit || (piece == 1 && !shorter) {
            return steps;
        }
        piece = (piece / 2).max(1);
    }
}
