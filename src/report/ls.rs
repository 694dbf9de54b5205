//! `fusewire study ls`: the result folders below a directory, and the index page of them.
//!
//! It looks at each folder just enough to name it, and so also lists folders of the demo, of other
//! versions, of interrupted studies, and what is no study at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{Table, TableComponent, presets};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::error::ReportError;
use super::text;
use crate::study::environment::Environment;

/// List the results of studies: what was measured, when, on what, and how far it came
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_override_self = true)]
pub struct Options {
    /// The directory that holds the result folders
    #[arg(value_name = "DIR", default_value = "perf-results")]
    pub dir: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Write the list into DIR/README.md as well, between its two marks
    #[arg(long)]
    pub index: bool,
}

/// One result folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Entry {
    /// Name of the folder.
    pub folder: String,
    /// Name of the study.
    pub study: String,
    /// Version of the folder's layout; `None` if it is not one of a study.
    pub format: Option<u32>,
    /// When it began, UTC.
    pub began: String,
    /// Processor and number of CPUs.
    pub machine: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Commit that was measured.
    pub commit: Option<String>,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// Number of cells.
    pub cells: usize,
    /// Systems, the reference first.
    pub systems: Vec<String>,
    /// Runs that were kept.
    pub samples: usize,
    /// The first sentences of its report; empty if there is none.
    pub says: Vec<String>,
    /// Why nothing more can be told.
    pub problem: Option<String>,
}

/// What is needed of `study.json`.
#[derive(Debug, Deserialize)]
struct StudyGlance {
    format: u32,
    name: String,
    rounds: u32,
    cells: Vec<IgnoredAny>,
    systems: Vec<SystemGlance>,
}

#[derive(Debug, Deserialize)]
struct SystemGlance {
    id: String,
}

/// What is needed of `environment.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EnvironmentGlance {
    began: String,
    cpu: String,
    cpus: usize,
    kernel: String,
    commit: Option<String>,
}

/// What is needed of `summary.json`, the demo's included.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SummaryGlance {
    format: u32,
    headline: Vec<String>,
    method: MethodGlance,
    data_share_of_native_rate: Option<f64>,
    metadata_multiple_of_native_time: Option<f64>,
    cells: Vec<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MethodGlance {
    rounds: u32,
}

/// Lists, prints, and writes the index page if asked to.
///
/// # Errors
/// [`ReportError`]: a directory that cannot be read, or an index page that cannot be written.
pub fn run(options: &Options) -> Result<(), ReportError> {
    let entries = entries(&options.dir)?;
    if options.index {
        write_index(&options.dir, &entries)?;
    }
    let shown = match options.json {
        true => serde_json::to_string_pretty(&entries)?,
        false if entries.is_empty() => format!("no results in {}", options.dir.display()),
        false => table(&entries).to_string(),
    };
    // A reader that has gone (`| head`) is no failure.
    let _ = writeln!(std::io::stdout(), "{shown}");
    Ok(())
}

