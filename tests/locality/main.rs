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

use common::limit::trials;
use common::rings::Rings;
use libtest_mimic::{Arguments, Trial};

const TIME_LIMIT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(4));
    let limit = TIME_LIMIT + torture::duration();
    if args.list {
        let mut listed = trials(limit, &gluster::TESTS, None);
        listed.extend(trials(limit, &gfarm::TESTS, None));
        return libtest_mimic::run(&args, listed).exit_code();
    }
    let rings = alone::enter().and_then(|()| Rings::on());
    let Some(rings) = alone::or_tell("tests of locality", rings) else {
        return ExitCode::FAILURE;
    };
    let census = alone::Census::take();
    let Some(gluster) = alone::or_tell("tests on GlusterFS", gluster::Ground::prepare()) else {
        return ExitCode::FAILURE;
    };
    let Some(gfarm) = alone::or_tell("tests on Gfarm", gfarm::Ground::prepare()) else {
        return ExitCode::FAILURE;
    };
    let (gluster, gfarm) = (gluster.map(Arc::new), gfarm.map(Arc::new));
    let mut all =
        on("GlusterFS", gluster.as_ref(), trials(limit, &gluster::TESTS, gluster.as_ref()));
    all.extend(on("Gfarm", gfarm.as_ref(), trials(limit, &gfarm::TESTS, gfarm.as_ref())));
    let conclusion = libtest_mimic::run(&args, all);
    drop((gluster, gfarm));
    drop(rings);
    census.conclude(&conclusion, &[])
}

/// The tests on `system`; without one they are shown as ignored, and loudly.
fn on<G>(system: &str, ground: Option<&Arc<G>>, trials: Vec<Trial>) -> Vec<Trial> {
    if ground.is_some() {
        return trials;
    }
    eprintln!(
        "\n*** {system} is not installed: NONE of the tests on it run; scripts/test.sh installs it ***\n"
    );
    trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect()
}
