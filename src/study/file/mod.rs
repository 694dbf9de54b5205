//! A study's file: what `fusewire study run STUDY.toml` reads. Owns the words of the language and the
//! messages about misspelt ones; [`cells`] and [`systems`] turn it into what is to be done.

pub(crate) mod cells;
pub(crate) mod presets;
pub(crate) mod systems;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::StudyError;

/// How long something may be measured.
const SECONDS: RangeInclusive<f64> = 0.01..=3600.0;

/// The largest file system that ext4 makes of blocks of 4 KiB.
const MOST_MIB: u64 = 16 << 20;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct StudyFile {
    /// Goes into the name of the result folder.
    pub(crate) name: String,
    /// What it finds out, one line.
    pub(crate) title: String,
    /// What a run of it takes on the machine it was written on, minutes.
    pub(crate) minutes: Option<f64>,
    /// How often everything is measured.
    #[serde(default = "five")]
    pub(crate) rounds: u32,
    /// Length of what is measured for a time.
    #[serde(default = "a_quarter")]
    pub(crate) seconds: f64,
    /// Size of the test file of fio.
    #[serde(default = "file_mib")]
    pub(crate) size_mib: u32,
    /// What a system gets to mount, seconds.
    #[serde(default = "mount_limit")]
    pub(crate) mount_seconds: f64,
    /// Where it is measured.
    #[serde(default)]
    pub(crate) backing: Backing,
    /// The systems beside native.
    #[serde(default, rename = "system")]
    pub(crate) systems: Vec<SystemEntry>,
    /// The cells; lists make several of one.
    #[serde(default, rename = "cells")]
    pub(crate) cells: Vec<CellEntry>,
}

fn five() -> u32 {
    5
}

fn a_quarter() -> f64 {
    0.25
}

fn mount_limit() -> f64 {
    15.0
}

fn file_mib() -> u32 {
    128
}

/// Where it is measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Backing {
    /// What it is.
    pub(crate) kind: BackingKind,
    /// The directory or the block device.
    pub(crate) path: Option<PathBuf>,
    /// Of an image: ext4, xfs or btrfs.
    #[serde(default = "ext4")]
    pub(crate) filesystem: String,
    /// Of an image or tmpfs: its size.
    #[serde(default = "image_mib")]
    pub(crate) size_mib: u64,
    /// Of an image: arguments of mkfs beyond ours.
    #[serde(default)]
    pub(crate) mkfs_options: Vec<String>,
    /// Options of its mount.
    #[serde(default)]
    pub(crate) mount_options: Option<String>,
    /// Of an image: the directory that its file lies in.
    #[serde(rename = "on")]
    pub(crate) image_dir: Option<PathBuf>,
    /// Of a distributed file system: the names of its processes on this machine. What they consume is
    /// counted for all systems, with what the system's own daemon does.
    #[serde(default)]
    pub(crate) servers: Vec<String>,
}

fn ext4() -> String {
    "ext4".to_owned()
}

fn image_mib() -> u64 {
    3072
}

impl Default for Backing {
    fn default() -> Self {
        Backing {
            kind: BackingKind::Image,
            path: None,
            filesystem: ext4(),
            size_mib: image_mib(),
            mkfs_options: Vec::new(),
            mount_options: None,
            image_dir: None,
            servers: Vec::new(),
        }
    }
}

/// Kinds of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BackingKind {
    /// A new subdirectory of a directory.
    Directory,
    /// A new subdirectory of a directory in a distributed file system, whose own mount is what all others
    /// are compared with.
    Distributed,
    /// A new directory on a block device that has a file system.
    Device,
    /// A file system made in a sparse file on a loop device.
    Image,
    /// Memory.
    Tmpfs,
    /// Memory that holds what `fusewire null` shows.
    Null,
}

/// A system beside native.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SystemEntry {
    /// Its stable name.
    pub(crate) id: String,
    /// What a reader sees.
    pub(crate) title: Option<String>,
    /// What it is.
    pub(crate) kind: SystemKind,
    /// Of fusewire and null: arguments of the command.
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    /// Of another program: the command; `{source}` and `{mountpoint}` stand for the two directories.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// The Debian package that has it.
    pub(crate) package: Option<String>,
    /// What must be in force, or there is no study.
    #[serde(default)]
    pub(crate) require: BTreeMap<String, String>,
}