/// The result folders of `dir`, by name, which begins with the date.
///
/// # Errors
/// If `dir` cannot be read. A folder that cannot be read is an entry that says so.
pub fn entries(dir: &Path) -> Result<Vec<Entry>, ReportError> {
    let mut entries = Vec::new();
    for found in fs::read_dir(dir).map_err(ReportError::io("list", dir))? {
        let path = found.map_err(ReportError::io("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name.starts_with(|first: char| first.is_ascii_digit()) {
            entries.push(look(&path, name));
        }
    }
    entries.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(entries)
}

fn look(path: &Path, folder: String) -> Entry {
    let study = study_of(&folder).to_owned();
    let mut entry = Entry { study, folder, ..Entry::default() };
    let environment: EnvironmentGlance = match glance(&path.join("environment.json")) {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => {
            entry.problem = Some(error.to_string());
            EnvironmentGlance::default()
        }
    };
    if !environment.cpu.is_empty() {
        let EnvironmentGlance { cpu, cpus, .. } = &environment;
        entry.machine =
            Environment { cpu: cpu.clone(), cpus: *cpus, ..Environment::default() }.machine();
    }
    entry.began = match environment.began.is_empty() {
        true => entry.folder.chars().take("2026-01-31".len()).collect(),
        false => environment.began,
    };
    (entry.kernel, entry.commit) = (environment.kernel, environment.commit);
    if let Err(error) = look_at_results(path, &mut entry) {
        entry.problem.get_or_insert(error.to_string());
    }
    entry
}

fn look_at_results(path: &Path, entry: &mut Entry) -> Result<(), ReportError> {
    let study: Option<StudyGlance> = glance(&path.join("study.json"))?;
    let summary: Option<SummaryGlance> = match glance(&path.join("summary.json")) {
        // A report that was cut short is made anew; it hides nothing of what was measured.
        Err(_) if study.is_some() => None,
        other => other?,
    };
    if let Some(study) = study {
        (entry.study, entry.format) = (study.name, Some(study.format));
        (entry.rounds, entry.cells) = (study.rounds, study.cells.len());
        entry.systems = study.systems.into_iter().map(|system| system.id).collect();
        entry.samples = lines(&path.join("samples.jsonl"))?;
        entry.says = summary.map(|summary| summary.headline).unwrap_or_default();
    } else if let Some(summary) = summary {
        (entry.rounds, entry.cells) = (summary.method.rounds, summary.cells.len());
        entry.format = Some(summary.format);
        entry.systems = ["native", "fusewire"].map(str::to_owned).into();
        // The brackets of the array stand on lines of their own.
        entry.samples = lines(&path.join("samples.json"))?.saturating_sub(2);
        let share = summary.data_share_of_native_rate.map(|share| {
            format!("Data: {} of native's rate (geometric mean).", text::number(share))
        });
        let multiple = summary.metadata_multiple_of_native_time.map(|multiple| {
            format!("Metadata: x{} native's time (geometric mean).", text::number(multiple))
        });
        entry.says = share.into_iter().chain(multiple).collect();
    } else {
        entry.says = heading(&path.join("README.md")).into_iter().collect();
    }
    Ok(())
}

/// What follows the number of CPUs in a folder's name: tells it from the others.
fn name_of(folder: &str) -> &str {
    folder.split_once("cpu-").map_or(folder, |(_, name)| name)
}

/// The study in a folder's name, without the number of a further run of the day.
fn study_of(folder: &str) -> &str {
    let name = name_of(folder);
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|it| it.is_ascii_digit());
    match name.rsplit_once('-') {
        Some((study, number)) if is_number(number) => study,
        _ => name,
    }
}

/// Parses a file, if there is one.
fn glance<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, ReportError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(ReportError::io("read", path))?;
    serde_json::from_str(&text).map(Some).map_err(|error| ReportError::content(path, error))
}

fn lines(path: &Path) -> Result<usize, ReportError> {
    match path.exists() {
        true => {
            Ok(fs::read_to_string(path).map_err(ReportError::io("read", path))?.lines().count())
        }
        false => Ok(0),
    }
}

fn heading(readme: &Path) -> Option<String> {
    let text = fs::read_to_string(readme).ok()?;
    text.lines().find_map(|line| line.strip_prefix("# ")).map(|title| format!("{title}."))
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for line in [TableComponent::HeaderLines, TableComponent::MiddleHeaderIntersections] {
        table.set_style(line, '─');
    }
    table.set_header(["folder", "study", "cells", "systems", "rounds", "samples", "commit", ""]);
    for entry in entries {
        table.add_row([
            entry.folder.clone(),
            entry.study.clone(),
            entry.cells.to_string(),
            entry.systems.len().to_string(),
            entry.rounds.to_string(),
            entry.samples.to_string(),
            entry.commit.clone().unwrap_or_default(),
            entry.problem.clone().unwrap_or_default(),
        ]);
    }
    table
}

const INDEX_BEGIN: &str = "<!-- written by `fusewire study ls --index` -->\n";
const INDEX_END: &str = "<!-- end of the list -->\n";

/// The page with the list between its marks replaced.
///
/// # Errors
/// If the page lacks its marks.
pub fn index(page: &str, entries: &[Entry]) -> Result<String, String> {
    let marks = || {
        let (before, rest) = page.split_once(INDEX_BEGIN)?;
        Some((before, rest.split_once(INDEX_END)?.1))
    };
    let (before, after) = marks().ok_or_else(|| {
        format!(
            "no place for the list: put these two lines where it belongs:\n{INDEX_BEGIN}{INDEX_END}"
        )
    })?;
    let mut list = String::from("| results | when | on | what they say |\n|---|---|---|---|\n");
    for entry in entries {
        let says = match &entry.problem {
            Some(problem) => format!("unreadable: {problem}"),
            None if entry.says.is_empty() => "no report yet".to_owned(),
            None => brief(&entry.says),
        };
        list.push_str(&format!(
            "| [{study}]({folder}/README.md) | {when} | {machine} | {says} |\n",
            study = name_of(&entry.folder),
            folder = entry.folder,
            when = entry.began.get(..10).unwrap_or(&entry.began),
            machine = entry.machine,
            says = says.replace(['|', '\n'], " "),
        ));
    }
    Ok(format!("{before}{INDEX_BEGIN}{list}{INDEX_END}{after}"))
}

