//! What a reader must know before believing a run: whether requests came where they should not have
//! come, or did not come where they should have.

use super::super::environment::InForce;
use super::super::file::cells::Planned;
use super::super::record::Measurement;
use super::super::sample::count;
use super::super::work::{Fio, Operation, Operations, Work};

/// A share of the operations that is none, and one that is all.
const NONE: f64 = 0.01;
const ALL: f64 = 0.9;
/// Largest part of a READ or WRITE: a larger operation comes as several.
const REQUEST_BYTES: u64 = 1 << 20;

/// The flag of a run through a daemon that counts, if it needs one.
pub(crate) fn of(
    planned: &Planned,
    in_force: Option<&InForce>,
    measurement: &Measurement,
) -> Option<String> {
    let (in_force, daemon) = (in_force?, measurement.daemon.as_ref()?);
    let operations = count(measurement.operations.max(1));
    let per_operation = |opcodes: &[&str]| {
        let requests = opcodes.iter().filter_map(|opcode| daemon.requests.get(*opcode));
        count(requests.sum::<u64>()) / operations
    };
    let data = per_operation(&["READ", "WRITE"]);
    let is_passthrough = in_force.data.mode == "passthrough";
    match &planned.work {
        Work::Fio(_) | Work::Operation(Operations { operation: Operation::ReadDirect, .. })
            if is_passthrough =>
        {
            (data > NONE)
                .then(|| format!("{data:.2} READ or WRITE per operation in spite of passthrough"))
        }
        Work::Fio(Fio { depth: Some(_), block_bytes, .. }) => {
            let wanted = count(block_bytes.div_ceil(REQUEST_BYTES)) * ALL;
            (data < wanted).then(|| {
                format!("{data:.2} READ or WRITE per direct operation: some came from a cache")
            })
        }
        Work::Operation(Operations { operation: Operation::StatForced, .. }) => {
            let asked = per_operation(&["GETATTR", "STATX"]);
            (asked < ALL)
                .then(|| format!("{asked:.2} GETATTR per forced stat: some came from a cache"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::file::{cells, parse};
    use super::super::super::record::DaemonWork;
    use super::*;

    fn flag(cell: &str, mode: &str, requests: &[(&str, u64)]) -> Option<String> {
        let text = format!("name = \"a\"\ntitle = \"b\"\n[[cells]]\n{cell}\n");
        let planned = cells::expand(&parse(&text, "a").expect(cell)).expect(cell).remove(0);
        let mut in_force = InForce::default();
        in_force.data.mode = mode.into();
        let requests: BTreeMap<String, u64> =
            requests.iter().map(|(opcode, count)| ((*opcode).to_owned(), *count)).collect();
        let daemon = Some(DaemonWork { requests, ..DaemonWork::default() });
        of(
            &planned,
            Some(&in_force),
            &Measurement { operations: 1000, daemon, ..Default::default() },
        )
    }

    #[test]
    fn data_that_reached_fuse_in_spite_of_passthrough_is_said() {
        let cell = "workload = \"fio\"\nrw = \"randread\"";
        assert!(flag(cell, "passthrough", &[("OPEN", 1), ("READ", 5)]).is_none());
        assert!(flag(cell, "passthrough", &[("READ", 900)]).is_some());
        assert!(flag(cell, "copy", &[("READ", 900)]).is_none());
    }

    #[test]
    fn direct_operations_and_forced_stats_that_did_not_reach_fuse_are_said() {
        let cell = "workload = \"fio\"\nrw = \"read\"\nblock = \"2m\"\ndepth = 1";
        assert!(flag(cell, "copy", &[("READ", 2000)]).is_none());
        assert!(flag(cell, "copy", &[("READ", 1000)]).is_some());
        assert!(flag("workload = \"stat-forced\"", "copy", &[("GETATTR", 1000)]).is_none());
        assert!(flag("workload = \"stat-forced\"", "copy", &[("GETATTR", 10)]).is_some());
    }
}
