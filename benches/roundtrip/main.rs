//! What one request costs: GETATTR answered by `fusewire null`, on each transport, next to a pipe
//! ping-pong of two processes on one CPU, which is what two switches cost without any FUSE.
//!
//! `cargo bench --bench roundtrip -- --hogs 0,2` takes everything in turns,
//! so that what the machine does meanwhile hits all alike. Needs root and /dev/fuse, and
//! `enable_uring` switched on for what is usual. `scripts/roundtrip.sh` runs it for one and two
//! clients, idle and loaded, and makes a folder of results.

mod client;
mod pair;
mod report;
mod system;
mod trace;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use fusewire::study::environment::{CpuTicks, Environment};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;

use client::{Clients, Trip, allowed_cpus};
use pair::{Hogs, Pair};
use report::{Measured, Report, Slice};
use system::{Spec, System};
use trace::{Counts, Trace};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Long enough for caches and branch predictors.
const WARM_UP: Duration = Duration::from_millis(30);
/// What a run may take beyond what it measures, before it is taken for hung.
const SLACK: Duration = Duration::from_secs(60);

/// Measure null GETATTR round trips against a pipe ping-pong on one CPU
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Options {
    /// How long each system is measured in each round
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// How often everything is measured, in turns; many short rounds are better than a few long
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Clients at a time; several are pinned, one to a CPU
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Pin a single client, too
    #[arg(long)]
    pin_clients: bool,
    /// CPU-bound processes of normal priority beside it; several numbers make several runs
    #[arg(long, value_delimiter = ',', default_value = "0")]
    hogs: Vec<usize>,
    /// `NAME=ARGUMENTS` of fusewire, as `two=null --workers 2` or `real=mount -o attr_timeout=0`;
    /// instead of the usual ones
    #[arg(long = "system", value_name = "NAME=ARGUMENTS")]
    systems: Vec<Spec>,
    /// Count by the scheduler's tracepoints as well, each system once more at each load
    #[arg(long)]
    trace: bool,
    /// Write all figures of all rounds
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write what it was measured on
    #[arg(long, value_name = "FILE")]
    environment: Option<PathBuf>,
    /// Write the tables
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the other end of a ping-pong on this CPU.
    #[arg(long, hide = true)]
    pong: Option<usize>,
    /// Be a hog.
    #[arg(long, hide = true)]
    hog: bool,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if let Some(cpu) = options.pong {
        return pair::pong(cpu);
    }
    if options.hog {
        pair::hog();
    }
    // Every mount ends with this process, and no other daemon's control socket is in the way.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("a mount namespace of its own: {errno}; run as root"))?;
    let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    nix::mount::mount(none, "/", none, flags, none)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut environment = Environment::capture();
    let (began, ticks) = (Instant::now(), CpuTicks::now());
    let report = measure(&options, &stop)?;
    environment.duration_seconds = began.elapsed().as_secs_f64();
    environment.steal_percent = CpuTicks::now().steal_percent_since(ticks);
    print!("{}", report.markdown());
    if let Some(path) = &options.markdown {
        std::fs::write(path, report.markdown())?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string(&report)? + "\n")?;
    }
    if let Some(path) = &options.environment {
        std::fs::write(path, serde_json::to_string_pretty(&environment)? + "\n")?;
    }
    Ok(())
}

