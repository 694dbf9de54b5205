//! `fusewire demo`: the main job on an embedded default. Puts the parts together and owns the
//! order in which they are undone: the daemon's mount before what it shows.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backing::Backing;
use super::daemon::{Launch, Mounted};
use super::environment::{self, CpuTicks, Environment, InForce};
use super::error::StudyError;
use super::execute::LiveExecutor;
use super::fio::{self, FioSettings};
use super::image::MKFS_OPTIONS;
use super::interrupt::Interrupt;
use super::matrix::{self, CacheState, Cell, Work};
use super::mounts;
use super::options::DemoOptions;
use super::plan::{self, Step};
use super::progress::{self, Bar};
use super::sample::{Outcome, Sample};
use super::scratch::complain;
use super::system::{Native, System};
use super::uring::Uring;
use super::{preflight, prepare, runner, say};
use crate::report;

/// Measures, prints and writes the comparison.
pub fn run(options: &DemoOptions) -> Result<(), StudyError> {
    let interrupt = Interrupt::catch()?;
    let cells = select(options)?;
    let checked = preflight::check(options)?;
    let results = report::folder::prepare(&options.results)?;
    let seed = options.seed.unwrap_or_else(environment::now_seconds);
    let steps = plan::plan(cells.len(), options.rounds, seed);
    announce(options, &cells, &steps);

    let uring = if options.enable_uring { Uring::on()? } else { Uring::untouched() };
    let mut environment = Environment {
        fio: checked.fio,
        uring_switched_on: uring.was_off(),
        ..Environment::capture()
    };
    let begin = Instant::now();
    let ticks = CpuTicks::now();
    // Dropped in the opposite order of their making: `fusewire` before `backing`.
    let mut backing = match &options.dir {
        None => Backing::image(&checked.temporary)?,
        Some(dir) => Backing::directory(dir, &checked.temporary)?,
    };
    let measured = measure(options, &backing, &interrupt, (&cells, &steps), seed, &mut environment);
    // An undoing that failed must be said, but it takes nothing from what was measured before.
    let (samples, undone) = and_undone(measured, backing.release())?;
    environment.duration_seconds = begin.elapsed().as_secs_f64();
    environment.steal_percent = CpuTicks::now().steal_percent_since(ticks);

    let method = report::summary::Method {
        rounds: options.rounds,
        fio_seconds: options.seconds,
        size_mib: options.size_mib,
        seed,
    };
    let summary = report::summary::Summary::new(&cells, &samples, &environment, method);
    let folder = results.write(&summary, &samples, &environment)?;
    let shown = match options.json {
        true => report::folder::to_json(&summary)?,
        false => report::table::render(&summary),
    };
    // A reader that has gone (`| head`) is no failure: the results are written.
    let _ = writeln!(std::io::stdout(), "{shown}");
    say::line(format_args!("written: {}", folder.display()));
    undone?;
    let others = samples.iter().any(|sample| matches!(sample.outcome, Outcome::Measured(_)));
    summary
        .failure()
        .map_or(Ok(()), |(count, first)| Err(StudyError::CellsFailed { count, others, first }))
}

fn select(options: &DemoOptions) -> Result<Vec<Cell>, StudyError> {
    let all = matrix::demo();
    let wanted = |cell: &Cell| {
        options.only.is_empty() || options.only.iter().any(|text| cell.id.contains(text.as_str()))
    };
    // One that matches nothing is a slip of the pen, and a cell that its writer will miss.
    let misses = |text: &&String| !all.iter().any(|cell| cell.id.contains(text.as_str()));
    if let Some(text) = options.only.iter().find(misses) {
        let names: Vec<&str> = all.iter().map(|cell| cell.id.as_str()).collect();
        let names = names.join(", ");
        return Err(StudyError::Preflight(format!(
            "--only {text} matches no cell; there are {names}"
        )));
    }
    let cells = all.iter().filter(|cell| wanted(cell)).cloned().collect();
    Ok(cells)
}

