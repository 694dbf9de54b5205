//! What is on the disk at the moment after a call has promised it: fsync, fdatasync, O_SYNC, msync, a
//! synced directory, a mount that was unmounted.
//!
//! A case is played on an ext4 image, natively and through mounts of each kind. Then the power is
//! cut: the image is copied as the loop device has it, which is all that a disk would have, mounted
//! as after a crash, and asked. `cargo test --test durability -- uring_copy::fsync` plays one case.
//! It needs root, /dev/fuse and loop devices.

#[path = "../workloads/alone.rs"]
mod alone;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod ground;
#[path = "../workloads/tool.rs"]
#[allow(dead_code, reason = "the workloads use more of it")]
mod tool;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cases::{CASES, Case};
use common::limit::within;
use common::rings::Rings;
use ground::{Setting, World};
use libtest_mimic::{Arguments, Trial};

const TIME_LIMIT: Duration = Duration::from_secs(90);

/// The plain directory, and each transport with each data mode.
const SETTINGS: [Setting; 6] = [
    Setting { name: "native", mount: None },
    Setting { name: "uring_passthrough", mount: Some(("uring", "passthrough")) },
    Setting { name: "uring_copy", mount: Some(("uring", "copy")) },
    Setting { name: "dev_passthrough", mount: Some(("dev", "passthrough")) },
    Setting { name: "dev_copy", mount: Some(("dev", "copy")) },
    Setting { name: "dev_splice", mount: Some(("dev", "splice")) },
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Those of one setting wait for each other.
    args.test_threads = args.test_threads.or(Some(SETTINGS.len()));
    if args.list {
        return libtest_mimic::run(&args, trials(None)).exit_code();
    }
    let rings = alone::enter().and_then(|()| Rings::on());
    let Some(rings) = alone::or_tell("durability tests", rings) else { return ExitCode::FAILURE };
    let census = alone::Census::take();
    let world = Arc::new(World::default());
    let conclusion = libtest_mimic::run(&args, trials(Some(&world)));
    world.close();
    drop(rings);
    census.conclude(&conclusion, &[])
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    let mut trials = Vec::new();
    // By case, so that those that run beside each other are of different settings.
    for case in CASES {
        for setting in SETTINGS {
            let name = format!("{}::{}", setting.name, case.name);
            let world = world.cloned();
            trials.push(Trial::test(name.clone(), move || match world {
                Some(world) => judge(&name, world, setting, case).map_err(Into::into),
                None => Ok(()),
            }));
        }
    }
    trials
}

fn judge(
    name: &str,
    world: Arc<World>,
    setting: Setting,
    case: &'static Case,
) -> Result<(), String> {
    within(TIME_LIMIT, name, move || world.judge(setting, case))
}
