//! Every way a mount can end, with clients in every queue: nobody is stuck, nothing is left, and the
//! kernel has nothing to complain of.
//!
//! `FUSEWIRE_ENDINGS=500` says how many; a few in an ordinary run.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use crate::Ground;
use crate::clients::{Client, Ended, Kind};
use crate::common::rings::Rings;
use crate::launch::{ENDS_WITHIN, Ender, Launch, Served, eventually};

const VARIABLE: &str = "FUSEWIRE_ENDINGS";
/// For each of the two transports.
const ENDINGS: u32 = 20;
/// At a time, on a machine of many CPUs.
const CLIENTS_MAX: usize = 16;
/// No client waits longer.
const FREED_WITHIN: Duration = Duration::from_secs(30);
/// How long clients work whom nobody disturbs.
const WORK: Duration = Duration::from_millis(250);
/// What a client is told whose connection has ended. ENOTCONN by who comes afterwards, ECONNABORTED
/// by who had a request under way, or comes afterwards where rings are; ECANCELED by whose request was
/// on its way to a dead task of a ring (`fuse_uring_send_in_task()`); EIO of pages that nobody brings
/// or takes any more.
const CUT_OFF: [&str; 4] = ["ENOTCONN", "ECONNABORTED", "ECANCELED", "EIO"];

/// A way to end a mount, and whether its clients may finish what they do.
struct Way {
    name: &'static str,
    gently: bool,
    end: Ender,
}

const WAYS: [Way; 5] = [
    Way { name: "SIGTERM", gently: true, end: |served| served.signal(Signal::SIGTERM) },
    Way { name: "SIGKILL", gently: false, end: |served| served.signal(Signal::SIGKILL) },
    Way { name: "umount -l", gently: true, end: |served| unmount(served, MntFlags::MNT_DETACH) },
    Way {
        name: "umount -f",
        gently: false,
        // It ends the connection, and is refused: the mount is in use.
        end: |served| unmount(served, MntFlags::MNT_FORCE).or(Ok(())),
    },
    Way {
        name: "abort",
        gently: false,
        end: |served| served.abort().map_err(|error| format!("abort: {error}")),
    },
];

fn unmount(served: &Served, flags: MntFlags) -> Result<(), String> {
    umount2(&served.mountpoint, flags).map_err(|errno| format!("umount {flags:?}: {errno}"))
}

fn asked_for() -> Option<u32> {
    std::env::var(VARIABLE).ok()?.parse().ok().map(|all: u32| all.div_ceil(2))
}

/// How long such a test may take.
pub(crate) fn limit(usual: Duration) -> Duration {
    usual + Duration::from_secs(3) * asked_for().unwrap_or(0)
}

/// Through the rings of io_uring.
pub(crate) fn of_rings(ground: &Ground) -> Result<(), String> {
    endings(ground, "transport=uring")
}

/// Through /dev/fuse.
pub(crate) fn of_dev(ground: &Ground) -> Result<(), String> {
    endings(ground, "transport=dev")
}

fn endings(ground: &Ground, options: &'static str) -> Result<(), String> {
    let complaints = Complaints::from_now();
    let (source, mountpoint) = ground.pair();
    fs::create_dir(source.join("work")).map_err(|error| error.to_string())?;
    let mut rounds = 0;
    for number in 0..asked_for().unwrap_or(ENDINGS) {
        let way = &WAYS[number as usize % WAYS.len()];
        let data = ["copy", "passthrough"][number as usize / WAYS.len() % 2];
        let launch = Launch::new(&source, &mountpoint, data).option(options);
        rounds += ending(launch, way, number)
            .map_err(|reason| format!("ending {number} ({data}) by {}: {reason}", way.name))?;
    }
    if rounds == 0 {
        return Err("no client ever did anything: this showed nothing".to_owned());
    }
    complaints.map_or(Ok(()), Complaints::none_since)
}