fn announce(options: &DemoOptions, cells: &[Cell], steps: &[Step]) {
    let expected: Duration = steps
        .iter()
        .map(|step| progress::expected(&cells[step.cell], step.role, options.seconds))
        .sum();
    say::line(format_args!(
        "fusewire demo: {} cells x {} rounds (native, fusewire, native), about {} s; {}",
        cells.len(),
        options.rounds,
        expected.as_secs().max(1),
        match &options.dir {
            Some(dir) => format!("in a new subdirectory of {}", dir.display()),
            None => "on an ext4 image on a loop device".to_owned(),
        }
    ));
}

/// Everything between the making of the backing and its end. The daemon's mount is made and
/// undone in here, on every path out.
fn measure(
    options: &DemoOptions,
    backing: &Backing,
    interrupt: &Interrupt,
    (cells, steps): (&[Cell], &[Step]),
    seed: u64,
    environment: &mut Environment,
) -> Result<Measured, StudyError> {
    let source = backing.source();
    let mut direct_engine = "io_uring";
    if cells.iter().any(|cell| matches!(cell.work, Work::Fio(_))) {
        prepare::lay_out(source, options.size_mib, &|| interrupt.check())?;
        if cells.iter().any(|cell| cell.cache == CacheState::Direct) {
            let file = prepare::data_file(source);
            preflight::o_direct(&file)?;
            direct_engine = fio::direct_engine(&file)?;
        }
    }
    environment.direct_engine = direct_engine.to_owned();
    environment.backing = describe(backing)?;

    let exe = match &options.exe {
        Some(exe) => exe.clone(),
        None => std::env::current_exe()
            .map_err(|source| StudyError::Io { action: "find this program".into(), source })?,
    };
    let launch = Launch::fusewire(&exe, source, backing.mountpoint(), &options.mount_args);
    let fusewire = Arc::new(Mounted::mount(&launch, interrupt)?);
    let fio = FioSettings { seconds: options.seconds, size_mib: options.size_mib, direct_engine };
    let mut executor = LiveExecutor {
        native: Arc::new(Native::new(source)),
        fusewire: Arc::clone(&fusewire) as Arc<dyn System>,
        fio,
        seed,
        interrupt,
        turns: 0,
    };
    let mut bar = Bar::new(cells, steps, options.rounds, options.seconds);
    let samples = runner::run(cells, steps, &mut executor, &mut bar);
    bar.clear();
    if samples.is_ok() {
        environment.in_force = fusewire.snapshot()?.as_ref().map(InForce::from);
    }
    // Explicitly, not by drop: the thread of a turn that was given up may still hold a reference.
    and_undone(samples.map(|samples| (samples, Ok(()))), fusewire.release())
}

/// What was measured, with what could not be undone after it.
type Measured = (Vec<Sample>, Result<(), StudyError>);

/// Adds another undoing. Of several errors one is returned and the others are said at once.
fn and_undone(
    measured: Result<Measured, StudyError>,
    undo: Result<(), StudyError>,
) -> Result<Measured, StudyError> {
    match measured {
        Ok((samples, Ok(()))) => Ok((samples, undo)),
        failed => {
            complain(undo);
            failed
        }
    }
}

fn describe(backing: &Backing) -> Result<environment::Backing, StudyError> {
    let mount = mounts::mount_of(backing.source())?;
    let (fstype, mount_options) = mount.map_or_else(Default::default, |mount| {
        (mount.fs_type, format!("{};{}", mount.options, mount.super_options))
    });
    let image_on = backing.is_image().then(|| backing.scratch_fstype()).transpose()?;
    Ok(environment::Backing {
        description: match &image_on {
            Some(floor) => format!("{fstype} in a sparse file on {floor}, on a loop device"),
            None => format!("a directory on {fstype}"),
        },
        fstype,
        mount_options,
        mkfs_options: backing.is_image().then(|| format!("-E {MKFS_OPTIONS}")),
        scheduler: environment::scheduler(backing.source()),
        image_on,
    })
}
