//! `fusewire study requests`: which requests each operation costs, counted by the daemon itself, under
//! every profile and coherence. The cheapest request is the one that is not sent.
//!
//! Nothing is timed. Each profile has a mount of its own with one worker on /dev/fuse, which counts a
//! request before it takes the next: one that is asked for at the end of an operation tells that
//! all before it were counted. What an operation sends does not depend on the transport.

mod operations;
mod table;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use nix::sys::statfs::statfs;
use serde::{Deserialize, Serialize};

use super::backing::Backing;
use super::daemon::{Launch, Mounted};
use super::error::StudyError;
use super::interrupt::Interrupt;
use super::preflight::{program, refuse, tell_leftovers};
use super::system::System;
use crate::report;
use operations::{OPERATIONS, Operation};

/// Show which requests each operation costs, under every profile: `stat`, `open`, `ls -l`, `tar`, ...
///
/// Needs root: everything is tried on an ext4 image on a loop device.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct RequestsOptions {
    /// Only profiles whose name contains TEXT, as `owner`, `timeout` (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The profile under which nothing is written.
const READ_MOSTLY: &str = "read-mostly";

/// What mounts are compared: a name, and keys of `-o`.
const PROFILES: [(&str, &str); 8] = [
    ("owner, watch", "coherence=watch"),
    ("owner, exclusive", "coherence=exclusive"),
    ("owner, timeout", "coherence=timeout=3600"),
    ("shared, watch", "allow_other,coherence=watch"),
    ("shared, exclusive", "allow_other,coherence=exclusive"),
    ("shared, timeout", "allow_other,coherence=timeout=3600"),
    ("owner, no xattr", "xattr=off,coherence=watch"),
    (READ_MOSTLY, "profile=read-mostly,coherence=watch"),
];

/// How often at most, and how far apart, it is looked whether the watch has come to rest, and how many
/// looks in a row have to find the same: the watch may have to wait for a CPU.
const LOOKS: usize = 100;
const LOOK: Duration = Duration::from_millis(20);
const ALIKE: usize = 3;
/// Requests that nobody waits for.
const ASYNCHRONOUS: [&str; 4] = ["RELEASE", "RELEASEDIR", "FORGET", "BATCH_FORGET"];
/// What tells that everything before it was counted; no operation of the table sends it.
const MARK: &str = "STATFS";
/// So often: the kernel lets some requests pass before FORGETs (`fuse_dev_do_read`).
const MARKS: usize = 20;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// By profile.
    pub profiles: Vec<Profile>,
}

/// What operations cost under one profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Who may enter, and what keeps caches true.
    pub name: String,
    /// The keys of `-o`.
    pub options: String,
    /// What the kernel was told meanwhile: of changes behind the mount, and that a file which was
    /// written to was closed. Attributes that it forgets are asked for again.
    pub notifications: u64,
    /// In the order in which they were done; without those that write where nothing can be written.
    pub operations: Vec<Cost>,
}

/// What one operation costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The operation.
    pub operation: String,
    /// How often it was done: once, or once for each of so many files.
    pub times: u32,
    /// Requests of all of them, by opcode.
    pub requests: BTreeMap<String, u64>,
}

impl Cost {
    /// Requests that are waited for, of all of them together.
    pub fn blocking(&self) -> u64 {
        self.sum(|opcode| !ASYNCHRONOUS.contains(&opcode))
    }

    /// Requests that nobody waits for, of all of them together.
    pub fn asynchronous(&self) -> u64 {
        self.sum(|opcode| ASYNCHRONOUS.contains(&opcode))
    }

    fn sum(&self, counts: impl Fn(&str) -> bool) -> u64 {
        self.requests.iter().filter(|(opcode, _)| counts(opcode)).map(|(_, count)| count).sum()
    }
}

/// Counts and prints.
///
/// # Errors
/// [`StudyError`].
pub fn run(options: &RequestsOptions) -> Result<(), StudyError> {
    let profiles = select(options)?;
    check()?;
    let interrupt = Interrupt::catch()?;
    let mut backing = Backing::image(&std::env::temp_dir())?;
    let counted = count(&backing, &profiles, &interrupt);
    let released = backing.release();
    let document = Document { profiles: counted? };
    let shown = match options.json {
        true => report::folder::to_json(&document)?,
        false => table::render(&document),
    };
    // A reader that has gone (`| head`) is no failure.
    let _ = writeln!(std::io::stdout(), "{shown}");
    released
}

fn select(options: &RequestsOptions) -> Result<Vec<(&'static str, &'static str)>, StudyError> {
    let has = |text: &String| PROFILES.iter().any(|(name, _)| name.contains(text.as_str()));
    if let Some(text) = options.only.iter().find(|text| !has(text)) {
        let names: Vec<&str> = PROFILES.iter().map(|(name, _)| *name).collect();
        let names = names.join("; ");
        return Err(refuse(format!("--only {text} matches no profile; there are {names}")));
    }
    let wanted = |name: &str| options.only.iter().any(|text| name.contains(text.as_str()));
    let chosen = PROFILES.iter().filter(|(name, _)| options.only.is_empty() || wanted(name));
    Ok(chosen.copied().collect())
}

