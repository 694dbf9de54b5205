//! fio: what is installed, the command of a job, and the figures of its json+.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::error::StudyError;
use super::load::latency::Recorder;
use super::process::run_tool;
use super::record::Measurement;
use super::sample::count;
use super::work::Fio;

/// What all fio jobs of the demo share.
#[derive(Debug, Clone)]
pub(crate) struct FioSettings {
    /// Length of a job.
    pub(crate) seconds: f64,
    /// Size of the test file.
    pub(crate) size_mib: u32,
    /// fio's engine for O_DIRECT: `io_uring` or `libaio`.
    pub(crate) direct_engine: &'static str,
}

/// Why the preflight wants another fio.
pub(crate) const MISSING: &str = "fio is not installed: apt-get install fio";

/// The version that is installed, as `fio-3.33`.
pub(crate) fn version() -> Result<String, StudyError> {
    let mut command = Command::new("fio");
    command.arg("--version");
    match run_tool("ask fio for its version", &mut command) {
        Ok(version) => Ok(version.trim().to_owned()),
        Err(error) if error.to_string().contains("No such file") => {
            Err(StudyError::Preflight(MISSING.into()))
        }
        Err(error) => Err(error),
    }
}

/// The engine for O_DIRECT that works on `file`; io_uring may be disabled or not permitted.
pub(crate) fn direct_engine(file: &Path) -> Result<&'static str, StudyError> {
    let probe = |engine| {
        run_tool(
            &format!("do an O_DIRECT read with fio and {engine}"),
            base("probe", file)
                .args(["--rw=read", "--bs=4k", "--size=4k", "--direct=1"])
                .arg(format!("--ioengine={engine}")),
        )
    };
    probe("io_uring").map(|_| "io_uring").or_else(|_| probe("libaio").map(|_| "libaio"))
}

/// What every job has in common.
pub(crate) fn base(name: &str, file: &Path) -> Command {
    let mut command = Command::new("fio");
    // fio splits file names at colons.
    let file = file.to_string_lossy().replace(':', "\\:");
    command
        .args([format!("--name={name}"), format!("--filename={file}")])
        .args(["--thread", "--invalidate=0", "--allow_file_create=0", "--disk_util=0"])
        .args(["--output-format=json+", "--eta=never"]);
    command
}

/// The command of one job on one file. `seed` decides the offsets of random access.
pub(crate) fn command(job: &Fio, file: &Path, seed: u64) -> Command {
    let mut command = base("cell", file);
    let size_bytes = u64::from(job.size_mib) << 20;
    command
        .arg(format!("--rw={}", job.rw))
        .arg(format!("--bs={}", job.block_bytes))
        .arg(format!("--ioengine={}", job.engine))
        .arg(format!("--runtime={}ms", (job.seconds * 1e3).round()))
        .arg(format!("--randseed={}", seed >> 1));
    if !job.is_once {
        // Random offsets without a map of what was visited: that map is work of fio's own, and it would
        // make the job end early where it is fast.
        command.args(["--time_based", "--norandommap"]);
    }
    match job.depth {
        None => command.arg("--direct=0"),
        Some(depth) => command.arg("--direct=1").arg(format!("--iodepth={depth}")),
    };
    if job.jobs > 1 {
        command.args([format!("--numjobs={}", job.jobs), "--group_reporting".to_owned()]);
    }
    // Sequential jobs have a part each: one that follows another would find its pages.
    let is_parted = job.jobs > 1 && !job.rw.starts_with("rand");
    let part = if is_parted { size_bytes / u64::from(job.jobs) } else { size_bytes };
    let part = (part / job.block_bytes).max(1) * job.block_bytes;
    command.arg(format!("--size={part}"));
    if is_parted {
        command.arg(format!("--offset_increment={part}"));
    }
    if job.fsync > 0 {
        command.arg(format!("--fsync={}", job.fsync));
    }
    if job.dsync {
        command.arg("--sync=dsync");
    }
    command
}