/// Kinds of systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SystemKind {
    /// `fusewire mount`.
    Fusewire,
    /// `fusewire null`.
    Null,
    /// Another program that mounts.
    Command,
}

/// Some cells.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct CellEntry {
    pub(crate) group: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) published: Option<String>,
    pub(crate) unit: Option<String>,
    pub(crate) systems: Option<Vec<String>>,
    pub(crate) workload: Many<String>,
    pub(crate) threads: Option<Many<u32>>,
    pub(crate) seconds: Option<f64>,
    pub(crate) cache: Option<Many<String>>,
    // fio.
    pub(crate) rw: Option<Many<String>>,
    pub(crate) block: Option<Many<String>>,
    pub(crate) depth: Option<Many<u32>>,
    pub(crate) engine: Option<String>,
    pub(crate) fsync: Option<u32>,
    pub(crate) dsync: Option<bool>,
    // Operations.
    pub(crate) files: Option<usize>,
    pub(crate) directories: Option<Many<String>>,
    pub(crate) passes: Option<usize>,
    pub(crate) load: Option<Many<u32>>,
    // Personalities and jobs.
    pub(crate) operations: Option<usize>,
    pub(crate) mean_kib: Option<usize>,
    pub(crate) tree_mib: Option<usize>,
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a value of the right type, or a list of them, was expected")]
pub(crate) enum Many<T> {
    /// One.
    One(T),
    /// A list.
    Several(Vec<T>),
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Many::Several(Vec::new())
    }
}

impl<T: Clone> Many<T> {
    /// All of them.
    pub(crate) fn values(&self) -> Vec<T> {
        match self {
            Many::One(value) => vec![value.clone()],
            Many::Several(values) => values.clone(),
        }
    }
}

/// Reads the file; `origin` is what messages call it.
pub(crate) fn parse(text: &str, origin: &str) -> Result<StudyFile, StudyError> {
    let file: StudyFile = toml_of(text).map_err(|why| refuse(origin, &why))?;
    let sound = |ok: bool, why: &str| if ok { Ok(()) } else { Err(refuse(origin, why)) };
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    sound(
        !file.name.is_empty() && file.name.chars().all(word),
        "`name` goes into a folder's name: lower-case letters, digits and '-' only",
    )?;
    sound((1..=1000).contains(&file.rounds), "`rounds` must be from 1 to 1000")?;
    sound(SECONDS.contains(&file.seconds), "`seconds` must be from 0.01 to 3600")?;
    sound(
        file.minutes.is_none_or(|minutes| (0.0..=1e6).contains(&minutes)),
        "`minutes` must be from 0 to 1000000",
    )?;
    sound((0.1..=600.0).contains(&file.mount_seconds), "`mount-seconds` must be from 0.1 to 600")?;
    sound((4..=1_048_576).contains(&file.size_mib), "`size-mib` must be from 4 to 1048576")?;
    sound(!file.cells.is_empty(), "there are no [[cells]]")?;
    sound(
        (16..=MOST_MIB).contains(&file.backing.size_mib),
        &format!("`size-mib` in [backing] must be from 16 to {MOST_MIB}"),
    )?;
    let table: toml::Table = toml_of(text).map_err(|why| refuse(origin, &why))?;
    if let Some(toml::Value::Table(backing)) = table.get("backing") {
        refuse_idle_words(file.backing.kind, backing).map_err(|why| refuse(origin, &why))?;
    }
    Ok(file)
}

/// A word of another kind would be passed over in silence.
fn refuse_idle_words(kind: BackingKind, given: &toml::Table) -> Result<(), String> {
    let (name, takes): (_, &[&str]) = match kind {
        BackingKind::Directory => ("directory", &["path"]),
        BackingKind::Distributed => ("distributed", &["path", "servers"]),
        BackingKind::Device => ("device", &["path", "mount-options"]),
        BackingKind::Image => {
            ("image", &["filesystem", "size-mib", "mkfs-options", "mount-options", "on"])
        }
        BackingKind::Tmpfs => ("tmpfs", &["size-mib", "mount-options"]),
        BackingKind::Null => ("null", &["size-mib", "mount-options"]),
    };
    match given.keys().find(|key| *key != "kind" && !takes.contains(&key.as_str())) {
        Some(key) => Err(format!(
            "`{key}` in [backing] says nothing about kind = \"{name}\", which takes {}",
            takes.join(", ")
        )),
        None => Ok(()),
    }
}

