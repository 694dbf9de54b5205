//! The same work by more and more threads: cells that differ in nothing else.

use super::digest::{CellDigest, Digest, SystemDigest};
use crate::report::statistics;
use crate::report::text::number;
use crate::study::record::Unit;

/// Of fewer numbers of threads there is no more to say than the cells do.
const FEWEST_TO_TELL: usize = 3;

/// Cells that differ only in the number of threads, fewest first; none of which there is but one.
pub(super) fn families(digest: &Digest) -> Vec<Vec<&CellDigest>> {
    let alike = |a: &CellDigest, b: &CellDigest| {
        let key = |cell: &CellDigest| {
            let mut workload = cell.cell.workload.clone();
            if let Some(parameters) = workload.as_object_mut() {
                for name in ["threads", "jobs", "numjobs"] {
                    parameters.remove(name);
                }
            }
            (workload, cell.cell.group.clone(), cell.cell.cache.clone(), cell.cell.unit)
        };
        key(a) == key(b) && a.cell.threads != b.cell.threads
    };
    let mut families: Vec<Vec<&CellDigest>> = Vec::new();
    let closed = digest.cells.iter().filter(|cell| cell.cell.unit != Unit::MicrosecondsP99);
    for cell in closed {
        match families.iter_mut().find(|family| family.iter().all(|other| alike(cell, other))) {
            Some(family) => family.push(cell),
            None => families.push(vec![cell]),
        }
    }
    families.retain(|family| family.len() > 1);
    for family in &mut families {
        family.sort_by_key(|cell| cell.cell.threads);
    }
    families
}

/// Operations a second, by all threads together.
pub(super) fn speed(cell: &CellDigest, system: &str) -> Option<f64> {
    let microseconds = cell.figures(system)?.wall_us_per_operation;
    (microseconds > 0.0).then(|| 1e6 / microseconds)
}

/// How many times as fast a system is with the most threads of a family as it is with the fewest.
pub(super) fn gain(family: &[&CellDigest], system: &str) -> Option<f64> {
    Some(speed(family.last()?, system)? / speed(family.first()?, system)?)
}

/// What more threads bring on each system, native first.
pub(super) fn sentence(digest: &Digest) -> Option<String> {
    let mut families = families(digest);
    families.retain(|family| family.len() >= FEWEST_TO_TELL);
    let ends =
        |family: &[&CellDigest]| Some((family.first()?.cell.threads, family.last()?.cell.threads));
    let (fewest, most) = ends(families.first()?)?;
    families.retain(|family| ends(family) == Some((fewest, most)));
    // Means over other workloads than the neighbour's would be no match.
    let has = |found: &SystemDigest, family: &[&CellDigest]| gain(family, &found.system.id);
    let measured: Vec<&SystemDigest> = digest
        .systems
        .iter()
        .filter(|found| families.iter().any(|family| has(found, family).is_some()))
        .collect();
    families.retain(|family| measured.iter().all(|found| has(found, family).is_some()));
    let gains = digest.systems.iter().filter_map(|found| {
        let id = &found.system.id;
        let gains: Vec<f64> = families.iter().filter_map(|family| gain(family, id)).collect();
        let mean = statistics::geometric_mean(&gains)?;
        Some(format!("{} x{}", found.system.title, number(mean)))
    });
    let gains: Vec<String> = gains.collect();
    Some(format!(
        "What {most} threads do together, as a multiple of what {fewest} does on the same system (geometric \
         mean of {} workloads): {}.",
        families.len(),
        gains.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;

    #[test]
    fn a_family_differs_in_threads_alone() {
        let digest = fixture::digest();
        let families = families(&digest);
        let ids: Vec<Vec<&str>> = families
            .iter()
            .map(|family| family.iter().map(|cell| cell.cell.id.as_str()).collect())
            .collect();
        assert_eq!(ids, [["open-1", "open-2"]]);
        let gain = gain(&families[0], "base").expect("was measured");
        assert!((gain - 40.0 / 36.0).abs() < 0.01, "{gain}");
        assert_eq!(sentence(&digest), None, "two numbers of threads are told by the cells");
    }

    #[test]
    fn what_more_threads_bring_is_told_of_each_system() {
        let mut digest = fixture::digest();
        let mut third = digest.cells[2].clone();
        third.cell.threads = 8;
        third.cell.id = "open-8".into();
        digest.cells.push(third);
        assert_eq!(
            sentence(&digest).as_deref(),
            Some(
                "What 8 threads do together, as a multiple of what 1 does on the same system (geometric \
                 mean of 1 workloads): native x1.00; FAST'17 Base x1.11; fusewire x1.14."
            )
        );
    }
}
