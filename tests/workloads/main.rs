//! Programs that people run, in a plain directory and on mounts in each data mode: they must see the
//! same and leave the same.
//!
//! `cargo test --test workloads -- copy::git` runs one. It needs root and /dev/fuse, and each
//! program; it fails and names the package where one is missing.

mod alone;
mod churn;
mod code;
#[path = "../common/mod.rs"]
mod common;
mod copies;
mod fio;
mod generate;
mod postgres;
mod sqlite;
#[allow(dead_code, reason = "the lifecycle tests use more of it")]
mod tool;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use world::{Setting, Workload, World};

const PASSTHROUGH: Setting = Setting { name: "passthrough", data: "passthrough", options: "" };
const COPY: Setting = Setting { name: "copy", data: "copy", options: "" };
const PASSTHROUGH_SHARED: Setting =
    Setting { name: "passthrough_shared", data: "passthrough", options: "allow_other" };
const COPY_SHARED: Setting = Setting { name: "copy_shared", data: "copy", options: "allow_other" };

/// For its owner alone.
const OWNER: &[Setting] = &[PASSTHROUGH, COPY];
/// For everyone: PostgreSQL does not run as root.
const SHARED: &[Setting] = &[PASSTHROUGH_SHARED, COPY_SHARED];
/// ACLs take another way where the kernel checks permissions.
const BOTH: &[Setting] = &[PASSTHROUGH, COPY, PASSTHROUGH_SHARED];

const WORKLOADS: [Workload; 10] = [
    Workload { name: "postgres", settings: SHARED, same_tree: false, body: postgres::pgbench },
    Workload { name: "cargo", settings: OWNER, same_tree: false, body: code::cargo },
    Workload { name: "git", settings: OWNER, same_tree: false, body: code::git },
    Workload { name: "rsync", settings: BOTH, same_tree: true, body: copies::rsync },
    Workload { name: "tar", settings: BOTH, same_tree: true, body: copies::tar },
    Workload { name: "sqlite_wal", settings: OWNER, same_tree: false, body: sqlite::wal },
    Workload { name: "sqlite_delete", settings: OWNER, same_tree: false, body: sqlite::delete },
    Workload { name: "fio_verify", settings: OWNER, same_tree: false, body: fio::verify },
    Workload { name: "churn", settings: OWNER, same_tree: true, body: churn::shared_directory },
    Workload { name: "contention", settings: OWNER, same_tree: true, body: churn::contention },
];

fn main() -> ExitCode {
    churn::serve_if_asked();
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(3));
    if args.list {
        return libtest_mimic::run(&args, trials(None)).exit_code();
    }
    let world = alone::enter().and_then(|()| World::new()).map(Arc::new);
    let Some(world) = alone::or_tell("workloads", world) else { return ExitCode::FAILURE };
    let census = alone::Census::take();
    let conclusion = libtest_mimic::run(&args, trials(Some(&world)));
    census.conclude(&conclusion, &[])
}

fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for workload in WORKLOADS {
        for &setting in workload.settings {
            let world = world.cloned();
            let name = format!("{}::{}", setting.name, workload.name);
            trials.push(Trial::test(name, move || match &world {
                Some(world) => world.judge(setting, workload).map_err(Into::into),
                None => Ok(()),
            }));
        }
    }
    trials
}
