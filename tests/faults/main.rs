//! Faults below and around a daemon: sources over quota, shut down, or gone; daemons that are
//! stopped, short of memory or of threads. What happens without a mount is the oracle.
//!
//! `cargo test --test faults -- disk` runs a family. It needs root and /dev/fuse. After the last test
//! no mount, process, descriptor or loop device may be left.

#[path = "../workloads/alone.rs"]
mod alone;
#[path = "../lifecycle/clients.rs"]
#[allow(dead_code, reason = "the tests of the life cycle use more of it")]
mod clients;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod disk;
#[path = "../lifecycle/launch.rs"]
#[allow(dead_code, reason = "the tests of the life cycle use more of it")]
mod launch;
mod limits;
mod memory;
mod names;
mod stopped;
#[path = "../workloads/tool.rs"]
#[allow(dead_code, reason = "the workloads use more of it")]
mod tool;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::disk::Disk;
use common::limit::trials as trials_of;
use common::rings::Rings;
use common::text;
use libtest_mimic::{Arguments, Trial};

const DISK_BYTES: u64 = 2 << 30;
/// ext4 makes an inode for each 16 KiB.
const BYTES_PER_ENTRY: u64 = 20 << 10;
const TIME_LIMIT: Duration = Duration::from_secs(240);

type Body = common::limit::Body<Ground>;

const TESTS: &[(&str, Body)] = &[
    ("disk::over_quota", disk::over_quota),
    ("disk::shut_down", disk::shut_down),
    ("disk::turned_read_only", disk::turned_read_only),
    ("disk::gone_beneath", disk::gone_beneath),
    ("limits::very_few_descriptors", limits::very_few_descriptors),
    ("limits::few_threads", limits::few_threads),
    ("memory::little", memory::little),
    ("names::very_many", names::very_many),
    ("names::deeper_than_a_path", names::deeper_than_a_path),
    ("stopped::with_rings", stopped::with_rings),
    ("stopped::with_dev", stopped::with_dev),
];

/// What is not for a machine that others use at the time: to be asked for with `--ignored`.
const ALONE: &[(&str, Body)] = &[("clock::jumps", clock::jumps)];

/// Where the tests get directories from.
pub(crate) struct Ground {
    disk: Disk,
    numbers: AtomicU32,
}

impl Ground {
    /// A new source on ext4 and a place to mount it.
    pub(crate) fn pair(&self) -> (PathBuf, PathBuf) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let source = self.disk.directory(&format!("source-{number}"));
        (source, self.disk.mountpoint(&format!("mount-{number}")))
    }
}

fn main() -> ExitCode {
    clients::serve_if_asked();
    let mut args = Arguments::from_args();
    // Much of it is waiting.
    args.test_threads = args.test_threads.or(Some(4));
    if args.list {
        return libtest_mimic::run(&args, trials(None)).exit_code();
    }
    let disk = alone::enter().and_then(|()| {
        let census = alone::Census::take();
        let bytes = DISK_BYTES.max(names::entries_to_make() as u64 * BYTES_PER_ENTRY);
        Ok((census, Disk::new(bytes)?))
    });
    let Some((census, disk)) = alone::or_tell("tests of faults", disk) else {
        return ExitCode::FAILURE;
    };
    let rings = match Rings::switch("Y") {
        Ok(rings) => rings,
        Err(reason) => {
            eprintln!("the tests of faults cannot run: switch FUSE over io_uring on: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let image = disk.path().with_file_name("ext4.image");
    let ground = Arc::new(Ground { disk, numbers: AtomicU32::new(0) });
    let conclusion = libtest_mimic::run(&args, trials(Some(&ground)));
    drop((ground, rings));
    census.conclude(&conclusion, &[image])
}

fn trials(ground: Option<&Arc<Ground>>) -> Vec<Trial> {
    let times = u32::try_from(names::entries_to_make() / names::ENTRIES).unwrap_or(1).max(1);
    let limit = TIME_LIMIT * times;
    let alone =
        trials_of(limit, ALONE, ground).into_iter().map(|trial| trial.with_ignored_flag(true));
    trials_of(limit, TESTS, ground).into_iter().chain(alone).collect()
}
