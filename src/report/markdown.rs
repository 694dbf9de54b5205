//! The comparison as the README.md of its result folder.

use std::fmt::Write;

use super::statistics::SAME_WITHIN;
use super::summary::{CellResult, CellSummary, Comparison, Summary};
use super::text;
use crate::study::sample::Percentiles;

/// The page. It repeats no figure that it does not explain.
pub fn render(summary: &Summary) -> String {
    let environment = &summary.environment;
    let mut page = String::new();
    let date = environment.began.get(..10).unwrap_or("");
    line(&mut page, &format!("# fusewire {} against native, {date}", environment.fusewire));
    line(&mut page, "");
    for sentence in text::headline(summary) {
        line(&mut page, &format!("- {sentence}"));
    }
    line(&mut page, &format!("- In force: {}.", text::in_force_at_end(summary)));
    for flag in text::flags(summary) {
        line(&mut page, &format!("- **Beware**: {flag}."));
    }
    for (rates, title, column) in [
        (true, "## Data (fio)", "share of native's rate, higher is better"),
        (false, "## Metadata (1 thread)", "x native's time, lower is better"),
    ] {
        let cells: Vec<&CellSummary> =
            summary.cells.iter().filter(|cell| cell.unit.is_rate() == rates).collect();
        if !cells.is_empty() {
            section(&mut page, title, column, &cells);
        }
    }
    costs(&mut page, summary);
    method(&mut page, summary);
    page
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn section(page: &mut String, title: &str, column: &str, cells: &[&CellSummary]) {
    let head = format!(
        "\n{title}\n\n| cell | native | fusewire | {column} [95 %] | A/A | verdict | requests per \
         operation |\n|---|--:|--:|--:|--:|---|---|"
    );
    line(page, &head);
    for cell in cells {
        let row = match &cell.result {
            CellResult::Failed(reason) => {
                let reason = reason.replace(['|', '\n'], " ");
                format!("| {} | - | - | - | - | failed | {reason} |", cell.cell.title)
            }
            CellResult::Compared(found) => format!(
                "| {} | {} | {} | **{}** | {} | {} | {} |",
                cell.cell.title,
                text::figure(found.native, cell.unit),
                text::figure(found.fusewire, cell.unit),
                text::ratio(found.ratio, cell.unit),
                text::band(found.noise_band),
                text::verdict(found.verdict),
                text::requests(found),
            ),
        };
        line(page, &row);
    }
}

fn costs(page: &mut String, summary: &Summary) {
    let compared: Vec<(&CellSummary, &Comparison)> =
        summary.cells.iter().filter_map(|cell| Some((cell, cell.comparison()?))).collect();
    if compared.is_empty() {
        return;
    }
    line(page, "\n## Latency, CPU and context switches of one operation\n");
    line(
        page,
        "Native / fusewire. Latency p50, p99, p99.9 in µs; CPU in µs of the client (fio or the \
         generator), and of the daemon in brackets; switches of client and daemon together.\n",
    );
    line(page, "| cell | p50 | p99 | p99.9 | CPU | switches |\n|---|--:|--:|--:|--:|--:|");
    for (cell, found) in compared {
        let latency = |value: fn(&Percentiles) -> u64| {
            let microseconds =
                |latency| text::number(crate::study::sample::count(value(latency)) / 1e3);
            format!(
                "{} / {}",
                microseconds(&found.native_latency_ns),
                microseconds(&found.fusewire_latency_ns)
            )
        };
        let row = format!(
            "| {} | {} | {} | {} | {} / {} ({}) | {} / {} |",
            cell.cell.title,
            latency(|latency| latency.p50),
            latency(|latency| latency.p99),
            latency(|latency| latency.p999),
            text::number(found.native_cpu_us_per_operation),
            text::number(found.fusewire_cpu_us_per_operation),
            text::number(found.daemon_cpu_us_per_operation),
            text::number(found.native_switches_per_operation),
            text::number(found.fusewire_switches_per_operation),
        );
        line(page, &row);
    }
}

fn method(page: &mut String, summary: &Summary) {
    let (environment, method) = (&summary.environment, &summary.method);
    line(page, "\n## How it was measured\n");
    let text = format!(
        "{} rounds, seed {}. In each round every cell runs natively, through fusewire and natively \
         again, one after the other in a seeded order. A round's ratio is fusewire against the \
         geometric mean of its two native runs; shown is the median of the rounds with its \
         bootstrap 95 % interval. A/A is what native differs from itself by. \"slower\" and \
         \"faster\" are said only if the interval excludes 1 and the median lies outside A/A; \
         \"same\" only if the interval holds 1, and it and A/A are no wider than x{SAME_WITHIN}; all \
         else is \"unclear\". \
         fio jobs last {} s on one {} MiB file which both systems share, written once and \
         overwritten in place; buffered cells are warm, O_DIRECT cells have no page cached.",
        method.rounds, method.seed, method.fio_seconds, method.size_mib
    );
    line(page, &text);
    let mut facts = vec![
        ("command", format!("`{}`", environment.command.join(" "))),
        ("backing", environment.backing.description.clone()),
        ("mount options", format!("`{}`", environment.backing.mount_options)),
    ];
    if let Some(options) = &environment.backing.mkfs_options {
        facts.push(("mkfs.ext4", format!("`{options}`")));
    }
    let guest = if environment.virtual_machine { ", a virtual machine" } else { "" };
    facts.push((
        "machine",
        format!(
            "{}, {} CPUs, {} MiB{guest}",
            environment.cpu, environment.cpus, environment.memory_mib
        ),
    ));
    let commit = environment.commit.as_ref().map_or_else(String::new, |c| format!(" ({c})"));
    facts.push((
        "software",
        format!(
            "Linux {}, {}, O_DIRECT through {}, fusewire {}{commit}",
            environment.kernel, environment.fio, environment.direct_engine, environment.fusewire
        ),
    ));
    facts.push((
        "noise",
        format!(
            "load {:.2} at the start, {:.1} % of CPU time stolen, {:.0} s in all",
            environment.load_average, environment.steal_percent, environment.duration_seconds
        ),
    ));
    line(page, "");
    for (name, value) in facts {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "- {name}: {value}");
    }
    line(
        page,
        "\n`summary.json` holds these tables, `samples.json` every run, `environment.json` the \
         machine and what the mount negotiated.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_page_is_the_golden_one() {
        let page = render(&fixture::summary());
        assert_eq!(page, include_str!("golden.md"), "got:\n{page}");
    }
}
