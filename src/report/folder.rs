//! Result folders: named by date, machine and study, written once, never overwritten.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::markdown;
use super::summary::Summary;
use crate::study::StudyError;
use crate::study::environment::Environment;
use crate::study::sample::Sample;

/// A place for results that was found writable before anything was measured.
#[derive(Debug)]
pub struct Results {
    root: PathBuf,
}

/// Checks that `root` can be written or made; makes nothing yet.
pub fn prepare(root: &Path) -> Result<Results, StudyError> {
    let absolute = std::path::absolute(root).map_err(StudyError::io("resolve", root))?;
    let existing = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Err(StudyError::Preflight(format!(
            "{} is not a directory: choose another --results",
            existing.display()
        )));
    }
    access(existing, AccessFlags::W_OK).map_err(|errno| {
        StudyError::Preflight(format!(
            "results cannot be written in {}: {}; choose another --results",
            existing.display(),
            errno.desc()
        ))
    })?;
    Ok(Results { root: root.to_owned() })
}

impl Results {
    /// Writes a new folder and gives its path.
    pub fn write(
        &self,
        summary: &Summary,
        samples: &[Sample],
        environment: &Environment,
    ) -> Result<PathBuf, StudyError> {
        fs::create_dir_all(&self.root).map_err(StudyError::io("create", &self.root))?;
        let date = environment.began.get(..10).unwrap_or("");
        let name = format!("{date}-{}-demo", environment.machine());
        let folder = fresh(&self.root, &name)?;
        let files = [
            ("README.md", markdown::render(summary)),
            ("summary.json", to_json(summary)?),
            ("samples.json", one_a_line(samples)?),
            ("environment.json", to_json(environment)?),
        ];
        for (name, mut text) in files {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            let path = folder.join(name);
            fs::write(&path, text).map_err(StudyError::io("write", &path))?;
        }
        Ok(folder)
    }
}

/// Pretty JSON.
pub fn to_json<T: Serialize>(value: &T) -> Result<String, StudyError> {
    serde_json::to_string_pretty(value).map_err(not_json)
}

/// An array with one sample a line: greppable, and a diff shows samples.
fn one_a_line(samples: &[Sample]) -> Result<String, StudyError> {
    let lines: Result<Vec<String>, _> = samples.iter().map(serde_json::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines.map_err(not_json)?.join(",\n")))
}

fn not_json(error: serde_json::Error) -> StudyError {
    StudyError::Io { action: "write the results as JSON".into(), source: error.into() }
}

/// Creates `name`, or `name-2`, `name-3`, ... whichever is new.
pub(crate) fn fresh(root: &Path, name: &str) -> Result<PathBuf, StudyError> {
    for number in 1_u32.. {
        let path = match number {
            1 => root.join(name),
            _ => root.join(format!("{name}-{number}")),
        };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StudyError::io("create", &path)(error)),
        }
    }
    unreachable!("no directory holds four billion folders")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_second_run_gets_a_folder_of_its_own() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("new/results");
        let results = prepare(&root).expect("can be made");
        assert!(!root.exists(), "nothing is made before there is something to write");
        let (summary, samples) = (fixture::summary(), fixture::samples());
        let environment = fixture::environment();
        let folders: Vec<PathBuf> = (0..3)
            .map(|_| results.write(&summary, &samples, &environment).expect("can be written"))
            .collect();
        let names: Vec<_> =
            folders.iter().map(|path| path.file_name().expect("named").to_string_lossy()).collect();
        let name = "2026-01-31-some-2cpu-demo";
        assert_eq!(names, [name.to_owned(), format!("{name}-2"), format!("{name}-3")]);
        let text = fs::read_to_string(folders[0].join("samples.json")).expect("was written");
        assert_eq!(serde_json::from_str::<Vec<Sample>>(&text).expect("is JSON"), samples);
        assert_eq!(text.lines().count(), samples.len() + 2);
        for file in ["README.md", "summary.json", "environment.json"] {
            assert!(folders[2].join(file).metadata().expect("was written").len() > 100, "{file}");
        }
    }

    #[test]
    fn results_under_a_file_are_refused() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = prepare(&file.path().join("x")).expect_err("a file").to_string();
        assert!(error.contains("is not a directory") && error.contains("--results"), "{error}");
    }
}
