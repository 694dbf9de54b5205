//! What a reader must know before believing a figure.

use std::collections::BTreeMap;

use super::cell::{CellResult, FEWEST_ROUNDS, Figures};
use super::digest::{CellDigest, Digest};
use super::results::Results;
use super::words;
use crate::report::statistics::Verdict;
use crate::report::text;
use crate::study::environment::Environment;
use crate::study::record::{Kind, NATIVE, System};
use crate::study::sample::count;

/// More stolen CPU time than this disturbs a run, per cent.
pub(in crate::report) const NOISY_STEAL: f64 = 5.0;
/// A/A beyond this factor tells of a machine that was busy with something else.
const NOISY_BAND: f64 = 1.25;
/// Data requests for one operation, above which they did not merely fill a cache.
const SOME_REQUESTS: f64 = 0.02;

/// All warnings, one kind after the other.
pub(super) fn of(digest: &Digest, results: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    incomplete(digest, results, &mut warnings);
    failures(digest, &mut warnings);
    for cell in &digest.cells {
        for system in digest.compared() {
            if let Some(figures) = cell.figures(&system.system.id) {
                let place = format!("{}, {}", cell.cell.title, system.system.title);
                let found = alike(&untold(figures)).into_iter();
                let found = found.chain(wrong_way(cell, &system.system, figures));
                warnings.extend(found.map(|problem| format!("{place}: {problem}")));
            }
        }
    }
    own_load(digest, &mut warnings);
    noise(digest, &mut warnings);
    warnings.iter().map(|warning| words::brief(warning)).collect()
}

/// The flags of a cell but those which its verdict tells: generators before that verdict wrote one.
fn untold(figures: &Figures) -> Vec<String> {
    let told = |flag: &str| figures.is_saturated() && flag.starts_with("saturated: ");
    figures.flags.iter().filter(|flag| !told(flag)).cloned().collect()
}

/// What rounds say that differs in its figures only, once.
fn alike(flags: &[String]) -> Vec<String> {
    let mut by_words: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for flag in flags {
        let words = flag.replace(|letter: char| letter.is_ascii_digit(), "");
        by_words.entry(words).or_default().push(flag);
    }
    by_words
        .into_values()
        .map(|flags| match flags[..] {
            [only] => only.to_owned(),
            _ => format!("{} (in one round; like it in others)", flags[0]),
        })
        .collect()
}

fn incomplete(digest: &Digest, results: &Results, warnings: &mut Vec<String>) {
    let most = digest.cells.iter().flat_map(|cell| &cell.results);
    let most = most.filter_map(|row| Some(row.figures()?.rounds)).max().unwrap_or(0);
    let rounds = usize::try_from(digest.rounds).unwrap_or(usize::MAX);
    if most < rounds {
        warnings.push(format!(
            "the study was interrupted: {most} of {rounds} rounds; `fusewire study run --resume` goes on"
        ));
    } else if most < FEWEST_ROUNDS {
        warnings.push(format!("{most} rounds are too few to tell a difference from noise"));
    }
    if results.cut_short {
        warnings.push("the last line of samples.jsonl was cut short and is left out".into());
    }
}

/// Failed and skipped cells, those with the same reason together.
fn failures(digest: &Digest, warnings: &mut Vec<String>) {
    let mut by_reason: BTreeMap<(&str, &str), BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (cell, row) in
        digest.cells.iter().flat_map(|cell| cell.results.iter().map(move |row| (cell, row)))
    {
        let (what, reason) = match &row.result {
            CellResult::Failed(reason) => ("failed", reason),
            CellResult::Skipped(reason) => ("skipped", reason),
            CellResult::Measured(figures) if figures.failed_rounds > 0 => {
                warnings.push(format!(
                    "{}, {}: {} of its rounds failed",
                    cell.cell.title,
                    digest.title(&row.system),
                    figures.failed_rounds
                ));
                continue;
            }
            CellResult::Measured(_) => continue,
        };
        let systems = by_reason.entry((what, reason)).or_default();
        systems.entry(digest.title(&row.system)).or_default().push(&cell.cell.title);
    }
    for ((what, reason), systems) in by_reason {
        // Systems that fared alike are told together.
        let mut alike: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        for (system, cells) in systems {
            alike.entry(cells).or_default().push(system);
        }
        for (cells, systems) in alike {
            let systems = match systems.len() == digest.systems.len() {
                true => "all systems".to_owned(),
                false => systems.join(", "),
            };
            let cells = match cells.len() {
                all if all == digest.cells.len() => "all cells".to_owned(),
                1..=3 => cells.join("; "),
                many => format!("{many} cells ({}; ...)", cells[0]),
            };
            warnings.push(format!("{what} on {systems}: {cells}: {reason}"));
        }
    }
}

