//! Figures of slices, and how they are told: a table for people, a document for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::system::Spec;
use crate::usage::Usage;
use crate::{Failure, Options};

/// What one slice of time brought.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slice {
    /// Nanoseconds of each round trip.
    pub(crate) samples: Vec<u32>,
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

/// Everything about one system.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    name: String,
    arguments: Vec<String>,
    /// Of all rounds together.
    latency: Latency,
    client: PerTrip,
    server: Option<PerTrip>,
    rounds: Vec<Latency>,
}

/// One level of load.
#[derive(Debug, Serialize)]
struct Level {
    hogs: usize,
    pipe: Measured,
    systems: Vec<Measured>,
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
        let sum = |usage: &mut dyn Iterator<Item = Usage>| {
            let mut sum = usage.next()?;
            usage.for_each(|usage| sum.add(&usage));
            Some(sum)
        };
        let client = sum(&mut slices.iter().map(|slice| slice.client)).unwrap_or_default();
        let server = sum(&mut slices.iter().filter_map(|slice| slice.server));
        let rounds = slices.iter().map(|slice| Latency::new(slice.samples.clone())).collect();
        let latency = Latency::new(slices.into_iter().flat_map(|slice| slice.samples).collect());
        Measured {
            name,
            arguments,
            client: PerTrip::new(&client, latency.count),
            server: server.map(|usage| PerTrip::new(&usage, latency.count)),
            latency,
            rounds,
        }
    }

    /// The median over the rounds of this one's figure over that of `floor`.
    fn ratio(&self, floor: &Measured, figure: impl Fn(&Latency) -> f64) -> f64 {
        let pairs = self.rounds.iter().zip(&floor.rounds);
        median(pairs.map(|(ours, floor)| figure(ours) / figure(floor)).collect())
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

    pub(crate) fn push(&mut self, hogs: usize, pipe: Measured, systems: Vec<Measured>) {
        self.levels.push(Level { hogs, pipe, systems });
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
            let _ = writeln!(text, "\n### {} CPU-bound processes beside it\n", level.hogs);
            text += "| GETATTR | mean µs | p50 | p99 | p99.9 | × pipe mean | p50 | p99 | server CPU µs | \
                     client CPU µs | server switches | client switches | server moves/1000 | \
                     client moves/1000 |\n";
            text += &("|---|".to_owned() + &"---:|".repeat(13) + "\n");
            for measured in std::iter::once(&level.pipe).chain(&level.systems) {
                row(&mut text, measured, &level.pipe);
            }
        }
        text += "\nA pipe ping-pong is a byte to a process on the same CPU and back. Times are of all rounds \
                 together; ratios are medians over the rounds. CPU, switches and moves to another CPU \
                 are per round trip, or per 1000.\n";
        text
    }
}

fn row(text: &mut String, measured: &Measured, floor: &Measured) {
    let Latency { mean_us, p50_us, p99_us, p999_us, .. } = measured.latency;
    let _ = write!(
        text,
        "| {} | {mean_us:.2} | {p50_us:.2} | {p99_us:.1} | {p999_us:.1} | {:.2} | {:.2} | {:.2} ",
        measured.name,
        measured.ratio(floor, |latency| latency.mean_us),
        measured.ratio(floor, |latency| latency.p50_us),
        measured.ratio(floor, |latency| latency.p99_us),
    );
    let or_dash =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
    let moves = |of: Option<PerTrip>| or_dash(of.and_then(|of| of.migrations).map(|m| m * 1000.0));
    let _ = writeln!(
        text,
        "| {} | {:.2} | {} | {:.2} | {} | {} |",
        or_dash(measured.server.map(|of| of.cpu_us)),
        measured.client.cpu_us,
        or_dash(measured.server.map(|of| of.switches)),
        measured.client.switches,
        moves(measured.server),
        moves(Some(measured.client)),
    );
}
