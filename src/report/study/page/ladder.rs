//! Where the time of one operation goes: from the differences between the steps of a ladder, and
//! from traces of single requests. Two views of one thing, which have to agree.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::digest::{CellDigest, Digest};
use super::super::{agreement, steps, words};
use super::svg::{escape, fill_swatch, stack};
use super::{row, scrolling};
use crate::report::text::number;

pub(super) fn section(digest: &Digest) -> String {
    steps_of_ladder(digest) + &layers(digest) + &held_against_each_other(digest)
}

/// For each cell one bar as long as the first step's time: native's part, what the last step still
/// adds, and what each step between took away.
fn steps_of_ladder(digest: &Digest) -> String {
    let Some(ladder) = steps::Ladder::of(digest) else {
        return String::new();
    };
    let reference = digest.reference();
    let mut legend = format!(
        "<p class=\"legend\"><span>{}{}</span><span>{}what \"{}\" still adds</span>",
        fill_swatch(0),
        escape(reference),
        fill_swatch(1),
        escape(ladder.titles.last().map_or("", String::as_str))
    );
    for (index, title) in ladder.titles.iter().enumerate().skip(1) {
        let _ = write!(
            legend,
            "<span>{}taken away by {}</span>",
            fill_swatch(index + 1),
            escape(title)
        );
    }
    legend.push_str("</p>\n");
    let mut bars = String::new();
    let mut head = format!("<th class=\"text\">cell</th><th>{}</th>", escape(reference));
    for title in &ladder.titles {
        let _ = write!(head, "<th>{}</th>", escape(title));
    }
    let mut body = String::new();
    for cell in &ladder.cells {
        let found = cell.parts();
        let mut parts = vec![(found.native, 0), (found.stays, 1)];
        let taken = found.taken.iter().enumerate().rev();
        parts.extend(taken.map(|(step, taken)| (*taken, step + 2)));
        let whole = parts.iter().map(|(part, _)| part).sum::<f64>().max(f64::MIN_POSITIVE);
        let native = words::microseconds(cell.native.median);
        let label = format!(
            "{}: {reference} {native}, first step {}, last step {}",
            cell.title,
            words::microseconds(cell.times.first()),
            words::microseconds(cell.times.last())
        );
        let value = format!(
            "{} → <b>{}</b>, {} {native}",
            words::microseconds(cell.times.first()),
            words::microseconds(cell.times.last()),
            escape(reference)
        );
        bars += &row(&escape(&cell.title), &value, &stack(&parts, whole, &label));
        let _ = write!(body, "<tr><td>{}</td><td>{native}</td>", escape(&cell.title));
        for step in &cell.times.0 {
            let text = step.map_or_else(|| "-".into(), |time| words::microseconds(time.median));
            let _ = write!(body, "<td>{text}</td>");
        }
        body.push_str("</tr>\n");
    }
    format!(
        "<h3>Step by step</h3>\n<p>Time of one operation. A bar is as long as the first step of the \
         ladder takes; each part is what one change took away, or what stays. A step is drawn only if its \
         95 % interval lies outside of that of the step drawn before: all else may be noise, and the next \
         step that is drawn has its part. What a step added is taken off what those before it took away. \
         The table shows every step as it was measured.</p>\n{legend}<figure>\n{bars}</figure>\n{}",
        scrolling(&head, &body)
    )
}

/// The layers of a traced request, in the order in which it passes them.
fn layers(digest: &Digest) -> String {
    let traced: Vec<(&CellDigest, &str, &BTreeMap<String, f64>)> = digest
        .cells
        .iter()
        .flat_map(|cell| {
            cell.results.iter().filter_map(move |row| {
                Some((cell, row.system.as_str(), row.figures()?.layers_ns.as_ref()?))
            })
        })
        .collect();
    if traced.is_empty() {
        return String::new();
    }
    let names = steps::layer_names(traced.iter().map(|(_, _, layers)| *layers));
    let mut legend = String::from("<p class=\"legend\">");
    let mut head =
        String::from("<th class=\"text\">cell, system</th><th>untraced</th><th>traced</th>");
    for (index, name) in names.iter().enumerate() {
        let (label, _) = steps::layer_words(name);
        let _ = write!(legend, "<span>{}{label}</span>", fill_swatch(index));
        let _ = write!(head, "<th>{label}</th>");
    }
    legend.push_str("</p>\n");
    let (mut bars, mut body, mut last) = (String::new(), String::new(), "");
    for (cell, system, layers) in traced {
        if last != cell.cell.id {
            let _ = writeln!(bars, "<h4>{}</h4>", escape(&cell.cell.title));
            last = &cell.cell.id;
        }
        let longest = cell.results.iter().filter_map(|row| row.figures()?.layers_ns.as_ref());
        let longest = longest.map(|layers| layers.values().sum()).fold(f64::MIN_POSITIVE, f64::max);
        let of = |name: &str| layers.get(name).copied().unwrap_or(0.0);
        let parts: Vec<(f64, usize)> =
            names.iter().enumerate().map(|(index, name)| (of(name), index)).collect();
        let sum = words::microseconds(layers.values().sum::<f64>() / 1e3);
        let title = digest.title(system);
        bars += &row(&escape(title), &sum, &stack(&parts, longest, &format!("{title}: {sum}")));
        let _ = write!(
            body,
            "<tr><td>{}, {}</td><td>{}</td><td>{sum}</td>",
            escape(&cell.cell.title),
            escape(title),
            cell.figures(system).map_or_else(String::new, |found| {
                words::microseconds(found.wall_us_per_operation)
            })
        );
        for name in &names {
            let _ = write!(body, "<td>{}</td>", number(of(name) / 1e3));
        }
        body.push_str("</tr>\n");
    }
    let meanings: String = names
        .iter()
        .map(|name| {
            let (label, meaning) = steps::layer_words(name);
            format!("<dt>{label}</dt><dd>{meaning}</dd>")
        })
        .collect();
    format!(
        "<h3>Layer by layer</h3>\n<p>{}</p>\n{legend}<figure>\n{bars}</figure>\n{}<dl>{meanings}</dl>\n",
        steps::LAYERS_SAY,
        scrolling(&head, &body)
    )
}

/// Each step as it was measured, and as the trace has it.
fn held_against_each_other(digest: &Digest) -> String {
    let steps = agreement::of(digest);
    if steps.is_empty() {
        return String::new();
    }
    let head = "<th class=\"text\">cell</th><th class=\"text\">from</th><th class=\"text\">to</th>\
                <th>measured</th><th>traced</th><th>mostly in</th><th>outside</th>";
    let mut body = String::new();
    for step in &steps {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td>\
             <td>{} {}</td><td>{}</td></tr>",
            escape(step.cell),
            escape(step.from),
            escape(step.to),
            words::changes(step.measured),
            words::change(step.traced),
            step.layer.0,
            words::change(step.layer.1),
            words::deviation(step)
        );
    }
    format!(
        "<h3>Step by step against layer by layer</h3>\n<p>{}</p>\n{}",
        agreement::sentence(&steps),
        scrolling(head, &body)
    )
}
