//! A workload on its stage: what is made natively before a system is mounted, what goes through the
//! system before the timing, and what is timed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::fio;
use super::super::load::consumed::Reading;
use super::super::load::operation::Layout;
use super::super::load::personality::Part;
use super::super::load::{self, Repeater, Worker};
use super::super::prepare;
use super::super::process::run_timed;
use super::super::record::{Kind, Measurement};
use super::super::supervise::Cancel;
use super::super::work::{Fio, Operation, Operations, Personality, Work};
use super::jobs::Errand;

/// Where a turn takes place.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The native directory.
    pub(crate) source: PathBuf,
    /// A directory on the same file system that no system shows.
    pub(crate) material: PathBuf,
    /// The turn's own directory, below the source and below each root.
    pub(crate) turn: PathBuf,
    /// Seed of what is random in the cell; the same for all systems of a round.
    pub(crate) seed: u64,
}

/// A workload in one turn. The calls come in the order in which they stand here.
pub(crate) trait Scene: Send {
    /// Makes natively what is needed. Nothing is mounted yet.
    fn make(&mut self) -> Result<(), String>;
    /// Opens what must be open, through the system at `root`.
    fn enter(&mut self, root: &Path) -> Result<(), String>;
    /// Brings into the system's caches what a warm cell finds there. Not called for a cold one.
    fn warm(&mut self, cancel: &Cancel) -> Result<(), String>;
    /// What is timed.
    fn play(&mut self, cancel: &Cancel) -> Result<Measurement, String>;
    /// What the tool itself printed, if it is to be kept.
    fn raw(&mut self) -> Option<serde_json::Value> {
        None
    }
}

/// Puts a workload on stage.
pub(crate) fn stage(work: &Work, site: &Site, kind: Kind) -> Box<dyn Scene> {
    match work {
        Work::Fio(job) => {
            Box::new(FioScene { job: job.clone(), site: site.clone(), file: None, raw: None, kind })
        }
        Work::Operation(work) => Box::new(Crew {
            parts: match kind {
                Kind::Null => vec![Layout::of_null(work.operation)],
                _ => layouts(work, site),
            },
            work: work.clone(),
            site: site.clone(),
            workers: Vec::new(),
            is_null: kind == Kind::Null,
        }),
        Work::Personality(work) => Box::new(Cast {
            parts: (0..work.threads).map(|thread| Part::new(work, &site.turn, thread)).collect(),
            work: work.clone(),
            site: site.clone(),
            root: PathBuf::new(),
        }),
        Work::Job(job) => Box::new(Errand::new(job, site)),
    }
}

/// Why a system can not do this at all; `None` if it can.
pub(crate) fn unsuited(work: &Work, kind: Kind) -> Option<&'static str> {
    if kind != Kind::Null {
        return None;
    }
    match work {
        Work::Fio(_) => None,
        Work::Operation(work) if work.threads > 1 => {
            Some("the file system without storage has one file, for one thread")
        }
        Work::Operation(Operations {
            operation:
                Operation::Stat
                | Operation::StatNegative
                | Operation::StatForced
                | Operation::OpenClose
                | Operation::OpenReadClose,
            ..
        }) => None,
        _ => Some("the file system without storage has nothing to do it on"),
    }
}

/// A fio job on the shared test file.
struct FioScene {
    job: Fio,
    site: Site,
    file: Option<PathBuf>,
    raw: Option<serde_json::Value>,
    kind: Kind,
}

/// What a job may take beyond its own time.
const MARGIN: Duration = Duration::from_secs(60);

