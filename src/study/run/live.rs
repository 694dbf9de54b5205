//! Does one turn for real: make natively, mount, enter, count, time, count, unmount, remove.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::super::daemon::Mounted;
use super::super::environment::{CpuTicks, InForce};
use super::super::error::StudyError;
use super::super::family::Family;
use super::super::file::cells::Planned;
use super::super::file::systems::PlannedSystem;
use super::super::interrupt::Interrupt;
use super::super::load::consumed::{self, Readings};
use super::super::record::{Consumption, DaemonWork, Kind, Measurement};
use super::super::runner::StepError;
use super::super::supervise::{Cancel, Watch};
use super::super::system::{Native, System};
use super::super::trace::{Layers, Tracing};
use super::super::work::{Cache, Operations, Work};
use super::super::{mounts, prepare, say};
use super::flags;
use super::folder::Raw;
use super::order::Turn;
use super::place::Place;
use super::scene::{self, Scene, Site};
use super::taker::{Executor, TurnError};
use crate::metrics::snapshot::Snapshot;

/// What a turn may take beyond its own time before it counts as hung.
const MARGIN: Duration = Duration::from_secs(60);
/// Whole jobs on a slow system take their time.
const JOB_LIMIT: Duration = Duration::from_secs(360);
/// In so many rounds a run is traced: where the scheduler puts client and daemon differs from run to
/// run.
const TRACED_ROUNDS: u32 = 3;
/// A traced run is no longer than its buffer.
const TRACED_OPERATIONS: u64 = 20_000;
/// What tracing may slow an operation down by.
const TRACED_FACTOR: f64 = 10.0;

/// Runs the cells on the systems.
#[derive(Debug)]
pub(crate) struct LiveExecutor<'a> {
    pub(crate) cells: &'a [Planned],
    pub(crate) systems: &'a [PlannedSystem],
    pub(crate) place: &'a Place,
    /// Names of processes whose work is counted with that of a daemon.
    pub(crate) servers: &'a [String],
    /// The binary that is measured.
    pub(crate) exe: &'a Path,
    pub(crate) seed: u64,
    pub(crate) interrupt: &'a Interrupt,
    /// What a system gets to mount.
    pub(crate) mount_limit: Duration,
    /// What fio printed goes here.
    pub(crate) raw: Raw,
    /// Traces where the time goes, if that was asked for.
    pub(crate) tracing: Option<Arc<Tracing>>,
}

impl Executor for LiveExecutor<'_> {
    fn execute(&mut self, turn: &Turn) -> Result<Measurement, TurnError> {
        let (planned, system) = (&self.cells[turn.cell], &self.systems[turn.system]);
        if let Some(reason) = system.missing() {
            return Err(TurnError::Skipped(reason));
        }
        if let Some(reason) = scene::unsuited(&planned.work, system.system.kind) {
            return Err(TurnError::Skipped(reason.to_owned()));
        }
        let name = format!("turn{}", turn.sequence);
        let seed = self.seed.wrapping_add(u64::from(turn.round));
        let (mut measurement, raw) = self.play(planned, system, &name, seed)?;
        // In a run of its own: tracing takes time.
        if self.tracing.is_some() && has_layers(turn.round, &planned.work, system.system.kind) {
            match self.layers(planned, system, &name, seed, measurement.operations) {
                Ok(layers) => measurement.layers = layers,
                Err(TurnError::Fatal(error)) => return Err(TurnError::Fatal(error)),
                Err(TurnError::Cell(why) | TurnError::Mount(why) | TurnError::Skipped(why)) => {
                    measurement.flags.push(format!("its layers could not be traced: {why}"));
                }
            }
        }
        if let Some(raw) = raw {
            self.raw.keep(turn, &planned.cell.id, &system.system.id, &raw)?;
        }
        Ok(measurement)
    }
}

/// What a thread has made of a turn.
type Played = (Measurement, Option<serde_json::Value>);

