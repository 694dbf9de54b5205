//! Sources behind which there is another program: what was written is theirs at the close, they may
//! refuse it only then, and they may not answer at all.
//!
//! `cargo test --test remote -- closing` runs a family. It needs root and /dev/fuse.

#[path = "../workloads/alone.rs"]
mod alone;
mod below;
mod closing;
#[path = "../common/mod.rs"]
mod common;
mod programs;
mod silent;
#[path = "../workloads/tool.rs"]
#[allow(dead_code, reason = "the workloads use more of it")]
mod tool;

use std::process::ExitCode;
use std::time::Duration;

use below::Served;
use common::daemon::Daemon;
use common::limit::within;
use common::rings::Rings;
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;
use tool::exclusively;

const TIME_LIMIT: Duration = Duration::from_secs(180);

/// How requests come, and who moves the bytes.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("uring_passthrough", "passthrough", "transport=uring"),
    ("dev_passthrough_shared", "passthrough", "transport=dev,allow_other"),
    ("dev_copy", "copy", "transport=dev"),
];

type Body = fn(&Ground) -> Result<(), String>;

const TESTS: [(&str, Body); 7] = [
    ("closing::is_passed_on", closing::is_passed_on),
    ("closing::beside_a_reader", closing::beside_a_reader),
    ("closing::of_each_duplicate", closing::of_each_duplicate),
    ("closing::after_a_mapping", closing::after_a_mapping),
    ("closing::refused", closing::refused),
    ("silent::for_a_while", silent::for_a_while),
    ("silent::in_one_request", silent::in_one_request),
];

type Other = fn() -> Result<(), String>;

/// What is not as [`Ground`]: file systems of other programs, and some that never answer.
const OTHERS: [(&str, Other); 5] = [
    ("silent::inside_the_source", silent::inside_the_source),
    ("silent::while_mounting", silent::while_mounting),
    ("programs::sshfs", programs::sshfs),
    ("programs::gocryptfs", programs::gocryptfs),
    ("programs::encfs", programs::encfs),
];

/// A file system, and fusewire over it. What is above goes first.
pub(crate) struct Ground {
    pub(crate) above: Daemon,
    pub(crate) below: Served,
    _directory: TempDir,
}

fn main() -> ExitCode {
    below::serve_if_asked();
    let mut args = Arguments::from_args();
    // A program that is started closes its copies of what is open here, which tells the file system below.
    args.test_threads = Some(1);
    if args.list {
        return libtest_mimic::run(&args, trials()).exit_code();
    }
    let rings = alone::enter().and_then(|()| Rings::on());
    let Some(rings) = alone::or_tell("tests of remote sources", rings) else {
        return ExitCode::FAILURE;
    };
    let census = alone::Census::take();
    let conclusion = libtest_mimic::run(&args, trials());
    drop(rings);
    census.conclude(&conclusion, &[])
}

fn trials() -> Vec<Trial> {
    let other = |(name, body): (&'static str, Other)| {
        Trial::test(name, move || within(TIME_LIMIT, name, body).map_err(Into::into))
    };
    let mut trials: Vec<Trial> = OTHERS.into_iter().map(other).collect();
    for (test, body) in TESTS {
        for (setting, data, options) in SETTINGS {
            let name = format!("{setting}::{test}");
            trials.push(Trial::test(name.clone(), move || {
                let run = move || {
                    let ground = ground(data, options)?;
                    body(&ground).map_err(|reason| format!("{reason}\n{}", ground.above.report()))
                };
                within(TIME_LIMIT, &name, run).map_err(Into::into)
            }));
        }
    }
    trials
}

fn ground(data: &str, options: &str) -> Result<Ground, String> {
    let directory = TempDir::with_prefix("fusewire-test-").map_err(|error| error.to_string())?;
    let [below, above] = ["below", "above"].map(|name| directory.path().join(name));
    for path in [&below, &above] {
        std::fs::create_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let served = exclusively(|| Served::start(&below))?;
    let daemon = exclusively(|| Daemon::start(&below, &above, data, options))?;
    Ok(Ground { above: daemon, below: served, _directory: directory })
}
