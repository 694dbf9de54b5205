//! What a study says, in the sentences that a reader has a minute for.

use std::collections::BTreeMap;

use super::cell::Figures;
use super::digest::{CellDigest, Digest, SystemDigest};
use super::{published, scaling};
use crate::report::statistics::{self, Verdict};
use crate::report::text;
use crate::study::record::{Kind, NATIVE, Unit};

/// Systems beyond these many are left to the table, but for the ends of a ladder.
const FEW: usize = 3;

/// The whole in short, what was published beside it, and one sentence a system.
pub(super) fn sentences(digest: &Digest) -> Vec<String> {
    let told = digest.compared().count() <= FEW || !digest.is_ladder();
    let ends = ends(digest);
    let is_end = |system: &SystemDigest| {
        ends.is_some_and(|(a, b)| [&a.system.id, &b.system.id].contains(&&system.system.id))
    };
    let in_short = match digest.reference() {
        NATIVE => in_short(digest),
        _ => beside_the_reference(digest),
    };
    let mut sentences: Vec<String> = in_short.into_iter().collect();
    sentences.extend(beside_published(digest));
    sentences.extend(scaling::sentence(digest));
    sentences.extend(what_a_load_is(digest));
    let systems = digest.compared().filter(|system| told || is_end(system));
    sentences.extend(systems.filter_map(|system| of_system(digest, system)));
    if sentences.is_empty() {
        sentences.push(format!("Nothing was compared with {}.", digest.the_reference()));
    }
    sentences
}

fn of_system(digest: &Digest, system: &SystemDigest) -> Option<String> {
    let mut parts = Vec::new();
    let reference = digest.the_reference();
    if let Some(share) = system.share_of_native_rate {
        let rest = rest(digest, system, true);
        parts.push(format!("{} of {reference}'s rate{rest}", text::number(share)));
    }
    if let Some(multiple) = system.multiple_of_native_time {
        let rest = rest(digest, system, false);
        parts.push(format!("x{} {reference}'s time{rest}", text::number(multiple)));
    }
    parts.extend(under_load(digest, system));
    if parts.is_empty() {
        return None;
    }
    let all =
        [Verdict::Same, Verdict::Faster, Verdict::Slower, Verdict::Unclear, Verdict::Saturated];
    let verdicts: Vec<String> = all
        .into_iter()
        .filter_map(|verdict| {
            let cells = system.verdicts.get(&verdict)?;
            Some(format!("{cells} {}", text::verdict(verdict)))
        })
        .chain((system.failed > 0).then(|| format!("{} failed", system.failed)))
        .collect();
    let title = &system.system.title;
    Some(format!("{title}: {}; cells: {}.", parts.join(", "), verdicts.join(", ")))
}

/// What the figures of a study with loads are.
fn what_a_load_is(digest: &Digest) -> Option<String> {
    let mut cells = digest.cells.iter().map(|cell| cell.cell.unit);
    cells.any(|unit| unit == Unit::MicrosecondsP99).then(|| {
        "Operations arrive at a share of what native does at its peak, whether or not those before have been \
         answered. Told is how long 99 % of them take at most (p99), from their arrival on, as a multiple of \
         what it is natively under the same load."
            .to_owned()
    })
}

