//! Figures of slices, and how they are told: a table for people, a document for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::system::Spec;
use crate::trace::Counts;
use crate::usage::Usage;
use crate::{Failure, Options};

/// What one slice of time brought.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slice {
    /// Nanoseconds of each round trip.
    pub(crate) samples: Vec<u32>,
    /// Round trips in front of these.
    pub(crate) warm_up: usize,
    pub(crate) client: Usage,
    pub(crate) server: Option<Usage>,
}

/// Figures of many round trips.
#[derive(Debug, Clone, Copy, Serialize)]
struct Latency {
    count: usize,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

/// What round trips consumed, each.
#[derive(Debug, Clone, Copy, Serialize)]
struct PerTrip {
    cpu_us: f64,
    switches: f64,
    migrations: Option<f64>,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    latency: Latency,
    client: PerTrip,
    server: Option<PerTrip>,
}

/// Everything about one system. Rounds are kept apart: where the scheduler has put the two sides
/// mostly stays for a whole round, and one in a fast place makes many more round trips.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    name: String,
    arguments: Vec<String>,
    rounds: Vec<Round>,
}

/// One level of load.
#[derive(Debug, Serialize)]
struct Level {
    hogs: usize,
    pipe: Measured,
    systems: Vec<Measured>,
    /// What tracepoints have counted; empty if that was not asked for.
    traced: Vec<Counts>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    fusewire: &'static str,
    optimised: bool,
    kernel: String,
    cpu: String,
    cpus: usize,
    seconds: f64,
    clients: usize,
    clients_pinned: bool,
    levels: Vec<Level>,
}

#[expect(clippy::cast_precision_loss, reason = "no figure comes near 2^52")]
fn per(total: u64, count: usize, unit: f64) -> f64 {
    total as f64 / count.max(1) as f64 / unit
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

impl Latency {
    fn new(mut samples: Vec<u32>) -> Self {
        samples.sort_unstable();
        let at = |permille: usize| {
            let index = (samples.len() * permille / 1000).min(samples.len().saturating_sub(1));
            samples.get(index).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
        };
        let sum = samples.iter().map(|ns| u64::from(*ns)).sum();
        Latency {
            count: samples.len(),
            mean_us: per(sum, samples.len(), 1e3),
            p50_us: at(500),
            p99_us: at(990),
            p999_us: at(999),
        }
    }
}

impl PerTrip {
    fn new(usage: &Usage, count: usize) -> Self {
        PerTrip {
            cpu_us: per(usage.cpu_ns, count, 1e3),
            switches: per(usage.switches, count, 1.0),
            migrations: usage.migrations.map(|moves| per(moves, count, 1.0)),
        }
    }
}

impl Measured {
    pub(crate) fn new(spec: &Spec, slices: Vec<Slice>) -> Self {
        Self::of(spec.name.clone(), spec.arguments.clone(), slices)
    }

    pub(crate) fn pipe(slices: Vec<Slice>) -> Self {
        Self::of("pipe ping-pong".to_owned(), Vec::new(), slices)
    }

    fn of(name: String, arguments: Vec<String>, slices: Vec<Slice>) -> Self {
        let round = |slice: Slice| {
            let count = slice.samples.len();
            Round {
                client: PerTrip::new(&slice.client, count),
                server: slice.server.map(|usage| PerTrip::new(&usage, count)),
                latency: Latency::new(slice.samples),
            }
        };
        Measured { name, arguments, rounds: slices.into_iter().map(round).collect() }
    }

    /// The median of a figure over the rounds, `None` if no round has it.
    fn median(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().filter_map(figure).collect();
        (!values.is_empty()).then(|| median(values))
    }

    fn latency(&self, figure: impl Fn(&Latency) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round.latency)).collect())
    }

    /// The median over the rounds of this one's figure over that of `floor`.
    fn ratio(&self, floor: &Measured, figure: impl Fn(&Latency) -> f64) -> f64 {
        let pairs = self.rounds.iter().zip(&floor.rounds);
        median(pairs.map(|(ours, floor)| figure(&ours.latency) / figure(&floor.latency)).collect())
    }
}

