//! What is told of studies: reports, comparisons, lists, and their exit codes.

use std::fs;
use std::path::Path;

use fusewire::study::record::{
    Cell, FORMAT, Kind, Measurement, NATIVE, NATIVE_AGAIN, Outcome, Sample, Study, System, Unit,
};
use serde_json::Value;

use crate::harness::{Place, fusewire};

/// Writes the folder of a study in which fusewire takes `microseconds` for what native does in 10.
fn folder(root: &Path, name: &str, microseconds: f64) -> String {
    let folder = root.join(name);
    fs::create_dir_all(&folder).expect("can be made");
    let system =
        |id: &str, kind| System { id: id.into(), title: id.into(), kind, ..System::default() };
    let study = Study {
        format: FORMAT,
        name: "small".into(),
        seed: 1,
        rounds: 5,
        cells: vec![Cell {
            id: "stat".into(),
            title: "stat".into(),
            group: "metadata".into(),
            unit: Unit::MicrosecondsPerOperation,
            workload: Value::Null,
            cache: "warm".into(),
            threads: 1,
            published: None,
        }],
        systems: vec![
            system(NATIVE, Kind::Native),
            system(NATIVE_AGAIN, Kind::Native),
            system("fusewire", Kind::Fusewire),
        ],
    };
    let mut samples = String::new();
    for (round, noise) in (0..).zip([1.0, 1.01, 0.99, 1.02, 0.98]) {
        for system in &study.systems {
            let time = if system.kind == Kind::Native { 10.0 } else { microseconds };
            let run = Measurement {
                operations: 1000,
                seconds: time * noise / 1000.0,
                ..Measurement::default()
            };
            let outcome = Outcome::Measured(Box::new(run));
            let (cell, system) = ("stat".into(), system.id.clone());
            let sample = Sample { sequence: 0, round, cell, system, outcome };
            samples += &(serde_json::to_string(&sample).expect("can be written") + "\n");
        }
    }
    let environment = fusewire::study::environment::Environment::capture();
    let json = |value: Result<String, serde_json::Error>| value.expect("can be written");
    for (name, text) in [
        ("study.json", json(serde_json::to_string(&study))),
        ("environment.json", json(serde_json::to_string(&environment))),
        ("samples.jsonl", samples),
    ] {
        fs::write(folder.join(name), text).expect("can be written");
    }
    folder.to_str().expect("text").to_owned()
}

#[test]
fn a_report_is_written_and_told() {
    let place = Place::new();
    let study = folder(&place.source, "2026-01-31-some-2cpu-small", 20.0);
    let told = fusewire(["study", "report", &study]).succeeded().stdout;
    assert!(told.contains("fusewire: x2.00 native's time; cells: 1 slower."), "{told}");
    for file in ["report.html", "README.md", "summary.csv", "summary.json"] {
        assert!(Path::new(&study).join(file).exists(), "{file}");
    }
    let json = fusewire(["study", "report", &study, "--json"]).succeeded().stdout;
    let summary: Value = serde_json::from_str(&json).expect("is JSON");
    assert_eq!(summary["cells"][0]["results"][1]["result"]["measured"]["rounds"], 5);

    let list = fusewire(["study", "ls", place.source.to_str().expect("text"), "--json"]);
    let list: Value = serde_json::from_str(&list.succeeded().stdout).expect("is JSON");
    assert_eq!(list[0]["study"], "small");
    assert_eq!(list[0]["says"][0], "fusewire: x2.00 native's time; cells: 1 slower.");
}

#[test]
fn a_regression_is_code_3_and_other_folders_are_code_1() {
    let place = Place::new();
    let before = folder(&place.source, "1-before", 20.0);
    let worse = folder(&place.source, "2-worse", 25.0);
    let args = |after: &str, more: &[&str]| {
        fusewire([&["study", "compare", &before, after], more].concat())
    };
    args(&before, &[]).succeeded();
    args(&worse, &["--threshold", "30"]).succeeded();
    let told = args(&worse, &[]).failed(3, &[]).stdout;
    assert!(told.contains("REGRESSION") && told.contains("1 regressions"), "{told}");
    let json = args(&worse, &["--json"]).failed(3, &[]).stdout;
    let comparison: Value = serde_json::from_str(&json).expect("is JSON");
    assert_eq!(comparison["regressions"], 1);
    args("/nowhere", &[]).failed(1, &["study.json", "study ls"]);
    args(&worse, &["--threshold", "x"]).failed(2, &["from 0 to below 100"]);

    let path = Path::new(&worse).join("study.json");
    let text = fs::read_to_string(&path).expect("was written");
    let other = text.replacen(&format!("\"format\":{FORMAT}"), "\"format\":999", 1);
    fs::write(&path, other).expect("can be written");
    args(&worse, &[]).failed(1, &["version 999", "the version that wrote it"]);
    fusewire(["study", "report", &worse]).failed(1, &["version 999"]);
}
