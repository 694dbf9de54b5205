//! Does one turn for real: prepare, count, time, count, clean up, under supervision.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::fio::FioSettings;
use super::interrupt::Interrupt;
use super::matrix::Cell;
use super::prepare;
use super::record::{self, Kind};
use super::run::scene::{self, Site};
use super::runner::{Executor, StepError};
use super::sample::{Consumption, DaemonWork, Measurement, Role, count};
use super::supervise::{Cancel, Watch};
use super::system::System;
use crate::metrics::snapshot::Snapshot;

/// What a turn may take beyond fio's own time before it counts as hung.
const MARGIN: Duration = Duration::from_secs(60);

/// Runs the cells on the two systems.
#[derive(Debug)]
pub(crate) struct LiveExecutor<'a> {
    /// The directory itself.
    pub(crate) native: Arc<dyn System>,
    /// The same through the mount.
    pub(crate) fusewire: Arc<dyn System>,
    /// What the fio jobs share.
    pub(crate) fio: FioSettings,
    /// Seed of the study.
    pub(crate) seed: u64,
    /// Signals to this process.
    pub(crate) interrupt: &'a Interrupt,
    /// Turns taken: names the directories of the metadata cells.
    pub(crate) turns: usize,
}

/// What the thread of a turn owns.
struct Turn {
    native: PathBuf,
    system: Arc<dyn System>,
    cell: Cell,
    fio: FioSettings,
    seed: u64,
    number: usize,
}

impl Executor for LiveExecutor<'_> {
    fn execute(&mut self, cell: &Cell, role: Role, round: u32) -> Result<Measurement, StepError> {
        let system = match role {
            Role::NativeA | Role::NativeB => &self.native,
            Role::Fusewire => &self.fusewire,
        };
        self.turns += 1;
        let turn = Turn {
            native: self.native.root().to_owned(),
            system: Arc::clone(system),
            cell: cell.clone(),
            fio: self.fio.clone(),
            // One seed per round: the same offsets for all three turns.
            seed: self.seed.wrapping_add(u64::from(round)) >> 1,
            number: self.turns,
        };
        let limit = MARGIN + Duration::from_secs_f64(self.fio.seconds * 2.0);
        Watch { interrupt: self.interrupt, system: system.as_ref(), cell: &cell.title, limit }
            .run(move |cancel| turn.take(cancel))
    }
}

impl Turn {
    fn take(self, cancel: &Cancel) -> Result<Measurement, StepError> {
        let name = format!("{}-{}", self.cell.id, self.number);
        let site = Site {
            source: self.native.clone(),
            // No cell of the demo needs any.
            material: PathBuf::new(),
            turn: PathBuf::from(&name),
            seed: self.seed,
        };
        let root = self.system.root();
        let mut scene = scene::stage(&self.cell.resolve(&self.fio), &site, Kind::Fusewire);
        let prepared = scene
            .make()
            .and_then(|()| prepare::sync(&self.native).map_err(|error| error.to_string()))
            .and_then(|()| scene.enter(root))
            .and_then(|()| scene.warm(cancel));
        let measured = match prepared {
            Ok(()) => self.counted(|| scene.play(cancel).map_err(StepError::Cell)),
            Err(why) => Err(StepError::Cell(why)),
        };
        // Through the system, so that the system forgets it too.
        let removed = match fs::remove_dir_all(root.join(&name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StepError::Cell(format!("clean up after the cell: {error}")))
            }
            _ => Ok(()),
        };
        let measurement = measured?;
        removed.map(|()| measurement)
    }

    /// Puts what the daemon did during `work` beside what `work` measured.
    fn counted(
        &self,
        work: impl FnOnce() -> Result<record::Measurement, StepError>,
    ) -> Result<Measurement, StepError> {
        let before = self.system.snapshot()?;
        let mut measurement = Measurement::from(work()?);
        let after = self.system.snapshot()?;
        measurement.daemon = before.zip(after).map(|(before, after)| difference(&before, &after));
        Ok(measurement)
    }
}

/// What happened between two pictures of one daemon.
fn difference(before: &Snapshot, after: &Snapshot) -> DaemonWork {
    let requests = after.served_since(before);
    let (before, after) = (&before.process, &after.process);
    let switches = |process: &crate::metrics::snapshot::Process| {
        process.voluntary_switches + process.involuntary_switches
    };
    let consumption = Consumption {
        user_cpu_us: count(after.user_cpu_us.saturating_sub(before.user_cpu_us)),
        system_cpu_us: count(after.system_cpu_us.saturating_sub(before.system_cpu_us)),
        switches: switches(after).saturating_sub(switches(before)),
    };
    DaemonWork { requests, consumption }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::metrics::snapshot::Opcode;
    use crate::study::error::StudyError;
    use crate::study::matrix;
    use crate::study::system::Native;

    /// The plain directory again, with counters that move by ten STATs a picture.
    #[derive(Debug)]
    struct Counting(Native, AtomicU64);

    impl System for Counting {
        fn root(&self) -> &Path {
            self.0.root()
        }
        fn snapshot(&self) -> Result<Option<Snapshot>, StudyError> {
            let count = self.1.fetch_add(10, Ordering::Relaxed);
            let mut snapshot = Snapshot::default();
            let opcode = Opcode { count, ..Default::default() };
            snapshot.requests.insert("GETATTR".into(), opcode);
            snapshot.requests.insert("INIT".into(), Opcode { count: 1, ..Default::default() });
            snapshot.process.user_cpu_us = count * 2;
            Ok(Some(snapshot))
        }
    }

    #[test]
    fn requests_are_those_of_the_turn_and_directories_are_gone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let interrupt = Interrupt::default();
        let native = Native::new(dir.path());
        let mut executor = LiveExecutor {
            native: Arc::new(Native::new(dir.path())),
            fusewire: Arc::new(Counting(native, AtomicU64::new(5))),
            fio: FioSettings { seconds: 0.1, size_mib: 1, direct_engine: "io_uring" },
            seed: 1,
            interrupt: &interrupt,
            turns: 0,
        };
        let cell = matrix::demo().into_iter().find(|cell| cell.id == "stat").expect("exists");
        let run = executor.execute(&cell, Role::Fusewire, 0).expect("works");
        let daemon = run.daemon.expect("it has counters");
        assert_eq!(daemon.requests, BTreeMap::from([("GETATTR".to_owned(), 10)]));
        assert_eq!(daemon.consumption.user_cpu_us, 20.0);
        let run = executor.execute(&cell, Role::NativeA, 0).expect("works");
        assert_eq!(run.daemon, None);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }
}
