//! `fusewire study run` as its users meet it: on a directory of theirs, interrupted, resumed, with
//! programs that hang or die, and with a delay that must be found again.

#[path = "study/bad_input.rs"]
mod bad_input;
#[path = "study/commands.rs"]
mod commands;
#[path = "cli/harness.rs"]
#[allow(dead_code, reason = "the tests of the command use more of it")]
mod harness;
#[path = "study/layers.rs"]
mod layers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fusewire::study::record::{Measurement, Outcome, Sample, Study};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use harness::{Output, binary, eventually};

/// A directory to measure in, one for results, and a study's file.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(study: &str) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["data", "tmp"] {
            fs::create_dir(folder.path().join(name)).expect("mkdir");
        }
        fs::write(folder.path().join("study.toml"), study).expect("write");
        Desk { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `fusewire study run study.toml --dir data` and these arguments.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["study", "run"]).arg("--dir").arg(self.path("data"));
        command.arg("--results").arg(self.path("results")).args(arguments);
        command.env("TMPDIR", self.path("tmp"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let study = self.path("study.toml");
        finish(self.command(arguments).arg(study))
    }

    /// The one result folder.
    fn results(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.path("results")).expect("was made");
        folders.next().expect("there is one").expect("readable").path()
    }

    fn samples(&self) -> Vec<Sample> {
        let text = fs::read_to_string(self.results().join("samples.jsonl")).expect("was written");
        text.lines().map(|line| serde_json::from_str(line).expect("a sample")).collect()
    }

    fn study(&self) -> Study {
        let text = fs::read_to_string(self.results().join("study.json")).expect("was written");
        serde_json::from_str(&text).expect("a study")
    }

    /// Nothing is mounted, no file is left, whatever happened.
    #[track_caller]
    fn is_clean(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let here = self.folder.path().to_string_lossy();
        assert!(!mounts.contains(&*here), "something is mounted below {here}");
        for name in ["data", "tmp"] {
            let left: Vec<_> = fs::read_dir(self.path(name)).expect("readable").flatten().collect();
            assert!(left.is_empty(), "left in {name}: {left:?}");
        }
    }
}

/// Runs a command to its end, which on a busy machine may be far.
#[track_caller]
fn finish(command: &mut Command) -> Output {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let create = |path| fs::File::create(path).expect("create in a temporary folder");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out))
        .stderr(create(&err))
        .spawn()
        .expect("it runs");
    let code = wait(&mut child);
    let read = |path| fs::read_to_string(path).expect("text");
    Output { code, stdout: read(&out), stderr: read(&err) }
}

#[track_caller]
fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().expect("our child");
            panic!("a study hung");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// No study here takes half a minute on an idle machine.
const LIMIT: Duration = Duration::from_secs(240);

const SMALL: &str = r#"
name = "small"
title = "Two cells"
rounds = 2
seconds = 0.02
[[system]]
id = "fusewire"
kind = "fusewire"
arguments = ["--transport", "dev"]
[[cells]]
workload = ["stat-forced", "create"]
files = 50
"#;

/// `fusewire null` under forced stats, once for each id with a delay in microseconds.
fn delays(rounds: u32, seconds: f64, systems: &[(&str, u32)]) -> String {
    let system = |(id, delay): &(&str, u32)| {
        format!(
            "[[system]]\nid = \"{id}\"\nkind = \"null\"\n\
             arguments = [\"--transport\", \"dev\", \"--delay-us\", \"{delay}\"]\n"
        )
    };
    let systems: String = systems.iter().map(system).collect();
    format!(
        "name = \"delays\"\ntitle = \"Known delays\"\nrounds = {rounds}\nseconds = {seconds}\n\
         {systems}[[cells]]\nworkload = \"stat-forced\"\n"
    )
}

fn measured(sample: &Sample) -> &Measurement {
    match &sample.outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("{} on {}: {other:?}", sample.cell, sample.system),
    }
}