impl Scene for FioScene {
    fn make(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn enter(&mut self, root: &Path) -> Result<(), String> {
        self.file = Some(match self.kind {
            Kind::Null => root.join("zeros"),
            _ => prepare::data_file(root),
        });
        Ok(())
    }

    fn warm(&mut self, cancel: &Cancel) -> Result<(), String> {
        let file = self.file.as_ref().ok_or("not entered")?;
        let result = match (self.kind, self.job.depth) {
            (Kind::Null, _) => return Ok(()),
            // A direct operation must otherwise drop the pages first, of both paths.
            (_, Some(_)) => prepare::drop_pages(&prepare::data_file(&self.site.source))
                .and_then(|()| prepare::drop_pages(file)),
            (_, None) => prepare::warm(file, cancel),
        };
        result.map_err(|error| error.to_string())
    }

    fn play(&mut self, cancel: &Cancel) -> Result<Measurement, String> {
        let file = self.file.as_ref().ok_or("not entered")?;
        let mut command = fio::command(&self.job, file, self.site.seed);
        let limit = MARGIN + Duration::from_secs_f64(self.job.seconds);
        let before = Reading::of_children();
        let (_, stdout) = run_timed("run fio", &mut command, limit, cancel)?;
        let client = Reading::of_children().since(before);
        let (measurement, raw) = fio::parse(&stdout)?;
        self.raw = Some(raw);
        Ok(Measurement { client, ..measurement })
    }

    fn raw(&mut self) -> Option<serde_json::Value> {
        self.raw.take()
    }
}

fn layouts(work: &Operations, site: &Site) -> Vec<Layout> {
    let place = |thread| (thread, work.threads, work.is_shared);
    (0..work.threads)
        .map(|thread| Layout::new(work.operation, &site.turn, work.files, place(thread)))
        .collect()
}

/// Threads of the load generator that do one operation.
struct Crew {
    work: Operations,
    parts: Vec<Layout>,
    site: Site,
    workers: Vec<Box<dyn Worker>>,
    is_null: bool,
}

impl Scene for Crew {
    fn make(&mut self) -> Result<(), String> {
        if self.is_null {
            return Ok(());
        }
        let make = |layout: &Layout| layout.make(&self.site.source);
        self.parts.iter().try_for_each(make).map_err(|error| format!("prepare: {error}"))
    }

    fn enter(&mut self, root: &Path) -> Result<(), String> {
        for (part, thread) in self.parts.iter().zip(0..) {
            let seed = self.site.seed.wrapping_add(thread);
            let share = part.enter(root, seed).map_err(|e| format!("prepare: {}", e.desc()))?;
            self.workers.push(Box::new(Repeater::new(share, &self.work, seed)));
        }
        Ok(())
    }

    fn warm(&mut self, _: &Cancel) -> Result<(), String> {
        if self.is_null {
            return Ok(());
        }
        self.workers.iter_mut().try_for_each(|worker| worker.warm())
    }

    fn play(&mut self, cancel: &Cancel) -> Result<Measurement, String> {
        load::run(&mut self.workers, cancel)
    }
}

/// Threads that play a personality.
struct Cast {
    work: Personality,
    parts: Vec<Part>,
    site: Site,
    root: PathBuf,
}

impl Scene for Cast {
    fn make(&mut self) -> Result<(), String> {
        let make = |part: &Part| part.make(&self.site.source);
        self.parts.iter().try_for_each(make).map_err(|error| format!("prepare: {error}"))
    }

    fn enter(&mut self, root: &Path) -> Result<(), String> {
        root.clone_into(&mut self.root);
        Ok(())
    }

    /// Names and attributes; contents stay where the making left them.
    fn warm(&mut self, cancel: &Cancel) -> Result<(), String> {
        super::jobs::walk(&self.root.join(&self.site.turn), cancel)
    }

    fn play(&mut self, cancel: &Cancel) -> Result<Measurement, String> {
        let enter = |part: &Part| Box::new(part.enter(&self.root, self.site.seed)) as _;
        let mut actors: Vec<Box<dyn Worker>> = self.parts.iter().map(enter).collect();
        debug_assert_eq!(actors.len(), self.work.threads);
        load::run(&mut actors, cancel)
    }
}
