//! fio: the command line of a job, and the few figures we keep of its json.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::error::StudyError;
use super::matrix::FioJob;
use super::process::run_tool;
use super::sample::{Consumption, Measurement, Percentiles};

/// What all jobs of a study share.
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

/// The command of one job on one file. `seed` decides the offsets of random access.
pub(crate) fn command(job: &FioJob, settings: &FioSettings, file: &Path, seed: u64) -> Command {
    let mut command = base("cell", file);
    command.args([
        format!("--rw={}", job.rw()),
        format!("--bs={}", job.block_bytes),
        format!("--size={}m", settings.size_mib),
        "--time_based".to_owned(),
        format!("--runtime={}ms", (settings.seconds * 1e3).round()),
        // Random offsets without a map of what was visited: that map is work of fio's own, and it
        // would make the job end early where it is fast.
        "--norandommap".to_owned(),
        format!("--randseed={seed}"),
        "--percentile_list=50:99:99.9".to_owned(),
    ]);
    match job.direct_queue_depth {
        None => command.args(["--direct=0", "--ioengine=psync"]),
        Some(depth) => command
            .arg("--direct=1")
            .arg(format!("--ioengine={}", settings.direct_engine))
            .arg(format!("--iodepth={depth}")),
    };
    command
}

/// What every job has in common.
pub(crate) fn base(name: &str, file: &Path) -> Command {
    let mut command = Command::new("fio");
    // fio splits file names at colons.
    let file = file.to_string_lossy().replace(':', "\\:");
    command
        .args([format!("--name={name}"), format!("--filename={file}")])
        .args(["--thread", "--invalidate=0", "--allow_file_create=0", "--disk_util=0"])
        .args(["--output-format=json", "--eta=never"]);
    command
}

#[derive(Deserialize)]
struct Document {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    error: i64,
    read: Side,
    write: Side,
    usr_cpu: f64,
    sys_cpu: f64,
    ctx: u64,
}

#[derive(Deserialize)]
struct Side {
    io_bytes: u64,
    total_ios: u64,
    runtime: u64,
    clat_ns: Option<Clat>,
}

#[derive(Deserialize)]
struct Clat {
    percentile: Option<FioPercentiles>,
}

#[derive(Deserialize)]
struct FioPercentiles {
    #[serde(rename = "50.000000")]
    p50: u64,
    #[serde(rename = "99.000000")]
    p99: u64,
    #[serde(rename = "99.900000")]
    p999: u64,
}

/// The figures of a job's json. fio prints notes before it.
pub(crate) fn parse(stdout: &str) -> Result<Measurement, String> {
    let json = stdout.find('{').map_or("", |start| &stdout[start..]);
    let document: Document =
        serde_json::from_str(json).map_err(|error| format!("fio's json: {error}"))?;
    let job = document.jobs.into_iter().next().ok_or("fio's json has no job")?;
    if job.error != 0 {
        return Err(format!("fio: error {} in the job", job.error));
    }
    let side = if job.read.total_ios > 0 { job.read } else { job.write };
    if side.total_ios == 0 || side.runtime == 0 {
        return Err("fio did no I/O".into());
    }
    let milliseconds = super::sample::count(side.runtime);
    let percentile = side.clat_ns.and_then(|clat| clat.percentile);
    Ok(Measurement {
        operations: side.total_ios,
        bytes: side.io_bytes,
        seconds: milliseconds / 1e3,
        latency_ns: percentile.map_or_else(Percentiles::default, |values| Percentiles {
            p50: values.p50,
            p99: values.p99,
            p999: values.p999,
        }),
        client: Consumption {
            // Per cent of the job's time.
            user_cpu_us: job.usr_cpu * milliseconds * 10.0,
            system_cpu_us: job.sys_cpu * milliseconds * 10.0,
            switches: job.ctx,
        },
        daemon: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::matrix::{self, Work};

    const JSON: &str = r#"note: something
{ "fio version": "fio-3.33", "jobs": [ { "jobname": "cell", "error": 0,
  "read": { "io_bytes": 0, "total_ios": 0, "runtime": 0, "clat_ns": { "min": 0 } },
  "write": { "io_bytes": 40960, "total_ios": 10, "runtime": 500,
    "clat_ns": { "percentile": { "50.000000": 5, "99.000000": 9, "99.900000": 11 } } },
  "usr_cpu": 10.0, "sys_cpu": 40.0, "ctx": 3, "majf": 0 } ] }"#;

    #[test]
    fn the_side_that_did_something_is_taken() {
        let run = parse(JSON).expect("well-formed");
        assert_eq!((run.operations, run.bytes, run.seconds), (10, 40960, 0.5));
        assert_eq!(run.latency_ns, Percentiles { p50: 5, p99: 9, p999: 11 });
        assert_eq!(run.client.user_cpu_us, 50_000.0);
        assert_eq!((run.client.system_cpu_us, run.client.switches), (200_000.0, 3));
    }

    #[test]
    fn errors_and_rubbish_are_no_figures() {
        let error = |text: &str| parse(text).expect_err("no figures");
        assert!(error("").contains("fio's json"));
        assert!(error(&JSON.replace("\"error\": 0", "\"error\": 5")).contains("error 5"));
        assert_eq!(error(&JSON.replace("total_ios\": 10", "total_ios\": 0")), "fio did no I/O");
    }

    #[test]
    fn the_command_says_everything_that_matters() {
        let settings = FioSettings { seconds: 0.25, size_mib: 128, direct_engine: "io_uring" };
        let line = |id: &str| {
            let cell = matrix::demo().into_iter().find(|cell| cell.id == id).expect("exists");
            let Work::Fio(job) = cell.work else { panic!("{id} is a data cell") };
            let command = command(&job, &settings, Path::new("/a:b/data"), 7);
            let words: Vec<_> =
                command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            words.join(" ")
        };
        let buffered = line("buffered-randwrite-4k");
        for word in [
            "--filename=/a\\:b/data",
            "--rw=randwrite",
            "--bs=4096",
            "--size=128m",
            "--direct=0",
            "--runtime=250ms",
            "--ioengine=psync",
            "--randseed=7",
            "--invalidate=0",
        ] {
            assert!(buffered.contains(word), "{word} in {buffered}");
        }
        let direct = line("direct-read-1m-qd32");
        for word in ["--direct=1", "--ioengine=io_uring", "--iodepth=32", "--bs=1048576"] {
            assert!(direct.contains(word), "{word} in {direct}");
        }
    }
}
