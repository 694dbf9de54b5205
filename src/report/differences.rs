//! In what two runs of a study differ beside their figures: whoever compares them must know.

use std::collections::{BTreeMap, BTreeSet};

use super::study::results::Results;
use super::study::warnings::{NOISY_STEAL, is_loaded};
use super::text::number;
use crate::study::environment::Environment;
use crate::study::record::{Outcome, Sample, System};

/// Loads may differ by this factor, as what native does at its peak does.
const ANOTHER_LOAD: f64 = 1.25;

/// All of it, a sentence each.
pub(super) fn of(before: &Results, after: &Results) -> Vec<String> {
    let mut found = Vec::new();
    systems(before, after, &mut found);
    machines(&before.environment, &after.environment, &mut found);
    loads(before, after, &mut found);
    for (when, results) in [("before", before), ("after", after)] {
        noise(when, &results.environment, &mut found);
        incomplete(when, results, &mut found);
        failed_rounds(when, results, &mut found);
    }
    found
}

fn systems(before: &Results, after: &Results, found: &mut Vec<String>) {
    for old in &before.study.systems {
        let same = |new: &&System| new.id == old.id;
        if let Some(new) = after.study.systems.iter().find(same)
            && (&old.arguments, old.kind) != (&new.arguments, new.kind)
        {
            found.push(format!(
                "system {} had other arguments before: {} (compared nevertheless)",
                old.id,
                old.arguments.join(" ")
            ));
        }
    }
}

fn machines(before: &Environment, after: &Environment, found: &mut Vec<String>) {
    let machine = |it: &Environment| (it.cpu.clone(), it.cpus);
    if machine(before) != machine(after) {
        found.push("another machine: only large changes mean anything".into());
    }
    let uring =
        |it: &Environment| it.fuse_parameters.get("enable_uring").cloned().unwrap_or_default();
    let backing = |it: &Environment| {
        let backing = &it.backing;
        let parts = [
            Some(&backing.description),
            Some(&backing.mount_options),
            backing.mkfs_options.as_ref(),
            backing.scheduler.as_ref(),
        ];
        let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
        parts.map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let facts: [(&str, String, String); 4] = [
        ("kernel", before.kernel.clone(), after.kernel.clone()),
        ("backing", backing(before), backing(after)),
        ("fio", before.fio.clone(), after.fio.clone()),
        ("enable_uring of the fuse module", uring(before), uring(after)),
    ];
    for (what, old, new) in facts.into_iter().filter(|(_, old, new)| old != new) {
        let told = |value: String| if value.is_empty() { "none".to_owned() } else { value };
        found.push(format!("another {what}: {} before, {} after", told(old), told(new)));
    }
}

/// A load is a share of native's peak: if that was another one, so were the arrivals.
fn loads(before: &Results, after: &Results, found: &mut Vec<String>) {
    let worst = before.study.cells.iter().filter_map(|old| {
        let new = after.study.cells.iter().find(|cell| cell.id == old.id)?;
        let rate =
            |cell: &crate::study::record::Cell| cell.workload.get("rate_per_second")?.as_f64();
        let times = rate(new)? / rate(old)?;
        Some((times.max(1.0 / times), &old.title))
    });
    if let Some((times, title)) = worst.max_by(|a, b| a.0.total_cmp(&b.0))
        && times > ANOTHER_LOAD
    {
        found.push(format!(
            "native's peak was another, and so were the rates of arrival, by up to x{} ({title})",
            number(times)
        ));
    }
}

fn noise(when: &str, environment: &Environment, found: &mut Vec<String>) {
    if is_loaded(environment) {
        found.push(format!(
            "{when}, the load was {:.1} at the start, on {} CPUs",
            environment.load_average, environment.cpus
        ));
    }
    if environment.steal_percent > NOISY_STEAL {
        found.push(format!(
            "{when}, the hypervisor took {:.0} % of CPU time",
            environment.steal_percent
        ));
    }
}

fn incomplete(when: &str, results: &Results, found: &mut Vec<String>) {
    let mut rounds: BTreeMap<u32, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for sample in &results.samples {
        rounds.entry(sample.round).or_default().insert((&sample.cell, &sample.system));
    }
    // A round is whole that has as many runs as the largest one.
    let most = rounds.values().map(BTreeSet::len).max().unwrap_or(0);
    let whole = rounds.values().filter(|runs| runs.len() >= most).count();
    let wanted = usize::try_from(results.study.rounds).unwrap_or(usize::MAX);
    if whole < wanted {
        found.push(format!(
            "the study {when} is incomplete: {whole} of {wanted} rounds; `fusewire study run --resume` \
             goes on"
        ));
    }
}

/// Cells that failed in some of their rounds, or were skipped there, and have figures all the same.
fn failed_rounds(when: &str, results: &Results, found: &mut Vec<String>) {
    let mut runs: BTreeMap<(&str, &str), BTreeMap<u32, &Sample>> = BTreeMap::new();
    for sample in &results.samples {
        let key = (sample.cell.as_str(), sample.system.as_str());
        // Of a run that was repeated the last one counts.
        runs.entry(key).or_default().insert(sample.round, sample);
    }
    for ((cell, system), rounds) in runs {
        let lacks = |sample: &&&Sample| !matches!(sample.outcome, Outcome::Measured(_));
        let failed = rounds.values().filter(lacks).count();
        if (1..rounds.len()).contains(&failed) {
            found.push(format!(
                "{when}, {cell} on {system} has no figure in {failed} of {} rounds",
                rounds.len()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;

    fn told(change: impl Fn(&mut Results)) -> Vec<String> {
        let mut after = fixture::results();
        change(&mut after);
        of(&fixture::results(), &after)
    }

    #[test]
    fn nothing_is_told_of_what_is_alike() {
        assert_eq!(told(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn what_was_measured_on_something_else_is_told() {
        let found = told(|after| {
            after.environment.kernel = "7.0".into();
            after.environment.fio = "fio-4".into();
            after.environment.backing.description = "xfs".into();
            after.environment.fuse_parameters.insert("enable_uring".into(), "Y".into());
            after.environment.load_average = 30.0;
            after.environment.steal_percent = 9.0;
        })
        .join("\n");
        for part in [
            "another kernel: 6.18.0 before, 7.0 after",
            "another fio: fio-3.33 before, fio-4 after",
            "another backing: ext4 in a sparse file",
            "another enable_uring of the fuse module: N before, Y after",
            "after, the load was 30.0 at the start, on 2 CPUs",
            "after, the hypervisor took 9 % of CPU time",
        ] {
            assert!(found.contains(part), "{part} in\n{found}");
        }
    }

    #[test]
    fn rounds_that_lack_are_told() {
        let found = told(|after| after.samples.truncate(after.samples.len() / 2));
        assert!(found[0].contains("the study after is incomplete: 1 of 3 rounds"), "{found:?}");
        let found = told(|after| {
            let of_cell =
                |sample: &&mut Sample| (&*sample.cell, &*sample.system) == ("read", "base");
            let first = after.samples.iter_mut().find(of_cell).expect("is there");
            first.outcome = Outcome::Failed("EIO".into());
        });
        assert_eq!(found, ["after, read on base has no figure in 1 of 3 rounds"]);
    }
}
