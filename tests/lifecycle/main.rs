//! From mount to unmount and everything that can come between: signals, death, busy mounts, sources
//! that vanish, full disks, too few descriptors.
//!
//! `cargo test --test lifecycle -- death` runs a family. It needs root and /dev/fuse. After the last
//! test no mount, process, descriptor or loop device may be left.

#[path = "../workloads/alone.rs"]
mod alone;
mod broken;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod cycles;
mod death;
mod endings;
mod handles;
mod launch;
mod leaving;
mod limits;
mod remount;
mod requests;
mod source;
mod submounts;
#[path = "../workloads/tool.rs"]
#[allow(dead_code, reason = "the workloads use more of it")]
mod tool;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::disk::Disk;
use common::limit::trials;
use libtest_mimic::Arguments;
use nix::mount::{MsFlags, mount};

const DISK_BYTES: u64 = 4 << 30;
const TIME_LIMIT: Duration = Duration::from_secs(240);

type Body = common::limit::Body<Ground>;

const TESTS: &[(&str, Body)] = &[
    ("cycles::two_hundred", cycles::two_hundred),
    ("cycles::at_once", cycles::at_once),
    ("cycles::number_given_away", cycles::number_given_away),
    ("cycles::place_given_away", cycles::place_given_away),
    ("death::killed_under_load", death::killed_under_load),
    ("death::killed_before_it_is_ready", death::killed_before_it_is_ready),
    ("death::stopped_and_continued", death::stopped_and_continued),
    ("death::aborted", death::aborted),
    ("death::killed_clients", death::killed_clients),
    ("death::waiting_client_killed", death::waiting_client_killed),
    ("endings::of_rings", endings::of_rings),
    ("endings::of_dev", endings::of_dev),
    ("handles::last", handles::last),
    ("handles::of_a_part", handles::of_a_part),
    ("leaving::busy", leaving::busy),
    ("leaving::lazily", leaving::lazily),
    ("leaving::terminated_then_closed", leaving::terminated_then_closed),
    ("leaving::terminated_while_held", leaving::terminated_while_held),
    ("leaving::terminated_twice", leaving::terminated_twice),
    ("leaving::forced", leaving::forced),
    ("leaving::stranger_on_top", leaving::stranger_on_top),
    ("leaving::stranger_inside", leaving::stranger_inside),
    ("remount::read_only_and_back", remount::read_only_and_back),
    ("remount::of_the_rest", remount::of_the_rest),
    ("source::holds_the_mount_point", source::holds_the_mount_point),
    ("source::is_the_mount_point", source::is_the_mount_point),
    ("source::is_unmounted", source::is_unmounted),
    ("source::is_removed", source::is_removed),
    ("source::is_mounted_twice", source::is_mounted_twice),
    ("source::is_a_mount", source::is_a_mount),
    ("source::is_a_dead_mount", source::is_a_dead_mount),
    ("submounts::as_native", submounts::as_native),
    ("submounts::at_two_places", submounts::at_two_places),
    ("submounts::kept_out", submounts::kept_out),
    ("submounts::silent", submounts::silent),
    ("broken::unreadable", broken::unreadable),
    ("broken::unwritable", broken::unwritable),
    ("broken::read_only", broken::read_only),
    ("limits::full_disk", limits::full_disk),
    ("limits::walk", limits::walk),
    ("limits::few_descriptors", limits::few_descriptors),
    ("limits::programs", limits::programs),
    ("limits::room_for_descriptors", limits::room_for_descriptors),
    ("requests::no_data", requests::no_data),
    ("requests::no_questions", requests::no_questions),
    ("requests::none_at_all", requests::none_at_all),
    ("requests::no_attributes", requests::no_attributes),
];

/// Where the tests get directories from.
pub(crate) struct Ground {
    disk: Disk,
    numbers: AtomicU32,
    /// Where images of file systems were made.
    images: Mutex<Vec<PathBuf>>,
}

impl Ground {
    /// A new source on ext4 and a place to mount it.
    pub(crate) fn pair(&self) -> (PathBuf, PathBuf) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let source = self.disk.directory(&format!("source-{number}"));
        (source, self.disk.mountpoint(&format!("mount-{number}")))
    }

    /// A file system of its own.
    pub(crate) fn image(&self, bytes: u64) -> Result<Disk, String> {
        let disk = tool::exclusively(|| Disk::new(bytes))?;
        if let Some(reason) = &disk.fallback {
            return Err(format!("a file system of its own is needed: {reason}"));
        }
        self.note(&disk);
        Ok(disk)
    }

    fn note(&self, disk: &Disk) {
        let image = disk.path().with_file_name("ext4.image");
        self.images.lock().expect("no panic while locked").push(image);
    }
}

fn main() -> ExitCode {
    clients::serve_if_asked();
    let mut args = Arguments::from_args();
    // Much of it is waiting.
    args.test_threads = args.test_threads.or(Some(4));
    if args.list {
        return libtest_mimic::run(&args, trials(TIME_LIMIT, TESTS, None)).exit_code();
    }
    if alone::or_tell("lifecycle tests", alone::enter()).is_none() {
        return ExitCode::FAILURE;
    }
    // Lets a test abort a connection; where it is refused the tests say what they miss.
    let connections = "/sys/fs/fuse/connections";
    let _ = mount(Some("none"), connections, Some("fusectl"), MsFlags::empty(), None::<&str>);
    let census = alone::Census::take();
    let disk = alone::or_tell("lifecycle tests", Disk::new(DISK_BYTES));
    let Some(disk) = disk else { return ExitCode::FAILURE };
    let ground = Ground { disk, numbers: AtomicU32::new(0), images: Mutex::default() };
    ground.note(&ground.disk);
    let ground = Arc::new(ground);
    let limit = endings::limit(TIME_LIMIT);
    let conclusion = libtest_mimic::run(&args, trials(limit, TESTS, Some(&ground)));
    let images = std::mem::take(&mut *ground.images.lock().expect("no panic while locked"));
    drop(ground);
    census.conclude(&conclusion, &images)
}
