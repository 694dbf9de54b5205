//! `fusewire study run`: from a study's file to a result folder. Puts the parts together and owns the
//! order in which they are undone: a system's mount before the place it shows.

mod bar;
mod checks;
mod flags;
mod folder;
mod jobs;
mod list;
mod live;
mod neutral;
mod options;
mod order;
mod place;
mod resume;
mod room;
pub(super) mod scene;
mod taker;
pub(crate) mod tree;
mod verdict;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::environment::{self, CpuTicks, Environment};
use super::error::StudyError;
use super::file::cells::{self, Planned};
use super::file::systems::{self, PlannedSystem};
use super::file::{self, BackingKind, StudyFile, presets};
use super::interrupt::Interrupt;
use super::record::{self, FORMAT, NATIVE, Outcome, Sample};
use super::scratch::complain;
use super::trace::Tracing;
use super::uring::Uring;
use super::work::Work;
use super::{preflight, prepare, say};
use crate::report;

use bar::Bar;
use folder::{Folder, Raw};
use live::LiveExecutor;
use neutral::Neutral;
use order::Turn;
use place::Place;
use resume::Overrides;
use taker::{Sink, TurnError};
use verdict::verdict;

pub use options::RunOptions;

/// Runs that find native's peak for an open loop.
const CALIBRATIONS: usize = 3;

/// A study with everything resolved.
struct Plan {
    file: StudyFile,
    text: String,
    cells: Vec<Planned>,
    systems: Vec<PlannedSystem>,
    seed: u64,
    /// What looks into single requests, if that was asked for.
    tracing: Option<Arc<Tracing>>,
}

/// Measures a study, or lists what there is.
///
/// # Errors
/// [`StudyError`]: what was measured until then is kept, and the message says how to go on.
pub fn run(options: &RunOptions) -> Result<(), StudyError> {
    if options.list && options.study.is_none() && options.resume.is_none() {
        print(&list::presets(options.json)?);
        return Ok(());
    }
    let earlier = options.resume.as_deref().map(Folder::read).transpose()?;
    // From here on it makes no difference whether an option was given now or when the study began.
    let options = &match &earlier {
        None => options.clone(),
        Some(earlier) => earlier.overrides.complete(options)?,
    };
    let mut plan = match &earlier {
        None => plan(options)?,
        Some(earlier) => plan_again(options, earlier)?,
    };
    if options.list {
        print(&list::study(&plan.file, &plan.cells, &plan.systems, options.json));
        return Ok(());
    }
    if let (Some(earlier), Some(folder)) = (&earlier, &options.resume)
        && earlier.samples.len() >= turns(&plan).len()
    {
        let (folder, samples) = (folder.clone(), earlier.samples.clone());
        return tell(options, &Done { folder, samples, systems: systems_of(&plan) });
    }
    let interrupt = Interrupt::catch()?;
    let temporary = std::env::temp_dir();
    let backing = &plan.file.backing;
    let size_mib = plan.file.size_mib;
    let fio = checks::before(&plan.cells, &plan.systems, (backing, size_mib), &temporary)?;
    if earlier.is_none() {
        report::folder::prepare(&options.results)?;
    }
    plan.tracing = options.layers.then(Tracing::find).transpose()?.map(Arc::new);
    let _uring = match plan.systems.iter().find(|system| system.wants_uring()) {
        Some(system) => Uring::needed_by(&system.system.id, options.enable_uring)?,
        // None asks for it; those that take what there is would have it.
        None if options.enable_uring => Uring::on()?,
        None => Uring::untouched(),
    };
    let exe = match &options.exe {
        Some(exe) => exe.clone(),
        None => std::env::current_exe()
            .map_err(|source| StudyError::Io { action: "find this program".into(), source })?,
    };
    // Dropped last: whatever happens below, a system's mount is gone by then.
    let mut place = Place::make(backing, &temporary)?;
    let measured = measure(options, &mut plan, earlier, (&place, &exe, fio), &interrupt);
    let undone = place.release();
    match measured {
        Ok(done) => {
            tell(options, &done)?;
            undone
        }
        Err(error) => {
            complain(undone);
            Err(error)
        }
    }
}

