//! The doctor's report as text of at most 100 columns. Pure.

use std::fmt::Write;

use super::Report;
use super::check::{Check, Group, Status};

const COLUMNS: usize = 100;
const STATUS_WIDTH: usize = 10;
const NAME_WIDTH: usize = 21;
/// Where findings begin.
const INDENT: usize = 2 + STATUS_WIDTH + NAME_WIDTH;

/// The whole report.
pub fn text(report: &Report) -> String {
    let possible =
        if report.can_mount { "mounting is possible" } else { "mounting is NOT possible" };
    let mut out = format!(
        "fusewire {} on Linux {}, as {}: {possible}\n",
        report.version, report.kernel, report.user
    );
    for (group, title) in
        [(Group::Kernel, "This kernel"), (Group::User, "This user"), (Group::Source, "This source")]
    {
        let checks: Vec<_> = report.checks.iter().filter(|check| check.group == group).collect();
        if !checks.is_empty() {
            let _ = write!(out, "\n{title}\n");
        }
        for check in checks {
            one(&mut out, check);
        }
    }
    out.push_str("\nWhat FUSE can not do, whoever serves it\n");
    for limit in &report.limits {
        paragraph(&mut out, &format!("  {:<41}", limit.what), &limit.instead);
    }
    out
}

fn one(out: &mut String, check: &Check) {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Missing => "missing",
        Status::Degraded => "degraded",
        Status::Unknown => "unknown",
    };
    let head = format!("  {status:<STATUS_WIDTH$}{:<NAME_WIDTH$}", check.name);
    paragraph(out, &head, &check.finding);
    if check.status == Status::Ok {
        return;
    }
    let indent = " ".repeat(INDENT);
    paragraph(out, &format!("{indent}why: "), &check.why);
    if let Some(fix) = &check.fix {
        // On a line of its own and never broken, to be copied.
        let _ = writeln!(out, "{indent}fix: {fix}");
    }
}

/// `head`, then `body` broken at spaces and hung under where it began.
fn paragraph(out: &mut String, head: &str, body: &str) {
    out.push_str(head);
    let indent = head.chars().count();
    let mut column = indent;
    for (index, word) in body.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > COLUMNS {
            let _ = write!(out, "\n{:indent$}{word}", "");
            column = indent + width;
        } else {
            let space = if index > 0 { " " } else { "" };
            let _ = write!(out, "{space}{word}");
            column += space.len() + width;
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::limits::limits;
    use super::*;

    fn report() -> Report {
        let long = vec!["A_FLAG_OF_SOME_LENGTH"; 30].join(" ");
        Report {
            version: "1.2.3".into(),
            kernel: "6.18.0".into(),
            user: "root".into(),
            source: None,
            can_mount: true,
            checks: vec![
                Group::Kernel.ask("protocol", "why it matters").ok(long.clone()),
                Group::User.ask("thing", "because of this").missing("not there", "bring thing"),
            ],
            probe: None,
            limits: limits(),
        }
    }

    #[test]
    fn what_is_well_is_short_and_what_is_not_has_a_remedy() {
        let text = text(&report());
        assert!(
            text.starts_with("fusewire 1.2.3 on Linux 6.18.0, as root: mounting is possible\n")
        );
        assert!(!text.contains("why it matters"), "{text}");
        assert!(text.contains("  missing   thing                not there\n"), "{text}");
        assert!(text.contains("why: because of this\n"), "{text}");
        assert!(text.contains("fix: bring thing\n"), "{text}");
        assert!(!text.contains("This source"), "no source was given\n{text}");
        assert!(text.contains("FICLONE"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }

    #[test]
    fn not_possible_is_not_overlooked() {
        let report = Report { can_mount: false, ..report() };
        assert!(text(&report).contains("mounting is NOT possible"));
    }
}
