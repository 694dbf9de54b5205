//! In what a cell is measured, and in which table it stands.

use crate::study::record::Unit;
use crate::study::work::{Mix, Operation, Operations, Work};

/// All, as a study calls them.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Unit)> + Clone {
    [
        ("megabytes-per-second", Unit::MegabytesPerSecond),
        ("operations-per-second", Unit::OperationsPerSecond),
        ("microseconds-per-operation", Unit::MicrosecondsPerOperation),
        ("microseconds-p99", Unit::MicrosecondsP99),
        ("seconds", Unit::Seconds),
    ]
    .into_iter()
}

/// The table that it belongs to, if its study does not say so.
pub(super) fn group(work: &Work) -> &'static str {
    match work {
        Work::Fio(_) => "data",
        Work::Operation(operations) if operations.load_percent.is_some() => "tail",
        Work::Operation(Operations { operation: Operation::ReadDirect, .. }) => "data",
        Work::Operation(_) => "metadata",
        Work::Personality(_) => "personalities",
        Work::Job(_) => "jobs",
    }
}

/// The unit that it is measured in, if its study does not say so.
pub(super) fn natural(work: &Work) -> Unit {
    match work {
        Work::Fio(fio) if fio.block_bytes >= 128 << 10 => Unit::MegabytesPerSecond,
        Work::Fio(_) | Work::Personality(_) => Unit::OperationsPerSecond,
        Work::Operation(operations) if operations.load_percent.is_some() => Unit::MicrosecondsP99,
        Work::Operation(_) => Unit::MicrosecondsPerOperation,
        Work::Job(_) => Unit::Seconds,
    }
}

/// Refuses a unit in which there is no figure.
pub(super) fn suits(unit: Unit, work: &Work, name: &str) -> Result<(), String> {
    let Some(why) = without_figure(unit, work) else { return Ok(()) };
    let possible = all().filter(|(_, other)| without_figure(*other, work).is_none());
    let possible: Vec<&str> = possible.map(|(name, _)| name).collect();
    let unit = word(unit);
    Err(format!("unit = \"{unit}\": {name} {why}; there are {}", possible.join(", ")))
}

/// Why a figure would be none, or the same whatever is measured.
fn without_figure(unit: Unit, work: &Work) -> Option<&'static str> {
    let (has_bytes, has_latency, is_timed) = match work {
        Work::Fio(_) => (true, true, true),
        Work::Operation(work) => {
            (false, true, work.passes.is_none() && !work.operation.is_consuming())
        }
        Work::Personality(work) => (work.mix != Mix::FilesDelete, true, false),
        Work::Job(_) => (false, false, false),
    };
    match unit {
        Unit::MegabytesPerSecond if !has_bytes => Some("moves no bytes that are counted"),
        Unit::MicrosecondsP99 if !has_latency => {
            Some("is one whole, without operations that are timed")
        }
        Unit::Seconds if is_timed => Some("is done for a given time"),
        _ => None,
    }
}

fn word(unit: Unit) -> &'static str {
    all().find(|(_, other)| *other == unit).map_or("", |(name, _)| name)
}