impl LiveExecutor<'_> {
    /// One run of a cell on a system. Whatever happens, nothing is mounted and no file is left after it.
    pub(crate) fn play(
        &self,
        planned: &Planned,
        system: &PlannedSystem,
        name: &str,
        seed: u64,
    ) -> Result<Played, TurnError> {
        self.perform(planned, system, name, seed, None)
    }

    /// Another run of as many operations, to see where the time of one goes; `None` where it can not be
    /// told.
    fn layers(
        &self,
        planned: &Planned,
        system: &PlannedSystem,
        name: &str,
        seed: u64,
        operations: u64,
    ) -> Result<Option<Layers>, TurnError> {
        let work = traced(&planned.work, operations);
        let (Some(tracing), Some(work)) = (&self.tracing, work) else {
            return Ok(None);
        };
        let planned = Planned { work, ..planned.clone() };
        let name = format!("{name}-traced");
        let played = self.perform(&planned, system, &name, seed, Some(Arc::clone(tracing)));
        played.map(|(measurement, _)| measurement.layers)
    }

    fn perform(
        &self,
        planned: &Planned,
        system: &PlannedSystem,
        name: &str,
        seed: u64,
        tracing: Option<Arc<Tracing>>,
    ) -> Result<Played, TurnError> {
        self.interrupt.check()?;
        let source = self.place.source().to_owned();
        let site = Site {
            source: source.clone(),
            material: self.place.material().to_owned(),
            turn: PathBuf::from(name),
            seed,
        };
        let mut scene = scene::stage(&planned.work, &site, system.system.kind);
        let _removed = Removed(source.join(name));
        scene.make().map_err(TurnError::Cell)?;
        prepare::sync(&source)?;
        let (mounted, in_force) = self.mount(system)?;
        let shown: Arc<dyn System> = match &mounted {
            Some(mounted) => Arc::clone(mounted) as _,
            None => Arc::new(Native::new(&source)),
        };
        let own = mounted.as_deref().map(Own::of).transpose()?;
        let played = self.watched(planned, Arc::clone(&shown), own, scene, tracing);
        // Explicitly, not by drop: the thread of a turn that was given up may still hold a reference.
        let released = mounted.as_ref().map_or(Ok(()), |mounted| mounted.release());
        let (mut measurement, raw) = played?;
        match released {
            Ok(()) => {}
            Err(error @ StudyError::LeftBehind { .. }) => return Err(error.into()),
            Err(error) => measurement.flags.push(error.to_string()),
        }
        measurement.flags.extend(flags::of(planned, in_force.as_ref(), &measurement));
        Ok((measurement, raw))
    }

    /// Mounts a system; nothing is mounted natively.
    fn mount(
        &self,
        system: &PlannedSystem,
    ) -> Result<(Option<Arc<Mounted>>, Option<InForce>), TurnError> {
        let (source, mountpoint) = (self.place.source(), self.place.mountpoint());
        let Some(mut launch) = system.launch(self.exe, source, mountpoint) else {
            return Ok((None, None));
        };
        launch.ready_limit = self.mount_limit;
        let mounted = Mounted::mount(&launch, self.interrupt).map_err(|error| match error {
            StudyError::Interrupted { .. } => TurnError::Fatal(error),
            error => TurnError::Mount(error.to_string()),
        })?;
        let snapshot = mounted.snapshot().map_err(|error| TurnError::Mount(error.to_string()))?;
        if let Some(why) = snapshot.as_ref().and_then(|snapshot| system.unmet(snapshot)) {
            return Err(TurnError::Mount(why));
        }
        Ok((Some(Arc::new(mounted)), snapshot.as_ref().map(InForce::from)))
    }

    /// Mounts once, and tells what is in force.
    pub(crate) fn probe(&self, system: &PlannedSystem) -> Result<Option<InForce>, TurnError> {
        let (mounted, in_force) = self.mount(system)?;
        if let Some(Own::Serving(family)) = mounted.as_deref().map(Own::of).transpose()?
            && family.servers().is_empty()
        {
            let id = &system.system.id;
            say::line(format_args!("fusewire: system {id}: {UNKNOWN}"));
        }
        match mounted.map_or(Ok(()), |mounted| mounted.release()) {
            Ok(()) => Ok(in_force),
            Err(error @ StudyError::LeftBehind { .. }) => Err(error.into()),
            Err(error) => Err(TurnError::Mount(error.to_string())),
        }
    }

    fn watched(
        &self,
        planned: &Planned,
        shown: Arc<dyn System>,
        own: Option<Own>,
        mut scene: Box<dyn Scene>,
        tracing: Option<Arc<Tracing>>,
    ) -> Result<Played, TurnError> {
        let limit = match &planned.work {
            Work::Job(_) | Work::Personality(_) => JOB_LIMIT,
            Work::Fio(job) => MARGIN + Duration::from_secs_f64(job.seconds * 4.0),
            Work::Operation(work) => MARGIN + Duration::from_secs_f64(work.seconds * 4.0),
        };
        let watch = Watch {
            interrupt: self.interrupt,
            system: shown.as_ref(),
            cell: &planned.cell.title,
            limit,
        };
        let (cache, theirs) = (planned.cache, Arc::clone(&shown));
        let servers = consumed::processes(self.servers);
        let played = watch.run(move |cancel| {
            let tracing = tracing.as_deref();
            let daemons = Daemons { own, servers };
            let played = take(scene.as_mut(), theirs.as_ref(), daemons, cache, tracing, cancel);
            played.map_err(StepError::Cell)
        });
        played.map_err(|error| match error {
            StepError::Cell(reason) => TurnError::Cell(reason),
            StepError::Fatal(error @ StudyError::Interrupted { .. }) => TurnError::Fatal(error),
            StepError::Fatal(error) => TurnError::Cell(error.to_string()),
        })
    }
}

