//! The result folder while a study runs: begun before the first turn, a line after each, so that
//! nothing that was measured is lost, and read again when the study goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::environment::Environment;
use super::super::error::StudyError;
use super::super::record::{FORMAT, Sample, Study};
use super::order::Turn;
use super::resume::Overrides;
use crate::report::folder::{fresh, to_json};

const STUDY: &str = "study.json";
const ENVIRONMENT: &str = "environment.json";
const RESUME: &str = "resume.json";
const SAMPLES: &str = "samples.jsonl";
const FILE: &str = "study.toml";
const RAW: &str = "raw";
const FIO: &str = "fio.jsonl";

/// An open result folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    samples: File,
}

/// What a folder held when its study went on.
#[derive(Debug)]
pub(crate) struct Earlier {
    /// `study.json`.
    pub(crate) study: Study,
    /// The study's file.
    pub(crate) text: String,
    /// `environment.json`.
    pub(crate) environment: Environment,
    /// `resume.json`, while there is something to go on with.
    pub(crate) overrides: Overrides,
    /// What had been measured.
    pub(crate) samples: Vec<Sample>,
}

impl Folder {
    /// Begins one below `root`.
    pub(crate) fn begin(
        root: &Path,
        study: &Study,
        text: &str,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<Self, StudyError> {
        fs::create_dir_all(root).map_err(StudyError::io("create", root))?;
        let date = environment.began.get(..10).unwrap_or("");
        let path = fresh(root, &format!("{date}-{}-{}", environment.machine(), study.name))?;
        let file = path.join(FILE);
        fs::write(&file, text).map_err(StudyError::io("write", &file))?;
        let raw = path.join(RAW);
        fs::create_dir(&raw).map_err(StudyError::io("create", &raw))?;
        let samples = append(&path.join(SAMPLES))?;
        let folder = Folder { path, samples };
        folder.replace(RESUME, overrides)?;
        folder.write_study(study)?;
        folder.write_environment(environment)?;
        Ok(folder)
    }

    /// Reads one whose study was interrupted.
    pub(crate) fn read(path: &Path) -> Result<Earlier, StudyError> {
        let format: serde_json::Value = read_json(&path.join(STUDY))?;
        match format.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            format => {
                let format = format.map_or_else(|| "an unknown".to_owned(), |n| n.to_string());
                return Err(StudyError::Preflight(format!(
                    "{} has format {format}, and this fusewire writes {FORMAT}: begin the study anew, \
                     or go on with the fusewire that began it",
                    path.display()
                )));
            }
        }
        let file = path.join(FILE);
        let samples = path.join(SAMPLES);
        let lines = fs::read_to_string(&samples).map_err(StudyError::io("read", &samples))?;
        let mut kept = Vec::new();
        for line in lines.lines() {
            match serde_json::from_str::<Sample>(line) {
                Ok(sample) if sample.sequence == kept.len() => kept.push(sample),
                // The line that was being written when it ended, and nothing after it.
                _ => break,
            }
        }
        let resume = path.join(RESUME);
        Ok(Earlier {
            overrides: if resume.exists() { read_json(&resume)? } else { Overrides::default() },
            study: read_json(&path.join(STUDY))?,
            text: fs::read_to_string(&file).map_err(StudyError::io("read", &file))?,
            environment: read_json(&path.join(ENVIRONMENT))?,
            samples: kept,
        })
    }

