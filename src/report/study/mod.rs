//! `fusewire study report`: [`results`] (a folder, read) -> [`digest`] (the comparison) -> the views
//! of it, written into the same folder.
//!
//! A folder's samples never change; what is written here can be made again from them at any time.

mod agreement;
pub mod cell;
pub mod csv;
pub mod digest;
mod facts;
mod headline;
pub mod markdown;
pub mod page;
mod published;
pub mod results;
mod scaling;
mod steps;
pub(in crate::report) mod warnings;
mod words;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::ReportError;
use digest::Digest;
use results::Results;

/// Make the report of a study: one HTML page, README.md, summary.csv and summary.json, in its folder
///
/// Only what can be made again is written; the samples stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_override_self = true)]
pub struct Options {
    /// The folder of a study
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Name of the page in its folder.
pub const PAGE: &str = "report.html";

/// Writes the report and says where it is.
///
/// # Errors
/// [`ReportError`]: a folder that cannot be read or written.
pub fn run(options: &Options) -> Result<(), ReportError> {
    let digest = write(&options.folder)?;
    let shown = match options.json {
        true => serde_json::to_string_pretty(&digest)?,
        false => text(&options.folder, &digest),
    };
    // A reader that has gone (`| head`) is no failure: the report is written.
    let _ = writeln!(std::io::stdout(), "{shown}");
    Ok(())
}

/// Reads the folder of a study and writes its report there.
///
/// # Errors
/// [`ReportError`]: a folder that cannot be read or written.
pub fn write(folder: &Path) -> Result<Digest, ReportError> {
    let digest = Digest::new(&Results::read(folder)?);
    let files = [
        ("summary.json", serde_json::to_string_pretty(&digest)? + "\n"),
        ("summary.csv", csv::render(&digest)),
        ("README.md", markdown::render(&digest)),
        (PAGE, page::render(&digest)),
    ];
    for (name, text) in files {
        put(&folder.join(name), &text)?;
    }
    Ok(digest)
}

/// Replaces a file as a whole, so that nobody ever reads half of one.
fn put(path: &Path, text: &str) -> Result<(), ReportError> {
    let aside = path.with_added_extension("new");
    fs::write(&aside, text).map_err(ReportError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(ReportError::io("replace", path))
}

fn text(folder: &Path, digest: &Digest) -> String {
    let mut lines = digest.headline.clone();
    lines.extend(digest.warnings.iter().map(|warning| format!("Beware: {warning}")));
    lines.push(format!("written: {}", folder.join(PAGE).display()));
    lines.join("\n")
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::Comparison;

    #[test]
    fn a_report_can_be_made_again_and_touches_no_sample() {
        let folder = fixture::folder();
        let read = |name: &str| fs::read(folder.path().join(name)).expect("was written");
        let names = ["summary.json", "summary.csv", "README.md", PAGE];
        let samples = read("samples.jsonl");
        write(folder.path()).expect("can be written");
        let first = names.map(read);
        write(folder.path()).expect("can be written again");
        assert_eq!(first, names.map(read));
        assert_eq!(samples, read("samples.jsonl"));
        assert_eq!(fs::read_dir(folder.path()).expect("is there").count(), 3 + names.len());
    }

    #[test]
    fn the_readme_tells_what_the_page_tells() {
        let page = markdown::render(&fixture::digest());
        for part in [
            "# fusewire study ladder, 2026-01-31",
            "- FAST'17 Base: 0.50 of native's rate",
            "- **Beware**: failed on fusewire: unlink: unlink: EIO",
            "| cell | native | A/A | FAST'17 Base | fusewire | bindfs |",
            "**x10.0 [10.0, 10.0]** slower",
            "| open + close, 1 thread | 4.00 µs | 40.0 µs | 8.00 µs |",
            "| open + close, 1 thread | fusewire | 8.00 | 8.00 | 2.40 | 1.60 |",
            "2.00: OPEN 1.00, RELEASE 1.00",
            "in force: data passthrough",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        tables_are_whole(&page);
    }

    #[test]
    fn what_a_study_calls_things_is_no_markup_in_the_readme() {
        let mut digest = fixture::digest();
        digest.title = Some("One <b>thing</b> at a time".into());
        digest.systems[2].system.title = "<i>".into();
        let readme = markdown::render(&digest);
        assert!(readme.contains("\n\nOne &lt;b&gt;thing&lt;/b&gt; at a time\n\n"), "{readme}");
        assert!(readme.contains("never &lt;run&gt;") && !readme.contains("<run>"), "{readme}");
        assert!(readme.contains("| &lt;i&gt; |") && !readme.contains("<i>"), "{readme}");
    }

    #[test]
    fn what_can_not_keep_up_is_told_as_such_everywhere() {
        let mut results = fixture::results();
        fixture::saturate(&mut results, "open-2", "base");
        let digest = Digest::new(&results);
        let readme = markdown::render(&digest);
        for part in [
            "**x2.00 the arrivals' time** saturated",
            "\"saturated\": it can not keep up",
            "| open + close, 2 threads | FAST'17 Base | (32.4 µs) | (72.0 µs) |",
            "3 slower, 1 saturated",
        ] {
            assert!(readme.contains(part), "{part} in\n{readme}");
        }
        tables_are_whole(&readme);
        let page = page::render(&digest);
        for part in [
            "<b>x2.00 the arrivals' time</b> saturated",
            "can not keep up →",
            "(saturated: a queue)",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        let table = csv::render(&digest);
        let line = table.lines().find(|line| line.contains(",open-2,") && line.contains(",base,"));
        let line = line.expect("is there");
        assert!(line.contains(",,,,1,saturated,"), "{line}");
        assert!(line.ends_with(",2"), "{line}");
        let compared = Comparison::new(&results, &results, 5.0);
        assert!(
            compared.not_compared.iter().any(|it| it.contains("can not keep up")),
            "{compared:?}"
        );
        assert!(!compared.changes.iter().any(|it| (&*it.cell, &*it.system) == ("open-2", "base")));
    }

    fn tables_are_whole(page: &str) {
        let columns = |line: &str| line.matches('|').count();
        let mut table: Vec<&str> = Vec::new();
        for line in page.lines() {
            match line.starts_with('|') {
                true => table.push(line),
                false => table.clear(),
            }
            assert!(table.first().is_none_or(|head| columns(head) == columns(line)), "{line}");
        }
    }
}
