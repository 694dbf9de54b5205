//! Public suites, played on native ext4 and on mounts of each kind: native is the oracle. What fails
//! natively too is native's; what differs otherwise must be in tests/known-differences.toml.
//!
//! `cargo test --test suites -- fsx::dev_copy` plays one suite on one kind of mount. This is the short
//! form; `scripts/suites.sh` plays all of it. It needs root, /dev/fuse, loop devices, stress-ng, and
//! what `scripts/suites.sh --install` brings.

#[path = "../workloads/alone.rs"]
mod alone;
#[path = "../common/mod.rs"]
mod common;
mod fsx;
mod ground;
mod known;
mod pjdfstest;
mod pjdfstest_c;
mod stress_ng;
mod table;
#[path = "../workloads/tool.rs"]
#[allow(dead_code, reason = "the workloads use more of it")]
mod tool;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use common::limit::within;
use common::rings::Rings;
use ground::{Ground, Setting};
use known::Register;
use libtest_mimic::{Arguments, Trial};
use table::Table;

/// What became of one test of a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// With the suite's reason.
    Skipped(String),
    /// With what the suite said.
    Failed(String),
}

impl Outcome {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Skipped(_) => "skipped",
            Outcome::Failed(_) => "failed",
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Outcome::Passed => "",
            Outcome::Skipped(text) | Outcome::Failed(text) => text,
        }
    }
}

/// One test of a suite.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

/// What is played, and how much of it. `FUSEWIRE_SUITES` has the words: `full`, names of suites.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) full: bool,
    /// All if none is named.
    names: Vec<String>,
    /// Where the programs are that no package brings.
    pub(crate) programs: PathBuf,
    /// A built pjdfstest of the C kind.
    pub(crate) pjdfstest_c: Option<PathBuf>,
}

impl Plan {
    fn from_environment() -> Self {
        let words = std::env::var("FUSEWIRE_SUITES").unwrap_or_default();
        let words = words.split_whitespace().map(str::to_owned);
        let (full, names): (Vec<_>, Vec<_>) = words.partition(|word| word == "full");
        Plan {
            full: !full.is_empty(),
            names,
            programs: Path::new(env!("CARGO_TARGET_TMPDIR")).join("suites/bin"),
            pjdfstest_c: std::env::var_os("FUSEWIRE_PJDFSTEST_C").map(PathBuf::from),
        }
    }

    /// The older pjdfstest belongs to the newer.
    fn has(&self, suite: &Suite) -> bool {
        let c = suite.name == pjdfstest_c::SUITE.name;
        let name = if c { pjdfstest::SUITE.name } else { suite.name };
        let named = self.names.is_empty() || self.names.iter().any(|one| one == name);
        named && (!c || self.pjdfstest_c.is_some())
    }
}

/// A suite.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// Plays it in a directory of its own.
    pub(crate) play: fn(&Plan, &Ground) -> Result<Vec<Case>, String>,
    /// Whether it acts as several users, so that it needs `allow_other`.
    pub(crate) users: bool,
    /// How long it may take, in the short and in the full form.
    pub(crate) limits: [Duration; 2],
}

const SUITES: [&Suite; 4] =
    [&pjdfstest::SUITE, &pjdfstest_c::SUITE, &fsx::SUITE, &stress_ng::SUITE];

const NATIVE: Setting = Setting { name: "native", mount: None };

/// Each transport with each data mode, for everybody and (in the full form) for the owner alone.
const SETTINGS: [Setting; 10] = [
    shared("uring_passthrough", "uring", "passthrough"),
    shared("uring_copy", "uring", "copy"),
    shared("dev_passthrough", "dev", "passthrough"),
    shared("dev_copy", "dev", "copy"),
    shared("dev_splice", "dev", "splice"),
    owners("uring_passthrough_owner", "uring", "passthrough"),
    owners("uring_copy_owner", "uring", "copy"),
    owners("dev_passthrough_owner", "dev", "passthrough"),
    owners("dev_copy_owner", "dev", "copy"),
    owners("dev_splice_owner", "dev", "splice"),
];

const fn shared(name: &'static str, transport: &'static str, data: &'static str) -> Setting {
    Setting { name, mount: Some(ground::Mount { transport, data, shared: true }) }
}