/// What fits into a column: the sentence that is in short, or one for rates and one for times.
fn brief(says: &[String]) -> String {
    let few = if says[0].starts_with("In short") { 1 } else { 2 };
    says[..few.min(says.len())].join(" ")
}

fn write_index(dir: &Path, entries: &[Entry]) -> Result<(), ReportError> {
    let path = dir.join("README.md");
    let page = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("# Results\n\n{INDEX_BEGIN}{INDEX_END}")
        }
        page => page.map_err(ReportError::io("read", &path))?,
    };
    let page = index(&page, entries).map_err(|problem| ReportError::content(&path, problem))?;
    fs::write(&path, page).map_err(ReportError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, file: &str, text: &str) {
        fs::create_dir_all(dir).expect("can be made");
        fs::write(dir.join(file), text).expect("can be written");
    }

    #[test]
    fn every_kind_of_folder_is_listed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let study = root.path().join("2026-01-31-some-2cpu-ladder");
        put(
            &study,
            "study.json",
            r#"{"format":99,"name":"ladder","rounds":3,"cells":[{},{}],"systems":[{"id":"native"}]}"#,
        );
        put(&study, "samples.jsonl", "{}\n{}\n");
        put(
            &study,
            "environment.json",
            r#"{"began":"2026-01-31T01:02:03Z","cpu":"Some CPU","cpus":2,"commit":"abc"}"#,
        );
        put(&root.path().join("2026-01-30-some-2cpu-broken"), "study.json", "{");
        put(&root.path().join("2026-01-29-some-2cpu-roundtrip-2"), "README.md", "# Round trips\n");
        put(&root.path().join("not-results"), "README.md", "");
        put(root.path(), "2026-file", "");

        let entries = entries(root.path()).expect("can be listed");
        let folders: Vec<&str> = entries.iter().map(|entry| entry.study.as_str()).collect();
        assert_eq!(folders, ["roundtrip", "broken", "ladder"]);
        assert_eq!(entries[0].says, ["Round trips."]);
        let problem = entries[1].problem.as_deref().expect("it is broken");
        assert!(problem.contains("study.json") && problem.contains("EOF"), "{problem}");
        let ladder = &entries[2];
        assert_eq!((ladder.format, ladder.rounds, ladder.cells), (Some(99), 3, 2));
        assert_eq!((ladder.samples, ladder.machine.as_str()), (2, "some-2cpu"));
        assert_eq!(ladder.began, "2026-01-31T01:02:03Z");
        let table = table(&entries).to_string();
        assert!(table.contains("2026-01-31-some-2cpu-ladder"), "{table}");
    }

    #[test]
    fn the_number_of_a_further_run_is_none_of_the_name() {
        let names = ["x-2cpu-demo", "x-2cpu-demo-2", "x-2cpu-fast17-12", "x-2cpu-4k-", "other"];
        assert_eq!(names.map(study_of), ["demo", "demo", "fast17", "4k-", "other"]);
        assert_eq!(name_of("x-2cpu-demo-2"), "demo-2");
    }

    #[test]
    fn the_index_is_replaced_between_its_marks_alone() {
        let root = tempfile::tempdir().expect("a temporary directory");
        put(&root.path().join("2026-01-29-some-2cpu-x"), "README.md", "# A | B\n");
        let write = || write_index(root.path(), &entries(root.path()).expect("can be listed"));
        write().expect("makes a page");
        let path = root.path().join("README.md");
        let made = fs::read_to_string(&path).expect("was made");
        assert!(made.contains("| [x](2026-01-29-some-2cpu-x/README.md) | 2026-01-29 |"), "{made}");
        assert!(made.contains("| A   B. |"), "a bar would end the column: {made}");
        fs::write(&path, format!("before\n{made}after\n")).expect("can be written");
        write().expect("rewrites it");
        assert_eq!(fs::read_to_string(&path).expect("is there"), format!("before\n{made}after\n"));
        fs::write(&path, "no marks\n").expect("can be written");
        let error = write().expect_err("has no marks").to_string();
        assert!(error.contains("README.md") && error.contains(INDEX_END), "{error}");
    }

    #[test]
    fn the_index_of_this_repository_is_true() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("perf-results");
        let page = fs::read_to_string(dir.join("README.md")).expect("is there");
        let wanted = index(&page, &entries(&dir).expect("can be listed")).expect("has its marks");
        assert_eq!(page, wanted, "run `fusewire study ls --index`");
    }
}
