//! The system calls of a request, from what receives it to what answers it, as strace sees them on the
//! thread that serves a live mount: exactly those of the table, on each transport. And those of the
//! transport itself: one io_uring_enter a request, or two where that was found better. Needs root,
//! /dev/fuse and strace.

#[path = "../common/mod.rs"]
mod common;
mod table;
mod trace;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread::{scope, sleep};
use std::time::Duration;

use fusewire::abi::Opcode;
use libtest_mimic::{Arguments, Trial};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use common::daemon::Daemon;
use common::disk::Disk;
use table::{Cost, NOTHING, STEPS, Step};
use trace::{Seen, trace};

/// Rounds of each step, of which more than half must show exactly what is expected: now and then
/// an idle descriptor is closed, or an object is too young to be identified by its name.
const ROUNDS: usize = 24;
/// How often a step is played again that did not show it: where the machine is busy, a thread that is
/// traced is taken for stuck now and then, and another serves in its place.
const ATTEMPTS: usize = 4;
/// In so long, what nobody waits for has been served.
const SETTLE: Duration = Duration::from_millis(5);

/// How requests and data come and go.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Way {
    name: &'static str,
    data: &'static str,
    options: &'static str,
    transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Transport {
    Dev,
    DevRing,
    Rings,
}

const WAYS: [Way; 6] = [
    Way::dev("copy"),
    Way::dev("passthrough"),
    Way::dev("splice"),
    Way {
        name: "dev_uring",
        data: "copy",
        options: "workers=1,transport=dev,dev_io=uring,sched=normal",
        transport: Transport::DevRing,
    },
    Way::rings("uring", "copy"),
    Way::rings("uring_passthrough", "passthrough"),
];

impl Way {
    const fn dev(data: &'static str) -> Self {
        Way {
            name: data,
            data,
            options: "workers=1,transport=dev,sched=normal",
            transport: Transport::Dev,
        }
    }

    const fn rings(name: &'static str, data: &'static str) -> Self {
        Way { name, data, options: "transport=uring,sched=normal", transport: Transport::Rings }
    }

    /// What a request costs this way; empty if there is none.
    fn cost(&self, cost: &Cost) -> &'static str {
        match self.data {
            "passthrough" if cost.passthrough == Some("") => return "",
            _ => {}
        }
        let by_data = match self.data {
            "passthrough" => cost.passthrough,
            "splice" => cost.splice,
            _ => None,
        };
        let by_ring = cost.ring.filter(|_| self.transport == Transport::Rings);
        by_ring.or(by_data).unwrap_or(cost.calls)
    }
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    if let Err(reason) = common::disk::private_mounts() {
        eprintln!("the tests of the hot path cannot run: {reason}");
        return ExitCode::FAILURE;
    }
    let mut trials: Vec<_> =
        WAYS.map(|way| Trial::test(format!("calls::{}", way.name), move || Ok(calls(way)?))).into();
    trials.push(Trial::test("enters::by_policy", || Ok(enters_by_policy()?)));
    libtest_mimic::run(&args, trials).exit_code()
}

/// A mount of a directory with what the steps need in it.
fn with_mount(
    data: &str,
    options: &str,
    body: impl FnOnce(&Daemon) -> Result<(), String>,
) -> Result<(), String> {
    let _rings = common::rings::Rings::switch("Y")
        .map_err(|error| format!("switch FUSE over io_uring on: {error}"))?;
    let disk = Disk::new(64 << 20)?;
    if let Some(reason) = &disk.fallback {
        return Err(format!("the table is ext4's: {reason}"));
    }
    let source = disk.directory("source");
    let text = |error: std::io::Error| error.to_string();
    for n in 0..ROUNDS * ATTEMPTS {
        for name in ["known", "fresh"] {
            fs::write(source.join(format!("{name}-{n}")), "content").map_err(text)?;
        }
        fs::write(source.join(format!("page-{n}")), [b'x'; 4096]).map_err(text)?;
        // Blocks may be smaller than pages: who has written one does not have the whole page in memory.
        let known = File::open(source.join(format!("known-{n}"))).map_err(text)?;
        known.read_at(&mut [0; 4096], 0).map_err(text)?;
    }
    fs::create_dir(source.join("known-dir")).map_err(text)?;
    for n in 0..3 {
        fs::write(source.join(format!("known-dir/{n}")), "").map_err(text)?;
    }
    let options = format!("{options},coherence=timeout=0");
    let daemon = Daemon::start(&source, &disk.mountpoint("mount"), data, &options)?;
    body(&daemon)
}

fn calls(way: Way) -> Result<(), String> {
    with_mount(way.data, way.options, |daemon| {
        let server = serving(daemon, way.transport)?;
        let mut wrong = Vec::new();
        for step in STEPS {
            let mut faults = Vec::new();
            for attempt in 0..ATTEMPTS {
                faults = check(step, attempt, way, daemon, server)?;
                if faults.is_empty() {
                    break;
                }
            }
            wrong.extend(faults);
        }
        match wrong.as_slice() {
            [] => Ok(()),
            wrong => Err(format!("not the system calls of the table:\n{}", wrong.join("\n"))),
        }
    })
}