/// Where it is not known what a daemon costs.
const UNKNOWN: &str = "the CPU time of its daemon is unknown, for none of the processes that its command has \
                       started serves FUSE: let `command` start the daemon itself, in the foreground";

const SERVER_ENDED: &str = "the CPU time of daemon and servers is unknown: a process of `servers` has ended, \
                            or can not be looked at";

/// What serves a mount.
enum Own {
    /// A process that says itself which it is.
    Telling,
    /// Processes of another program, of which at least one serves FUSE.
    Serving(Family),
    /// The kernel, and whatever the command has left running for it.
    Kernel(Family),
}

impl Own {
    fn of(mounted: &Mounted) -> Result<Self, StudyError> {
        Ok(match mounted.family() {
            None => Own::Telling,
            Some(family) if mounted.is_fuse()? => Own::Serving(family.clone()),
            Some(family) => Own::Kernel(family.clone()),
        })
    }
}

/// Who works for the client.
struct Daemons {
    /// The system's own; native has none.
    own: Option<Own>,
    /// Those of the distributed file system below.
    servers: Vec<u32>,
}

impl Daemons {
    /// All processes; `told` is the one that a daemon of ours says it is.
    fn processes(&self, told: Option<u32>) -> Vec<u32> {
        let own = match &self.own {
            Some(Own::Serving(family) | Own::Kernel(family)) => family.members(),
            Some(Own::Telling) | None => told.into_iter().collect(),
        };
        own.into_iter().chain(self.servers.iter().copied()).collect()
    }

    /// Those that serve requests.
    fn serving(&self, told: Option<u32>) -> Vec<u32> {
        match &self.own {
            Some(Own::Serving(family)) => family.servers(),
            Some(Own::Kernel(_)) | None => Vec::new(),
            Some(Own::Telling) => told.into_iter().collect(),
        }
    }

    /// What they have consumed; `None` if that is not known.
    fn consumed(
        &self,
        serving: &[u32],
        before: &Readings,
        after: &Readings,
    ) -> Option<Consumption> {
        let read = |pid: &u32| before.has(*pid) && after.has(*pid);
        let own = match &self.own {
            // One may be on its way out: it has started the one that stays.
            Some(Own::Telling | Own::Serving(_)) => serving.iter().any(read),
            Some(Own::Kernel(_)) | None => true,
        };
        (own && self.servers.iter().all(read)).then(|| after.since(before))
    }
}

