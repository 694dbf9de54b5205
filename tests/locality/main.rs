//! Files of distributed file systems whose bytes lie on this machine, on clusters of one machine: what is
//! read is what the distributed mount has, whoever writes, whatever is moved or lost meanwhile.
//!
//! `cargo test --test locality -- gluster` runs those of one system. It needs root and /dev/fuse. With
//! FUSEWIRE_TORTURE=SECONDS readers and writers go on for so long; `scripts/torture.sh` does that.

#[path = "../workloads/alone.rs"]
mod alone;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod gfarm;
mod gluster;
#[path = "../workloads/tool.rs"]
#[allow(dead_code, reason = "the workloads use more of it")]
mod tool;
mod torture;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::limit::{Body, trials};
use common::rings::Rings;
use libtest_mimic::{Arguments, Trial};

const TIME_LIMIT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(4));
    if args.list {
        let mut listed = trials(TIME_LIMIT, &gluster::TESTS, None);
        listed.extend(trials(TIME_LIMIT, &gfarm::TESTS, None));
        return libtest_mimic::run(&args, listed).exit_code();
    }
    let rings = alone::enter().and_then(|()| Rings::on());
    let Some(rings) = alone::or_tell("tests of locality", rings) else {
        return ExitCode::FAILURE;
    };
    let census = alone::Census::take();
    let gluster = prepare(&args, "GlusterFS", &gluster::TESTS, gluster::Ground::prepare);
    let Some((gluster, mut all)) = alone::or_tell("tests on GlusterFS", gluster) else {
        return ExitCode::FAILURE;
    };
    let gfarm = prepare(&args, "Gfarm", &gfarm::TESTS, gfarm::Ground::prepare);
    let Some((gfarm, others)) = alone::or_tell("tests on Gfarm", gfarm) else {
        return ExitCode::FAILURE;
    };
    all.extend(others);
    let conclusion = libtest_mimic::run(&args, all);
    drop((gluster, gfarm));
    drop(rings);
    census.conclude(&conclusion, &[])
}

/// What the tests on `system` stand on, if any of them is to be run, and them: without it they are shown
/// as ignored, and loudly.
fn prepare<G: Send + Sync + 'static>(
    args: &Arguments,
    system: &str,
    tests: &[(&'static str, Body<G>)],
    ground: fn() -> Result<Option<G>, String>,
) -> Result<(Option<Arc<G>>, Vec<Trial>), String> {
    let wanted = |name: &str| args.filter.as_ref().is_none_or(|filter| name.contains(&**filter));
    if !tests.iter().any(|(name, _)| wanted(name)) {
        return Ok((None, Vec::new()));
    }
    let ground = ground()?.map(Arc::new);
    let mut trials = trials(TIME_LIMIT + torture::duration(), tests, ground.as_ref());
    if ground.is_none() {
        eprintln!(
            "\n*** {system} is not installed: NONE of the tests on it run; scripts/test.sh installs it ***\n"
        );
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }
    Ok((ground, trials))
}