    /// Goes on in one, after these samples; what else it held is taken again.
    pub(crate) fn resume(path: &Path, samples: &[Sample]) -> Result<Self, StudyError> {
        let file = path.join(SAMPLES);
        let half = path.join("samples.half");
        let mut text = String::new();
        for sample in samples {
            text.push_str(&line(sample)?);
        }
        fs::write(&half, text).map_err(StudyError::io("write", &half))?;
        fs::rename(&half, &file).map_err(StudyError::io("replace", &file))?;
        Ok(Folder { path: path.to_owned(), samples: append(&file)? })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a sample; it is in the file when this returns.
    pub(crate) fn keep(&mut self, sample: &Sample) -> Result<(), StudyError> {
        let line = line(sample)?;
        let path = self.path.join(SAMPLES);
        self.samples.write_all(line.as_bytes()).map_err(StudyError::io("write", &path))
    }

    /// There is nothing left to go on with.
    pub(crate) fn finish(&self) -> Result<(), StudyError> {
        let path = self.path.join(RESUME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StudyError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes `study.json`.
    pub(crate) fn write_study(&self, study: &Study) -> Result<(), StudyError> {
        self.replace(STUDY, study)
    }

    /// Writes `environment.json`.
    pub(crate) fn write_environment(&self, environment: &Environment) -> Result<(), StudyError> {
        self.replace(ENVIRONMENT, environment)
    }

    /// Half a document is never seen under its name.
    fn replace<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StudyError> {
        let (path, half) = (self.path.join(name), self.path.join(format!("{name}.half")));
        let text = to_json(value)? + "\n";
        fs::write(&half, text).map_err(StudyError::io("write", &half))?;
        fs::rename(&half, &path).map_err(StudyError::io("replace", &path))
    }

    /// Where fio's own documents go.
    pub(crate) fn raw(&self) -> Raw {
        Raw(self.path.join(RAW).join(FIO))
    }
}

/// What fio printed, one document a line.
#[derive(Debug)]
pub(crate) struct Raw(PathBuf);

impl Raw {
    /// Keeps nothing.
    pub(crate) fn none() -> Self {
        Raw("/dev/null".into())
    }

    /// Adds the document of a turn.
    pub(crate) fn keep(
        &self,
        turn: &Turn,
        cell: &str,
        system: &str,
        document: &serde_json::Value,
    ) -> Result<(), StudyError> {
        let (sequence, round) = (turn.sequence, turn.round);
        let line = json!({
            "sequence": sequence, "round": round, "cell": cell, "system": system, "fio": document,
        });
        let mut file = append(&self.0)?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(StudyError::io("write", &self.0))
    }
}

fn line(sample: &Sample) -> Result<String, StudyError> {
    serde_json::to_string(sample).map(|text| text + "\n").map_err(|error| StudyError::Io {
        action: "write a sample as JSON".into(),
        source: error.into(),
    })
}

fn append(path: &Path) -> Result<File, StudyError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(StudyError::io("open", path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StudyError> {
    let text = fs::read_to_string(path).map_err(StudyError::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| {
        StudyError::Preflight(format!("{} is not what a study writes: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Outcome;
    use super::*;

    fn study() -> Study {
        Study {
            format: FORMAT,
            name: "a".into(),
            seed: 1,
            rounds: 2,
            cells: Vec::new(),
            systems: Vec::new(),
        }
    }

    fn sample(sequence: usize) -> Sample {
        let (cell, system) = ("c".into(), "s".into());
        let outcome = Outcome::Failed("x".into());
        Sample { sequence, round: 0, cell, system, outcome }
    }

    fn overrides() -> Overrides {
        Overrides { dir: Some("/some/where".into()), layers: true, ..Overrides::default() }
    }

    fn begun(dir: &Path) -> Folder {
        let environment =
            Environment { began: "2026-01-31T12:00:00Z".into(), ..Environment::default() };
        let mut folder = Folder::begin(dir, &study(), "name = \"a\"", &environment, &overrides())
            .expect("can be made");
        (0..3).for_each(|sequence| folder.keep(&sample(sequence)).expect("can be written"));
        folder
    }

    #[test]
    fn what_was_kept_is_found_again_without_the_line_that_was_cut_off() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut folder = begun(dir.path());
        assert!(folder.path().ends_with("2026-01-31-0cpu-a"), "{:?}", folder.path());
        folder.samples.write_all(b"{\"sequence\":3,\"rou").expect("can be written");
        let earlier = Folder::read(folder.path()).expect("can be read");
        assert_eq!(earlier.samples, (0..3).map(sample).collect::<Vec<_>>());
        assert_eq!((earlier.study, earlier.text.as_str()), (study(), "name = \"a\""));
        assert_eq!(earlier.overrides, overrides());
        let mut again = Folder::resume(folder.path(), &earlier.samples[..2]).expect("goes on");
        again.keep(&sample(2)).expect("can be written");
        let text = fs::read_to_string(folder.path().join(SAMPLES)).expect("is there");
        assert_eq!(text.lines().count(), 3);
        // Whoever looks at results does not learn of our directories.
        again.finish().and_then(|()| again.finish()).expect("can be removed");
        let earlier = Folder::read(folder.path()).expect("can be read");
        assert_eq!(earlier.overrides, Overrides::default());
    }

    #[test]
    fn a_folder_of_another_version_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = begun(dir.path());
        let path = folder.path().join(STUDY);
        let text = fs::read_to_string(&path).expect("is there");
        fs::write(&path, text.replace("\"format\": 1", "\"format\": 99")).expect("can be written");
        let error = Folder::read(folder.path()).expect_err("another version").to_string();
        assert!(error.contains("has format 99"), "{error}");
        assert!(Folder::read(dir.path()).is_err());
    }
}
