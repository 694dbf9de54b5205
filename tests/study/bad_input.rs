//! What goes wrong around a study: it is told with its remedy, and leaves nothing behind.

use std::path::Path;

use super::*;

const FIO: &str = r#"
name = "fio"
title = "One cell of fio"
rounds = 1
seconds = 0.02
size-mib = 8
[[system]]
id = "fusewire"
kind = "fusewire"
[[cells]]
workload = "fio"
rw = "read"
block = "4k"
"#;

#[test]
fn fio_that_is_missing_or_too_old_is_told_at_once() {
    let desk = Desk::new(FIO);
    fs::create_dir(desk.path("bin")).expect("mkdir");
    let run = || {
        let mut command = desk.command(&[]);
        finish(command.arg(desk.path("study.toml")).env("PATH", desk.path("bin")))
    };
    run().failed(1, &["fio", "apt-get install fio"]);
    program(&desk, "bin/fio", "echo fio-2.1.11");
    run().failed(1, &["fio-2.1.11 is too old", "3.20", "apt-get install fio"]);
    program(&desk, "bin/fio", "echo nonsense");
    run().failed(1, &["nonsense is too old"]);
    desk.is_clean();
    assert!(!desk.path("results").exists());
}

#[test]
fn a_workload_that_fails_on_one_system_costs_that_cell_only() {
    let read_only = "[[system]]\nid = \"read-only\"\nkind = \"fusewire\"\n\
                     arguments = [\"--transport\", \"dev\", \"-o\", \"ro\"]\n[[cells]]";
    let desk = Desk::new(&SMALL.replace("[[cells]]", read_only));
    let output = desk.run(&["--json"]).failed(1, &["create on read-only", "Read-only file system"]);
    desk.is_clean();
    let document: Value = serde_json::from_str(&output.stdout).expect("one document all the same");
    assert_eq!(document["failed"].as_array().map(Vec::len), Some(1), "{}", document["failed"]);
    for sample in desk.samples() {
        match (sample.cell.as_str(), sample.system.as_str(), &sample.outcome) {
            ("create", "read-only", Outcome::Failed(why)) => {
                assert!(why.contains("Read-only file system"), "{why}");
            }
            (_, _, Outcome::Measured(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let readme = fs::read_to_string(desk.results().join("README.md")).expect("was written");
    assert!(readme.contains("failed on read-only: "), "{readme}");
}

/// A mount that goes with its value.
struct Mounted(PathBuf);

impl Mounted {
    fn at(point: PathBuf, command: &mut Command) -> Self {
        fs::create_dir_all(&point).expect("mkdir");
        finish(command.arg(&point)).succeeded();
        Mounted(point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{}", self.0.display());
    }
}

#[test]
fn a_place_without_room_or_on_fuse_is_refused() {
    let desk = Desk::new(SMALL);
    // The file of an image is to lie in a tmpfs that is too small for it.
    let mut tmpfs = Command::new("mount");
    let tmpfs =
        Mounted::at(desk.path("full"), tmpfs.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]));
    let mut command = Command::new(binary());
    command.args(["study", "run"]).arg(desk.path("study.toml")).env("TMPDIR", &tmpfs.0);
    command.arg("--results").arg(desk.path("results"));
    finish(&mut command).failed(1, &["16 MiB free", "are needed", "TMPDIR"]);
    assert_eq!(fs::read_dir(&tmpfs.0).expect("readable").count(), 0);
    let mut in_it = Command::new(binary());
    in_it.args(["study", "run"]).arg(desk.path("study.toml")).arg("--dir").arg(&tmpfs.0);
    in_it.arg("--results").arg(desk.path("results"));
    finish(&mut in_it).failed(1, &["16 MiB free", "another --dir"]);
    drop(tmpfs);

    let mut mount = Command::new(binary());
    let mounted = Mounted::at(desk.path("mnt"), mount.arg("mount").arg(desk.path("data")));
    let mut command = Command::new(binary());
    command.args(["study", "run"]).arg(desk.path("study.toml")).arg("--dir").arg(&mounted.0);
    command.arg("--results").arg(desk.path("results"));
    finish(&mut command).failed(1, &["lies on FUSE itself", "another --dir"]);
    drop(mounted);
    desk.is_clean();
    assert!(!desk.path("results").exists());
}

#[test]
fn results_of_another_version_are_left_alone() {
    let desk = Desk::new(SMALL);
    let folder = desk.path("results/2026-01-01-some-2cpu-small");
    fs::create_dir_all(&folder).expect("mkdir");
    fs::write(folder.join("study.json"), "{\"format\": 99}").expect("write");
    let told = ["99", "begin the study anew"];
    finish(desk.command(&["--resume"]).arg(&folder)).failed(1, &told);
    let mut report = Command::new(binary());
    finish(report.args(["study", "report"]).arg(&folder)).failed(1, &["version 99", "reads 1"]);
    let left: Vec<_> = fs::read_dir(&folder).expect("readable").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// Loop devices whose file lies below `path`.
fn loop_devices(path: &Path) -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").expect("readable").flatten();
    let file = |device: fs::DirEntry| fs::read_to_string(device.path().join("loop/backing_file"));
    let files = devices.filter_map(|device| file(device).ok()).map(PathBuf::from);
    files.filter(|file| file.starts_with(path)).collect()
}

#[test]
fn whenever_it_is_interrupted_nothing_stays() {
    let study = SMALL.replace("rounds = 2", "rounds = 400");
    let study = format!("{study}[backing]\nkind = \"image\"\nsize-mib = 512\n");
    // While it looks around, makes the image, mounts, finds out what is in force, measures.
    for milliseconds in [30, 120, 250, 400, 700, 1500] {
        let desk = Desk::new(&study);
        let mut command = Command::new(binary());
        command.args(["study", "run"]).arg(desk.path("study.toml")).env("TMPDIR", desk.path("tmp"));
        command.arg("--results").arg(desk.path("results"));
        let mut child = started(&mut command);
        std::thread::sleep(Duration::from_millis(milliseconds));
        let pid = Pid::from_raw(child.id().try_into().expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        let code = wait(&mut child);
        // Before it listens, the signal ends it as it ends everything.
        assert!(code == Some(143) || code.is_none() && milliseconds < 400, "{code:?}");
        desk.is_clean();
        let here = desk.folder.path().canonicalize().expect("it exists");
        eventually("the loop device goes", || loop_devices(&here).is_empty());
    }
}

#[test]
fn what_a_killed_study_left_is_named_with_a_remedy_that_works() {
    let desk = Desk::new(&SMALL.replace("rounds = 2", "rounds = 400"));
    let tmpfs = SMALL.replace("rounds = 2", "rounds = 400") + "[backing]\nkind = \"tmpfs\"\n";
    fs::write(desk.path("tmpfs.toml"), tmpfs).expect("write");
    let in_memory = || {
        let mut command = Command::new(binary());
        command.args(["study", "run"]).arg(desk.path("tmpfs.toml")).env("TMPDIR", desk.path("tmp"));
        command.arg("--results").arg(desk.path("in-memory"));
        command
    };
    let in_data = || {
        let mut command = desk.command(&[]);
        command.arg(desk.path("study.toml"));
        command
    };
    for (mut command, results) in [(in_memory(), "in-memory"), (in_data(), "results")] {
        let mut child = started(&mut command);
        eventually("it measures", || desk.path(results).exists());
        child.kill().expect("our child");
        wait(&mut child);
    }
    let data: Vec<_> = fs::read_dir(desk.path("data")).expect("readable").flatten().collect();
    assert!(data[0].file_name().to_string_lossy().starts_with(".fusewire-study-"), "{data:?}");

    fs::write(desk.path("study.toml"), SMALL).expect("write");
    let output = desk.run(&[]).succeeded();
    let told = output.stderr.split_once("remove it with: ").expect("it is told").1;
    let (unmount, remove) = told.lines().next().expect("a line").split_once(" && ").expect("two");
    assert!(unmount.starts_with("umount -l ") && remove.starts_with("rm -r --one-file-system "));
    // Others may have left something too, which is not ours to remove.
    let here = desk.folder.path().canonicalize().expect("it exists");
    let ours = |words: &str| {
        let ours = words.split(' ').filter(|word| word.starts_with(&*here.to_string_lossy()));
        ours.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let remedy = format!("umount -l {} && rm -r --one-file-system {}", ours(unmount), ours(remove));
    finish(Command::new("sh").args(["-c", &remedy])).succeeded();
    desk.is_clean();
}

#[test]
fn memory_that_is_too_small_is_refused_before_it_is_full() {
    let backing = "[backing]\nkind = \"tmpfs\"\nsize-mib = 20\n";
    let desk = Desk::new(&(FIO.replace("size-mib = 8", "size-mib = 64") + backing));
    let mut command = Command::new(binary());
    command.args(["study", "run"]).arg(desk.path("study.toml")).env("TMPDIR", desk.path("tmp"));
    command.arg("--results").arg(desk.path("results"));
    let told = ["a tmpfs of 20 MiB is too small, 80 MiB are needed", "size-mib in [backing]"];
    finish(&mut command).failed(1, &told);
    desk.is_clean();
    assert!(!desk.path("results").exists());
}

#[test]
fn a_device_that_is_too_small_is_refused_before_it_is_full() {
    let desk = Desk::new(&FIO.replace("size-mib = 8", "size-mib = 64"));
    let image = desk.path("image");
    fs::File::create(&image).and_then(|file| file.set_len(32 << 20)).expect("create");
    finish(Command::new("mkfs.ext4").arg("-q").arg(&image)).succeeded();
    let attached = finish(Command::new("losetup").args(["--find", "--show"]).arg(&image));
    let device = attached.succeeded().stdout.trim().to_owned();
    let mut command = Command::new(binary());
    command.args(["study", "run"]).arg(desk.path("study.toml")).args(["--dir", &device]);
    command.arg("--results").arg(desk.path("results")).env("TMPDIR", desk.path("tmp"));
    let output = finish(&mut command);
    finish(Command::new("losetup").args(["--detach", &device])).succeeded();
    output.failed(1, &[&*format!("{device}: "), "MiB free, 80 MiB are needed", "another device"]);
    desk.is_clean();
}

#[test]
fn numbers_that_measure_nothing_are_refused_by_their_key() {
    for (key, told) in [
        ("seconds = -1", "seconds = -1: from 0.01 to 3600 are possible"),
        ("seconds = nan", "seconds = NaN: "),
        ("passes = 0", "passes = 0: from 1 to "),
        ("load = 500", "load = 500: from 1 to 100"),
        ("published = \"nothing\"", "unknown row in `published` `nothing`"),
    ] {
        let study =
            SMALL.replace("workload = [\"stat-forced\", \"create\"]", "workload = \"stat\"");
        let desk = Desk::new(&format!("{study}{key}\n"));
        desk.run(&[]).failed(1, &["[[cells]] number 1: ", told]);
        desk.is_clean();
    }
}
