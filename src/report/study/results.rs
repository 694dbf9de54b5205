//! A result folder, read: nothing is believed that does not fit together.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::report::error::ReportError;
use crate::study::environment::Environment;
use crate::study::record::{FORMAT, NATIVE, Sample, Study};

/// What a study left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// Where it lies.
    pub folder: PathBuf,
    /// What was to be measured.
    pub study: Study,
    /// What it was measured on.
    pub environment: Environment,
    /// What came of it, in the order in which it was measured.
    pub samples: Vec<Sample>,
    /// What the study's own file calls it.
    pub title: Option<String>,
    /// Whether the last line of the samples was cut short, as by a crash.
    pub cut_short: bool,
}

#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

impl Results {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`ReportError`]: what is missing, damaged, or of another version.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("study.json");
        if !path.exists() {
            let problem = match folder.join("samples.json").exists() {
                true => "no such file: these are results of the demo, whose README.md tells them",
                false => {
                    "no such file: is this the folder of a study? `fusewire study ls` lists them"
                }
            };
            return Err(ReportError::content(&path, problem));
        }
        let text = read(&path)?;
        let Version { format } = parse(&path, &text)?;
        if format != FORMAT {
            return Err(ReportError::content(
                &path,
                format!(
                    "its layout has version {format}, this fusewire reads {FORMAT}: use the version \
                     that wrote it (see environment.json)"
                ),
            ));
        }
        let study: Study = parse(&path, &text)?;
        let path = folder.join("environment.json");
        let environment = parse(&path, &read(&path)?)?;
        let path = folder.join("samples.jsonl");
        let (samples, cut_short) = samples(&path, &study)?;
        let cut_short = cut_short && !samples.is_empty();
        let title = title(&folder.join("study.toml"));
        Ok(Results { folder: folder.to_owned(), study, environment, samples, title, cut_short })
    }
}

/// The title in a study's own file. No figure depends on it: without one there is none.
fn title(path: &Path) -> Option<String> {
    let file: toml::Table = fs::read_to_string(path).ok()?.parse().ok()?;
    Some(file.get("title")?.as_str()?.to_owned())
}

fn read(path: &Path) -> Result<String, ReportError> {
    fs::read_to_string(path).map_err(ReportError::io("read", path))
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path, text: &str) -> Result<T, ReportError> {
    serde_json::from_str(text).map_err(|error| ReportError::content(path, error))
}

/// The lines of `samples.jsonl`. A last line that was cut short is a run that did not end; a
/// damaged line in the middle is a damaged file.
fn samples(path: &Path, study: &Study) -> Result<(Vec<Sample>, bool), ReportError> {
    let text = match path.exists() {
        true => read(path)?,
        false => String::new(),
    };
    let cells: HashSet<&str> = study.cells.iter().map(|cell| cell.id.as_str()).collect();
    let systems: HashSet<&str> = study.systems.iter().map(|system| system.id.as_str()).collect();
    if !systems.contains(NATIVE) {
        return Err(ReportError::content(
            &path.with_file_name("study.json"),
            "it has no system `native` to compare with",
        ));
    }
    let mut samples = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let at =
            |problem: String| ReportError::content(path, format!("line {}: {problem}", index + 1));
        let sample: Sample = match serde_json::from_str(line) {
            Ok(sample) => sample,
            Err(_) if lines.peek().is_none() && !text.ends_with('\n') => {
                return Ok((samples, true));
            }
            Err(error) => return Err(at(error.to_string())),
        };
        if !cells.contains(sample.cell.as_str()) {
            return Err(at(format!("cell `{}` is not in study.json", sample.cell)));
        }
        if !systems.contains(sample.system.as_str()) {
            return Err(at(format!("system `{}` is not in study.json", sample.system)));
        }
        samples.push(sample);
    }
    Ok((samples, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;

    fn problem(folder: &Path) -> String {
        Results::read(folder).expect_err("is damaged").to_string()
    }

    #[test]
    fn a_folder_is_read_as_it_was_written() {
        let folder = fixture::folder();
        let results = Results::read(folder.path()).expect("is sound");
        assert_eq!(results.study, fixture::study());
        // Floats may differ in their last bit after having been text.
        let keys = |samples: &[Sample]| -> Vec<(usize, String, String)> {
            samples.iter().map(|s| (s.sequence, s.cell.clone(), s.system.clone())).collect()
        };
        assert_eq!(keys(&results.samples), keys(&fixture::samples()));
        assert!(!results.cut_short);
        assert_eq!(results.title, None);
        let put = |text: &str| {
            fs::write(folder.path().join("study.toml"), text).expect("can be written");
            Results::read(folder.path()).expect("is sound").title
        };
        assert_eq!(put("title = \"Step by step\"\n[[system]]\n"), Some("Step by step".into()));
        assert_eq!(put("title = "), None, "the figures do not depend on it");
    }

    #[test]
    fn what_is_damaged_is_named() {
        let folder = fixture::folder();
        let path = folder.path();
        let samples = fs::read_to_string(path.join("samples.jsonl")).expect("was written");
        let put = |name: &str, text: &str| fs::write(path.join(name), text).expect("is writable");

        put("samples.jsonl", &samples.replacen("\"round\"", "round", 1));
        assert!(problem(path).contains("samples.jsonl: line 1: "), "{}", problem(path));
        put("samples.jsonl", &samples.replacen("\"native\"", "\"nobody\"", 1));
        assert!(problem(path).contains("system `nobody`"), "{}", problem(path));
        put("samples.jsonl", &samples[..samples.len() - 20]);
        let results = Results::read(path).expect("a cut line is a run that did not end");
        assert!(results.cut_short);
        assert_eq!(results.samples.len(), fixture::samples().len() - 1);

        put("study.json", r#"{"format":99}"#);
        let text = problem(path);
        assert!(text.contains("version 99") && text.contains("reads 1"), "{text}");
        put("study.json", "nonsense");
        assert!(problem(path).contains("study.json: expected"), "{}", problem(path));
        fs::remove_file(path.join("study.json")).expect("is there");
        assert!(problem(path).contains("study ls"), "{}", problem(path));
        put("samples.json", "[]");
        assert!(problem(path).contains("demo"), "{}", problem(path));
    }
}