fn plan(options: &RunOptions) -> Result<Plan, StudyError> {
    let name = options.study.as_deref().unwrap_or_default();
    let path = Path::new(name);
    let text = match presets::find(name) {
        Some(preset) if !path.exists() => preset.to_owned(),
        _ if path.is_file() => {
            std::fs::read_to_string(path).map_err(StudyError::io("read", path))?
        }
        Some(preset) => preset.to_owned(),
        None => {
            let known = || presets::PRESETS.iter().map(|(name, _)| *name);
            let near = file::nearest(name, known());
            let hint = near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
            return Err(preflight::refuse(format!(
                "{name} is neither a file nor a preset{hint}; the presets are {}",
                known().collect::<Vec<_>>().join(", ")
            )));
        }
    };
    let mut file = file::parse(&text, name)?;
    file.rounds = options.rounds.unwrap_or(file.rounds);
    let seed = options.seed.unwrap_or_else(environment::now_seconds);
    let mut plan = resolve(options, file, text, seed, name)?;
    let misses = |wanted: &&String| {
        !plan.cells.iter().any(|planned| planned.cell.id.contains(wanted.as_str()))
    };
    // One that matches nothing is a slip of the pen, and a cell that its writer will miss.
    if let Some(wanted) = options.only.iter().find(misses) {
        let ids: Vec<&str> = plan.cells.iter().map(|planned| planned.cell.id.as_str()).collect();
        let ids = ids.join(", ");
        return Err(preflight::refuse(format!("--only {wanted} matches no cell; there are {ids}")));
    }
    plan.cells.retain(|planned| {
        let matches = |wanted: &String| planned.cell.id.contains(wanted.as_str());
        options.only.is_empty() || options.only.iter().any(matches)
    });
    Ok(plan)
}

fn plan_again(options: &RunOptions, earlier: &folder::Earlier) -> Result<Plan, StudyError> {
    checks::same_machine(&earlier.environment)?;
    let study = &earlier.study;
    let mut file = file::parse(&earlier.text, "study.toml")?;
    file.rounds = study.rounds;
    let mut plan = resolve(options, file, earlier.text.clone(), study.seed, "study.toml")?;
    // Those that --only chose, with what was found out about them before the first round.
    plan.cells.retain(|planned| study.cells.iter().any(|cell| cell.id == planned.cell.id));
    for planned in &mut plan.cells {
        let cell = study.cells.iter().find(|cell| cell.id == planned.cell.id);
        let cell = cell.expect("only those that are there were retained");
        planned.cell = cell.clone();
        planned.work = serde_json::from_value(cell.workload.clone()).map_err(|error| {
            preflight::refuse(format!("study.json: workload of cell {}: {error}", cell.id))
        })?;
    }
    let systems = plan.systems.iter().map(|system| &system.system.id);
    if plan.cells.len() != study.cells.len() || !systems.eq(study.systems.iter().map(|s| &s.id)) {
        return Err(preflight::refuse(
            "study.json and study.toml of the folder do not agree: begin the study anew",
        ));
    }
    Ok(plan)
}

fn resolve(
    options: &RunOptions,
    mut file: StudyFile,
    text: String,
    seed: u64,
    origin: &str,
) -> Result<Plan, StudyError> {
    if let Some(dir) = &options.dir {
        let kind = place::kind_of(dir)?;
        // What a study compares with is its own matter, not that of where it is done.
        if (file.backing.kind, kind) != (BackingKind::Distributed, BackingKind::Directory) {
            file.backing.kind = kind;
        }
        file.backing.path = Some(dir.clone());
    }
    let wrong = |why: String| preflight::refuse(format!("{origin}: {why}"));
    let cells = cells::expand(&file).map_err(wrong)?;
    let systems = systems::resolve(&file).map_err(wrong)?;
    Ok(Plan { file, text, cells, systems, seed, tracing: None })
}

/// What a study has yielded.
struct Done {
    folder: PathBuf,
    samples: Vec<Sample>,
    systems: Vec<record::System>,
}