#[test]
fn a_study_of_a_directory_leaves_results_and_nothing_else() {
    let desk = Desk::new(SMALL);
    let output = desk.run(&["--seed", "7", "--json"]).succeeded();
    desk.is_clean();
    let document: Value = serde_json::from_str(&output.stdout).expect("one document");
    assert_eq!(document["samples"], 12);
    assert_eq!(document["failed"], Value::Array(Vec::new()));
    let (study, samples) = (desk.study(), desk.samples());
    assert_eq!((study.seed, study.rounds, study.name.as_str()), (7, 2, "small"));
    let in_force = study.systems[2].in_force.as_ref().expect("fusewire tells");
    assert_eq!(in_force.transport.name, "dev");
    for sample in &samples {
        let measurement = measured(sample);
        assert!(measurement.seconds > 0.0 && measurement.latency.p50 > 0, "{sample:?}");
        if sample.system == "fusewire" {
            let daemon = measurement.daemon.as_ref().expect("it counts");
            let opcode = if sample.cell == "create" { "CREATE" } else { "GETATTR" };
            let requests = daemon.requests.get(opcode).copied().unwrap_or(0);
            assert!(requests >= measurement.operations, "{sample:?}");
            assert!(measurement.flags.is_empty(), "{sample:?}");
        } else {
            assert!(measurement.daemon.is_none());
        }
    }
    for name in ["environment.json", "study.toml", "report.html", "README.md"] {
        assert!(desk.results().join(name).exists(), "{name}");
    }
}

#[test]
fn an_interrupted_study_keeps_what_it_has_and_goes_on() {
    let desk = Desk::new(&SMALL.replace("rounds = 2", "rounds = 8"));
    let mut child = started(desk.command(&["--seed", "3"]).arg(desk.path("study.toml")));
    let lines = || {
        let file = desk.path("results");
        let folder = fs::read_dir(file).ok().and_then(|mut list| list.next()?.ok());
        let text = folder.and_then(|f| fs::read_to_string(f.path().join("samples.jsonl")).ok());
        text.map_or(0, |text| text.lines().count())
    };
    eventually("some runs", || lines() >= 7);
    kill(Pid::from_raw(child.id().try_into().expect("a pid")), Signal::SIGINT).expect("it runs");
    assert_eq!(wait(&mut child), Some(130));
    desk.is_clean();
    let before = desk.samples();
    assert!(before.len() >= 7 && before.len() < 48, "{}", before.len());
    // A line that was cut off, as by a power failure.
    let path = desk.results().join("samples.jsonl");
    let text = fs::read_to_string(&path).expect("is there") + "{\"sequence\":";
    fs::write(&path, text).expect("write");
    let folder = desk.results();
    // Where it was begun the command line said, and nobody has to say it again.
    let resume = || {
        let mut command = Command::new(binary());
        command.args(["study", "run", "--resume"]).arg(&folder).env("TMPDIR", desk.path("tmp"));
        command
    };
    fs::rename(desk.path("data"), desk.path("away")).expect("rename");
    finish(&mut resume()).failed(1, &[&*desk.path("data").to_string_lossy()]);
    fs::rename(desk.path("away"), desk.path("data")).expect("rename");
    finish(resume().arg("--dir").arg("/")).failed(1, &["the study began in", "leave out --dir"]);
    let environment = folder.join("environment.json");
    let rewrite = |from: &str, to: &str| {
        let text = fs::read_to_string(&environment).expect("was written");
        assert!(text.contains(from), "{text}");
        fs::write(&environment, text.replace(from, to)).expect("write");
    };
    rewrite("a directory on", "an island in");
    finish(&mut resume()).failed(1, &["began on another place (an island in"]);
    rewrite("an island in", "a directory on");
    finish(&mut resume()).succeeded();
    desk.is_clean();
    assert!(!folder.join("resume.json").exists(), "a path of this machine stays in the results");
    // There is nothing left to do, and to tell it again needs no place.
    finish(&mut resume()).succeeded();
    let after = desk.samples();
    assert_eq!(after.len(), 48);
    // What made whole cells is as it was; nobody has to know that there was an interruption.
    let whole = before.len() / 3 * 3;
    assert_eq!(before[..whole], after[..whole]);
    assert!(after.iter().zip(0..).all(|(sample, place)| sample.sequence == place));
    let cells = |round| {
        let of = after.iter().filter(|sample| sample.round == round);
        of.map(|sample| (&sample.cell, &sample.system)).collect::<std::collections::BTreeSet<_>>()
    };
    assert!((0..8).all(|round| cells(round).len() == 6), "every round is whole");
}

