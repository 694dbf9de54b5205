//! Figures of a study in few digits and with their unit: the same in every view.

use crate::report::statistics::Interval;
use crate::report::text::{self, number};
use crate::study::record::Unit;

use super::agreement::Step;
use super::cell::{CellResult, Figures, Row};

/// A figure with its unit.
pub(super) fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::MegabytesPerSecond => format!("{} MB/s", number(value)),
        Unit::OperationsPerSecond if value >= 10_000.0 => format!("{} k/s", number(value / 1e3)),
        Unit::OperationsPerSecond => format!("{} /s", number(value)),
        Unit::MicrosecondsPerOperation | Unit::MicrosecondsP99 => microseconds(value),
        Unit::Seconds if value < 1.0 => format!("{} ms", number(value * 1e3)),
        Unit::Seconds => format!("{} s", number(value)),
    }
}

/// A time, in the unit that needs the fewest digits.
pub(super) fn microseconds(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{} s", number(value / 1e6)),
        size if size >= 1e4 => format!("{} ms", number(value / 1e3)),
        _ => format!("{} µs", number(value)),
    }
}

/// Microseconds that something adds or takes away: `+4.10`, `-31.2`.
pub(super) fn change(microseconds: f64) -> String {
    let sign = if microseconds < 0.0 { "-" } else { "+" };
    format!("{sign}{}", number(microseconds.abs()))
}

/// The same with its interval: `+4.10 [+3.20, +5.00]`.
pub(super) fn changes(microseconds: Interval) -> String {
    let Interval { low, median, high } = microseconds;
    format!("{} [{}, {}]", change(median), change(low), change(high))
}

/// How far a trace lies outside of what was measured: `3 %`, or `61 %, too far` beyond the bound.
pub(super) fn deviation(step: &Step<'_>) -> String {
    let beyond = if step.agrees() { "" } else { ", too far" };
    format!("{:.0} %{beyond}", step.deviation * 100.0)
}

/// What brackets around a latency, and "saturated", say.
pub(super) const SATURATED_SAYS: &str = "\"saturated\": it can not keep up with what arrives, and \
    answers it in so many times the time of the arrivals. How long one waits is then the length of a \
    queue, longer the longer the run; such times are in brackets.";

/// p50, p99 and p99.9; `-` if none was measured, as of a whole job; lengths of a queue in brackets.
pub(super) fn latencies(figures: &Figures) -> [String; 3] {
    let latency = figures.latency;
    [latency.p50, latency.p99, latency.p999].map(|nanoseconds| match nanoseconds > 0.0 {
        false => "-".to_owned(),
        true => queue(figures, microseconds(nanoseconds / 1e3)),
    })
}

/// The figure of a cell on a system; the length of a queue in brackets.
pub(super) fn value(figures: &Figures, unit: Unit) -> String {
    queue(figures, figure(figures.value.median, unit))
}

fn queue(figures: &Figures, text: String) -> String {
    if figures.is_saturated() { format!("({text})") } else { text }
}

/// The ratio to native, or what tells of a system that can not keep up; nothing without a comparison.
pub(super) fn against(figures: &Figures, unit: Unit) -> Option<String> {
    let found = figures.comparison.as_ref()?;
    Some(match figures.times_of_arrival.filter(|_| figures.is_saturated()) {
        Some(times) => format!("x{} the arrivals' time", number(times)),
        None => ratio(found.ratio, unit),
    })
}

/// `0.98 [0.95, 1.01]`, or `x12.3 [11.8, 13.0]` for a multiple of a time.
fn ratio(ratio: Interval, unit: Unit) -> String {
    let sign = sign(unit);
    let (low, median, high) = (number(ratio.low), number(ratio.median), number(ratio.high));
    format!("{sign}{median} [{low}, {high}]")
}

/// What stands before a ratio.
pub(super) fn sign(unit: Unit) -> &'static str {
    if unit.is_rate() { "" } else { "x" }
}

/// `± 3.1 %`, or nothing if native never ran twice.
pub(super) fn band(noise_band: Option<f64>) -> String {
    noise_band.map_or_else(|| "-".to_owned(), crate::report::text::band)
}

/// CPU of the daemon: `-` if there is one that nobody saw, nothing natively without one.
pub(super) fn daemon_cpu(row: &Row) -> Option<String> {
    match (row.figures()?.cost.daemon_cpu_us, row.comparison()) {
        (Some(cpu), _) => Some(number(cpu)),
        (None, Some(_)) => Some("-".into()),
        (None, None) => None,
    }
}

/// In a word; of native only whether it can keep up.
pub(super) fn verdict(figures: &Figures) -> &'static str {
    match &figures.comparison {
        Some(comparison) => text::verdict(comparison.verdict),
        None if figures.is_saturated() => "saturated",
        None => "",
    }
}

/// Why there is no figure; nothing if there is one.
pub(super) fn no_figure(result: &CellResult) -> Option<String> {
    match result {
        CellResult::Measured(_) => None,
        CellResult::Failed(reason) => Some(brief(&format!("failed: {reason}"))),
        CellResult::Skipped(reason) => Some(brief(&format!("skipped: {reason}"))),
    }
}

/// What a program said, as one line that a reader takes in. The samples hold it in full.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 240;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", line[..end].trim_end()),
        None => line,
    }
}

/// Requests of one operation: the sum, and the opcodes that make it up if any matters.
pub(super) fn requests(figures: &Figures) -> String {
    let mut opcodes: Vec<(&String, &f64)> =
        figures.requests_per_operation.iter().filter(|(_, count)| **count >= 0.005).collect();
    if opcodes.is_empty() {
        return if figures.requests() > 0.0 { "< 0.01".into() } else { "0".into() };
    }
    opcodes.sort_by(|a, b| b.1.total_cmp(a.1));
    let shown: Vec<String> = opcodes
        .iter()
        .take(4)
        .map(|(opcode, count)| format!("{opcode} {}", number(**count)))
        .collect();
    let more = if opcodes.len() > 4 { ", ..." } else { "" };
    format!("{}: {}{more}", number(figures.requests()), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_said_becomes_one_line() {
        assert_eq!(brief("it said:\n  no\tspace\n"), "it said: no space");
        let long = brief(&"é ".repeat(1000));
        assert!(long.ends_with("é ...") && long.chars().count() < 250, "{long}");
    }

    #[test]
    fn figures_have_the_unit_that_needs_the_fewest_digits() {
        let texts = [
            figure(1234.0, Unit::MegabytesPerSecond),
            figure(9876.0, Unit::OperationsPerSecond),
            figure(98_760.0, Unit::OperationsPerSecond),
            figure(4.0, Unit::MicrosecondsPerOperation),
            figure(40_000.0, Unit::MicrosecondsPerOperation),
            figure(0.0226, Unit::Seconds),
            figure(2.0, Unit::Seconds),
        ];
        let wanted =
            ["1,234 MB/s", "9,876 /s", "98.8 k/s", "4.00 µs", "40.0 ms", "22.6 ms", "2.00 s"];
        assert_eq!(texts, wanted);
    }
}