/// Mounts, ends it under load; the rounds that clients completed.
fn ending(launch: Launch<'_>, way: &Way, number: u32) -> Result<usize, String> {
    let served = {
        // The kernel looks at the switch until the queues are there.
        let _rings = launch.options.contains("uring").then(|| Rings::switch("Y")).transpose();
        launch.go()?
    };
    let ended = under_load(&served, way, number);
    if ended.is_err() {
        // Whoever still waits is set free, so that all of it can be cleared away.
        let _ = served.abort();
    }
    let rounds = ended.map_err(|reason| format!("{reason}\n{}", served.report()))?;
    let expected = |end| match end {
        WaitStatus::Exited(_, status) => status == 0 && way.name != "SIGKILL",
        WaitStatus::Signaled(_, signal, _) => signal == Signal::SIGKILL && way.name == "SIGKILL",
        _ => false,
    };
    if !eventually(ENDS_WITHIN, || served.end().is_some()) {
        return Err(format!("the daemon stays\n{}", served.report()));
    }
    if !served.end().is_some_and(expected) {
        return Err(format!("the daemon ended with {:?}\n{}", served.end(), served.report()));
    }
    // Nobody is left to take it away.
    if way.name == "SIGKILL" {
        served.umount(&[])?;
    }
    if !eventually(ENDS_WITHIN, || served.is_gone().is_ok()) {
        return Err("the mount is still there".to_owned());
    }
    let left = || processes_of(&served.mountpoint);
    match eventually(ENDS_WITHIN, || left().is_empty()) {
        true => Ok(rounds),
        false => Err(format!("processes of the mount are left: {:?}", left())),
    }
}

/// Two clients a CPU that do everything, and two that wait for what never comes.
fn under_load(served: &Served, way: &Way, number: u32) -> Result<usize, String> {
    let at = served.mountpoint.join("work");
    let time = if way.gently { WORK } else { FREED_WITHIN * 2 };
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    // Names that nobody had before: clients of a mount that was cut off leave theirs behind.
    let first = number as usize * CLIENTS_MAX;
    let start = |kind, client| Client::start_inside(kind, first + client, &at, time, FREED_WITHIN);
    let workers = (0..(2 * cpus).min(CLIENTS_MAX)).map(|client| start(Kind::Everything, client));
    let workers = workers.collect::<Result<Vec<_>, _>>()?;
    let waiting = [start(Kind::Fifo, 0)?, start(Kind::Lock, 0)?];
    thread::sleep(Duration::from_millis(u64::from(20 + number * 37 % 120)));
    (way.end)(served)?;
    for client in waiting {
        client.killed()?;
    }
    let mut rounds = 0;
    for client in workers {
        let ended = client.finish()?;
        fits(&ended, way)?;
        rounds += ended.rounds;
    }
    Ok(rounds)
}

fn fits(ended: &Ended, way: &Way) -> Result<(), String> {
    match &ended.errno {
        None if way.gently => Ok(()),
        Some(errno) if !way.gently && CUT_OFF.contains(&errno.as_str()) => Ok(()),
        errno => Err(format!("a client met {errno:?} during {:?}", ended.during)),
    }
}

/// Daemons and their helpers: all have the mount point on their command line.
fn processes_of(mountpoint: &Path) -> Vec<String> {
    let at = mountpoint.to_string_lossy();
    let command = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    let commands = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(command);
    commands.filter(|command| command.split('\0').any(|word| word == at)).collect()
}

/// What the kernel logs from some moment on.
struct Complaints(File);

impl Complaints {
    /// `None` where its log can not be read.
    fn from_now() -> Option<Self> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let opened = options.open("/dev/kmsg").and_then(|mut log| {
            log.seek(SeekFrom::End(0))?;
            Ok(Complaints(log))
        });
        opened.inspect_err(|error| eprintln!("the kernel's log is not looked at: {error}")).ok()
    }

    /// Fails with the lines that tell of a fault of the kernel's, if FUSE occurs in any.
    fn none_since(mut self) -> Result<(), String> {
        const FAULTS: [&str; 6] =
            ["WARNING:", "BUG:", "Oops", "blocked for more than", "refcount_t", "Call Trace"];
        let (mut record, mut found, mut ours) = (vec![0; 8192], Vec::new(), false);
        loop {
            match self.0.read(&mut record) {
                Ok(count) => {
                    let line = String::from_utf8_lossy(&record[..count]).into_owned();
                    // A machine that does not get its time complains, too.
                    ours |= line.contains("fuse");
                    if FAULTS.iter().any(|fault| line.contains(fault)) {
                        found.push(line);
                    }
                }
                // A record that was overwritten before it was read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("read the kernel's log: {error}")),
            }
        }
        match found.concat() {
            none if none.is_empty() => Ok(()),
            lines if ours => Err(format!("the kernel complains:\n{lines}")),
            others => {
                eprintln!("the kernel complains of something else:\n{others}");
                Ok(())
            }
        }
    }
}