/// The figures of a job's json+, and the json+ itself. fio prints notes before it.
pub(crate) fn parse(stdout: &str) -> Result<(Measurement, Value), String> {
    let json = stdout.find('{').map_or("", |start| &stdout[start..]);
    let raw: Value = serde_json::from_str(json).map_err(|error| format!("fio's json: {error}"))?;
    let job = raw.pointer("/jobs/0").ok_or("fio's json has no job")?;
    let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    match number(job, "/error") {
        Some(0) => {}
        error => return Err(format!("fio: error {} in the job", error.unwrap_or(0))),
    }
    let (side, operations) = ["read", "write"]
        .iter()
        .filter_map(|side| {
            let side = job.get(side)?;
            Some((side, number(side, "/total_ios").filter(|operations| *operations > 0)?))
        })
        .next()
        .ok_or("fio did no I/O")?;
    let milliseconds = number(side, "/runtime").filter(|time| *time > 0);
    let milliseconds = milliseconds.ok_or("fio took no time")?;
    let mut recorder = Recorder::new();
    let bins = side.pointer("/clat_ns/bins").and_then(Value::as_object);
    for (nanoseconds, times) in bins.into_iter().flatten() {
        let nanoseconds = nanoseconds.parse().map_err(|_| "fio's json: a latency is no number")?;
        recorder.add(nanoseconds, times.as_u64().unwrap_or(0));
    }
    let measurement = Measurement {
        operations,
        bytes: number(side, "/io_bytes").unwrap_or(0),
        seconds: count(milliseconds) / 1e3,
        latency: recorder.latency(),
        ..Measurement::default()
    };
    Ok((measurement, raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"note: something
{ "fio version": "fio-3.33", "jobs": [ { "jobname": "cell", "error": 0,
  "read": { "io_bytes": 0, "total_ios": 0, "runtime": 0 },
  "write": { "io_bytes": 40960, "total_ios": 10, "runtime": 500,
    "clat_ns": { "bins": { "5000": 9, "90000": 1 } } } } ] }"#;

    fn job() -> Fio {
        Fio {
            rw: "randread".into(),
            block_bytes: 4096,
            engine: "psync".into(),
            depth: None,
            jobs: 1,
            fsync: 0,
            dsync: false,
            seconds: 0.25,
            size_mib: 128,
            is_once: false,
        }
    }

    fn line(job: &Fio) -> String {
        let command = command(job, Path::new("/a:b/data"), 7);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn the_command_says_everything_that_matters() {
        let buffered = line(&job());
        for word in [
            "--filename=/a\\:b/data",
            "--rw=randread",
            "--bs=4096",
            "--size=134217728",
            "--direct=0",
            "--runtime=250ms",
            "--randseed=3",
            "--invalidate=0",
        ] {
            assert!(buffered.contains(word), "{word} in {buffered}");
        }
        let direct = Fio { engine: "io_uring".into(), depth: Some(32), ..job() };
        assert!(line(&direct).contains("--ioengine=io_uring"));
        assert!(line(&direct).contains("--direct=1 --iodepth=32"));
        let sync = line(&Fio { rw: "write".into(), fsync: 1, dsync: true, ..job() });
        assert!(sync.contains("--fsync=1") && sync.contains("--sync=dsync"), "{sync}");
    }

    #[test]
    fn what_is_read_once_ends_with_the_file() {
        let endless = ["--time_based", "--norandommap"];
        let again = line(&job());
        assert!(endless.iter().all(|word| again.contains(word)), "{again}");
        let once = line(&Fio { is_once: true, ..job() });
        assert!(!endless.iter().any(|word| once.contains(word)), "{once}");
        assert!(once.contains("--runtime=250ms"), "{once}");
    }

    #[test]
    fn sequential_jobs_have_a_part_of_the_file_each() {
        let several = line(&Fio { rw: "read".into(), jobs: 3, ..job() });
        assert!(several.contains("--numjobs=3 --group_reporting"), "{several}");
        assert!(several.contains("--size=44736512 --offset_increment=44736512"), "{several}");
        assert!(line(&Fio { jobs: 3, ..job() }).contains("--size=134217728"));
    }

    #[test]
    fn the_side_that_did_something_is_taken() {
        let (run, raw) = parse(JSON).expect("well-formed");
        assert_eq!((run.operations, run.bytes, run.seconds), (10, 40960, 0.5));
        assert!((4900..5200).contains(&run.latency.p50), "{:?}", run.latency);
        assert!((88_000..94_000).contains(&run.latency.p99), "{:?}", run.latency);
        assert_eq!(raw["fio version"], "fio-3.33");
    }

    #[test]
    fn errors_and_rubbish_are_no_figures() {
        let error = |text: &str| parse(text).expect_err("no figures");
        assert!(error("").contains("fio's json"));
        assert!(error(&JSON.replace("\"error\": 0", "\"error\": 5")).contains("error 5"));
        assert_eq!(error(&JSON.replace("total_ios\": 10", "total_ios\": 0")), "fio did no I/O");
    }
}