fn check() -> Result<(), StudyError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(refuse("an ext4 image on a loop device is made, which needs root: use sudo"));
    }
    let programs =
        [("mkfs.ext4", "e2fsprogs"), ("losetup", "mount"), ("tar", "tar"), ("git", "git")];
    for (name, package) in programs {
        program(name, package)?;
    }
    tell_leftovers([std::env::temp_dir().as_path()])
}

fn count(
    backing: &Backing,
    profiles: &[(&str, &str)],
    interrupt: &Interrupt,
) -> Result<Vec<Profile>, StudyError> {
    let mut counted = Vec::new();
    for (number, profile) in profiles.iter().enumerate() {
        let source = backing.source().join(number.to_string());
        counted.push(count_one(backing, &source, *profile, interrupt)?);
    }
    Ok(counted)
}

fn count_one(
    backing: &Backing,
    source: &Path,
    (name, options): (&str, &str),
    interrupt: &Interrupt,
) -> Result<Profile, StudyError> {
    let exe =
        std::env::current_exe().map_err(StudyError::io("find", Path::new("/proc/self/exe")))?;
    operations::prepare(source).map_err(StudyError::io("write files in", source))?;
    let words = ["-o", options, "--transport", "dev", "--workers", "1"].map(str::to_owned);
    let launch = Launch::fusewire(&exe, source, backing.mountpoint(), &words);
    let mounted = Mounted::mount(&launch, interrupt)?;
    let possible = OPERATIONS.iter().filter(|operation| !operation.writes || name != READ_MOSTLY);
    let operations = possible.map(|operation| {
        interrupt.check()?;
        cost(operation, &mounted)
    });
    let operations = operations.collect::<Result<_, StudyError>>();
    let snapshot = mounted.snapshot();
    mounted.release()?;
    let (name, options, operations) = (name.to_owned(), options.to_owned(), operations?);
    let coherence = snapshot?.unwrap_or_default().coherence;
    let notifications = coherence.notifications + coherence.expirations;
    Ok(Profile { name, options, notifications, operations })
}

fn cost(operation: &Operation, mounted: &Mounted) -> Result<Cost, StudyError> {
    let root = mounted.root();
    let failed = || format!("{} in", operation.name);
    if let Some(before) = operation.before {
        before(root).map_err(StudyError::io(&failed(), root))?;
    }
    let before = counters(mounted)?;
    (operation.body)(root).map_err(StudyError::io(&failed(), root))?;
    let mut requests = counters(mounted)?;
    requests.retain(|opcode, count| {
        *count -= before.get(opcode).copied().unwrap_or_default();
        *count > 0 && opcode != MARK
    });
    if operation.writes {
        settle(mounted)?;
    }
    Ok(Cost { operation: operation.name.to_owned(), times: operation.times, requests })
}

/// Waits until the watch has told the kernel of what a writer has left, where there is one: else what
/// comes next would find more or less in the kernel's caches, as it happens.
fn settle(mounted: &Mounted) -> Result<(), StudyError> {
    let (mut before, mut alike) = (None, 0);
    for _ in 0..LOOKS {
        let coherence = mounted.snapshot()?.unwrap_or_default().coherence;
        let now = (coherence.events, coherence.notifications);
        alike = if before.replace(now) == Some(now) { alike + 1 } else { 0 };
        if coherence.mode != "watch" || alike == ALIKE {
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// What was asked until now, by opcode.
fn counters(mounted: &Mounted) -> Result<BTreeMap<String, u64>, StudyError> {
    let root = mounted.root();
    for _ in 0..MARKS {
        statfs(root).map_err(StudyError::io("statfs", root))?;
    }
    let snapshot = mounted.snapshot()?.unwrap_or_default();
    Ok(snapshot.requests.into_iter().map(|(opcode, figures)| (opcode, figures.count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_chooses_profiles_and_a_slip_is_told() {
        let select = |only: &[&str]| {
            let only = only.iter().map(|text| (*text).to_owned()).collect();
            select(&RequestsOptions { only, json: false })
        };
        assert_eq!(select(&[]).expect("all").len(), PROFILES.len());
        let names: Vec<_> = select(&["timeout", "read"]).expect("they exist").into_iter().collect();
        assert_eq!(names.len(), 3);
        let error = select(&["owner", "ownr"]).expect_err("a slip").to_string();
        assert!(error.contains("--only ownr") && error.contains("shared, watch"), "{error}");
    }

    #[test]
    fn what_is_waited_for_is_told_from_what_is_not() {
        let requests = [("OPEN", 2), ("RELEASE", 2), ("FORGET", 1), ("GETATTR", 1)];
        let requests = requests.map(|(name, count)| (name.to_owned(), count)).into();
        let cost = Cost { operation: String::new(), times: 2, requests };
        assert_eq!((cost.blocking(), cost.asynchronous()), (3, 3));
    }
}