/// Bytes that did not go the way that the system claims.
fn wrong_way(cell: &CellDigest, system: &System, figures: &Figures) -> Option<String> {
    let mode = system.in_force.as_ref().map(|found| found.data.mode.as_str());
    let moves_data = cell.cell.unit == crate::study::record::Unit::MegabytesPerSecond
        || cell.cell.workload["kind"] == "fio";
    if system.kind != Kind::Fusewire || !moves_data {
        return None;
    }
    let data: f64 = ["READ", "WRITE"]
        .iter()
        .filter_map(|opcode| figures.requests_per_operation.get(*opcode))
        .sum();
    let verdict = figures.comparison.as_ref().map(|comparison| comparison.verdict);
    match mode? {
        "passthrough" if data > SOME_REQUESTS => Some(format!(
            "{} READ/WRITE requests for one operation although passthrough is in force",
            text::number(data)
        )),
        "copy" if cell.cell.cache == "direct" && data < SOME_REQUESTS => Some(
            "no READ/WRITE request reached the daemon although O_DIRECT asks for one each".into(),
        ),
        "copy" if cell.cell.cache == "direct" && verdict == Some(Verdict::Faster) => Some(
            "faster than native because the daemon's own I/O hit the page cache, not the device"
                .into(),
        ),
        _ => None,
    }
}

/// A load that native can not keep up with itself.
fn own_load(digest: &Digest, warnings: &mut Vec<String>) {
    let is_saturated = |cell: &&CellDigest| cell.figures(NATIVE).is_some_and(Figures::is_saturated);
    let cells: Vec<&str> =
        digest.cells.iter().filter(is_saturated).map(|cell| cell.cell.title.as_str()).collect();
    if !cells.is_empty() {
        warnings.push(format!(
            "{} itself can not keep up: {}: it was faster when its peak was found",
            digest.the_reference(),
            cells.join("; ")
        ));
    }
}

/// Whether others wanted more CPUs than there are when a study began.
pub(in crate::report) fn is_loaded(environment: &Environment) -> bool {
    environment.load_average > count(environment.cpus as u64)
}

