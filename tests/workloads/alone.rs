//! A test program in a world of its own: mount and process namespaces which end with it, so that no
//! mount and no process outlives it, however it ends.
//!
//! It owns the check that nothing was left behind by the tests themselves.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use fusewire::mountinfo::MountTable;
use libtest_mimic::Conclusion;
use nix::mount::{MntFlags, umount2};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Orphans of a test which ended may need a moment.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// Starts this program again as the first process of new namespaces, unless it is that already.
/// Call it before the first thread is started.
pub(crate) fn enter() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mounting needs root; run them with sudo".to_owned());
    }
    fs::File::open("/dev/fuse")
        .map_err(|error| format!("/dev/fuse: {error}; load it with: modprobe fuse"))?;
    if Pid::this() == Pid::from_raw(1) {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_retain(0o022));
        let_go();
        return Ok(());
    }
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    // "slave": what is unmounted outside does not live on here.
    let options = ["--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child"];
    let mut command = Command::new("unshare");
    let error =
        command.args(options).arg("--mount-proc").arg(own).args(std::env::args_os().skip(1));
    Err(format!("unshare: {}; apt-get install util-linux", error.exec()))
}

/// What a program cannot do without, or nothing: then it has said why `tests` cannot run.
pub(crate) fn or_tell<T>(tests: &str, needed: Result<T, String>) -> Option<T> {
    needed.map_err(|reason| eprintln!("the {tests} cannot run: {reason}")).ok()
}

/// Detaches, here only, the FUSE mounts and test disks of others that were inherited: each would
/// keep its daemon or loop device until this program ends.
fn let_go() {
    let table = MountTable::read().unwrap_or_default();
    for mount in table.iter() {
        let of_a_test = mount.mount_point.to_string_lossy().contains("/fusewire-");
        if mount.is_fuse() || of_a_test {
            let _ = umount2(&mount.mount_point, MntFlags::MNT_DETACH);
        }
    }
}

/// What could be left behind.
#[derive(Debug)]
pub(crate) struct Census {
    mounts: BTreeSet<String>,
    descriptors: usize,
}

impl Census {
    /// Counts before the first test.
    pub(crate) fn take() -> Self {
        Census { mounts: mounts(), descriptors: descriptors().len() }
    }

    /// How the program ends: as its tests did, unless something is left behind.
    pub(crate) fn conclude(&self, conclusion: &Conclusion, images: &[PathBuf]) -> ExitCode {
        let left = self.leftovers(images);
        if left.is_empty() {
            return conclusion.exit_code();
        }
        eprintln!("left behind:\n  {}", left.join("\n  "));
        ExitCode::FAILURE
    }

    /// What is there now and was not then: mounts, descriptors of this program, processes, and loop
    /// devices over an image in `images`.
    fn leftovers(&self, images: &[PathBuf]) -> Vec<String> {
        let deadline = Instant::now() + SETTLES_WITHIN;
        loop {
            let mut found: Vec<String> = mounts()
                .difference(&self.mounts)
                .map(|mount| format!("a mount: {mount}"))
                .collect();
            found.extend(processes());
            found.extend(loops(images));
            let open = descriptors();
            if open.len() > self.descriptors {
                found.push(format!("{} descriptors, now {open:?}", self.descriptors));
            }
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The mount table without its ids, which change with what comes and goes.
fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let line = |line: &str| line.splitn(5, ' ').nth(4).unwrap_or_default().to_owned();
    table.lines().map(line).collect()
}

fn descriptors() -> Vec<String> {
    let mut open = Vec::new();
    for fd in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Ok(to) = fs::read_link(fd.path()) {
            open.push(format!("{} -> {}", fd.file_name().to_string_lossy(), to.display()));
        }
    }
    open
}

/// Every process but this one. Orphans come to it, as it is the first: those which ended are reaped.
fn processes() -> Vec<String> {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_ok_and(|pid| pid != 1) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("process {name}: {command}"));
        }
    }
    found
}

fn loops(images: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = device.path().join("loop/backing_file");
        let backing = fs::read_to_string(backing).unwrap_or_default();
        if images.iter().any(|image| backing.starts_with(&*image.to_string_lossy())) {
            found.push(format!("a loop device: {}: {backing}", device.path().display()));
        }
    }
    found
}