fn toml_of<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let mut shown = error.to_string().trim_end().to_owned();
        if let Some(near) = meant(error.message()) {
            shown.push_str(&format!("\ndid you mean `{near}`?"));
        }
        shown
    })
}

fn refuse(origin: &str, why: &str) -> StudyError {
    StudyError::Preflight(format!("{origin}: {why}"))
}

/// The word that was most likely meant, of "unknown field `a`, expected one of `b`, `c`".
fn meant(message: &str) -> Option<&str> {
    let mut words = message.split('`').skip(1).step_by(2);
    let wrong = words.next().filter(|_| message.starts_with("unknown "))?;
    nearest(wrong, words)
}

/// The word that is nearest to `wrong`; none if nothing is near.
pub(crate) fn nearest<'a>(wrong: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (word, strsim::jaro_winkler(wrong, word)))
        .filter(|(_, likeness)| *likeness > 0.75)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"a\"\ntitle = \"b\"\n[[cells]]\nworkload = \"stat\"\n";

    #[test]
    fn a_small_file_has_its_defaults() {
        let file = parse(SMALL, "a.toml").expect("is well-formed");
        assert_eq!((file.rounds, file.size_mib), (5, 128));
        assert_eq!(file.backing, Backing::default());
        assert_eq!(file.cells[0].workload.values(), ["stat"]);
    }

    #[test]
    fn slips_of_the_pen_are_named_with_line_and_remedy() {
        for (line, parts) in [
            (
                "tthreads = 2",
                &["line 5", "unknown field `tthreads`", "did you mean `threads`?"][..],
            ),
            ("threads = \"two\"", &["line 5", "was expected"]),
            ("[[sytem]]", &["unknown field `sytem`", "did you mean `system`?"]),
            ("[backing]\nkind = \"imige\"", &["unknown variant `imige`", "did you mean `image`?"]),
            ("zzzz = 2", &["unknown field `zzzz`"]),
            (
                "[backing]\nkind = \"image\"\nservers = [\"x\"]",
                &[
                    "`servers` in [backing] says nothing about kind = \"image\", which takes filesystem",
                ],
            ),
            ("[backing]\nkind = \"image\"\npath = \"/x\"", &["`path` in [backing] says nothing"]),
            ("[backing]\nkind = \"directory\"\non = \"/x\"", &["`on` in [backing]", "takes path"]),
            (
                "[backing]\nkind = \"directory\"\nmkfs-options = [\"-m\"]",
                &["`mkfs-options` in [backing] says nothing about kind = \"directory\""],
            ),
            (
                "[backing]\nkind = \"tmpfs\"\nsize-mib = 99999999999999",
                &["`size-mib` in [backing] must be from 16 to 16777216"],
            ),
        ] {
            let error = parse(&format!("{SMALL}{line}\n"), "a.toml").expect_err(line).to_string();
            assert!(error.starts_with("a.toml: "), "{error}");
            for part in parts {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
    }

    #[test]
    fn values_that_make_no_study_are_refused() {
        for (change, want) in [
            ("name = \"a b\"", "`name`"),
            ("name = \"a\"\nrounds = 0", "`rounds`"),
            ("name = \"a\"\nseconds = 0.0", "`seconds`"),
            ("name = \"a\"\nminutes = nan", "`minutes`"),
            ("name = \"a\"\nminutes = -1", "`minutes`"),
        ] {
            let text = SMALL.replace("name = \"a\"", change);
            let error = parse(&text, "a.toml").expect_err(change).to_string();
            assert!(error.contains(want), "{error}");
        }
        let error = parse("name = \"a\"\ntitle = \"b\"", "a.toml").expect_err("empty").to_string();
        assert!(error.contains("no [[cells]]"), "{error}");
    }
}