impl Report {
    pub(crate) fn new(options: &Options, cpus: &[usize]) -> Result<Self, Failure> {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        Ok(Report {
            fusewire: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            kernel: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
            cpu: model.unwrap_or("unknown").to_owned(),
            cpus: cpus.len(),
            seconds: options.seconds,
            clients: options.clients,
            clients_pinned: options.clients > 1 || options.pin_clients,
            levels: Vec::new(),
        })
    }

    pub(crate) fn push(
        &mut self,
        hogs: usize,
        pipe: Measured,
        systems: Vec<Measured>,
        traced: Vec<Counts>,
    ) {
        self.levels.push(Level { hogs, pipe, systems, traced });
    }

    /// The tables, with what stands above and below them.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "fusewire {}{}, Linux {}, {}, {} CPUs; {} client{}{}, {} s a round, {} rounds in turns.\n",
            self.fusewire,
            if self.optimised { "" } else { " (NOT OPTIMISED)" },
            self.kernel,
            self.cpu,
            self.cpus,
            self.clients,
            if self.clients == 1 { "" } else { "s" },
            if self.clients_pinned { ", pinned" } else { ", not pinned" },
            self.seconds,
            self.levels.first().map_or(0, |level| level.pipe.rounds.len()),
        );
        for level in &self.levels {
            let _ = writeln!(text, "\n### {} CPU-bound beside it\n", level.hogs);
            text += "| GETATTR | mean µs | p50 | p99 | p99.9 | × pipe mean | p50 | p99 | server CPU µs | \
                     client CPU µs | server switches | client switches | server moves/1000 | \
                     client moves/1000 |\n";
            text += &("|---|".to_owned() + &"---:|".repeat(13) + "\n");
            for measured in std::iter::once(&level.pipe).chain(&level.systems) {
                row(&mut text, measured, &level.pipe);
            }
            if !level.traced.is_empty() {
                text += &Counts::head();
                text.extend(level.traced.iter().map(Counts::row));
            }
        }
        text += "\nA pipe ping-pong is a byte to a process on the same CPU and back. Every figure is the median \
                 over the rounds, in brackets the lowest and the highest round. CPU, switches and moves \
                 to another CPU are per round trip, or per 1000.\n";
        text
    }
}

fn row(text: &mut String, measured: &Measured, floor: &Measured) {
    let means = measured.rounds.iter().map(|round| round.latency.mean_us);
    let (low, high) = means
        .fold((f64::MAX, 0.0), |(low, high): (f64, f64), mean| (low.min(mean), high.max(mean)));
    let _ = write!(
        text,
        "| {} | {:.2} ({low:.1}–{high:.1}) | {:.2} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} ",
        measured.name,
        measured.latency(|latency| latency.mean_us),
        measured.latency(|latency| latency.p50_us),
        measured.latency(|latency| latency.p99_us),
        measured.latency(|latency| latency.p999_us),
        measured.ratio(floor, |latency| latency.mean_us),
        measured.ratio(floor, |latency| latency.p50_us),
        measured.ratio(floor, |latency| latency.p99_us),
    );
    let sides: [fn(&Round) -> Option<PerTrip>; 2] =
        [|round| round.server, |round| Some(round.client)];
    let figures: [fn(PerTrip) -> Option<f64>; 3] = [
        |per| Some(per.cpu_us),
        |per| Some(per.switches),
        |per| per.migrations.map(|moves| moves * 1000.0),
    ];
    for figure in figures {
        for side in sides {
            match measured.median(|round| side(round).and_then(figure)) {
                Some(value) => drop(write!(text, "| {value:.2} ")),
                None => *text += "| – ",
            }
        }
    }
    *text += "|\n";
}
