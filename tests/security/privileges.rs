//! What the daemon may do, thread by thread.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::daemon::Daemon;
use crate::common::disk::Disk;
use crate::tool::fusewire;

/// Numbers of the capabilities that serving takes.
const NEEDED: [(u32, &str); 15] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (2, "DAC_READ_SEARCH"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (6, "SETGID"),
    (7, "SETUID"),
    (9, "LINUX_IMMUTABLE"),
    (21, "SYS_ADMIN"),
    (23, "SYS_NICE"),
    (24, "SYS_RESOURCE"),
    (27, "MKNOD"),
    (31, "SETFCAP"),
    (32, "MAC_OVERRIDE"),
    (33, "MAC_ADMIN"),
];

fn needed() -> u64 {
    NEEDED.iter().fold(0, |mask, (number, _)| mask | 1 << number)
}

/// What this process had to give to the daemon.
fn had() -> Result<u64, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    field(&status, "CapBnd")
}

fn field(status: &str, name: &str) -> Result<u64, String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let value = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    value.ok_or_else(|| format!("no {name} in {status}"))
}

/// No thread has more than it needs, nor can come to have it; what was not given can not be had.
pub(crate) fn of_every_thread(_: &Disk, daemon: &Daemon) -> Result<(), String> {
    // Slow operations have threads of their own, which are started when they are needed.
    let work = || -> std::io::Result<()> {
        let mut file = File::create(daemon.mountpoint.join("file"))?;
        file.write_all(b"text")?;
        file.sync_all()
    };
    work().map_err(|error| error.to_string())?;
    patiently(|| daemon.stats())?;
    let expected = had()? & needed();
    let mut names = BTreeSet::new();
    let tasks = format!("/proc/{}/task", daemon.pid());
    for task in fs::read_dir(tasks).map_err(|error| error.to_string())?.flatten() {
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let name = status.lines().next().unwrap_or_default().to_owned();
        let sets = ["CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs"];
        let found = sets.map(|set| field(&status, set));
        if found != [Ok(expected), Ok(expected), Ok(0), Ok(0), Ok(1)] {
            return Err(format!("{name}: {sets:?} are {found:x?}, not {expected:x}"));
        }
        let effective = field(&status, "CapEff")?;
        if effective & !expected != 0 {
            return Err(format!("{name}: CapEff is {effective:x}, of {expected:x}"));
        }
        names.insert(name);
    }
    if names.len() < 3 {
        return Err(format!("too few threads to be all: {names:?}"));
    }
    Ok(())
}

/// `fusewire stats` says what is in force.
pub(crate) fn are_told(_: &Disk, daemon: &Daemon) -> Result<(), String> {
    let given = had()?;
    let names: Vec<_> = NEEDED.iter().filter(|(number, _)| given & 1 << number != 0).collect();
    let mut expected: Vec<_> = names.iter().map(|(_, name)| format!("CAP_{name}")).collect();
    expected.sort();
    let told = patiently(|| daemon.stats())?.privileges;
    if told.capabilities != expected || !told.no_new_privs {
        return Err(format!("{told:?}, not {expected:?}"));
    }
    let page = patiently(|| fusewire().arg("stats").arg(&daemon.mountpoint).run())?;
    match page.contains("privileges") && page.contains("LINUX_IMMUTABLE") {
        true => Ok(()),
        false => Err(format!("not on the page: {page}")),
    }
}

/// The mount answers a moment before its daemon can be asked, and a busy machine takes its time.
fn patiently<T>(ask: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match ask() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}
