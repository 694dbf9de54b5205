//! The chart that answers first: each cell on each system against native, with its interval, and
//! the band in which native differs from itself.

use std::fmt::Write;

use super::super::digest::{CellDigest, Digest};
use super::super::words;
use super::svg::{LogScale, Look, escape};
use super::{groups, legend, look, row};
use crate::report::statistics::Interval;
use crate::report::text::number;

pub(super) fn section(digest: &Digest) -> String {
    let mut text = String::new();
    let mut number = 0;
    for (group, cells) in groups(digest) {
        for rates in [true, false] {
            number += 1;
            let cells: Vec<&CellDigest> = cells
                .iter()
                .copied()
                .filter(|cell| cell.cell.unit.is_rate() == rates)
                .filter(|cell| cell.comparisons().next().is_some())
                .collect();
            text += &chart(digest, number, group, rates, &cells);
        }
    }
    if text.is_empty() {
        return text;
    }
    let reference = escape(&digest.the_reference());
    let saturated = match digest.has_saturated() {
        true => format!("<p>{}</p>\n", escape(words::SATURATED_SAYS)),
        false => String::new(),
    };
    format!(
        "<p>Each mark is the median over the rounds, its line the 95 % interval; the grey band is what \
         {reference} differs from itself by (A/A), the thick line is {reference}. A difference is claimed \
         only if the interval excludes it and the mark lies outside of the band. The scale is \
         logarithmic.</p>\n{saturated}{}{text}",
        legend(digest, digest.compared())
    )
}

fn chart(
    digest: &Digest,
    number: usize,
    group: &str,
    rates: bool,
    cells: &[&CellDigest],
) -> String {
    let values = cells.iter().flat_map(|cell| {
        let kept_up = cell.comparisons().filter(|(_, figures, _)| !figures.is_saturated());
        let ratios = kept_up.map(|(_, _, found)| found.ratio);
        let band = cell.noise_band.into_iter().flat_map(|band| [band, 1.0 / band]);
        ratios.flat_map(|ratio| [ratio.low, ratio.high]).chain(band).chain([1.0])
    });
    let Some(scale) = LogScale::over(values.collect::<Vec<_>>().into_iter()) else {
        return String::new();
    };
    let reference = escape(&digest.the_reference());
    let (says, sign) = match rates {
        true => (format!("share of {reference}'s rate: right is better"), ""),
        false => (format!("multiple of {reference}'s time: left is better"), "x"),
    };
    // The lines of the ticks are drawn once, and used by every row.
    let ticks = format!("t{number}");
    let mut text =
        format!("<figure>\n<h3>{}</h3>\n<figcaption>{says}</figcaption>\n", escape(group));
    text += &row("", "", &axis(&scale, sign, &ticks));
    for cell in cells {
        let native = cell.figures(crate::study::record::NATIVE);
        let native = native.map_or_else(String::new, |figures| {
            let (name, value) = (digest.reference(), words::value(figures, cell.cell.unit));
            format!(" <span class=\"soft\">{} {value}</span>", escape(name))
        });
        let _ = writeln!(text, "<h4>{}{native}</h4>", escape(&cell.cell.title));
        for (system, figures, comparison) in cell.comparisons() {
            let look = look(digest, system);
            let name = format!("{}{}", look.swatch(), escape(digest.title(system)));
            let value = format!(
                "<b>{}</b> {}",
                words::against(figures, cell.cell.unit).unwrap_or_default(),
                words::verdict(figures)
            );
            let ratio = (!figures.is_saturated()).then_some(comparison.ratio);
            text += &row(&name, &value, &interval(&scale, &ticks, cell.noise_band, ratio, look));
        }
    }
    text += &row("", "", &axis(&scale, sign, ""));
    text + "</figure>\n"
}

/// One interval, over the band, between the lines of the ticks; of what is saturated a word.
fn interval(
    scale: &LogScale,
    ticks: &str,
    band: Option<f64>,
    ratio: Option<Interval>,
    look: Look,
) -> String {
    let label = ratio.map_or_else(
        || "can not keep up".to_owned(),
        |Interval { low, median, high }| {
            format!("{} from {} to {}", number(median), number(low), number(high))
        },
    );
    let mut text =
        format!("<svg class='ratio' width='100%' height='16' role='img' aria-label='{label}'>");
    if let Some(band) = band {
        let (from, to) = (scale.at(1.0 / band), scale.at(band));
        let _ = write!(
            text,
            "<rect class='aa' x='{from:.2}%' y='0' width='{:.2}%' height='16' fill='#ddd'/>",
            (to - from).max(0.2)
        );
    }
    let native = scale.at(1.0);
    let _ = write!(
        text,
        "<use href='#{ticks}'/>\
         <line x1='{native:.2}%' x2='{native:.2}%' y1='0' y2='16' stroke='#111' stroke-width='2.5'/>"
    );
    let _ = match ratio {
        Some(ratio) => write!(
            text,
            "<line x1='{:.2}%' x2='{:.2}%' y1='8' y2='8' stroke='{}' stroke-width='2'/>{}</svg>",
            scale.at(ratio.low),
            scale.at(ratio.high),
            look.colour(),
            look.mark(scale.at(ratio.median), 8.0)
        ),
        None => write!(text, "<text x='100%' y='12' text-anchor='end'>{label} →</text></svg>"),
    };
    text
}

/// The labels of the ticks; with an id also the definition of their lines.
fn axis(scale: &LogScale, sign: &str, id: &str) -> String {
    let mut text = String::from("<svg width='100%' height='16' aria-hidden='true'>");
    if !id.is_empty() {
        let _ = write!(text, "<defs><g id='{id}' stroke='#ccc'>");
        for x in scale.ticks().into_iter().map(|tick| scale.at(tick)) {
            let _ = write!(text, "<line x1='{x:.2}%' x2='{x:.2}%' y2='16'/>");
        }
        text.push_str("</g></defs>");
    }
    let mut last = f64::NEG_INFINITY;
    for tick in scale.ticks() {
        let x = scale.at(tick);
        // Labels that would overlap are left out; native's own is kept.
        if x - last < 9.0 && tick != 1.0 {
            continue;
        }
        last = x;
        let _ = write!(
            text,
            "<text x='{x:.2}%' y='12' text-anchor='middle'>{sign}{}</text>",
            short(tick)
        );
    }
    text + "</svg>"
}

/// A tick as short as it can be.
pub(super) fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
