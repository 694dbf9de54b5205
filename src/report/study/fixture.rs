//! A small study with known figures, for the tests of everything that tells of one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use tempfile::TempDir;

use super::digest::Digest;
use super::results::Results;
use crate::report::fixture::environment;
use crate::study::environment::InForce;
use crate::study::record::{
    Cell, Consumption, DaemonWork, FORMAT, Kind, Latency, Measurement, NATIVE, NATIVE_AGAIN,
    Outcome, Sample, Study, System, Unit,
};

/// The kind of a workload: fio for data, and something of its own for each of the others.
fn kind(id: &str) -> &str {
    match id.split_once('-').map_or(id, |(kind, _)| kind) {
        "read" => "fio",
        other => other,
    }
}

pub(crate) fn study() -> Study {
    let cell = |id: &str, title: &str, group: &str, unit, threads| Cell {
        id: id.into(),
        title: title.into(),
        group: group.into(),
        unit,
        workload: serde_json::json!({"kind": kind(id), "threads": threads}),
        cache: "warm".into(),
        threads,
        published: None,
    };
    let system = |id: &str, title: &str, kind, mode: &str| System {
        id: id.into(),
        title: title.into(),
        kind,
        arguments: vec![format!("--{id}")],
        in_force: (kind == Kind::Fusewire).then(|| {
            let mut found: InForce = environment().in_force.expect("the fixture has one");
            found.data.mode = mode.into();
            found
        }),
        ..System::default()
    };
    let time = Unit::MicrosecondsPerOperation;
    Study {
        format: FORMAT,
        name: "ladder".into(),
        seed: 7,
        rounds: 3,
        cells: vec![
            cell("read", "seq read 1M, buffered", "data", Unit::MegabytesPerSecond, 1),
            cell("open-1", "open + close, 1 thread", "metadata", time, 1),
            cell("open-2", "open + close, 2 threads", "metadata", time, 2),
            cell("unlink", "unlink", "metadata", time, 1),
            cell("never", "never <run> & \"quoted\"", "metadata", time, 1),
        ],
        systems: vec![
            system(NATIVE, "native", Kind::Native, ""),
            system(NATIVE_AGAIN, "native again", Kind::Native, ""),
            system("base", "FAST'17 Base", Kind::Fusewire, "copy"),
            system("default", "fusewire", Kind::Fusewire, "passthrough"),
            system("peer", "bindfs", Kind::Command, ""),
        ],
    }
}

/// Reads take 1 ms natively; through base twice that, through default 1.25 times. The rest takes 4 µs
/// natively, 36 to 40 µs through base and 7 or 8 µs through default, which fails to unlink.
pub(crate) fn samples() -> Vec<Sample> {
    let study = study();
    let mut samples = Vec::new();
    for round in 0..study.rounds {
        for cell in &study.cells {
            for system in &study.systems {
                samples.push(Sample {
                    sequence: samples.len(),
                    round,
                    cell: cell.id.clone(),
                    system: system.id.clone(),
                    outcome: outcome(&cell.id, &system.id, round),
                });
            }
        }
    }
    samples
}

fn outcome(cell: &str, system: &str, round: u32) -> Outcome {
    match (cell, system) {
        (_, "peer") => return Outcome::Skipped("bindfs is not installed".into()),
        ("never", _) => return Outcome::Skipped("no space".into()),
        ("unlink", "default") => return Outcome::Failed("unlink: EIO".into()),
        _ => {}
    }
    let noise = [1.0, 1.01, 0.99][round as usize];
    let microseconds = match (cell, system) {
        ("read", "base") => 2000.0,
        ("read", "default") => 1250.0,
        ("read", _) => 1000.0,
        ("open-1", "base") => 40.0,
        ("open-1", "default") => 8.0,
        (_, "base") => 36.0,
        (_, "default") => 7.0,
        _ => 4.0,
    } * noise;
    let mounted = ["base", "default"].contains(&system);
    let nanoseconds = |factor: f64| {
        // A fixture's latencies are small and positive.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let value = (microseconds * 1e3 * factor) as u64;
        value
    };
    let daemon = mounted.then(|| DaemonWork {
        requests: match (cell, system) {
            ("read", "base") => BTreeMap::from([("READ".into(), 8000)]),
            ("read", _) => BTreeMap::from([("OPEN".into(), 1), ("RELEASE".into(), 1)]),
            _ => BTreeMap::from([("OPEN".into(), 1000), ("RELEASE".into(), 1000)]),
        },
        consumption: Consumption {
            user_cpu_us: 3000.0,
            system_cpu_us: 9000.0,
            voluntary_switches: 2000,
            involuntary_switches: 250,
            migrations: Some(50),
        },
    });
    let layers = (cell == "open-1" && mounted).then(|| {
        BTreeMap::from([
            ("client".to_owned(), microseconds * 300.0),
            ("wake_up".to_owned(), microseconds * 200.0),
            ("daemon".to_owned(), microseconds * 100.0),
            ("source".to_owned(), microseconds * 200.0),
            ("reply".to_owned(), microseconds * 100.0),
            ("client_wake_up".to_owned(), microseconds * 100.0),
        ])
    });
    Outcome::Measured(Box::new(Measurement {
        operations: 1000,
        bytes: if cell == "read" { 1_000_000_000 } else { 0 },
        seconds: microseconds / 1000.0,
        latency: Latency {
            p50: nanoseconds(0.9),
            p99: nanoseconds(2.0),
            p999: nanoseconds(10.0),
            buckets: vec![
                (nanoseconds(0.7), 100),
                (nanoseconds(0.9), 500),
                (nanoseconds(1.5), 389),
                (nanoseconds(2.0), 10),
                (nanoseconds(10.0), 1),
            ],
        },
        client: Consumption {
            user_cpu_us: 1000.0,
            system_cpu_us: 2000.0,
            voluntary_switches: if mounted { 2000 } else { 0 },
            involuntary_switches: if mounted { 250 } else { 0 },
            migrations: Some(if mounted { 50 } else { 0 }),
        },
        daemon,
        layers,
        steal_percent: 0.5,
        flags: Vec::new(),
    }))
}

pub(crate) fn results() -> Results {
    Results {
        folder: PathBuf::from("2026-01-31-some-2cpu-ladder"),
        study: study(),
        environment: environment(),
        samples: samples(),
        title: None,
        cut_short: false,
    }
}

pub(crate) fn digest() -> Digest {
    static DIGEST: LazyLock<Digest> = LazyLock::new(|| Digest::new(&results()));
    DIGEST.clone()
}

/// A cell becomes a load, which a system needs twice the time for.
pub(crate) fn saturate(results: &mut Results, cell: &str, system: &str) {
    for found in results.study.cells.iter_mut().filter(|found| found.id == cell) {
        found.unit = Unit::MicrosecondsP99;
        found.workload = serde_json::json!({"seconds": 0.5, "rate_per_second": 2000.0});
    }
    for sample in results.samples.iter_mut().filter(|sample| sample.cell == cell) {
        if let Outcome::Measured(run) = &mut sample.outcome {
            run.seconds = if sample.system == system { 1.0 } else { 0.5 };
        }
    }
}

/// The folder that this study would have left behind.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    write(folder.path());
    folder
}

pub(crate) fn write(folder: &std::path::Path) {
    let put = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).expect("can be written");
    };
    put("study.json", json(&study()));
    put("environment.json", json(&environment()));
    put("samples.jsonl", samples().iter().map(|sample| json(sample) + "\n").collect());
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("can be written")
}
