//! The study as the README.md of its folder.

use super::digest::{CellDigest, Digest};
use super::{agreement, facts, published, steps, words};
use crate::report::text::number;

/// The page.
pub fn render(digest: &Digest) -> String {
    let date = digest.environment.began.get(..10).unwrap_or("");
    let mut lines =
        vec![format!("# fusewire study {}, {date}", plain(&digest.study)), String::new()];
    if let Some(title) = &digest.title {
        lines.extend([plain(title), String::new()]);
    }
    lines.extend(digest.headline.iter().map(|sentence| format!("- {}", plain(sentence))));
    lines.extend(digest.warnings.iter().map(|warning| format!("- **Beware**: {}", plain(warning))));
    lines.push("\n`report.html` shows the same with charts; `summary.json` and `summary.csv` hold it for programs.".into());
    let mut groups: Vec<&str> = Vec::new();
    for cell in &digest.cells {
        if !groups.contains(&cell.cell.group.as_str()) {
            groups.push(&cell.cell.group);
        }
    }
    for group in groups {
        let cells: Vec<&CellDigest> =
            digest.cells.iter().filter(|cell| cell.cell.group == group).collect();
        ratios(digest, group, &cells, &mut lines);
    }
    beside_published(digest, &mut lines);
    ladder(digest, &mut lines);
    layers(digest, &mut lines);
    costs(digest, &mut lines);
    method(digest, &mut lines);
    lines.join("\n") + "\n"
}

/// What a study calls things is no markup.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What may stand in a column.
fn column(text: &str) -> String {
    plain(text).replace(['|', '\n'], " ")
}

fn ratios(digest: &Digest, group: &str, cells: &[&CellDigest], lines: &mut Vec<String>) {
    let reference = digest.reference();
    lines.push(format!("\n## Against {}: {}\n", plain(reference), plain(group)));
    let titles: String =
        digest.compared().map(|found| format!(" {} |", column(&found.system.title))).collect();
    lines.push(format!("| cell | {} | A/A |{titles}", column(reference)));
    lines.push(format!("|---|--:|--:|{}", "--:|".repeat(digest.compared().count())));
    for cell in cells {
        let unit = cell.cell.unit;
        let native = cell.figures(crate::study::record::NATIVE);
        let native = native.map_or_else(|| "-".into(), |found| words::value(found, unit));
        let mut line = format!(
            "| {} | {native} | {} |",
            column(&cell.cell.title),
            words::band(cell.noise_band)
        );
        for row in cell.results.iter().skip(1) {
            let text = match (row.figures(), words::no_figure(&row.result)) {
                (_, Some(reason)) => column(&reason),
                (Some(figures), _) => match words::against(figures, unit) {
                    Some(ratio) => format!("**{ratio}** {}", words::verdict(figures)),
                    None => words::value(figures, unit),
                },
                (None, None) => String::new(),
            };
            line += &format!(" {text} |");
        }
        lines.push(line);
    }
    lines.push(format!(
        "\nOf rates the share of {}'s, higher is better; x: of times the multiple, lower is better; \
         [95 % interval].",
        plain(&digest.the_reference())
    ));
    if digest.has_saturated() {
        lines.push(format!("\n{}", words::SATURATED_SAYS));
    }
}

fn beside_published(digest: &Digest, lines: &mut Vec<String>) {
    let rows = published::rows(digest);
    if rows.is_empty() {
        return;
    }
    lines.push("\n## Beside what was published\n".into());
    lines.push(format!(
        "Shares of native's rate, higher is better. Published: {}.\n",
        published::SOURCE
    ));
    let titles: String =
        digest.compared().map(|found| format!(" {} |", column(&found.system.title))).collect();
    lines.push(format!("| workload | StackFS Base | StackFS Opt |{titles}"));
    lines.push(format!("|---|--:|--:|{}", "--:|".repeat(digest.compared().count())));
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), number);
    for row in rows.iter().chain(&published::means(&rows)) {
        let ours: String = row.ours.iter().map(|ours| format!(" **{}** |", share(*ours))).collect();
        lines.push(format!(
            "| {} ({}) | {} | {} |{ours}",
            column(&row.title),
            row.workload,
            share(row.base),
            share(row.opt)
        ));
    }
}

fn ladder(digest: &Digest, lines: &mut Vec<String>) {
    let Some(ladder) = steps::Ladder::of(digest) else {
        return;
    };
    lines.push("\n## Step by step: time of one operation\n".into());
    let titles: String =
        ladder.titles.iter().map(|title| format!(" {} |", column(title))).collect();
    lines.push(format!("| cell | {} |{titles}", column(digest.reference())));
    lines.push(format!("|---|--:|{}", "--:|".repeat(ladder.titles.len())));
    for cell in &ladder.cells {
        let times: String = cell
            .times
            .0
            .iter()
            .map(|time| time.map_or_else(|| "-".into(), |time| words::microseconds(time.median)))
            .map(|time| format!(" {time} |"))
            .collect();
        let native = words::microseconds(cell.native.median);
        lines.push(format!("| {} | {native} |{times}", column(&cell.title)));
    }
}