fn measure(options: &Options, stop: &Arc<AtomicBool>) -> Result<Report, Failure> {
    let cpus = allowed_cpus()?;
    let specs = match options.systems.as_slice() {
        [] => Spec::usual(),
        given => given.to_vec(),
    };
    let folder = tempfile::Builder::new().prefix("roundtrip-").tempdir()?;
    let systems = specs
        .into_iter()
        .enumerate()
        .map(|(number, spec)| System::start(spec, &folder.path().join(number.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let slice = Duration::try_from_secs_f64(options.seconds)?;
    if options.trace {
        // Not after everything else has been measured.
        drop(Trace::start(Pid::this())?);
    }
    let slices = (systems.len() + 1) * (options.rounds + 1) * options.hogs.len();
    watch_over(&systems, (slice + WARM_UP) * 2 * u32::try_from(slices)? + SLACK);
    let mut report = Report::new(options, &cpus)?;
    for &hogs in &options.hogs {
        let _hogs = Hogs::start(hogs)?;
        let mut pipe = Vec::new();
        let mut figures = vec![Vec::new(); systems.len()];
        for round in 0..options.rounds {
            eprintln!("{hogs} hogs, round {} of {}", round + 1, options.rounds);
            // Each goes first once in a while.
            for turn in 0..=systems.len() {
                let index = (turn + round) % (systems.len() + 1);
                match systems.get(index) {
                    Some(system) => {
                        figures[index].push(round_trips(options, system, &cpus, slice, stop)?);
                    }
                    None => pipe.push(ping_pong(options, round, &cpus, slice, stop)?),
                }
                if stop.load(Relaxed) {
                    return Err("interrupted".into());
                }
            }
        }
        let traced = match options.trace {
            true => traces(options, &systems, &cpus, slice, stop)?,
            false => Vec::new(),
        };
        let systems = systems.iter().map(|system| &system.spec);
        let measured = systems.zip(figures).map(|(spec, slices)| Measured::new(spec, slices));
        report.push(hogs, Measured::pipe(pipe), measured.collect(), traced);
    }
    Ok(report)
}

fn round_trips(
    options: &Options,
    system: &System,
    cpus: &[usize],
    slice: Duration,
    stop: &AtomicBool,
) -> Result<Slice, Failure> {
    let trips = || {
        (0..options.clients).map(|_| system.trip()).collect::<std::io::Result<Vec<Box<dyn Trip>>>>()
    };
    let pinned = options.clients > 1 || options.pin_clients;
    let pins = (0..options.clients).map(|n| pinned.then(|| cpus[n % cpus.len()])).collect();
    let clients = Clients { pins, stop };
    let warm_up = clients.run(trips()?, WARM_UP)?.samples.len();
    let trips = trips()?;
    let (before, usage) = (system.getattrs()?, system.usage());
    let mut slice = clients.run(trips, slice)?;
    if stop.load(Relaxed) {
        return Err("interrupted".into());
    }
    slice.server = Some(system.usage().since(&usage));
    slice.warm_up = warm_up;
    let requests = system.getattrs()? - before;
    let count = u64::try_from(slice.samples.len())?;
    if requests.abs_diff(count) > count / 50 + 10 {
        let name = &system.spec.name;
        return Err(format!("{name}: {count} calls, but {requests} GETATTR requests").into());
    }
    Ok(slice)
}

/// What the tracepoints count for each system.
fn traces(
    options: &Options,
    systems: &[System],
    cpus: &[usize],
    slice: Duration,
    stop: &AtomicBool,
) -> Result<Vec<Counts>, Failure> {
    let counts = |system: &System| {
        let trace = Trace::start(system.pid())?;
        // What starting and ending costs the threads is a handful in tens of thousands.
        let traced = round_trips(options, system, cpus, slice, stop)?;
        trace.counts(&system.spec.name, traced.samples.len() + traced.warm_up)
    };
    systems.iter().map(counts).collect()
}

fn ping_pong(
    options: &Options,
    round: usize,
    cpus: &[usize],
    slice: Duration,
    stop: &AtomicBool,
) -> Result<Slice, Failure> {
    let pins: Vec<usize> = (0..options.clients).map(|n| cpus[(n + round) % cpus.len()]).collect();
    let pairs = || {
        let pair = |cpu: &usize| Ok(Box::new(Pair::start(*cpu)?) as Box<dyn Trip>);
        pins.iter().map(pair).collect::<std::io::Result<Vec<_>>>()
    };
    let clients = Clients { pins: pins.iter().copied().map(Some).collect(), stop };
    clients.run(pairs()?, WARM_UP)?;
    clients.run(pairs()?, slice)
}

/// Ends a run that hangs, and its daemons with it.
fn watch_over(systems: &[System], limit: Duration) {
    let pids: Vec<_> = systems.iter().map(System::pid).collect();
    let deadline = Instant::now() + limit;
    std::thread::spawn(move || {
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_secs(1));
        }
        eprintln!("still not done after {limit:?}: a round trip hangs");
        for pid in pids {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        std::process::exit(1);
    });
}