const fn owners(name: &'static str, transport: &'static str, data: &'static str) -> Setting {
    Setting { name, mount: Some(ground::Mount { transport, data, shared: false }) }
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Much of the time is spent waiting: for disks, and for stressors that run for a while.
    args.test_threads = args.test_threads.or(Some(4));
    let plan = Plan::from_environment();
    if args.list {
        return libtest_mimic::run(&args, trials(&plan, None)).exit_code();
    }
    let rings = alone::enter()
        .and_then(|()| install(&plan))
        .and_then(|()| short_paths())
        .and_then(|()| Rings::on())
        .and_then(|rings| Ok((rings, Register::read()?)));
    let Some((rings, register)) = alone::or_tell("suites", rings) else {
        return ExitCode::FAILURE;
    };
    let census = alone::Census::take();
    let world = Arc::new(World::new(plan.clone(), register));
    let conclusion = libtest_mimic::run(&args, trials(&plan, Some(&world)));
    drop(rings);
    let table = world.table();
    print!("{}", table.text(&world.register));
    if let Some(path) = std::env::var_os("FUSEWIRE_SUITES_JSON")
        && let Err(error) = fs::write(&path, table.json())
    {
        eprintln!("write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    census.conclude(&conclusion, &[])
}

/// Brings the programs that are missing.
fn install(plan: &Plan) -> Result<(), String> {
    if ["pjdfstest", "fsx"].iter().all(|name| plan.programs.join(name).exists()) {
        return Ok(());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/suites.sh");
    let install = tool::tool(script, "nothing").arg("--install");
    install.limit(Duration::from_secs(1300)).run().map(drop)
}

/// Has the temporary folder at an empty place close to the root, here only: suites bind sockets, whose
/// paths may be no longer than 107 bytes.
fn short_paths() -> Result<(), String> {
    let empty = |place: &&str| fs::read_dir(place).is_ok_and(|mut inside| inside.next().is_none());
    let Some(place) = ["/mnt", "/srv", "/media"].into_iter().find(empty) else { return Ok(()) };
    std::mem::forget(common::disk::bind(&std::env::temp_dir(), Path::new(place), "")?);
    tempfile::env::override_temp_dir(Path::new(place)).map(drop).map_err(|other| {
        format!("temporary files go to {}: expected to decide that", other.display())
    })
}

fn trials(plan: &Plan, world: Option<&Arc<World>>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for suite in SUITES {
        if !plan.has(suite) {
            continue;
        }
        for setting in SETTINGS {
            let owners = setting.mount.is_some_and(|mount| !mount.shared);
            if owners && (suite.users || !plan.full) {
                continue;
            }
            let name = format!("{}::{}", suite.name, setting.name);
            let world = world.cloned();
            trials.push(Trial::test(name.clone(), move || match world {
                Some(world) => {
                    let limit = suite.limits[usize::from(world.plan.full)];
                    // Whoever comes first waits for native as well.
                    within(limit * 2, &name, move || world.judge(suite, setting))
                        .map_err(Into::into)
                }
                None => Ok(()),
            }));
        }
    }
    trials
}

/// What a suite told in one setting, and how long it took.
type Played = (Vec<Case>, Duration);

type Native = Arc<OnceLock<Result<Vec<Case>, String>>>;

/// What the trials share.
struct World {
    plan: Plan,
    register: Register,
    natives: Mutex<HashMap<&'static str, Native>>,
    table: Mutex<Table>,
}

impl World {
    fn new(plan: Plan, register: Register) -> Self {
        World { plan, register, natives: Mutex::default(), table: Mutex::default() }
    }

    /// Plays `suite` on a mount, and compares with native.
    fn judge(&self, suite: &'static Suite, setting: Setting) -> Result<(), String> {
        let natives = self.natives.lock().unwrap_or_else(PoisonError::into_inner);
        let native = { natives }.entry(suite.name).or_default().clone();
        let native = native.get_or_init(|| self.natively(suite)).as_ref();
        let native = native.map_err(|reason| format!("natively: {reason}"))?;
        let played = self.play(suite, setting)?;
        let judged = self.register.judge(suite.name, setting.name, native, &played.0);
        let wrong = judged.wrong.join("\n");
        self.table().add(suite.name, setting.name, played, Some(judged));
        if wrong.is_empty() {
            return Ok(());
        }
        let remedy = "mend it, or list it in tests/known-differences.toml with the kernel's rule";
        Err(format!("{wrong}\n{remedy}"))
    }

    fn natively(&self, suite: &'static Suite) -> Result<Vec<Case>, String> {
        let played = self.play(suite, NATIVE)?;
        let cases = played.0.clone();
        self.table().add(suite.name, NATIVE.name, played, None);
        if cases.iter().any(|case| case.outcome == Outcome::Passed) {
            return Ok(cases);
        }
        Err(format!("nothing passes, so there is nothing to compare with: {cases:#?}"))
    }

    fn play(&self, suite: &'static Suite, setting: Setting) -> Result<Played, String> {
        let began = Instant::now();
        let ground = Ground::new(setting)?;
        let cases = (suite.play)(&self.plan, &ground).map_err(|reason| ground.explain(&reason))?;
        ground.close()?;
        Ok((cases, began.elapsed()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