/// As `2>&1 | head -1` does, and a terminal that is closed.
#[test]
fn nobody_who_listens_is_no_reason_to_leave_something_behind() {
    let unheard = |desk: &Desk| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = desk.command(&["--seed", "3"]);
        command.arg(desk.path("study.toml")).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(writer).spawn().expect("it runs")
    };
    let failing = "[[system]]\nid = \"read-only\"\nkind = \"fusewire\"\n\
                   arguments = [\"--transport\", \"dev\", \"-o\", \"ro\"]\n[[cells]]";
    for (study, code) in [(SMALL.to_owned(), 0), (SMALL.replace("[[cells]]", failing), 1)] {
        let desk = Desk::new(&study);
        assert_eq!(wait(&mut unheard(&desk)), Some(code));
        desk.is_clean();
        assert!(desk.results().join("report.html").exists());
    }
    let desk = Desk::new(&SMALL.replace("rounds = 2", "rounds = 400"));
    let mut child = unheard(&desk);
    eventually("it measures", || desk.path("results").exists());
    kill(Pid::from_raw(child.id().try_into().expect("a pid")), Signal::SIGHUP).expect("it runs");
    assert_eq!(wait(&mut child), Some(129));
    desk.is_clean();
}

fn started(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it runs")
}

/// A program that mounts a real file system and then does what `script` says.
fn program(desk: &Desk, name: &str, script: &str) -> String {
    let path = desk.path(name);
    let binary = binary().display();
    fs::write(&path, format!("#!/bin/sh\nFUSEWIRE={binary}\n{script}\n")).expect("write");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
    path.display().to_string()
}

#[test]
fn other_programs_are_measured_and_those_that_fail_cost_only_their_own_cells() {
    let desk = Desk::new("");
    let works = program(&desk, "works", "exec \"$FUSEWIRE\" mount \"$1\" \"$2\" -f");
    let detaches = program(&desk, "detaches", "exec \"$FUSEWIRE\" mount \"$1\" \"$2\"");
    let refuses = program(&desk, "refuses", "echo \"$1: no such thing\" >&2; exit 3");
    let dies = program(
        &desk,
        "dies",
        "\"$FUSEWIRE\" mount \"$1\" \"$2\" -f & sleep 0.3; kill -9 $!; wait $!; exit 9",
    );
    let system = |id: &str, path: &str| {
        format!(
            "[[system]]\nid = \"{id}\"\nkind = \"command\"\n\
             command = [\"{path}\", \"{{source}}\", \"{{mountpoint}}\"]\n"
        )
    };
    let study = [
        "name = \"others\"\ntitle = \"Others\"\nrounds = 2\nseconds = 0.6\n".to_owned(),
        system("works", &works),
        system("detaches", &detaches),
        system("refuses", &refuses),
        system("dies", &dies),
        system("missing", "no-such-program") + "package = \"its-package\"\n",
        "[[cells]]\nworkload = \"open-close\"\nfiles = 20\n".to_owned(),
    ];
    fs::write(desk.path("study.toml"), study.concat()).expect("write");
    let output = desk.run(&[]).failed(1, &["systems without figures: refuses, dies: "]);
    for part in ["failed: open-close on refuses", "no such thing", "skipped: open-close on missing"]
    {
        assert!(output.stderr.contains(part), "{part} in {output:?}");
    }
    desk.is_clean();
    let samples = fs::read_to_string(desk.results().join("samples.jsonl")).expect("was written");
    assert!(samples.contains("{source}: no such thing"), "{samples}");
    let here = desk.folder.path().to_string_lossy();
    assert!(!samples.contains(&*here), "{here} in {samples}");
    for sample in desk.samples() {
        match (sample.system.as_str(), &sample.outcome) {
            ("native" | "native-again" | "works" | "detaches", Outcome::Measured(_)) => {}
            ("refuses", Outcome::Failed(why)) => assert!(why.contains("no such thing"), "{why}"),
            ("dies", Outcome::Failed(_)) => {}
            ("missing", Outcome::Skipped(why)) => assert!(why.contains("not installed"), "{why}"),
            (system, outcome) => panic!("{system}: {outcome:?}"),
        }
        if sample.system == "works" {
            let daemon = measured(&sample).daemon.as_ref().expect("its process is known");
            assert!(daemon.consumption.voluntary_switches > 0, "{daemon:?}");
        }
    }
}

