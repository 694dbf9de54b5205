//! From the entries of a study's file to cells: lists are multiplied out, every word is checked, and
//! each cell gets its id, title and unit.

mod fio;
mod units;

use super::{CellEntry, Many, SECONDS, StudyFile, nearest};
use crate::study::record;
use crate::study::work::{Cache, Fio, Job, Mix, Operation, Operations, Personality, Task, Work};

/// A cell, and what is done in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    /// As it is recorded.
    pub(crate) cell: record::Cell,
    /// What is done.
    pub(crate) work: Work,
    /// State of the caches.
    pub(crate) cache: Cache,
    /// Only on these systems, and natively; empty is all.
    pub(crate) systems: Vec<String>,
}

/// What a workload is.
#[derive(Debug, Clone, Copy)]
enum Class {
    Fio,
    Operation(Operation),
    Mix(Mix),
    Task(Task),
}

/// All workloads: name, class, title, default number of files.
const WORKLOADS: [(&str, Class, &str, usize); 32] = [
    ("fio", Class::Fio, "", 0),
    ("stat", Class::Operation(Operation::Stat), "stat", 1000),
    ("stat-negative", Class::Operation(Operation::StatNegative), "stat of a missing name", 1000),
    ("stat-forced", Class::Operation(Operation::StatForced), "stat, no cache allowed", 1000),
    ("open-close", Class::Operation(Operation::OpenClose), "open + close", 1000),
    ("open-read-close", Class::Operation(Operation::OpenReadClose), "open + read 4K + close", 1000),
    ("create", Class::Operation(Operation::Create), "create + write 4K + close", 2000),
    ("readdir", Class::Operation(Operation::Readdir), "readdir", 10_000),
    ("readdir-plus", Class::Operation(Operation::ReaddirPlus), "readdir + stat of each", 10_000),
    ("rename", Class::Operation(Operation::Rename), "rename", 1000),
    ("unlink", Class::Operation(Operation::Unlink), "unlink", 2000),
    ("mkdir-rmdir", Class::Operation(Operation::MkdirRmdir), "mkdir + rmdir", 1000),
    ("symlink", Class::Operation(Operation::Symlink), "symlink", 2000),
    ("readlink", Class::Operation(Operation::Readlink), "readlink", 1000),
    ("getxattr", Class::Operation(Operation::Getxattr), "getxattr", 1000),
    ("getxattr-missing", Class::Operation(Operation::GetxattrMissing), "getxattr, missing", 1000),
    ("setxattr", Class::Operation(Operation::Setxattr), "setxattr", 1000),
    ("read-direct", Class::Operation(Operation::ReadDirect), "rand read 4K, O_DIRECT", 1),
    ("file-server", Class::Mix(Mix::FileServer), "file server", 500),
    ("mail-server", Class::Mix(Mix::MailServer), "mail server", 1000),
    ("web-server", Class::Mix(Mix::WebServer), "web server", 1000),
    ("files-create", Class::Mix(Mix::FilesCreate), "create files of 4K", 4000),
    ("files-read", Class::Mix(Mix::FilesRead), "read small files", 4000),
    ("files-delete", Class::Mix(Mix::FilesDelete), "delete files", 4000),
    ("untar", Class::Task(Task::Untar), "tar xf", 2508),
    ("copy", Class::Task(Task::Copy), "cp -r", 2508),
    ("grep", Class::Task(Task::Grep), "grep -r", 2508),
    ("walk", Class::Task(Task::Walk), "walk, stat of each", 2508),
    ("git-add", Class::Task(Task::GitAdd), "git init + add", 2508),
    ("git-status", Class::Task(Task::GitStatus), "git status", 2508),
    ("remove", Class::Task(Task::Remove), "rm -rf", 2508),
    ("build", Class::Task(Task::Build), "make", 60),
];

/// What others published (see [`crate::report`]).
const PUBLISHED: &str = include_str!("../../report/study/fast17.csv");

/// One value of each list.
#[derive(Debug, Clone, Default)]
struct Choice {
    workload: String,
    threads: Option<u32>,
    cache: Option<String>,
    rw: Option<String>,
    block: Option<String>,
    depth: Option<u32>,
    directories: Option<String>,
    load: Option<u32>,
}