/// Everything between the making of the place and its end.
fn measure(
    options: &RunOptions,
    plan: &mut Plan,
    earlier: Option<folder::Earlier>,
    (place, exe, fio): (&Place, &Path, String),
    interrupt: &Interrupt,
) -> Result<Done, StudyError> {
    room::on_device(&plan.cells, plan.file.size_mib, &plan.file.backing, place.source())?;
    if plan.cells.iter().any(|planned| checks::uses_data_file(&planned.work)) {
        prepare::lay_out(place.source(), plan.file.size_mib, &|| interrupt.check())?;
        checks::data_file(&plan.cells, place.source())?;
    }
    // Native has no mount, and what is not installed is skipped when its turn comes.
    for index in 0..plan.systems.len() {
        if plan.systems[index].missing().is_none() {
            let live = live(plan, place, exe, interrupt, Raw::none());
            let in_force = probe(&live, &plan.systems[index])?;
            plan.systems[index].system.in_force = in_force;
        }
    }
    if earlier.is_none() {
        calibrate(plan, place, exe, interrupt)?;
    }
    let turns = turns(plan);
    let study = record::Study {
        format: FORMAT,
        name: plan.file.name.clone(),
        seed: plan.seed,
        rounds: plan.file.rounds,
        cells: plan.cells.iter().map(|planned| planned.cell.clone()).collect(),
        systems: systems_of(plan),
    };
    let (folder, mut environment, kept) = match (earlier, &options.resume) {
        (Some(earlier), Some(path)) => {
            resume::same_place(&earlier.environment.backing, &place.describe()?)?;
            let mut kept = earlier.samples;
            kept.truncate(order::whole_cells(&turns, kept.len().min(turns.len())));
            (Folder::resume(path, &kept)?, earlier.environment, kept)
        }
        _ => {
            let environment =
                Environment { fio, backing: place.describe()?, ..Environment::capture() };
            let overrides = Overrides::of(options)?;
            let folder =
                Folder::begin(&options.results, &study, &plan.text, &environment, &overrides)?;
            (folder, environment, Vec::new())
        }
    };
    folder.write_study(&study)?;
    let (begin, ticks, before) = (Instant::now(), CpuTicks::now(), environment.duration_seconds);
    let done: Vec<Outcome> = kept.iter().map(|sample| sample.outcome.clone()).collect();
    let mut executor = live(plan, place, exe, interrupt, folder.raw());
    let bar = Bar::new(&plan.cells, &plan.systems, &turns, done.len(), plan.tracing.is_some());
    let is_whole = options.resume.is_none() && options.only.is_empty() && options.rounds.is_none();
    let bar = match plan.file.minutes.filter(|_| is_whole) {
        Some(minutes) => bar.takes(minutes),
        None => bar,
    };
    let (cells, rounds) = (plan.cells.len(), plan.file.rounds);
    bar.say(&format!(
        "fusewire study {}: {cells} cells x {} systems x {rounds} rounds, about {}; {}",
        plan.file.name,
        plan.systems.len(),
        bar::words(bar.left(done.len())),
        environment.backing.description,
    ));
    let neutral = place.neutral();
    let mut keeper = Keeper { folder, bar, plan, neutral, samples: kept };
    let taken = taker::take(&turns, &done, &mut executor, &mut keeper);
    let Keeper { folder, samples, .. } = keeper;
    environment.duration_seconds = before + begin.elapsed().as_secs_f64();
    environment.steal_percent = CpuTicks::now().steal_percent_since(ticks);
    folder.write_environment(&environment)?;
    match taken {
        Ok(()) => {
            folder.finish()?;
            Ok(Done { folder: folder.path().to_owned(), samples, systems: study.systems })
        }
        Err(StudyError::Interrupted { signal }) => Err(StudyError::Paused {
            signal,
            kept: samples.len(),
            of: turns.len(),
            folder: folder.path().to_owned(),
        }),
        Err(error) => Err(error),
    }
}

fn live<'a>(
    plan: &'a Plan,
    place: &'a Place,
    exe: &'a Path,
    interrupt: &'a Interrupt,
    raw: Raw,
) -> LiveExecutor<'a> {
    let Plan { file, cells, systems, seed, tracing, .. } = plan;
    let servers = &file.backing.servers;
    let mount_limit = Duration::from_secs_f64(file.mount_seconds);
    let (seed, tracing) = (*seed, tracing.clone());
    LiveExecutor { cells, systems, place, servers, exe, seed, interrupt, mount_limit, raw, tracing }
}

/// A system that does not mount, or not as it must, is no system of a study: that is found now.
fn probe(
    live: &LiveExecutor<'_>,
    system: &PlannedSystem,
) -> Result<Option<environment::InForce>, StudyError> {
    match live.probe(system) {
        Ok(in_force) => Ok(in_force),
        Err(TurnError::Fatal(error)) => Err(error),
        // Of another program it is a result: it is recorded, and the study goes on without it.
        Err(_) if system.system.kind == record::Kind::Command => Ok(None),
        Err(TurnError::Mount(why) | TurnError::Cell(why) | TurnError::Skipped(why)) => {
            Err(preflight::refuse(format!("system {}: {why}", system.system.id)))
        }
    }
}

/// The systems as they are recorded.
fn systems_of(plan: &Plan) -> Vec<record::System> {
    plan.systems.iter().map(|planned| planned.system.clone()).collect()
}

/// Who runs when.
fn turns(plan: &Plan) -> Vec<Turn> {
    let takes_part: Vec<Vec<usize>> = plan.cells.iter().map(|cell| part(cell, plan)).collect();
    order::order(&takes_part, plan.file.rounds, plan.seed)
}

/// Indices of the systems that a cell runs on.
fn part(cell: &Planned, plan: &Plan) -> Vec<usize> {
    let takes_part = |system: &PlannedSystem| {
        system.system.kind == record::Kind::Native
            || cell.systems.is_empty()
            || cell.systems.contains(&system.system.id)
    };
    (0..plan.systems.len()).filter(|index| takes_part(&plan.systems[*index])).collect()
}