fn layers(digest: &Digest, lines: &mut Vec<String>) {
    let traced: Vec<_> = digest
        .cells
        .iter()
        .flat_map(|cell| cell.results.iter().map(move |row| (cell, row)))
        .filter_map(|(cell, row)| Some((cell, row, row.figures()?.layers_ns.as_ref()?)))
        .collect();
    if traced.is_empty() {
        return;
    }
    let names = steps::layer_names(traced.iter().map(|(.., layers)| *layers));
    lines.push(format!("\n## Layer by layer\n\n{}\n", steps::LAYERS_SAY));
    let titles: String =
        names.iter().map(|name| format!(" {} |", steps::layer_words(name).0)).collect();
    lines.push(format!("| cell | system | untraced | traced |{titles}"));
    lines.push(format!("|---|---|--:|--:|{}", "--:|".repeat(names.len())));
    for (cell, row, layers) in traced {
        let untraced = row.figures().map_or(0.0, |found| found.wall_us_per_operation);
        let parts: String = names
            .iter()
            .map(|name| format!(" {} |", number(layers.get(*name).copied().unwrap_or(0.0) / 1e3)))
            .collect();
        lines.push(format!(
            "| {} | {} | {} | {} |{parts}",
            column(&cell.cell.title),
            column(digest.title(&row.system)),
            number(untraced),
            number(layers.values().sum::<f64>() / 1e3)
        ));
    }
    held_against_the_ladder(digest, lines);
}

fn held_against_the_ladder(digest: &Digest, lines: &mut Vec<String>) {
    let steps = agreement::of(digest);
    if steps.is_empty() {
        return;
    }
    lines.push(format!(
        "\n## Step by step against layer by layer\n\n{}\n",
        agreement::sentence(&steps)
    ));
    lines.push("| cell | from | to | measured | traced | mostly in | outside |".into());
    lines.push("|---|---|---|--:|--:|---|--:|".into());
    for step in steps {
        lines.push(format!(
            "| {} | {} | {} | {} | {} | {} {} | {} |",
            column(step.cell),
            column(step.from),
            column(step.to),
            words::changes(step.measured),
            words::change(step.traced),
            step.layer.0,
            words::change(step.layer.1),
            words::deviation(&step),
        ));
    }
}

fn costs(digest: &Digest, lines: &mut Vec<String>) {
    lines.push("\n## Latency, CPU, switches and requests of one operation\n".into());
    lines.push(
        "CPU in µs of client + daemon (-: not seen); context switches of both, voluntary + involuntary; moves of both \
         between CPUs; requests that the daemon served.\n"
            .into(),
    );
    lines.push("| cell | system | p50 | p99 | p99.9 | CPU | switches | moves | requests |".into());
    lines.push("|---|---|--:|--:|--:|--:|--:|--:|---|".into());
    for cell in &digest.cells {
        for row in &cell.results {
            let Some(figures) = row.figures() else { continue };
            let [p50, p99, p999] = words::latencies(figures);
            let cost = figures.cost;
            let requests = match row.comparison() {
                Some(_) if digest.counts(&row.system) => words::requests(figures),
                Some(_) => "not counted".into(),
                None => String::new(),
            };
            lines.push(format!(
                "| {} | {} | {p50} | {p99} | {p999} | {}{} | {} + {} | {} | {requests} |",
                column(&cell.cell.title),
                column(digest.title(&row.system)),
                number(cost.client_cpu_us),
                words::daemon_cpu(row).map_or_else(String::new, |cpu| format!(" + {cpu}")),
                number(cost.voluntary_switches),
                number(cost.involuntary_switches),
                cost.migrations.map_or_else(|| "-".into(), number),
            ));
        }
    }
}

fn method(digest: &Digest, lines: &mut Vec<String>) {
    lines.push("\n## How it was measured\n".into());
    lines.push(facts::method(digest).join("\n\n"));
    lines.push(String::new());
    for found in digest.compared() {
        lines.push(format!(
            "- {}: `{}`; in force: {}",
            plain(&found.system.title),
            found.system.arguments.join(" "),
            plain(&facts::in_force(&found.system))
        ));
    }
    lines.push("\n## On what\n".into());
    for (name, value) in facts::environment(&digest.environment) {
        lines.push(format!("- {name}: {}", plain(&value)));
    }
}
