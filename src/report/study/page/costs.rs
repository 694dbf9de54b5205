//! What the daemon was asked for one operation of the application: the reason of most ratios.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::cell::Figures;
use super::super::digest::{CellDigest, Digest};
use super::super::words;
use super::row;
use super::svg::{escape, fill_swatch, stack};

/// Opcodes beyond these many share one fill.
const OWN_FILLS: usize = 13;

pub(super) fn requests(digest: &Digest) -> String {
    let counted: Vec<&CellDigest> = digest.cells.iter().filter(|cell| is_counted(cell)).collect();
    if counted.is_empty() {
        return String::new();
    }
    // By how much of the bars they are: one READ may be the whole of one, and little beside many opens.
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for cell in &counted {
        let figures = || cell.results.iter().filter_map(|row| row.figures());
        let most = longest(figures());
        for (opcode, count) in figures().flat_map(|figures| &figures.requests_per_operation) {
            *sums.entry(opcode).or_default() += count / most;
        }
    }
    let mut opcodes: Vec<(&str, f64)> = sums.into_iter().collect();
    opcodes.sort_by(|a, b| b.1.total_cmp(&a.1));
    let fill_of = |opcode: &str| {
        let place = opcodes.iter().position(|(known, _)| *known == opcode);
        place.unwrap_or(OWN_FILLS).min(OWN_FILLS)
    };
    let mut text = String::from(
        "<p>As the daemon counted them. Nothing is the best there is: then the kernel did it alone. \
         Each request costs two switches between client and daemon.</p>\n<p class=\"legend\">",
    );
    for (index, (opcode, _)) in opcodes.iter().take(OWN_FILLS).enumerate() {
        let _ = write!(text, "<span>{}{}</span>", fill_swatch(index), escape(opcode));
    }
    if opcodes.len() > OWN_FILLS {
        let _ = write!(text, "<span>{}others</span>", fill_swatch(OWN_FILLS));
    }
    text.push_str("</p>\n<figure>\n");
    for cell in counted {
        let _ = writeln!(text, "<h4>{}</h4>", escape(&cell.cell.title));
        let figures = || cell.results.iter().filter_map(|row| Some((&row.system, row.figures()?)));
        let most = longest(figures().map(|(_, figures)| figures));
        for (system, figures) in
            figures().filter(|(_, found)| !found.requests_per_operation.is_empty())
        {
            let mut parts: Vec<(f64, usize)> = figures
                .requests_per_operation
                .iter()
                .map(|(opcode, count)| (*count, fill_of(opcode)))
                .collect();
            parts.sort_by_key(|(_, fill)| *fill);
            let words = words::requests(figures);
            text += &row(
                &escape(digest.title(system)),
                &escape(&words),
                &stack(&parts, most, &format!("{}: {words}", digest.title(system))),
            );
        }
    }
    text + "</figure>\n"
}

/// The requests that are as long as a bar can be.
fn longest<'a>(figures: impl Iterator<Item = &'a Figures>) -> f64 {
    figures.map(Figures::requests).fold(1.0, f64::max)
}

/// Whether a daemon of fusewire counted for this cell.
fn is_counted(cell: &CellDigest) -> bool {
    let mut figures = cell.results.iter().filter_map(|row| row.figures());
    figures.any(|figures| !figures.requests_per_operation.is_empty())
}
