//! The study as one HTML page that needs nothing else: no network, no script. It reads on a phone
//! and on black-and-white paper.

mod costs;
mod facts;
mod figures;
mod ladder;
mod latency;
mod ratios;
mod scaling;
mod svg;

use std::fmt::Write;

use super::digest::{CellDigest, Digest, SystemDigest};
use super::published;
use svg::{Look, escape};

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn render(digest: &Digest) -> String {
    let date = digest.environment.began.get(..10).unwrap_or("");
    let title = format!("fusewire study {}, {date}", digest.study);
    let against = format!("Against {}", escape(digest.reference()));
    let about = digest.title.as_ref();
    let about = about
        .map_or_else(String::new, |about| format!("<p class=\"about\">{}</p>\n", escape(about)));
    let sections: [(&str, &str, String); 10] = [
        ("says", "What it says", says(digest)),
        ("ratios", &against, ratios::section(digest)),
        ("published", "Beside what was published", published_section(digest)),
        ("time", "Where the time goes", ladder::section(digest)),
        ("requests", "Requests of one operation", costs::requests(digest)),
        ("scaling", "With more threads", scaling::section(digest)),
        ("latency", "Latency", latency::section(digest)),
        ("figures", "All figures", figures::section(digest)),
        ("method", "How it was measured", facts::method(digest)),
        ("environment", "On what", facts::environment(digest)),
    ];
    let present = || sections.iter().filter(|(.., body)| !body.is_empty());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}\n<h1>{title}</h1>\n{about}<nav>",
        svg::patterns(),
        title = escape(&title),
    );
    for (id, heading, _) in present() {
        let _ = write!(page, "<a href=\"#{id}\">{heading}</a> ");
    }
    page.push_str("</nav>\n");
    for (id, heading, body) in present() {
        let _ = write!(page, "<section id=\"{id}\">\n<h2>{heading}</h2>\n{body}</section>\n");
    }
    page + "</body>\n</html>\n"
}

/// The headline, the warnings, and the systems beside each other.
fn says(digest: &Digest) -> String {
    let list = |class: &str, lines: &[String]| {
        let lines: String =
            lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
        format!("<ul class=\"{class}\">\n{lines}</ul>\n")
    };
    let mut text = list("headline", &digest.headline);
    if !digest.warnings.is_empty() {
        text += "<h3>Beware</h3>\n";
        text += &list("warnings", &digest.warnings);
    }
    text + &figures::systems(digest)
}

fn published_section(digest: &Digest) -> String {
    let rows = published::rows(digest);
    if rows.is_empty() {
        return String::new();
    }
    let mut head =
        String::from("<th class=\"text\">workload</th><th>StackFS Base</th><th>StackFS Opt</th>");
    for system in digest.compared() {
        let _ = write!(head, "<th>{}</th>", escape(&system.system.title));
    }
    let mut body = String::new();
    for row in rows.iter().chain(&published::means(&rows)) {
        let share = |share: Option<f64>| share.map_or("-".into(), crate::report::text::number);
        let _ = write!(
            body,
            "<tr><td>{} <span class=\"soft\">({})</span></td><td>{}</td><td>{}</td>",
            escape(&row.title),
            escape(&row.workload),
            share(row.base),
            share(row.opt)
        );
        for ours in &row.ours {
            let _ = write!(body, "<td><b>{}</b></td>", share(*ours));
        }
        body.push_str("</tr>\n");
    }
    format!(
        "<p>Shares of native's rate, higher is better. Published: {}. Ours: the median ratio of this \
         study; of times the inverse.</p>\n{}",
        escape(published::SOURCE),
        scrolling(&head, &body)
    )
}

/// A table that scrolls in its own box.
fn scrolling(head: &str, body: &str) -> String {
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table></div>\n"
    )
}

/// The look of a system: its place in the study.
fn look(digest: &Digest, system: &str) -> Look {
    Look(digest.systems.iter().position(|found| found.system.id == system).unwrap_or(0))
}

/// What the marks stand for, of these systems.
fn legend<'a>(digest: &Digest, systems: impl Iterator<Item = &'a SystemDigest>) -> String {
    let entries: String = systems
        .map(|found| {
            let (look, title) = (look(digest, &found.system.id), escape(&found.system.title));
            format!("<span>{}{title}</span>", look.swatch())
        })
        .collect();
    format!("<p class=\"legend\">{entries}</p>\n")
}

/// The cells by group, in the order of the study.
fn groups(digest: &Digest) -> Vec<(&str, Vec<&CellDigest>)> {
    let mut groups: Vec<(&str, Vec<&CellDigest>)> = Vec::new();
    for cell in &digest.cells {
        match groups.iter_mut().find(|(name, _)| *name == cell.cell.group) {
            Some((_, cells)) => cells.push(cell),
            None => groups.push((&cell.cell.group, vec![cell])),
        }
    }
    groups
}

/// One line of a chart: a name, a figure, and a drawing that is as wide as there is room.
fn row(name: &str, value: &str, drawing: &str) -> String {
    format!(
        "<div class=\"row\"><div class=\"name\">{name}</div><div class=\"value\">{value}</div>\
         <div>{drawing}</div></div>\n"
    )
}

#[cfg(test)]
mod tests;