/// All cells of a file, in its order. The error names the entry and the remedy.
pub(crate) fn expand(file: &StudyFile) -> Result<Vec<Planned>, String> {
    let mut planned: Vec<Planned> = Vec::new();
    for (number, entry) in (1..).zip(&file.cells) {
        let at = |why: String| format!("[[cells]] number {number}: {why}");
        let choices = choices(entry).map_err(at)?;
        for choice in &choices {
            let cell = plan(file, entry, choice, choices.len() > 1).map_err(at)?;
            if planned.iter().any(|other| other.cell.id == cell.cell.id) {
                let id = cell.cell.id;
                return Err(at(format!("there is a cell {id} already: give one of them an `id`")));
            }
            planned.push(cell);
        }
    }
    Ok(planned)
}

/// The product of all lists.
fn choices(entry: &CellEntry) -> Result<Vec<Choice>, String> {
    fn multiply<T: Clone>(
        choices: Vec<Choice>,
        values: Option<&Many<T>>,
        set: fn(&mut Choice, T),
    ) -> Vec<Choice> {
        let Some(values) = values.map(Many::values) else { return choices };
        let with = |choice: &Choice, value: &T| {
            let mut choice = choice.clone();
            set(&mut choice, value.clone());
            choice
        };
        choices.iter().flat_map(|choice| values.iter().map(|value| with(choice, value))).collect()
    }
    let mut all = vec![Choice::default()];
    all = multiply(all, Some(&entry.workload), |choice, value| choice.workload = value);
    all = multiply(all, entry.cache.as_ref(), |choice, value| choice.cache = Some(value));
    all = multiply(all, entry.block.as_ref(), |choice, value| choice.block = Some(value));
    all = multiply(all, entry.rw.as_ref(), |choice, value| choice.rw = Some(value));
    all = multiply(all, entry.depth.as_ref(), |choice, value| choice.depth = Some(value));
    all =
        multiply(all, entry.directories.as_ref(), |choice, value| choice.directories = Some(value));
    all = multiply(all, entry.threads.as_ref(), |choice, value| choice.threads = Some(value));
    all = multiply(all, entry.load.as_ref(), |choice, value| choice.load = Some(value));
    match all.is_empty() {
        true => Err("a `workload` is missing, or a list is empty".to_owned()),
        false => Ok(all),
    }
}