fn noise(digest: &Digest, warnings: &mut Vec<String>) {
    let names = |cells: &[&CellDigest]| {
        let shown: Vec<&str> = cells.iter().take(3).map(|cell| cell.cell.title.as_str()).collect();
        let more = if cells.len() > shown.len() { "; ..." } else { "" };
        format!("{}{more}", shown.join("; "))
    };
    let worst_steal = |cell: &CellDigest| {
        let rows = cell.results.iter().filter_map(|row| row.figures());
        rows.map(|figures| figures.steal_percent).fold(0.0, f64::max)
    };
    if is_loaded(&digest.environment) {
        warnings.push(format!(
            "noisy: the load was {:.1} when it began, on {} CPUs: what ran before had not ended",
            digest.environment.load_average, digest.environment.cpus
        ));
    }
    let all = digest.environment.steal_percent;
    let robbed: Vec<&CellDigest> =
        digest.cells.iter().filter(|cell| worst_steal(cell) > NOISY_STEAL).collect();
    if !robbed.is_empty() {
        let worst = robbed.iter().map(|cell| worst_steal(cell)).fold(0.0, f64::max);
        warnings.push(format!(
            "noisy: the hypervisor took up to {worst:.0} % of CPU time from runs of {} cells ({})",
            robbed.len(),
            names(&robbed)
        ));
    } else if all > NOISY_STEAL {
        warnings.push(format!("noisy: the hypervisor took {all:.0} % of CPU time meanwhile"));
    }
    let restless: Vec<&CellDigest> =
        digest.cells.iter().filter(|cell| cell.noise_band > Some(NOISY_BAND)).collect();
    if !restless.is_empty() {
        warnings.push(format!(
            "noisy: {} differs from itself by more than {:.0} % in {} cells ({})",
            digest.the_reference(),
            (NOISY_BAND - 1.0) * 100.0,
            restless.len(),
            names(&restless)
        ));
    }
    let wide: Vec<&CellDigest> = digest
        .cells
        .iter()
        .filter(|cell| {
            cell.comparisons()
                .any(|(_, figures, found)| found.ratio.is_wide() && !figures.is_saturated())
        })
        .collect();
    if !wide.is_empty() {
        warnings.push(format!(
            "wide intervals in {} cells ({}): more rounds, or a quieter machine, would tell more",
            wide.len(),
            names(&wide)
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::report::study::digest::Digest;
    use crate::report::study::fixture;
    use crate::study::record::{Measurement, Outcome, Unit};

    fn warnings(change: impl Fn(&str, &str, &mut Measurement)) -> Vec<String> {
        let mut results = fixture::results();
        for sample in &mut results.samples {
            if let Outcome::Measured(run) = &mut sample.outcome {
                change(&sample.cell, &sample.system, run);
            }
        }
        Digest::new(&results).warnings
    }

    #[test]
    fn failures_are_told_together() {
        assert_eq!(
            fixture::digest().warnings,
            [
                "failed on fusewire: unlink: unlink: EIO",
                "skipped on bindfs: all cells: bindfs is not installed",
                "skipped on FAST'17 Base, fusewire, native: never <run> & \"quoted\": no space",
            ]
        );
    }

    #[test]
    fn what_differs_in_its_figures_only_is_told_once() {
        let flags = ["saturated: 56 % of it", "saturated: 61 % of it", "something else"];
        assert_eq!(
            super::alike(&flags.map(str::to_owned)),
            ["saturated: 56 % of it (in one round; like it in others)", "something else"]
                .map(str::to_owned)
                .as_slice()
        );
    }

    #[test]
    fn what_the_verdict_tells_is_no_warning() {
        let mut results = fixture::results();
        fixture::saturate(&mut results, "open-2", "base");
        for sample in results.samples.iter_mut().filter(|sample| sample.system == "base") {
            if let Outcome::Measured(run) = &mut sample.outcome {
                run.flags = vec!["saturated: 56 % of it".into(), "it swapped".into()];
            }
        }
        let found = Digest::new(&results).warnings;
        let of_cell: Vec<&String> = found.iter().filter(|it| it.contains("2 threads")).collect();
        assert_eq!(of_cell, ["open + close, 2 threads, FAST'17 Base: it swapped"], "{found:?}");
    }

    #[test]
    fn bytes_that_went_the_wrong_way() {
        let found = warnings(|cell, system, run| {
            if let (Some(work), true) = (&mut run.daemon, (cell, system) == ("read", "default")) {
                work.requests.insert("READ".into(), run.operations / 2);
            }
        });
        let wanted = "seq read 1M, buffered, fusewire: 0.50 READ/WRITE requests for one operation \
                      although passthrough is in force";
        assert!(found.iter().any(|text| text == wanted), "{found:?}");
        // Of a rate of operations no less than of one of bytes.
        let mut results = fixture::results();
        results.study.cells[0].unit = Unit::OperationsPerSecond;
        for sample in &mut results.samples {
            if let Outcome::Measured(run) = &mut sample.outcome
                && let (Some(work), "read") = (&mut run.daemon, sample.cell.as_str())
            {
                work.requests.insert("READ".into(), run.operations / 2);
            }
        }
        assert!(Digest::new(&results).warnings.iter().any(|text| text == wanted));
        // The base copies; there it is as it should be, and so is it in a metadata cell.
        let found = warnings(|cell, system, run| {
            if let (Some(work), true) = (&mut run.daemon, cell != "read" || system == "base") {
                work.requests.insert("READ".into(), run.operations);
            }
        });
        assert!(!found.iter().any(|text| text.contains("READ/WRITE")), "{found:?}");
    }

    #[test]
    fn noise_is_told() {
        let found = warnings(|_, _, run| run.steal_percent = 12.0);
        let told = |text: &str| found.iter().any(|warning| warning.contains(text));
        assert!(told("up to 12 % of CPU time from runs of 4 cells"), "{found:?}");
        let found = warnings(|_, system, run| {
            if system == "native-again" {
                run.seconds *= 1.5;
            }
        });
        let told = |text: &str| found.iter().any(|warning| warning.contains(text));
        assert!(told("native differs from itself by more than 25 % in 4 cells"), "{found:?}");
    }

    #[test]
    fn a_machine_that_was_busy_when_it_began_is_told() {
        let mut results = fixture::results();
        results.environment.load_average = 2.0;
        let told = |results: &crate::report::study::results::Results| {
            let found: Vec<String> = Digest::new(results).warnings;
            found.iter().any(|text| text.starts_with("noisy: the load was"))
        };
        assert!(!told(&results), "two CPUs had enough to do");
        results.environment.load_average = 30.67;
        assert!(told(&results));
    }

    #[test]
    fn an_interruption_is_told() {
        let mut results = fixture::results();
        results.samples.retain(|sample| sample.round == 0);
        let warnings = Digest::new(&results).warnings;
        assert!(warnings[0].contains("interrupted: 1 of 3 rounds"), "{warnings:?}");
    }
}