#[test]
fn what_can_be_known_to_fail_fails_before_anything_is_measured() {
    for (change, parts) in [
        (("dev\"", "dev\", \"--no-such\""), &["system fusewire", "--no-such"][..]),
        (("files = 50", "fils = 50"), &["unknown field `fils`", "did you mean `files`?"]),
        (
            ("\"dev\"]", "\"dev\"]\nrequire = { data = \"copy\" }"),
            &["system fusewire", "data is passthrough where copy is required"],
        ),
    ] {
        let desk = Desk::new(&SMALL.replace(change.0, change.1));
        desk.run(&[]).failed(1, parts);
        desk.is_clean();
        assert!(!desk.path("results").exists(), "{change:?}");
    }
    let command = |program: &str| {
        let words = format!("kind = \"command\"\ncommand = [\"{program}\", \"{{mountpoint}}\"]");
        Desk::new(
            &SMALL.replace("kind = \"fusewire\"\narguments = [\"--transport\", \"dev\"]", &words),
        )
    };
    let missing = ["system fusewire: there is no /no/such/hp", "correct it in `command`"];
    command("/no/such/hp").run(&[]).failed(1, &missing);
    command("no-such-hp").run(&[]).failed(1, &["no-such-hp is not in PATH", "`package`"]);
    let desk = Desk::new(SMALL);
    desk.run(&["--only", "nothing"]).failed(1, &["--only nothing matches no cell"]);
    finish(&mut desk.command(&["quik"])).failed(1, &["did you mean quick?"]);
    finish(&mut desk.command(&["--resume", "/no/such"])).failed(1, &["/no/such"]);
}

#[test]
fn presets_are_listed_and_told_in_detail() {
    let desk = Desk::new(SMALL);
    let list = finish(&mut desk.command(&["--list", "--json"])).succeeded();
    let list: Value = serde_json::from_str(&list.stdout).expect("one document");
    let names: Vec<&str> =
        list.as_array().expect("a list").iter().filter_map(|p| p["name"].as_str()).collect();
    let presets = [
        "quick",
        "ladder",
        "metadata",
        "jobs",
        "fast17",
        "tail",
        "scale",
        "locality",
        "locality-gfarm",
    ];
    assert_eq!(names, presets);
    let quick = finish(&mut desk.command(&["quick", "--list"])).succeeded();
    assert!(quick.stdout.contains("system native-again"), "{}", quick.stdout);
    assert!(quick.stdout.contains("randread-4k-qd32"), "{}", quick.stdout);
}

/// A study that does not find a delay it put there itself measures something else.
#[test]
fn a_known_delay_is_found_again() {
    // The least that was seen in several rounds: what a busy machine adds, it adds to both, and to some
    // rounds less than to others.
    let mut seen = String::new();
    for _ in 0..3 {
        let desk = Desk::new(&delays(3, 0.3, &[("none", 0), ("asleep", 20_000), ("running", 90)]));
        desk.run(&[]).succeeded();
        let samples = desk.samples();
        let median_us = |system: &str| {
            let of = samples.iter().filter(|sample| sample.system == system);
            of.map(|sample| measured(sample).latency.p50).min().expect("it ran") as f64 / 1e3
        };
        let asleep = median_us("asleep") - median_us("none");
        let running = median_us("running") - median_us("none");
        seen = format!("20000 µs asleep: {asleep:.0}, 90 µs running: {running:.1}");
        if (19_000.0..21_000.0).contains(&asleep) && (80.0..135.0).contains(&running) {
            return;
        }
    }
    panic!("{seen}");
}

#[test]
fn a_mount_that_hangs_is_given_up_and_recorded() {
    let desk = Desk::new("");
    // Never mounts, and ignores the signals that ask nicely.
    let hangs = program(&desk, "hangs", "trap '' TERM INT; while :; do sleep 1; done");
    let study = format!(
        "name = \"hang\"\ntitle = \"Hang\"\nrounds = 1\nseconds = 0.02\nmount-seconds = 1.0\n\
         [[system]]\nid = \"hangs\"\nkind = \"command\"\ncommand = [\"{hangs}\", \"{{mountpoint}}\"]\n\
         [[cells]]\nworkload = \"open-close\"\nfiles = 20\n"
    );
    fs::write(desk.path("study.toml"), study).expect("write");
    let told = ["hangs did not mount within", "systems without figures: hangs: "];
    desk.run(&[]).failed(1, &told);
    desk.is_clean();
    assert_eq!(desk.samples().len(), 3);
}
