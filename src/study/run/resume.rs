//! What the command line said beyond the study's file, for the day on which the study goes on. It names
//! directories of this machine, which results do not: it is in the folder only as long as runs are
//! missing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::environment::Backing;
use super::super::error::StudyError;
use super::super::preflight::refuse;
use super::options::RunOptions;

/// `resume.json`. Rounds, seed and the cells that were chosen are in `study.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Overrides {
    /// `--dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    /// `--layers`.
    #[serde(default)]
    pub(crate) layers: bool,
    /// `--enable-uring`.
    #[serde(default)]
    pub(crate) enable_uring: bool,
    /// `--exe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exe: Option<PathBuf>,
}

impl Overrides {
    /// Those of a study that begins.
    pub(crate) fn of(options: &RunOptions) -> Result<Self, StudyError> {
        Ok(Overrides {
            dir: options.dir.as_deref().map(absolute).transpose()?,
            layers: options.layers,
            enable_uring: options.enable_uring,
            exe: options.exe.as_deref().map(absolute).transpose()?,
        })
    }

    /// The options of `--resume`, completed by what the study began with.
    pub(crate) fn complete(&self, options: &RunOptions) -> Result<RunOptions, StudyError> {
        if let Some(given) = &options.dir {
            let same = |began: &PathBuf| began.canonicalize().ok() == given.canonicalize().ok();
            if !self.dir.as_ref().is_some_and(same) {
                let began = match &self.dir {
                    Some(dir) => format!("in {}", dir.display()),
                    None => "where its file says".to_owned(),
                };
                return Err(refuse(format!(
                    "--dir {}: the study began {began}, and goes on there: leave out --dir, or begin \
                     it anew",
                    given.display()
                )));
            }
        }
        Ok(RunOptions {
            dir: self.dir.clone(),
            layers: options.layers || self.layers,
            enable_uring: options.enable_uring || self.enable_uring,
            exe: options.exe.clone().or_else(|| self.exe.clone()),
            ..options.clone()
        })
    }
}

/// The current directory may be another one by then.
fn absolute(path: &Path) -> Result<PathBuf, StudyError> {
    std::path::absolute(path).map_err(StudyError::io("find", path))
}

/// Whether the place is what it was when the study began: rounds of two places make no study.
pub(crate) fn same_place(then: &Backing, now: &Backing) -> Result<(), StudyError> {
    let place = |backing: &Backing| match &backing.mkfs_options {
        Some(options) => format!("{} (mkfs {options})", backing.description),
        None => backing.description.clone(),
    };
    let (then, now) = (place(then), place(now));
    match then == now {
        true => Ok(()),
        false => Err(refuse(format!(
            "the study began on another place ({then}, now {now}): begin it anew, or let there be what \
             there was"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        options: RunOptions,
    }

    fn options(line: &str) -> RunOptions {
        Wrapper::try_parse_from(line.split(' ')).expect(line).options
    }

    #[test]
    fn what_a_study_began_with_is_what_it_goes_on_with() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let other = tempfile::tempdir().expect("a temporary directory");
        let line = format!("run x --dir {} --layers --exe e", dir.path().display());
        let overrides = Overrides::of(&options(&line)).expect("they can be found");
        let text = serde_json::to_string(&overrides).expect("can be written");
        let again: Overrides = serde_json::from_str(&text).expect("comes back");
        let whole = again.complete(&options("run --resume f")).expect("nothing contradicts");
        assert_eq!(whole.dir.as_deref(), Some(dir.path()));
        assert!(whole.layers && !whole.enable_uring);
        assert!(whole.exe.is_some_and(|exe| exe.is_absolute()));
        let again = |line: &str| overrides.complete(&options(line));
        again(&format!("run --resume f --dir {}", dir.path().display())).expect("the same");
        let error = again(&format!("run --resume f --dir {}", other.path().display()));
        let error = error.expect_err("another one").to_string();
        assert!(error.contains("the study began in"), "{error}");
        let error = Overrides::default().complete(&options("run --resume f --dir /"));
        let error = error.expect_err("it began elsewhere").to_string();
        assert!(error.contains("began where its file says"), "{error}");
    }

    #[test]
    fn another_place_is_refused() {
        let ext4 = |mkfs: &str| Backing {
            description: "ext4 in a sparse file".into(),
            mkfs_options: Some(mkfs.into()),
            ..Backing::default()
        };
        same_place(&ext4("-q"), &ext4("-q")).expect("the same");
        assert!(same_place(&ext4("-q"), &ext4("-q -m 0")).is_err());
        let directory = Backing { description: "a directory on xfs".into(), ..Backing::default() };
        let error = same_place(&directory, &ext4("-q")).expect_err("another").to_string();
        assert!(error.contains("a directory on xfs, now ext4 in a sparse file"), "{error}");
    }
}