fn plan(
    file: &StudyFile,
    entry: &CellEntry,
    choice: &Choice,
    is_one_of_several: bool,
) -> Result<Planned, String> {
    let (name, class, title, files) = WORKLOADS
        .iter()
        .find(|(name, ..)| *name == choice.workload)
        .ok_or_else(|| unknown("workload", &choice.workload, WORKLOADS.iter().map(|w| w.0)))?;
    refuse_idle_words(entry, name, *class)?;
    let cache = match choice.cache.as_deref() {
        None | Some("warm") => Cache::Warm,
        Some("cold") => Cache::Cold,
        Some(other) => return Err(unknown("cache", other, ["warm", "cold"].into_iter())),
    };
    if let Some(id) = &entry.id {
        identifier("id", id)?;
    }
    if let Some(row) = &entry.published
        && !published().any(|known| known == row)
    {
        return Err(unknown("row in `published`", row, published()));
    }
    in_range(entry, choice)?;
    if choice.load.is_some() && matches!(class, Class::Operation(o) if o.is_consuming()) {
        return Err(format!(
            "`load` needs an operation that can go on, and {name} uses its files up"
        ));
    }
    let threads = choice.threads.unwrap_or(1);
    let seconds = entry.seconds.unwrap_or(file.seconds);
    let files = entry.files.unwrap_or(*files);
    let many = threads as usize;
    let work = match class {
        Class::Fio => {
            let fio = fio::job(file, entry, choice, threads)?;
            Work::Fio(Fio { is_once: cache == Cache::Cold && fio.rw.ends_with("read"), ..fio })
        }
        Class::Operation(operation) => Work::Operation(Operations {
            operation: *operation,
            files,
            threads: many,
            is_shared: match choice.directories.as_deref() {
                None | Some("private") => false,
                Some("shared") => true,
                Some(other) => {
                    return Err(unknown("directories", other, ["private", "shared"].into_iter()));
                }
            },
            seconds,
            passes: entry.passes,
            at_most: None,
            load_percent: choice.load,
            rate_per_second: None,
        }),
        Class::Mix(mix) => Work::Personality(Personality {
            mix: *mix,
            files: files.max(many),
            mean_kib: entry.mean_kib.unwrap_or(default_kib(*mix)),
            threads: many,
            operations: entry.operations.unwrap_or(4000),
        }),
        Class::Task(task) => {
            Work::Job(Job { task: *task, files, mib: entry.tree_mib.unwrap_or(20) })
        }
    };
    let (id, words) = match &work {
        Work::Fio(fio) => (fio::id(fio, choice), fio::title(fio, choice)),
        _ => ((*name).to_owned(), (*title).to_owned()),
    };
    let (id, words) = distinguish(id, words, choice, cache, entry);
    let unit = match entry.unit.as_deref() {
        None => units::natural(&work),
        Some(word) => units::all()
            .find(|(name, _)| *name == word)
            .map(|(_, unit)| unit)
            .ok_or_else(|| unknown("unit", word, units::all().map(|(name, _)| name)))?,
    };
    units::suits(unit, &work, name)?;
    if is_one_of_several && (entry.id.is_some() || entry.title.is_some()) {
        return Err("`id` and `title` are for one cell, and the lists make several".to_owned());
    }
    let cell = record::Cell {
        id: entry.id.clone().unwrap_or(id),
        title: entry.title.clone().unwrap_or(words),
        group: entry.group.clone().unwrap_or_else(|| units::group(&work).to_owned()),
        unit,
        workload: serde_json::to_value(&work).map_err(|error| error.to_string())?,
        cache: match (cache, &work) {
            (Cache::Cold, _) => "cold",
            (_, Work::Fio(Fio { depth: Some(_), .. })) => "direct",
            _ => "warm",
        }
        .to_owned(),
        threads,
        published: entry.published.clone(),
    };
    Ok(Planned { cell, work, cache, systems: entry.systems.clone().unwrap_or_default() })
}

/// Numbers beyond these measure nothing, or never end.
fn in_range(entry: &CellEntry, choice: &Choice) -> Result<(), String> {
    if let Some(seconds) = entry.seconds.filter(|seconds| !SECONDS.contains(seconds)) {
        let (least, most) = (SECONDS.start(), SECONDS.end());
        return Err(format!("seconds = {seconds}: from {least} to {most} are possible"));
    }
    let large = |value: Option<usize>| value.map(|value| value as u64);
    let small = |value: Option<u32>| value.map(u64::from);
    for (key, value, range) in [
        ("threads", small(choice.threads), 1..=256),
        ("depth", small(choice.depth), 0..=4096),
        ("load", small(choice.load), 1..=100),
        ("fsync", small(entry.fsync), 0..=1_000_000),
        ("files", large(entry.files), 1..=1_000_000),
        ("passes", large(entry.passes), 1..=1_000_000),
        ("operations", large(entry.operations), 1..=1_000_000_000),
        ("mean-kib", large(entry.mean_kib), 1..=1_048_576),
        ("tree-mib", large(entry.tree_mib), 1..=1_048_576),
    ] {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let (least, most) = (range.start(), range.end());
            return Err(format!("{key} = {value}: from {least} to {most} are possible"));
        }
    }
    Ok(())
}

/// Ids name rows, columns and, on a command line, what is meant.
pub(crate) fn identifier(key: &str, id: &str) -> Result<(), String> {
    let possible = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    match !id.is_empty() && id.chars().all(possible) {
        true => Ok(()),
        false => {
            Err(format!("{key} = \"{id}\": letters, digits, '-', '_', '.' and '+' are possible"))
        }
    }
}

/// The rows that a cell may be set beside.
fn published() -> impl Iterator<Item = &'static str> + Clone {
    let lines = PUBLISHED.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.filter_map(|line| line.split(',').next())
}

fn default_kib(mix: Mix) -> usize {
    match mix {
        Mix::FileServer => 128,
        Mix::MailServer | Mix::WebServer => 16,
        Mix::FilesCreate | Mix::FilesRead | Mix::FilesDelete => 4,
    }
}

