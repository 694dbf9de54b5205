//! Figures as a reader wants them: few digits, unit beside, the same in table and Markdown.

use super::statistics::{Interval, Verdict};
use super::summary::{CellSummary, Comparison, Summary};
use crate::stats_view::counted;
use crate::study::environment::InForce;
use crate::study::matrix::Unit;

/// Three significant digits, thousands separated.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => thousands(value),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure with its unit.
pub(crate) fn figure(value: f64, unit: Unit) -> String {
    let unit = match unit {
        Unit::MegabytesPerSecond => "MB/s",
        Unit::KiloOperationsPerSecond => "k IOPS",
        Unit::MicrosecondsPerOperation => "µs",
    };
    format!("{} {unit}", number(value))
}

/// `0.98 [0.95, 1.01]`, or `x12.3 [11.8, 13.0]` for a multiple of a time.
pub(crate) fn ratio(ratio: Interval, unit: Unit) -> String {
    let sign = if unit.is_rate() { "" } else { "x" };
    let (low, median, high) = (number(ratio.low), number(ratio.median), number(ratio.high));
    format!("{sign}{median} [{low}, {high}]")
}

/// `± 3.1 %`: the half-width of the noise band. A large one is a factor, up or down.
pub(crate) fn band(noise_band: f64) -> String {
    match noise_band {
        large if large >= 2.0 => format!("x or / {}", number(large)),
        small => format!("± {:.1} %", (small - 1.0) * 100.0),
    }
}

/// In a word.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Same => "same",
        Verdict::Unclear => "unclear",
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Saturated => "saturated",
    }
}

/// Requests of one operation: the sum, and the opcodes that make it up if any matters.
pub(crate) fn requests(comparison: &Comparison) -> String {
    let total = comparison.requests();
    let mut opcodes: Vec<(&String, &f64)> =
        comparison.requests_per_operation.iter().filter(|(_, count)| **count >= 0.005).collect();
    if opcodes.is_empty() {
        return if total > 0.0 { "< 0.01".into() } else { "0".into() };
    }
    opcodes.sort_by(|a, b| b.1.total_cmp(a.1));
    let shown: Vec<String> = opcodes
        .iter()
        .take(3)
        .map(|(opcode, count)| format!("{opcode} {}", number(**count)))
        .collect();
    let more = if opcodes.len() > 3 { ", ..." } else { "" };
    format!("{}: {}{more}", number(total), shown.join(", "))
}

/// One or two sentences: what FUSE costs here.
pub(crate) fn headline(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(share) = summary.data_share_of_native_rate {
        let worst = worst(summary, true);
        lines.push(format!("Data: {} of native's rate (geometric mean){worst}.", number(share)));
    }
    if let Some(multiple) = summary.metadata_multiple_of_native_time {
        let worst = worst(summary, false);
        lines.push(format!(
            "Metadata: x{} native's time (geometric mean){worst}.",
            number(multiple)
        ));
    }
    lines
}

fn worst(summary: &Summary, rates: bool) -> String {
    let ratio = |cell: &&CellSummary| cell.comparison().map_or(1.0, |c| c.ratio.median);
    let cells = summary
        .cells
        .iter()
        .filter(|cell| cell.unit.is_rate() == rates && cell.comparison().is_some());
    let (sign, worst) = if rates {
        ("", cells.min_by(|a, b| ratio(a).total_cmp(&ratio(b))))
    } else {
        ("x", cells.max_by(|a, b| ratio(a).total_cmp(&ratio(b))))
    };
    worst.map_or_else(String::new, |cell| {
        format!("; the worst cell is {}: {sign}{}", cell.cell.title, number(ratio(&cell)))
    })
}

/// What was in force at the end of a demo.
pub(crate) fn in_force_at_end(summary: &Summary) -> String {
    let found = summary.environment.in_force.as_ref();
    let found = found.map_or_else(|| "not known (no counters)".into(), in_force);
    match summary.environment.uring_switched_on {
        true => format!("{found}; FUSE over io_uring was off, and on for this demo only"),
        false => found,
    }
}

/// What was really in force, as the daemon said.
pub(crate) fn in_force(found: &InForce) -> String {
    let why = |reason: &Option<String>| {
        reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"))
    };
    format!(
        "data {}{}; transport {}, {} on {}{}{}; FUSE {}, max_write {} KiB",
        found.data.mode,
        why(&found.data.reason),
        found.transport.name,
        counted(found.transport.workers as u64, "worker"),
        counted(found.transport.channels as u64, "channel"),
        why(&found.transport.reason),
        if found.coherence.is_empty() {
            String::new()
        } else {
            format!("; coherence {}", found.coherence)
        },
        found.negotiated.protocol,
        found.negotiated.max_write_bytes / 1024,
    )
}

/// All flags of all cells.
pub(crate) fn flags(summary: &Summary) -> Vec<String> {
    let cells =
        summary.cells.iter().filter_map(|cell| Some((&cell.cell.title, cell.comparison()?)));
    let mut flags = Vec::new();
    let mut wide = Vec::new();
    for (title, comparison) in cells {
        flags.extend(comparison.flags.iter().map(|flag| format!("{title}: {flag}")));
        if comparison.ratio.is_wide() {
            wide.push(title.as_str());
        }
    }
    if !wide.is_empty() {
        let cells = wide.join("; ");
        flags.push(format!(
            "wide intervals, more --rounds on a quieter machine would tell: {cells}"
        ));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let texts = [0.0, 0.994, 9.99, 12.34, 99.96, 1234.5, 1_234_567.0].map(number);
        assert_eq!(texts, ["0.00", "0.99", "9.99", "12.3", "100", "1,234", "1,234,567"]);
    }

    #[test]
    fn ratios_and_bands() {
        let interval = Interval { low: 11.84, median: 12.31, high: 13.0 };
        assert_eq!(ratio(interval, Unit::MicrosecondsPerOperation), "x12.3 [11.8, 13.0]");
        let interval = Interval { low: 0.951, median: 0.98, high: 1.01 };
        assert_eq!(ratio(interval, Unit::MegabytesPerSecond), "0.98 [0.95, 1.01]");
        assert_eq!(band(1.031), "± 3.1 %");
        assert_eq!(band(3.25), "x or / 3.25");
    }
}