/// Everything that goes through the system.
fn take(
    scene: &mut dyn Scene,
    system: &dyn System,
    daemons: Daemons,
    cache: Cache,
    tracing: Option<&Tracing>,
    cancel: &Cancel,
) -> Result<Played, String> {
    let said = |error: StudyError| error.to_string();
    scene.enter(system.root()).map_err(|why| unlike(system.root(), why))?;
    match cache {
        Cache::Warm => scene.warm(cancel).map_err(|why| unlike(system.root(), why))?,
        Cache::Cold => drop_caches()?,
    }
    let before = settled(system, None).map_err(said)?;
    let told = before.as_ref().map(|snapshot| snapshot.pid);
    let serving = daemons.serving(told);
    let read = || Readings::of(daemons.processes(told));
    let (ticks, reading) = (CpuTicks::now(), read());
    let recording =
        tracing.zip(serving.first().copied()).map(|(tracing, daemon)| tracing.record(daemon));
    let recording = recording.transpose().map_err(said)?;
    let mut measurement = scene.play(cancel)?;
    if let Some(recording) = recording {
        let (operations, seconds) = (measurement.operations, measurement.seconds);
        measurement.layers = Some(recording.end(operations, seconds)?);
    }
    let (after_reading, after_ticks) = (read(), CpuTicks::now());
    let after = settled(system, before.as_ref()).map_err(said)?;
    measurement.steal_percent = after_ticks.steal_percent_since(ticks);
    let requests = before.zip(after).map(|(before, after)| after.served_since(&before));
    if daemons.own.is_some() || !daemons.servers.is_empty() {
        let consumption = daemons.consumed(&serving, &reading, &after_reading);
        if consumption.is_none() {
            let is_there = |pid: &u32| after_reading.has(*pid);
            let why = if daemons.servers.iter().all(is_there) { UNKNOWN } else { SERVER_ENDED };
            measurement.flags.push(why.to_owned());
        }
        let requests = requests.unwrap_or_default();
        measurement.daemon = consumption.map(|consumption| DaemonWork { requests, consumption });
    }
    Ok((measurement, scene.raw()))
}

/// Why nothing was found where a system was to show what was made natively: what is mounted there, as
/// the kernel says it.
fn unlike(root: &Path, why: String) -> String {
    let is_missing = why.contains(Errno::ENOENT.desc());
    match mounts::mounted_at(root) {
        Ok(Some(mount)) if is_missing => format!(
            "{why}: {} of {} is mounted at {}, and does not show the source as it is now",
            mount.fs_type,
            mount.source.to_string_lossy(),
            root.display()
        ),
        _ => why,
    }
}

/// The work of a traced run: one operation after the other, so that each wait is one request's. `None`
/// if the work is not of that kind. As many as in the run that it explains and not as long, for the
/// first operation on a file costs more than the next.
fn traced(work: &Work, operations: u64) -> Option<Work> {
    match work {
        Work::Operation(work) if work.threads == 1 && work.load_percent.is_none() => {
            Some(Work::Operation(Operations {
                at_most: Some(operations.min(TRACED_OPERATIONS)),
                seconds: work.seconds * TRACED_FACTOR,
                ..work.clone()
            }))
        }
        _ => None,
    }
}

/// Whether there is a second run of a turn to be traced, if layers are asked for.
pub(crate) fn has_layers(round: u32, work: &Work, kind: Kind) -> bool {
    round < TRACED_ROUNDS && kind != Kind::Native && traced(work, 1).is_some()
}

/// The counters once they stand still: RELEASE and FORGET come a moment after the call that caused
/// them. At the start there is nothing to wait for.
fn settled(
    system: &dyn System,
    earlier: Option<&Snapshot>,
) -> Result<Option<Snapshot>, StudyError> {
    let mut last = system.snapshot()?;
    if earlier.is_none() {
        return Ok(last);
    }
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(2));
        let now = system.snapshot()?;
        let is_still = match (&last, &now) {
            (Some(last), Some(now)) => last.requests == now.requests,
            _ => true,
        };
        last = now;
        if is_still {
            break;
        }
    }
    Ok(last)
}

/// Drops every clean page, dentry and inode of the machine; what was dirty has been written before.
pub(crate) fn drop_caches() -> Result<(), String> {
    const FILE: &str = "/proc/sys/vm/drop_caches";
    fs::write(FILE, "3").map_err(|error| format!("drop the caches ({FILE}): {error}"))
}

/// A turn's directory, removed natively at the end.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Whatever is left goes with the place.
        let _ = fs::remove_dir_all(&self.0);
    }
}