/// A word of another class would be passed over in silence.
fn refuse_idle_words(entry: &CellEntry, name: &str, class: Class) -> Result<(), String> {
    let given = [
        ("rw", entry.rw.is_some()),
        ("block", entry.block.is_some()),
        ("depth", entry.depth.is_some()),
        ("engine", entry.engine.is_some()),
        ("fsync", entry.fsync.is_some()),
        ("dsync", entry.dsync.is_some()),
        ("files", entry.files.is_some()),
        ("directories", entry.directories.is_some()),
        ("passes", entry.passes.is_some()),
        ("load", entry.load.is_some()),
        ("operations", entry.operations.is_some()),
        ("mean-kib", entry.mean_kib.is_some()),
        ("tree-mib", entry.tree_mib.is_some()),
        ("seconds", entry.seconds.is_some()),
        ("threads", entry.threads.is_some()),
    ];
    let takes: &[&str] = match class {
        Class::Fio => &["rw", "block", "depth", "engine", "fsync", "dsync", "seconds", "threads"],
        Class::Operation(_) => &["files", "directories", "passes", "load", "seconds", "threads"],
        Class::Mix(_) => &["files", "operations", "mean-kib", "threads"],
        Class::Task(_) => &["files", "tree-mib"],
    };
    match given.iter().find(|(word, given)| *given && !takes.contains(word)) {
        Some((word, _)) => Err(format!(
            "`{word}` says nothing about workload {name}, which takes {}",
            takes.join(", ")
        )),
        None => Ok(()),
    }
}

/// Adds to id and title what tells this cell from its neighbours.
fn distinguish(
    mut id: String,
    mut title: String,
    choice: &Choice,
    cache: Cache,
    entry: &CellEntry,
) -> (String, String) {
    if cache == Cache::Cold {
        id.push_str("-cold");
        title.push_str(", cold");
    }
    if let Some(threads) = choice.threads.filter(|threads| *threads > 1 || is_list(&entry.threads))
    {
        id.push_str(&format!("-{threads}t"));
        title.push_str(&format!(", {threads} thread{}", if threads == 1 { "" } else { "s" }));
    }
    if choice.directories.as_deref() == Some("shared") {
        id.push_str("-shared");
        title.push_str(", one directory");
    }
    if let Some(load) = choice.load {
        id.push_str(&format!("-load{load}"));
        title.push_str(&format!(", {load} % of native's peak"));
    }
    (id, title)
}

fn is_list<T>(many: &Option<Many<T>>) -> bool {
    matches!(many, Some(Many::Several(_)))
}

