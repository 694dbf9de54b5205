//! Who switches, wakes and moves during a round trip, as the scheduler's tracepoints tell it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::Serialize;

use crate::Failure;

const INSTANCES: &str = "/sys/kernel/tracing/instances";
/// What the threads of clients are called.
pub(crate) const CLIENT: &str = "rt-client";
/// Each event, and its field that says whom it is about.
const EVENTS: [(&str, &str); 3] =
    [("sched_switch", "prev_"), ("sched_waking", ""), ("sched_migrate_task", "")];

/// How often each event came to either side of one system.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    name: String,
    trips: usize,
    switches: Sides,
    wakeups: Sides,
    moves: Sides,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Sides {
    server: u64,
    client: u64,
}

/// Tracing, until it is dropped.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Per event: the server's, the client's.
    counters: Vec<[Counter; 2]>,
}

impl Trace {
    /// Traces the threads of `server` and all clients.
    pub(crate) fn start(server: Pid) -> Result<Self, Failure> {
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{server}/task"))? {
            threads.push(task?.file_name().to_string_lossy().into_owned());
        }
        let mut counters = Vec::new();
        for (event, field) in EVENTS {
            let ids: Vec<_> = threads.iter().map(|id| format!("{field}pid == {id}")).collect();
            let server = Counter::start(event, "server", &ids.join(" || "))?;
            let client = format!("{field}comm == \"{CLIENT}\"");
            counters.push([server, Counter::start(event, "client", &client)?]);
        }
        Ok(Trace { counters })
    }

    /// What has been counted so far, in `trips` round trips of the system of this name.
    pub(crate) fn counts(&self, name: &str, trips: usize) -> Result<Counts, Failure> {
        let sides = |index: usize| {
            let [server, client] = &self.counters[index];
            Ok::<_, Failure>(Sides { server: server.count()?, client: client.count()? })
        };
        let [switches, wakeups, moves] = [sides(0)?, sides(1)?, sides(2)?];
        Ok(Counts { name: name.to_owned(), trips, switches, wakeups, moves })
    }
}

impl Counts {
    /// A row of a table: each per round trip, moves per 1000.
    #[expect(clippy::cast_precision_loss, reason = "no figure comes near 2^52")]
    pub(crate) fn row(&self) -> String {
        let per = |count: u64, unit: f64| format!("{:.2}", count as f64 * unit / self.trips as f64);
        let figures: Vec<_> = [(self.switches, 1.0), (self.wakeups, 1.0), (self.moves, 1000.0)]
            .into_iter()
            .flat_map(|(sides, unit)| [per(sides.server, unit), per(sides.client, unit)])
            .collect();
        format!("| {} | {} |\n", self.name, figures.join(" | "))
    }

    /// What stands above the rows.
    pub(crate) fn head() -> String {
        "\nWhat the scheduler's tracepoints saw, in one slice more:\n\n\
         | | server switches | client switches | server wake-ups | client wake-ups | \
         server moves/1000 | client moves/1000 |\n|---|---:|---:|---:|---:|---:|---:|\n"
            .to_owned()
    }
}

/// An instance of the tracer with one event for one side.
#[derive(Debug)]
struct Counter {
    path: PathBuf,
}

impl Counter {
    fn start(event: &str, side: &str, filter: &str) -> Result<Self, Failure> {
        let name = format!("roundtrip-{}-{event}-{side}", std::process::id());
        let path = Path::new(INSTANCES).join(name);
        let failed =
            |error: io::Error| format!("trace by {INSTANCES}: {error}; mount tracefs there");
        fs::create_dir(&path).map_err(failed)?;
        let counter = Counter { path };
        let event = counter.path.join("events/sched").join(event);
        fs::write(event.join("filter"), filter).map_err(failed)?;
        fs::write(event.join("enable"), "1").map_err(failed)?;
        Ok(counter)
    }

    /// Events so far, those included that the buffer has lost.
    fn count(&self) -> Result<u64, Failure> {
        let mut sum = 0;
        for cpu in fs::read_dir(self.path.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            let figures = stats.lines().filter_map(|line| line.split_once(": "));
            for (_, count) in figures.filter(|(name, _)| ["entries", "overrun"].contains(name)) {
                sum += count.trim().parse::<u64>()?;
            }
        }
        Ok(sum)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}
