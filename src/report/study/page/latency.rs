//! The distribution of latencies: one plot a cell, all systems in it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::digest::{CellDigest, Digest, SystemDigest};
use super::super::words;
use super::ratios::short;
use super::svg::{LogScale, escape, line, plane};
use super::{groups, legend, look, scrolling};
use crate::study::record::Unit;
use crate::study::sample::count;

const HEIGHT: u32 = 220;
/// Marks on a line, so that it can be told without colour.
const MARKED: [f64; 4] = [50.0, 90.0, 99.0, 99.9];
/// The scale of shares: its lines, per cent.
const SHARES: [f64; 7] = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

pub(super) fn section(digest: &Digest) -> String {
    let mut text = String::new();
    for (group, cells) in groups(digest) {
        let plots: String = cells.iter().filter_map(|cell| plot(digest, cell)).collect();
        if !plots.is_empty() {
            let _ = write!(text, "<h3>{}</h3>\n{plots}", escape(group));
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "<p>Of one operation, all rounds together. A plot shows for each latency (to the right, \
         logarithmic) the share of operations that took no longer. Upwards it is logarithmic in those that \
         took longer: from 90 to 99 % is as far as from 99 to 99.9 %, so that the tail has as much room as \
         the rest. A line further left is faster, one that leans to the right has a long tail. \
         The tables have the medians of the rounds.</p>\n{text}"
    )
}

fn plot(digest: &Digest, cell: &CellDigest) -> Option<String> {
    let measured: Vec<(&SystemDigest, &BTreeMap<u64, u64>)> = digest
        .systems
        .iter()
        .filter_map(|found| Some((found, &cell.figures(&found.system.id)?.buckets)))
        .filter(|(_, buckets)| !buckets.is_empty())
        .collect();
    let ends = measured.iter().flat_map(|(_, buckets)| buckets.keys());
    let scale = LogScale::over(ends.map(|end| count(*end) / 1e3).collect::<Vec<_>>().into_iter())?;
    let most = measured.iter().map(|(_, buckets)| buckets.values().sum::<u64>()).max();
    let tail = Tail::of(most.unwrap_or(1));
    let (mut lines, mut marks) = (String::new(), grid(&scale, tail));
    for (found, buckets) in &measured {
        let look = look(digest, &found.system.id);
        let points = distribution(buckets);
        let placed: Vec<(f64, f64)> =
            points.iter().map(|(latency, share)| (scale.at(*latency), tail.at(*share))).collect();
        lines += &line(&thinned(&placed), look);
        for wanted in MARKED {
            let reached = points.iter().position(|(_, share)| *share >= wanted);
            if let Some((x, y)) = reached.map(|index| placed[index]) {
                marks += &look.mark(x, pixels(y));
            }
        }
    }
    let mut body = String::new();
    for (found, _) in &measured {
        let figures = cell.figures(&found.system.id)?;
        let [p50, p99, p999] = words::latencies(figures);
        let saturated = if figures.is_saturated() { " (saturated: a queue)" } else { "" };
        let _ = writeln!(
            body,
            "<tr><td>{}{saturated}</td><td>{p50}</td><td>{p99}</td><td>{p999}</td></tr>",
            escape(&found.system.title)
        );
    }
    let head = "<th class=\"text\">system</th><th>p50</th><th>p99</th><th>p99.9</th>";
    let title = escape(&cell.cell.title);
    // Under load it is what the cell is about.
    let open = if cell.cell.unit == Unit::MicrosecondsP99 { " open" } else { "" };
    Some(format!(
        "<details{open}><summary>{title}</summary>\n<figure>\n{}{}</figure>\n{}</details>\n",
        legend(digest, measured.iter().map(|(found, _)| *found)),
        plane(HEIGHT, &lines, &marks, &format!("latencies of {}", cell.cell.title)),
        scrolling(head, &body)
    ))
}

/// The scale of the share of operations that took no longer, logarithmic in the share that took longer.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Tenths of tenths that it shows: with 3 it ends at 99.9 %.
    decades: f64,
}

impl Tail {
    /// One that ends where the last of so many operations lies.
    fn of(operations: u64) -> Self {
        Tail { decades: count(operations).log10().clamp(2.0, 5.0) }
    }