pub(crate) fn unknown<'a>(
    what: &str,
    wrong: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let near = nearest(wrong, known.clone());
    let hint = near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
    let known: Vec<&str> = known.collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("unknown {what} `{wrong}`{hint}; there are {known}")
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::study::record::Unit;

    fn cells(entries: &str) -> Result<Vec<Planned>, String> {
        let text = format!("name = \"a\"\ntitle = \"b\"\n[[cells]]\n{entries}\n");
        expand(&parse(&text, "a.toml").expect("is well-formed"))
    }

    fn ids(entries: &str) -> Vec<String> {
        let cells = cells(entries).expect(entries);
        cells.into_iter().map(|planned| planned.cell.id).collect()
    }

    #[test]
    fn lists_multiply() {
        assert_eq!(
            ids(
                "workload = \"fio\"\nrw = [\"read\", \"randread\"]\nblock = \"4k\"\ndepth = [0, 16]"
            ),
            ["read-4k-buffered", "read-4k-qd16", "randread-4k-buffered", "randread-4k-qd16"]
        );
        assert_eq!(
            ids("workload = [\"create\", \"unlink\"]\nthreads = [1, 2]\ndirectories = \"shared\""),
            ["create-1t-shared", "create-2t-shared", "unlink-1t-shared", "unlink-2t-shared"]
        );
        assert_eq!(ids("workload = \"grep\"\ncache = [\"cold\", \"warm\"]"), ["grep-cold", "grep"]);
    }

    #[test]
    fn units_and_groups_follow_the_work() {
        for (entry, unit, group) in [
            ("workload = \"fio\"\nrw = \"read\"\nblock = \"1m\"", Unit::MegabytesPerSecond, "data"),
            ("workload = \"fio\"\nrw = \"read\"", Unit::OperationsPerSecond, "data"),
            ("workload = \"stat\"", Unit::MicrosecondsPerOperation, "metadata"),
            (
                "workload = \"stat\"\nunit = \"operations-per-second\"",
                Unit::OperationsPerSecond,
                "metadata",
            ),
            ("workload = \"read-direct\"\nload = 50", Unit::MicrosecondsP99, "tail"),
            ("workload = \"mail-server\"", Unit::OperationsPerSecond, "personalities"),
            ("workload = \"untar\"", Unit::Seconds, "jobs"),
        ] {
            let planned = cells(entry).expect(entry).remove(0);
            assert_eq!((planned.cell.unit, planned.cell.group.as_str()), (unit, group), "{entry}");
            let back: Work = serde_json::from_value(planned.cell.workload).expect("comes back");
            assert_eq!(back, planned.work);
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (entry, want) in [
            ("workload = \"creat\"", "unknown workload `creat`, did you mean `create`?"),
            ("workload = \"untar\"\nthreads = 2", "`threads` says nothing about workload untar"),
            ("workload = \"fio\"", "a fio cell needs `rw`"),
            ("workload = \"fio\"\nrw = \"raed\"", "did you mean `read`?"),
            ("workload = \"fio\"\nrw = \"read\"\nblock = \"4x\"", "block = \"4x\""),
            ("workload = \"stat\"\nthreads = 0", "threads = 0: from 1 to 256"),
            ("workload = \"stat\"\nfiles = 0", "files = 0: from 1 to "),
            ("workload = \"untar\"\nfiles = 0", "files = 0: from 1 to "),
            ("workload = \"untar\"\ntree-mib = 0", "tree-mib = 0: from 1 to "),
            ("workload = \"web-server\"\noperations = 0", "operations = 0: from 1 to "),
            ("workload = \"web-server\"\nmean-kib = 0", "mean-kib = 0: from 1 to "),
            ("workload = \"stat\"\npasses = 0", "passes = 0: from 1 to "),
            ("workload = \"stat\"\nload = 0", "load = 0: from 1 to 100"),
            ("workload = \"stat\"\nload = [50, 500]", "load = 500: from 1 to 100"),
            ("workload = \"stat\"\nload = 4000000000", "load = 4000000000: "),
            ("workload = \"fio\"\nrw = \"read\"\ndepth = 100000", "depth = 100000: from 0 to 4096"),
            ("workload = \"stat\"\nseconds = 0", "seconds = 0: from 0.01 to 3600"),
            ("workload = \"stat\"\nseconds = -1", "seconds = -1: "),
            ("workload = \"stat\"\nseconds = nan", "seconds = NaN: "),
            ("workload = \"fio\"\nrw = \"read\"\nseconds = inf", "seconds = inf: "),
            ("workload = \"stat\"\nid = \"\"", "id = \"\": letters, digits"),
            ("workload = \"stat\"\nid = \"a b\"", "id = \"a b\": letters, digits"),
            ("workload = \"stat\"\npublished = \"no such row\"", "unknown row in `published`"),
            (
                "workload = \"stat\"\nunit = \"megabytes-per-second\"",
                "stat moves no bytes that are counted; there are operations-per-second, \
                 microseconds-per-operation, microseconds-p99",
            ),
            ("workload = \"stat\"\nunit = \"seconds\"", "stat is done for a given time"),
            ("workload = \"untar\"\nunit = \"microseconds-p99\"", "untar is one whole"),
            ("workload = \"stat\"\nunit = \"hours\"", "unknown unit `hours`"),
            ("workload = \"create\"\nload = 50", "uses its files up"),
            ("workload = \"stat\"\nthreads = []", "a list is empty"),
            ("workload = \"stat\"\ncache = \"hot\"", "unknown cache `hot`"),
            ("workload = \"stat\"\nthreads = [1, 2]\nid = \"x\"", "for one cell"),
            ("workload = [\"stat\", \"stat\"]", "there is a cell stat already"),
        ] {
            let error = cells(entry).expect_err(entry);
            assert!(error.starts_with("[[cells]] number 1: "), "{error}");
            assert!(error.contains(want), "{want} in {error}");
        }
    }
}