/// What the latency of an open loop is, load by load, of each workload that has such cells.
fn under_load(digest: &Digest, system: &SystemDigest) -> Option<String> {
    let mut loads: BTreeMap<&str, (Vec<String>, Vec<&str>)> = BTreeMap::new();
    let tail = digest.cells.iter().filter(|cell| cell.cell.unit == Unit::MicrosecondsP99);
    for cell in tail {
        let Some((workload, load)) = cell.cell.title.rsplit_once(", ") else { continue };
        let Some(figures) = cell.figures(&system.system.id) else { continue };
        let load = load.strip_suffix(" of native's peak").unwrap_or(load);
        let (kept_up, behind) = loads.entry(workload).or_default();
        match &figures.comparison {
            _ if figures.is_saturated() => behind.push(load),
            Some(it) => kept_up.push(format!("x{} at {load}", text::number(it.ratio.median))),
            None => {}
        }
    }
    let told: Vec<String> = loads
        .into_iter()
        .map(|(workload, (kept_up, behind))| {
            let behind =
                (!behind.is_empty()).then(|| format!("can not keep up at {}", behind.join(", ")));
            let all: Vec<String> = kept_up.into_iter().chain(behind).collect();
            format!("{workload} {}", all.join(", "))
        })
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Behind a mean, in brackets: over how many cells it is, if not over all, and which looks worst.
fn rest(digest: &Digest, system: &SystemDigest, rates: bool) -> String {
    let (cells, all) =
        (if rates { system.rate_cells } else { system.time_cells }, digest.cells_of(rates));
    let part = (cells < all).then(|| format!("mean of {cells} of {all} cells"));
    let parts: Vec<String> = part.into_iter().chain(worst(digest, system, rates)).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

/// The cell that looks worst, if there is more than one.
fn worst(digest: &Digest, system: &SystemDigest, rates: bool) -> Option<String> {
    let ratios: Vec<(&CellDigest, f64)> = digest
        .cells
        .iter()
        .filter(|cell| cell.cell.unit != Unit::MicrosecondsP99)
        .filter(|cell| cell.cell.unit.is_rate() == rates)
        .filter_map(|cell| Some((cell, cell.row(&system.system.id)?.comparison()?.ratio.median)))
        .collect();
    if ratios.len() < 2 {
        return None;
    }
    let by_ratio = |a: &&(&CellDigest, f64), b: &&(&CellDigest, f64)| a.1.total_cmp(&b.1);
    let (sign, found) = match rates {
        true => ("", ratios.iter().min_by(by_ratio)),
        false => ("x", ratios.iter().max_by(by_ratio)),
    };
    found.map(|(cell, ratio)| format!("worst: {} {sign}{}", cell.cell.title, text::number(*ratio)))
}

/// What FUSE costs, where, and what of it fusewire removes.
fn in_short(digest: &Digest) -> Option<String> {
    let (plain, ours) = (plain(digest)?, ours(digest)?);
    let shares: Vec<f64> = digest
        .cells
        .iter()
        // Of a load that is the same for all, the time says nothing.
        .filter(|cell| cell.cell.unit != Unit::MicrosecondsP99)
        .filter_map(|cell| {
            let wall = |system: &str| cell.figures(system).map(wall);
            let native = wall(NATIVE)?;
            let cost = wall(&plain.system.id)? - native;
            let slower = cell.row(&plain.system.id)?.comparison()?.verdict == Verdict::Slower;
            let left = wall(&ours.system.id)? - native;
            (slower && cost > 0.0).then_some(1.0 - left / cost)
        })
        .collect();
    // In a study of variants the last may well be the slowest.
    let median = statistics::median(&shares).filter(|median| *median > 0.0)?;
    Some(format!(
        "In short: \"{}\" {}.{} Of the time that it adds to {}, \"{}\" takes away {:.0} % (median of {} \
         cells where it is slower), and {}.",
        plain.system.title,
        costs(digest, plain)?,
        layers(digest, plain),
        digest.the_reference(),
        ours.system.title,
        median * 100.0,
        shares.len(),
        costs(digest, ours)?,
    ))
}

/// Where the reference is a mount itself: where the one of ours that gains most is faster and slower.
fn beside_the_reference(digest: &Digest) -> Option<String> {
    let cells = |found: &SystemDigest, verdict| found.verdicts.get(&verdict).copied().unwrap_or(0);
    let ours = digest.compared().filter(|found| found.system.kind == Kind::Fusewire);
    let best = ours.max_by_key(|found| cells(found, Verdict::Faster))?;
    let compared: usize = best.verdicts.values().sum();
    // How many times as fast, whatever is counted.
    let most = |verdict| {
        let found = digest.cells.iter().filter_map(|cell| {
            let comparison = cell.row(&best.system.id)?.comparison()?;
            let ratio = comparison.ratio.median;
            let speed = if cell.cell.unit.is_rate() { ratio } else { 1.0 / ratio };
            (comparison.verdict == verdict).then_some((cell, speed.max(1.0 / speed)))
        });
        found.max_by(|a, b| a.1.total_cmp(&b.1)).map_or_else(String::new, |(cell, times)| {
            format!(" (most: {}, by x{})", cell.cell.title, text::number(times))
        })
    };
    (compared > 0).then(|| {
        format!(
            "In short: beside {}, \"{}\" is faster in {} of {compared} cells{} and slower in {}{}; of {} \
             nothing can be said, {} are the same.",
            digest.the_reference(),
            best.system.title,
            cells(best, Verdict::Faster),
            most(Verdict::Faster),
            cells(best, Verdict::Slower),
            most(Verdict::Slower),
            cells(best, Verdict::Unclear),
            cells(best, Verdict::Same),
        )
    })
}

/// FUSE as it is without what fusewire adds: the first step of a ladder, else a mount that copies, else
/// the fastest of the other programs.
fn plain(digest: &Digest) -> Option<&SystemDigest> {
    let mode = |found: &SystemDigest, wanted| {
        found.system.in_force.as_ref().is_some_and(|in_force| in_force.data.mode == wanted)
    };
    let copies = digest.compared().find(|found| mode(found, "copy"));
    // A mean over other cells than everybody else's is no match.
    let is_whole = |found: &&SystemDigest| found.system.kind == Kind::Command && found.failed == 0;
    let others = digest.compared().filter(is_whole);
    let fastest = others.filter_map(|found| Some((found, found.multiple_of_native_time?)));
    let fastest = || fastest.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(found, _)| found);
    ends(digest).map(|(first, _)| first).or(copies).or_else(fastest)
}

/// fusewire at its best: the last step of a ladder, else the mount that passes data through, over
/// io_uring if there is one.
fn ours(digest: &Digest) -> Option<&SystemDigest> {
    let passes = |found: &&SystemDigest| {
        found.system.in_force.as_ref().is_some_and(|it| it.data.mode == "passthrough")
    };
    let over_uring = |found: &&SystemDigest| {
        found.system.in_force.as_ref().is_some_and(|it| it.transport.name == "uring")
    };
    let found = || digest.compared().filter(passes);
    ends(digest).map(|(_, last)| last).or(found().find(over_uring)).or(found().next())
}

/// What a system costs, and where most.
fn costs(digest: &Digest, system: &SystemDigest) -> Option<String> {
    let reference = digest.the_reference();
    let rate = system.share_of_native_rate.map(|share| {
        format!("has {} of {reference}'s rate{}", text::number(share), rest(digest, system, true))
    });
    let time = system.multiple_of_native_time.map(|multiple| {
        let rest = rest(digest, system, false);
        format!("takes x{} {reference}'s time{rest}", text::number(multiple))
    });
    let parts: Vec<String> = rate.into_iter().chain(time).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Where the requests of a system wait, as shares of all that was traced; nothing without a trace.
fn layers(digest: &Digest, system: &SystemDigest) -> String {
    let traced = digest
        .cells
        .iter()
        .filter_map(|cell| {
            let figures = cell.figures(&system.system.id)?;
            let layers = figures.layers_ns.as_ref()?;
            // Tracing takes time, but a trace of something else altogether tells nothing.
            let times = layers.values().sum::<f64>() / 1e3 / wall(figures);
            (0.5..2.0).contains(&times).then_some(layers)
        })
        .flatten();
    let (mut wake_ups, mut passages, mut all) = (0.0, 0.0, 0.0);
    for (name, time) in traced.filter(|(name, _)| *name != "client") {
        all += time;
        match name.as_str() {
            "wake_up" | "client_wake_up" => wake_ups += time,
            "receive" | "reply" => passages += time,
            _ => {}
        }
    }
    if all <= 0.0 {
        return String::new();
    }
    let percent = |part: f64| 100.0 * part / all;
    format!(
        " Its requests spend {:.0} % of their time on waking daemon and client, {:.0} % on the daemon's way \
         in and out of the kernel, {:.0} % in the daemon and the source.",
        percent(wake_ups),
        percent(passages),
        percent(all - wake_ups - passages)
    )
}

/// Our last system on the rows that were published.
fn beside_published(digest: &Digest) -> Option<String> {
    let means = published::means(&published::rows(digest))?;
    let ours =
        digest.compared().zip(&means.ours).filter_map(|(system, mean)| Some((system, (*mean)?)));
    let (system, mean) = ours.filter(|(system, _)| system.system.kind == Kind::Fusewire).last()?;
    Some(format!(
        "On {} of FAST'17, StackFS Opt had {} of native's rate (geometric mean), \"{}\" has {}.",
        means.workload,
        text::number(means.opt?),
        system.system.title,
        text::number(mean)
    ))
}

/// The first and the last step of a ladder.
fn ends(digest: &Digest) -> Option<(&SystemDigest, &SystemDigest)> {
    let mut steps = digest.systems.iter().filter(|found| found.system.kind == Kind::Fusewire);
    digest.is_ladder().then_some((steps.next()?, steps.next_back()?))
}

fn wall(figures: &Figures) -> f64 {
    figures.wall_us_per_operation
}

#[cfg(test)]
mod tests {
    use crate::report::study::digest::Digest;
    use crate::report::study::fixture;
    use crate::study::record::Unit;

    #[test]
    fn loads_are_told_one_by_one_and_in_no_mean() {
        let mut results = fixture::results();
        results.study.name = "tail".into();
        for (cell, load) in results.study.cells[1..3].iter_mut().zip([50, 90]) {
            cell.title = format!("mkdir + rmdir, {load} % of native's peak");
            cell.unit = Unit::MicrosecondsP99;
        }
        results.study.cells.truncate(3);
        fixture::saturate(&mut results, "open-2", "base");
        let digest = Digest::new(&results);
        assert_eq!(digest.systems[1].multiple_of_native_time, None);
        let told = |system: usize| {
            super::under_load(&digest, &digest.systems[system]).expect("there are loads")
        };
        assert!(
            told(1).ends_with("mkdir + rmdir x10.0 at 50 %, can not keep up at 90 %"),
            "{}",
            told(1)
        );
        assert!(told(2).ends_with("mkdir + rmdir x2.00 at 50 %, x1.75 at 90 %"), "{}", told(2));
        let sentences = super::sentences(&digest);
        assert!(sentences[1].starts_with("Operations arrive at a share of"), "{sentences:?}");
        let whole = sentences.join("\n");
        assert!(whole.contains(&told(2)) && !whole.contains("native's time"), "{whole}");
    }

    #[test]
    fn what_was_published_is_set_beside_the_last_step() {
        let mut digest = fixture::digest();
        digest.cells[0].cell.published = Some("sq-re-1MB-1th-1f".into());
        digest.cells[1].cell.published = Some("File-server-50th".into());
        let sentences = super::sentences(&digest);
        assert_eq!(
            sentences.get(1).map(String::as_str),
            Some(
                "On 2 rows of FAST'17, StackFS Opt had 0.99 of native's rate (geometric mean), \
                 \"fusewire\" has 0.63."
            )
        );
    }

    #[test]
    fn a_reference_that_is_a_mount_has_its_name() {
        let mut results = fixture::results();
        results.study.name = "locality".into();
        for system in &mut results.study.systems {
            if system.id == crate::study::record::NATIVE {
                system.title = "own mount".into();
            }
        }
        for sample in results.samples.iter_mut().filter(|sample| sample.system == "default") {
            if let crate::study::record::Outcome::Measured(run) = &mut sample.outcome {
                run.seconds /= 4.0;
            }
        }
        let sentences = super::sentences(&Digest::new(&results));
        assert_eq!(
            sentences[0],
            "In short: beside the own mount, \"fusewire\" is faster in 3 of 3 cells (most: seq read 1M, \
             buffered, by x3.20) and slower in 0; of 0 nothing can be said, 0 are the same."
        );
        let whole = sentences.join("\n");
        assert!(whole.contains("of the own mount's rate") && !whole.contains("native"), "{whole}");
    }

    #[test]
    fn each_system_has_its_sentence_and_the_ladder_its_sum() {
        let digest = fixture::digest();
        assert_eq!(
            digest.headline,
            [
                "In short: \"FAST'17 Base\" has 0.50 of native's rate and takes x9.49 native's time (mean of \
                 2 of 3 cells; worst: open + close, 1 thread x10.0). Its requests spend 43 % of their time on waking daemon \
                 and client, 14 % on the daemon's way in and out of the kernel, 43 % in the daemon and \
                 the source. Of the time that it adds to native, \"fusewire\" takes away 89 % (median of 3 \
                 cells where it is slower), and has 0.80 of native's rate and takes x1.87 native's time \
                 (mean of 2 of 3 cells; worst: open + close, 1 thread x2.00).",
                "FAST'17 Base: 0.50 of native's rate, x9.49 native's time (mean of 2 of 3 cells; worst: \
                 open + close, 1 thread x10.0); cells: 4 slower.",
                "fusewire: 0.80 of native's rate, x1.87 native's time (mean of 2 of 3 cells; worst: open + \
                 close, 1 thread x2.00); cells: 3 slower, 1 failed.",
            ]
        );
    }
}