    /// Where a share, per cent, lies in 0..100.
    fn at(self, share: f64) -> f64 {
        let longer = (1.0 - share / 100.0).max(10_f64.powf(-self.decades));
        (-longer.log10() / self.decades * 100.0).clamp(0.0, 100.0)
    }
}

/// A height in 0..100, in pixels from the top.
fn pixels(y: f64) -> f64 {
    (100.0 - y) / 100.0 * f64::from(HEIGHT)
}

/// Points of the distribution function: latency in microseconds, share of operations in per cent.
fn distribution(buckets: &BTreeMap<u64, u64>) -> Vec<(f64, f64)> {
    let all = count(buckets.values().sum::<u64>().max(1));
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(buckets.len() + 1);
    let mut below = 0;
    for (end, operations) in buckets {
        let latency = count(*end) / 1e3;
        if points.is_empty() {
            points.push((latency, 0.0));
        }
        below += operations;
        points.push((latency, count(below) / all * 100.0));
    }
    points
}

/// The points without those that nobody could see beside the one before.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const SEEN: f64 = 0.4;
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let near = kept
            .last()
            .is_some_and(|last| (point.0 - last.0).abs() < SEEN && (point.1 - last.1).abs() < SEEN);
        if !near || index + 1 == points.len() {
            kept.push(*point);
        }
    }
    kept
}

/// Lines and labels of both axes.
fn grid(scale: &LogScale, tail: Tail) -> String {
    let mut text = format!(
        "<text x='0' y='-9'>share that took no longer</text>\
         <text x='100%' y='{}' text-anchor='end'>latency</text>",
        HEIGHT + 28
    );
    // Beyond the end all lie on its line.
    let shares = SHARES.into_iter().filter(|share| tail.at(*share) < 99.9);
    for share in shares {
        let y = pixels(tail.at(share));
        let _ = write!(
            text,
            "<line x1='0' x2='100%' y1='{y:.1}' y2='{y:.1}' stroke='#ccc'/><text x='-4' y='{:.1}' \
             text-anchor='end'>{share} %</text>",
            y + 4.0
        );
    }
    let mut last = f64::NEG_INFINITY;
    for tick in scale.ticks() {
        let x = scale.at(tick);
        let _ =
            write!(text, "<line x1='{x:.2}%' x2='{x:.2}%' y1='0' y2='{HEIGHT}' stroke='#ccc'/>");
        if x - last >= 14.0 {
            last = x;
            let _ = write!(
                text,
                "<text x='{x:.2}%' y='{}' text-anchor='middle'>{}</text>",
                HEIGHT + 14,
                label(tick)
            );
        }
    }
    text
}

/// A round time, as short as it can be.
fn label(microseconds: f64) -> String {
    match microseconds {
        long if long >= 1e6 => format!("{} s", short(long / 1e6)),
        some if some >= 1e3 => format!("{} ms", short(some / 1e3)),
        _ => format!("{} µs", short(microseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_rises_from_none_to_all() {
        let buckets = BTreeMap::from([(1000, 1), (2000, 2), (8000, 1)]);
        let points = distribution(&buckets);
        assert_eq!(points, [(1.0, 0.0), (1.0, 25.0), (2.0, 75.0), (8.0, 100.0)]);
    }

    #[test]
    fn each_tenth_of_the_tail_has_as_much_room() {
        let tail = Tail::of(100_000);
        let places = SHARES.map(|share| tail.at(share));
        assert!(places.is_sorted(), "{places:?}");
        let room = |from: usize| places[from + 1] - places[from];
        assert!((2..6).all(|from| (room(from) - 20.0).abs() < 0.01), "{places:?}");
        assert_eq!((tail.at(0.0), tail.at(100.0)), (0.0, 100.0));
        assert!((Tail::of(3).at(99.0) - 100.0).abs() < 1e-9, "few operations have no tail");
    }

    #[test]
    fn points_that_nobody_could_see_are_left_out() {
        let points = [(0.0, 0.0), (0.1, 0.1), (1.0, 0.1), (1.0, 50.0), (1.1, 50.1)];
        assert_eq!(thinned(&points), [(0.0, 0.0), (1.0, 0.1), (1.0, 50.0), (1.1, 50.1)]);
    }
}
