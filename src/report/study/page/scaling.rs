//! The same work by more and more threads: cells that differ in nothing else.

use std::fmt::Write;

use super::super::digest::{CellDigest, Digest};
use super::super::scaling::{families, gain, speed};
use super::ratios::short;
use super::svg::{escape, line, plane, spread};
use super::{legend, look, scrolling};
use crate::report::text::number;
use crate::study::record::NATIVE;

const HEIGHT: u32 = 190;

pub(super) fn section(digest: &Digest) -> String {
    let plots: String = families(digest).iter().filter_map(|family| plot(digest, family)).collect();
    if plots.is_empty() {
        return plots;
    }
    format!(
        "<p>Operations a second of all threads together, as a multiple of what the fewest threads do \
         {}. The last column is a system's own gain: the most threads against the fewest, on the \
         same system.</p>\n{plots}",
        match digest.reference() {
            NATIVE => "natively".to_owned(),
            _ => format!("on {}", escape(&digest.the_reference())),
        }
    )
}

fn plot(digest: &Digest, family: &[&CellDigest]) -> Option<String> {
    let reference = family.iter().find_map(|cell| speed(cell, NATIVE))?;
    let places: Vec<f64> = spread(family.len()).collect();
    let series: Vec<(&str, Vec<(usize, f64)>)> = digest
        .systems
        .iter()
        .map(|found| {
            let id = found.system.id.as_str();
            let values = family.iter().enumerate();
            let values =
                values.filter_map(|(place, cell)| Some((place, speed(cell, id)? / reference)));
            (id, values.collect::<Vec<_>>())
        })
        .filter(|(_, values)| !values.is_empty())
        .collect();
    let top = series.iter().flat_map(|(_, values)| values).map(|(_, value)| *value);
    let top = top.fold(0.0, f64::max) * 1.08;
    let (mut lines, mut marks) = (String::new(), grid(family, &places, top));
    for (system, values) in &series {
        let look = look(digest, system);
        let points: Vec<(f64, f64)> =
            values.iter().map(|(place, value)| (places[*place], value / top * 100.0)).collect();
        lines += &line(&points, look);
        for (x, y) in points {
            marks += &look.mark(x, (100.0 - y) / 100.0 * f64::from(HEIGHT));
        }
    }
    let mut head = String::from("<th class=\"text\">system</th>");
    for cell in family {
        let _ = write!(head, "<th>{}</th>", threads(cell.cell.threads));
    }
    head.push_str("<th>own gain</th>");
    let mut body = String::new();
    for (system, values) in &series {
        let _ = write!(body, "<tr><td>{}</td>", escape(digest.title(system)));
        for place in 0..family.len() {
            let value = values.iter().find(|(found, _)| *found == place);
            let text = value.map_or_else(|| "-".into(), |(_, value)| number(*value));
            let _ = write!(body, "<td>{text}</td>");
        }
        let own =
            gain(family, system).map_or_else(|| "-".into(), |own| format!("x{}", number(own)));
        let _ = writeln!(body, "<td>{own}</td></tr>");
    }
    let shown = series.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    let shown = digest.systems.iter().filter(|found| shown.contains(&found.system.id.as_str()));
    let title = common_title(family);
    Some(format!(
        "<figure>\n<h4>{}</h4>\n{}{}</figure>\n{}",
        escape(&title),
        legend(digest, shown),
        plane(HEIGHT, &lines, &marks, &format!("{title}, by threads")),
        scrolling(&head, &body)
    ))
}

/// What the titles of a family have in common: that without the number of threads, or what they begin
/// with, without the comma before the number.
fn common_title(family: &[&CellDigest]) -> String {
    let without = |cell: &CellDigest| {
        let number = threads(cell.cell.threads);
        let parts = cell.cell.title.split(", ").filter(|part| *part != number);
        parts.collect::<Vec<_>>().join(", ")
    };
    let bare = without(family[0]);
    if family.iter().all(|cell| without(cell) == bare) {
        return bare;
    }
    let first = &family[0].cell.title;
    let same = |other: &&CellDigest| {
        let pairs = first.char_indices().zip(other.cell.title.chars());
        let end = pairs.take_while(|((_, a), b)| a == b).last();
        end.map_or(0, |((index, letter), _)| index + letter.len_utf8())
    };
    let length = family.iter().map(same).min().unwrap_or(0);
    let common = first[..length].trim_end_matches([' ', ',', '(']);
    if common.is_empty() { first.clone() } else { common.to_owned() }
}

fn threads(number: u32) -> String {
    if number == 1 { "1 thread".into() } else { format!("{number} threads") }
}

fn grid(family: &[&CellDigest], places: &[f64], top: f64) -> String {
    let mut text = String::new();
    for (cell, x) in family.iter().zip(places) {
        let _ = write!(
            text,
            "<text x='{x:.2}%' y='{}' text-anchor='middle'>{}</text>",
            HEIGHT + 14,
            threads(cell.cell.threads)
        );
    }
    let step = [0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|step| top / step <= 6.0)
        .unwrap_or(top / 4.0);
    let mut value = 0.0;
    while value <= top {
        let y = (1.0 - value / top) * f64::from(HEIGHT);
        let _ = write!(
            text,
            "<line x1='0' x2='100%' y1='{y:.1}' y2='{y:.1}' stroke='#ccc'/><text x='-4' y='{:.1}' \
             text-anchor='end'>{}</text>",
            y + 4.0,
            short(value)
        );
        value += step;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;

    #[test]
    fn a_family_is_called_what_its_cells_have_in_common() {
        let title = |digest: &Digest| common_title(&families(digest)[0]);
        let mut digest = fixture::digest();
        assert_eq!(title(&digest), "open + close");
        for cell in &mut digest.cells {
            cell.cell.title += ", one directory";
        }
        assert_eq!(title(&digest), "open + close, one directory");
        digest.cells[1].cell.title = "open + close (one)".into();
        assert_eq!(title(&digest), "open + close");
    }
}
