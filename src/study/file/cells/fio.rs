//! Cells that fio plays.

use super::{CellEntry, Choice, StudyFile, unknown};
use crate::study::work::Fio;

/// The job of an entry for as many `jobs`.
pub(super) fn job(
    file: &StudyFile,
    entry: &CellEntry,
    choice: &Choice,
    jobs: u32,
) -> Result<Fio, String> {
    let rw = choice.rw.clone().ok_or("a fio cell needs `rw`")?;
    let known = ["read", "write", "randread", "randwrite"];
    if !known.contains(&rw.as_str()) {
        return Err(unknown("rw", &rw, known.into_iter()));
    }
    let block = choice.block.as_deref().unwrap_or("4k");
    let block_bytes = bytes(block).ok_or_else(|| format!("block = \"{block}\": as 4k or 1m"))?;
    if block_bytes < 512 || block_bytes > u64::from(file.size_mib) << 20 {
        return Err(format!("block = \"{block}\": from 512 to the size of the test file"));
    }
    // 0 is the page cache, so that one list has both.
    let depth = choice.depth.filter(|depth| *depth > 0);
    let default = if depth.is_some() { "io_uring" } else { "psync" };
    let engine = entry.engine.clone().unwrap_or_else(|| default.to_owned());
    if engine == "mmap" && depth.is_some() {
        return Err("engine = \"mmap\" goes through the page cache: leave out `depth`".to_owned());
    }
    Ok(Fio {
        rw,
        block_bytes,
        engine,
        depth,
        jobs,
        fsync: entry.fsync.unwrap_or(0),
        dsync: entry.dsync.unwrap_or(false),
        seconds: entry.seconds.unwrap_or(file.seconds),
        size_mib: file.size_mib,
        is_once: false,
    })
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let (digits, shift) = match text.strip_suffix(['k', 'm']) {
        Some(digits) => (digits, if text.ends_with('k') { 10 } else { 20 }),
        None => (text.as_str(), 0),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

/// What its cell is called on a command line.
pub(super) fn id(fio: &Fio, choice: &Choice) -> String {
    let block = choice.block.as_deref().unwrap_or("4k").to_ascii_lowercase();
    let way = match (fio.depth, fio.engine.as_str()) {
        (Some(depth), "io_uring") => format!("qd{depth}"),
        (Some(depth), engine) => format!("{engine}-qd{depth}"),
        (None, "psync") => "buffered".to_owned(),
        (None, engine) => engine.to_owned(),
    };
    let mut id = format!("{}-{block}-{way}", fio.rw);
    if fio.fsync > 0 {
        id.push_str(&format!("-fsync{}", fio.fsync));
    }
    if fio.dsync {
        id.push_str("-dsync");
    }
    id
}

/// What its cell is called in a table.
pub(super) fn title(fio: &Fio, choice: &Choice) -> String {
    let order = match fio.rw.as_str() {
        "read" => "seq read",
        "write" => "seq write",
        "randread" => "rand read",
        _ => "rand write",
    };
    let block = choice.block.as_deref().unwrap_or("4k").to_ascii_uppercase();
    let way = match (fio.depth, fio.engine.as_str()) {
        (Some(depth), _) => format!("O_DIRECT QD{depth}"),
        (None, "psync") => "buffered".to_owned(),
        (None, engine) => engine.to_owned(),
    };
    let sync = match (fio.fsync, fio.dsync) {
        (0, false) => String::new(),
        (0, true) => ", O_DSYNC".to_owned(),
        (1, _) => ", fsync after each".to_owned(),
        (count, _) => format!(", fsync after {count}"),
    };
    format!("{order} {block}, {way}{sync}")
}
