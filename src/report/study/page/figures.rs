//! Everything as tables: the systems beside each other, and each cell on each system.

use std::fmt::Write;

use super::super::cell::{Figures, Row};
use super::super::digest::{CellDigest, Digest, SystemDigest};
use super::super::words;
use super::svg::escape;
use super::{groups, look, scrolling};
use crate::report::statistics::Verdict;
use crate::report::text::number;

/// One line a system.
pub(super) fn systems(digest: &Digest) -> String {
    let reference = escape(&digest.the_reference());
    let head = format!(
        "<th class=\"text\">system</th><th>share of {reference}'s rate</th><th>multiple of {reference}'s \
         time</th><th>same</th><th>faster</th><th>slower</th><th>unclear</th><th>saturated</th>\
         <th>failed</th>"
    );
    let mut body = String::new();
    for found in digest.compared() {
        let mean = |mean: Option<f64>, sign: &str, cells: usize| {
            let text = |mean| {
                format!("<b>{sign}{}</b> <span class=\"soft\">of {cells}</span>", number(mean))
            };
            mean.map_or_else(|| "-".to_owned(), text)
        };
        let cells = |verdict| found.verdicts.get(&verdict).copied().unwrap_or(0);
        let _ = writeln!(
            body,
            "<tr><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td></tr>",
            look(digest, &found.system.id).swatch(),
            escape(&found.system.title),
            mean(found.share_of_native_rate, "", found.rate_cells),
            mean(found.multiple_of_native_time, "x", found.time_cells),
            cells(Verdict::Same),
            cells(Verdict::Faster),
            cells(Verdict::Slower),
            cells(Verdict::Unclear),
            cells(Verdict::Saturated),
            found.failed
        );
    }
    if body.is_empty() {
        return body;
    }
    let most = |cells: fn(&SystemDigest) -> usize| digest.compared().map(cells).max().unwrap_or(0);
    let kinds = [
        ("rates", most(|found| found.rate_cells), digest.cells_of(true)),
        ("times", most(|found| found.time_cells), digest.cells_of(false)),
    ];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(.., all)| *all > 0)
        .map(|(kind, cells, all)| format!("{cells} of {all} {kind}"))
        .collect();
    let means = match kinds.is_empty() {
        true => "Number of cells by verdict.".to_owned(),
        false => format!(
            "Geometric means over the cells that all systems have, {}, and behind each over how many; then \
             the number of cells by verdict.",
            kinds.join(" and ")
        ),
    };
    format!("<p class=\"soft\">{means}</p>\n{}", scrolling(&head, &body))
}

pub(super) fn section(digest: &Digest) -> String {
    let head = format!(
        "<th class=\"text\">cell, system</th><th>figure</th><th>against {}<br>[95 %]</th>\
         <th>A/A</th><th class=\"text\">verdict</th><th>p50</th><th>p99</th><th>p99.9</th>\
         <th>CPU µs client</th><th>CPU µs daemon</th><th>switches</th><th>moves</th>\
         <th class=\"text\">requests</th>",
        escape(digest.reference())
    );
    let mut text = String::from(
        "<p>CPU, switches (client and daemon, voluntary + involuntary), moves between CPUs and \
         requests are those of one operation; - is a daemon that nobody saw.</p>\n",
    );
    for (group, cells) in groups(digest) {
        let body: String = cells.iter().map(|cell| lines(digest, cell)).collect();
        let _ = write!(text, "<h3>{}</h3>\n{}", escape(group), scrolling(&head, &body));
    }
    text
}

/// A line for the cell, with native's figures, and one for each system.
fn lines(digest: &Digest, cell: &CellDigest) -> String {
    let mut text = String::new();
    for (index, row) in cell.results.iter().enumerate() {
        let (class, name) = match index {
            0 => (
                " class=\"cell\"",
                format!(
                    "<b>{}</b>, {}",
                    escape(&cell.cell.title),
                    escape(digest.title(&row.system))
                ),
            ),
            _ => ("", escape(digest.title(&row.system))),
        };
        let _ = write!(text, "<tr{class}><td>{name}</td>");
        text += &match (row.figures(), words::no_figure(&row.result)) {
            (Some(figures), _) => columns(digest, cell, row, figures),
            (None, reason) => format!(
                "<td class=\"text\" colspan=\"12\">{}</td>",
                escape(&reason.unwrap_or_default())
            ),
        };
        text.push_str("</tr>\n");
    }
    text
}

fn columns(digest: &Digest, cell: &CellDigest, row: &Row, figures: &Figures) -> String {
    let (unit, cost) = (cell.cell.unit, figures.cost);
    let native = row.comparison().is_none();
    let ratio = words::against(figures, unit).unwrap_or_default();
    let [p50, p99, p999] = words::latencies(figures);
    let moves = cost.migrations.map_or_else(|| "-".into(), number);
    let band = if native { words::band(cell.noise_band) } else { String::new() };
    let daemon = words::daemon_cpu(row).unwrap_or_default();
    let requests = match native {
        true => String::new(),
        false if digest.counts(&row.system) => escape(&words::requests(figures)),
        false => "not counted".to_owned(),
    };
    format!(
        "<td>{}</td><td>{ratio}</td><td>{band}</td><td class=\"text\">{}</td><td>{p50}</td><td>{p99}</td>\
         <td>{p999}</td><td>{}</td><td>{daemon}</td><td>{} + {}</td><td>{moves}</td>\
         <td class=\"text\">{requests}</td>",
        words::value(figures, unit),
        words::verdict(figures),
        number(cost.client_cpu_us),
        number(cost.voluntary_switches),
        number(cost.involuntary_switches),
    )
}