/// What is wrong with a step.
fn check(
    step: &Step,
    attempt: usize,
    way: Way,
    daemon: &Daemon,
    server: u32,
) -> Result<Vec<String>, String> {
    let before = requests(daemon)?;
    let seen = play(step, attempt, server, &daemon.mountpoint, way.transport)?;
    let judged = step.costs.iter().map(|cost| judge(step.what, cost.opcode, way.cost(cost), &seen));
    let mut wrong: Vec<_> = judged.flatten().collect();
    if way.transport != Transport::Dev {
        wrong.extend(one_enter_each(step.what, requests(daemon)? - before, &seen));
    }
    Ok(wrong)
}

/// Plays a step while `server` is traced.
fn play(
    step: &Step,
    attempt: usize,
    server: u32,
    at: &Path,
    transport: Transport,
) -> Result<Seen, String> {
    let rounds = || {
        for n in attempt * ROUNDS..(attempt + 1) * ROUNDS {
            (step.act)(at, n);
            // What comes through a ring can be told apart only if it comes one by one.
            if transport != Transport::Dev {
                sleep(SETTLE);
            }
        }
    };
    trace(server, || {
        scope(|scope| {
            let client = scope.spawn(|| {
                on_cpu(first_cpu());
                rounds();
            });
            client.join().expect("the client does not panic");
        });
    })
}

/// The thread that serves the clients of the first CPU.
fn serving(daemon: &Daemon, transport: Transport) -> Result<u32, String> {
    let called = match transport {
        Transport::Rings => format!("queue-{}", first_cpu()),
        Transport::Dev | Transport::DevRing => "worker".to_owned(),
    };
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()));
    let mut threads = Vec::new();
    for task in tasks.map_err(|error| error.to_string())?.flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        match (name.trim() == called, task.file_name().to_string_lossy().parse()) {
            (true, Ok(thread)) => return Ok(thread),
            _ => threads.push(name.trim().to_owned()),
        }
    }
    Err(format!("no {called} among the daemon's threads {threads:?}"))
}

fn first_cpu() -> usize {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("its own affinity");
    (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).expect("it runs on one")
}

/// Binds the calling thread.
fn on_cpu(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &set).expect("it may run there already");
}

/// Requests that the daemon has answered so far.
fn requests(daemon: &Daemon) -> Result<u64, String> {
    Ok(daemon.stats()?.requests.values().map(|figures| figures.count).sum())
}

/// What is wrong with the requests of one opcode, if anything is.
fn judge(what: &str, opcode: Opcode, expected: &str, seen: &Seen) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let of_opcode = |other: Option<u32>| other.is_none_or(|other| other == opcode as u32);
    for served in seen.served.iter().filter(|served| of_opcode(served.opcode)) {
        let calls = if served.calls.is_empty() { NOTHING } else { &served.calls };
        *counts.entry(calls).or_default() += 1;
    }
    let as_expected = counts.get(expected).copied().unwrap_or_default();
    // All of the opcode, where they can be told from others; else one in each round.
    let blind = seen.entered > 0;
    let total = if blind { ROUNDS } else { counts.values().sum() };
    let good = match expected {
        // No such request at all.
        "" => blind || total == 0,
        NOTHING if blind => true,
        _ => as_expected * 2 > total,
    };
    (!good).then(|| {
        let opcode = opcode.name();
        format!("  {what}: {opcode} costs {counts:?}, the table says {expected:?}")
    })
}

/// What is wrong with the turns of a ring, whose thread answers and waits by one call, if anything is.
fn one_enter_each(what: &str, requests: u64, seen: &Seen) -> Option<String> {
    let Seen { submitted, entered, .. } = seen;
    // What is answered and what is received are seldom counted on the same side of the end, and some
    // a call is interrupted by strace itself.
    let good = *submitted == 0 && (*entered as u64) <= requests + requests / 5 + 3;
    (!good).then(|| {
        format!("  {what}: {requests} requests took {entered} io_uring_enter, {submitted} of them only to submit")
    })
}

/// A queue's thread that gives way to its clients answers by a call of its own, and one that does not
/// by the call that waits (see `Queue::wait`).
fn enters_by_policy() -> Result<(), String> {
    const STAT: &str = "stat of a known name";
    let step = STEPS.iter().find(|step| step.what == STAT).expect("it is in the table");
    with_mount("copy", "transport=uring,sched=auto", |daemon| {
        let server = serving(daemon, Transport::Rings)?;
        let mut faults = 0;
        // Beside others it may be an ordinary thread for a while, and is one again soon.
        for _ in 0..20 {
            let before = gives_way(server)?;
            let seen = play(step, 0, server, &daemon.mountpoint, Transport::Rings)?;
            if gives_way(server)? != before {
                continue;
            }
            let Seen { submitted, entered, .. } = seen;
            let good = match before {
                true => submitted * 3 > entered,
                false => submitted * 10 < entered,
            };
            if !good {
                // Whoever else runs wakes it at other times.
                faults += 1;
                if faults < ATTEMPTS {
                    continue;
                }
                return Err(format!(
                    "{entered} io_uring_enter, {submitted} of them only to submit, by a thread that \
                     {} way",
                    if before { "gives" } else { "does not give" }
                ));
            }
            if before {
                return Ok(());
            }
        }
        eprintln!(
            "enters::by_policy: no thread gave way on this machine, so one case was not seen"
        );
        Ok(())
    })
}

/// Whether a thread runs under SCHED_IDLE.
fn gives_way(thread: u32) -> Result<bool, String> {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat"));
    let stat = stat.map_err(|error| format!("the thread is gone: {error}"))?;
    // The 41st field, of which two stand in front of the name's end.
    let policy = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(38));
    Ok(policy == Some("5"))
}