/// Finds native's peak for every cell with a load: the median of a few closed loops.
fn calibrate(
    plan: &mut Plan,
    place: &Place,
    exe: &Path,
    interrupt: &Interrupt,
) -> Result<(), StudyError> {
    for index in 0..plan.cells.len() {
        let Work::Operation(work) = &plan.cells[index].work else { continue };
        let Some(percent) = work.load_percent else { continue };
        let mut rates = Vec::new();
        for round in 0..CALIBRATIONS {
            let executor = live(plan, place, exe, interrupt, Raw::none());
            let native = plan.systems.iter().find(|system| system.system.id == NATIVE);
            let native = native.expect("every study has it");
            let name = format!("peak{round}");
            match executor.play(&plan.cells[index], native, &name, plan.seed) {
                Ok((run, _)) => rates.push(super::sample::count(run.operations) / run.seconds),
                Err(TurnError::Fatal(error)) => return Err(error),
                Err(TurnError::Cell(why) | TurnError::Mount(why) | TurnError::Skipped(why)) => {
                    let id = &plan.cells[index].cell.id;
                    return Err(preflight::refuse(format!("native's peak of {id}: {why}")));
                }
            }
        }
        rates.sort_unstable_by(f64::total_cmp);
        let rate = rates[CALIBRATIONS / 2] * f64::from(percent) / 100.0;
        let planned = &mut plan.cells[index];
        if let Work::Operation(work) = &mut planned.work {
            work.rate_per_second = Some(rate);
        }
        planned.cell.workload = serde_json::to_value(&planned.work).map_err(|error| {
            StudyError::Io { action: "write a workload as JSON".into(), source: error.into() }
        })?;
    }
    Ok(())
}

/// Writes down what the turns yield, and moves the bar.
struct Keeper<'a> {
    folder: Folder,
    bar: Bar<'a>,
    plan: &'a Plan,
    neutral: Neutral,
    samples: Vec<Sample>,
}

impl Sink for Keeper<'_> {
    fn begin(&mut self, turn: &Turn) {
        self.bar.begin(turn);
    }

    fn keep(&mut self, turn: &Turn, outcome: &Outcome) -> Result<(), StudyError> {
        let (cell, system) =
            (&self.plan.cells[turn.cell].cell.id, &self.plan.systems[turn.system].system.id);
        let outcome = self.neutral.outcome(outcome);
        if let Outcome::Failed(why) | Outcome::Skipped(why) = &outcome
            && !self.samples.iter().any(|sample| {
                sample.system == *system
                    && matches!(&sample.outcome,
                    Outcome::Failed(said) | Outcome::Skipped(said) if said == why)
            })
        {
            let word = if matches!(outcome, Outcome::Failed(_)) { "failed" } else { "skipped" };
            self.bar.say(&format!("{word}: {cell} on {system}: {why}"));
        }
        let sample = Sample {
            sequence: turn.sequence,
            round: turn.round,
            cell: cell.clone(),
            system: system.clone(),
            outcome,
        };
        self.folder.keep(&sample)?;
        self.samples.push(sample);
        self.bar.end(turn);
        Ok(())
    }
}

/// Writes the report, and says where it is, what it says, and what has no figures.
fn tell(options: &RunOptions, done: &Done) -> Result<(), StudyError> {
    let digest = report::study::write(&done.folder)?;
    let mut failed: Vec<(&str, &str, &str)> = Vec::new();
    let mut skipped = failed.clone();
    for sample in &done.samples {
        let (list, why) = match &sample.outcome {
            Outcome::Measured(_) => continue,
            Outcome::Failed(why) => (&mut failed, why),
            Outcome::Skipped(why) => (&mut skipped, why),
        };
        let entry = (sample.cell.as_str(), sample.system.as_str(), why.as_str());
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
    if options.json {
        let entries = |list: &[(&str, &str, &str)]| -> Vec<serde_json::Value> {
            list.iter()
                .map(|(cell, system, why)| json!({ "cell": cell, "system": system, "reason": why }))
                .collect()
        };
        let document = json!({
            "folder": done.folder, "samples": done.samples.len(),
            "failed": entries(&failed), "skipped": entries(&skipped), "summary": digest,
        });
        print(&format!("{document:#}"));
    } else {
        print(&digest.headline.join("\n"));
    }
    say::line(format_args!("written: {}", done.folder.join(report::study::PAGE).display()));
    verdict(&done.systems, &done.samples)
}

/// A reader that has gone (`| head`) is no failure.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
