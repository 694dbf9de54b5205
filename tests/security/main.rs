//! A mount that can not be used against its users: the daemon reaches nothing outside the source,
//! and may do no more than it needs.
//!
//! `cargo test --test security -- escapes` runs a family; `FUSEWIRE_TEST_SECONDS=30` makes each race
//! as long. It needs root and /dev/fuse.

#[path = "../workloads/alone.rs"]
mod alone;
mod canary;
#[path = "../common/mod.rs"]
mod common;
mod escapes;
mod privileges;
mod racers;
#[path = "../workloads/tool.rs"]
#[allow(dead_code, reason = "the workloads use more of it")]
mod tool;

use std::process::ExitCode;
use std::time::Duration;

use common::daemon::Daemon;
use common::disk::Disk;
use common::limit::within;
use common::rings::Rings;
use libtest_mimic::{Arguments, Trial};
use tool::exclusively;

const DISK_BYTES: u64 = 256 << 20;

/// A kind of mount.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) data: &'static str,
    pub(crate) options: &'static str,
}

/// Nothing is cached, so that every step of a path is the daemon's; and everything is.
const SETTINGS: [Setting; 4] = [
    Setting {
        name: "uring_passthrough",
        data: "passthrough",
        options: "transport=uring,entry_timeout=0,attr_timeout=0",
    },
    Setting {
        name: "uring_copy_shared",
        data: "copy",
        options: "transport=uring,allow_other,entry_timeout=5,attr_timeout=5",
    },
    Setting {
        name: "dev_passthrough_shared",
        data: "passthrough",
        options: "transport=dev,allow_other",
    },
    Setting {
        name: "dev_copy",
        data: "copy",
        options: "transport=dev,entry_timeout=0,attr_timeout=0",
    },
];

type Body = fn(&Disk, &Daemon) -> Result<(), String>;

const TESTS: [(&str, Body); 3] = [
    ("escapes::swapped_directories_and_links", escapes::swapped_directories_and_links),
    ("privileges::of_every_thread", privileges::of_every_thread),
    ("privileges::are_told", privileges::are_told),
];

fn main() -> ExitCode {
    racers::serve_if_asked();
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(2));
    if args.list {
        return libtest_mimic::run(&args, trials()).exit_code();
    }
    let rings = alone::enter().and_then(|()| Rings::on());
    let Some(rings) = alone::or_tell("security tests", rings) else { return ExitCode::FAILURE };
    let census = alone::Census::take();
    let conclusion = libtest_mimic::run(&args, trials());
    drop(rings);
    census.conclude(&conclusion, &[])
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (test, body) in TESTS {
        for setting in SETTINGS {
            let name = format!("{}::{test}", setting.name);
            trials.push(Trial::test(name.clone(), move || {
                let limit = escapes::seconds() * 4 + Duration::from_secs(60);
                within(limit, &name, move || run(setting, body)).map_err(Into::into)
            }));
        }
    }
    trials
}

fn run(setting: Setting, body: Body) -> Result<(), String> {
    let disk = exclusively(|| Disk::new(DISK_BYTES))?;
    let (source, mountpoint) = (disk.directory("around/source"), disk.mountpoint("mount"));
    let start = || Daemon::start(&source, &mountpoint, setting.data, setting.options);
    let daemon = exclusively(start)?;
    body(&disk, &daemon).map_err(|reason| format!("{reason}\n{}", daemon.report()))
}
