//! Whatever sequence of requests comes: nothing panics, nothing is kept that was given back, and
//! nothing outside of the source is touched.
//!
//! An input is a list of requests, each behind its length in two bytes.
#![no_main]

#[path = "../security/canary.rs"]
mod canary;
#[path = "../../src/protocol/golden.rs"]
#[allow(dead_code, reason = "the library's own tests use the rest")]
mod golden;
#[path = "seeds.rs"]
mod seeds;
#[allow(dead_code, reason = "the test that is always played asks for more")]
mod world;

use std::path::PathBuf;
use std::sync::Mutex;

use fusewire::sys::caller::enter_worker;
use libfuzzer_sys::fuzz_target;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use world::World;

/// Where sources are made: on a small file system, since some requests would fill any other.
struct Ground {
    folder: TempDir,
    made: u64,
}

static GROUND: Mutex<Option<Ground>> = Mutex::new(None);

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        mount_on(&folder);
        Ground { folder, made: 0 }
    }

    fn next(&mut self) -> PathBuf {
        self.made += 1;
        self.folder.path().join(self.made.to_string())
    }

    /// Removes what was played in; what was made immutable goes with its file system.
    fn clear(&mut self, path: PathBuf) {
        if std::fs::remove_dir_all(path).is_err() {
            umount2(self.folder.path(), MntFlags::MNT_DETACH).expect("unmount the tmpfs");
            mount_on(&self.folder);
        }
    }
}

fn mount_on(folder: &TempDir) {
    let (none, options) = (None::<&str>, Some("size=32m,mode=755"));
    mount(none, folder.path(), Some("tmpfs"), MsFlags::empty(), options).expect("mount a tmpfs");
}

/// Every mount ends with this process.
fn prepare() {
    unshare(CloneFlags::CLONE_NEWNS).expect("run it as root");
    let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    mount(none, "/", none, flags, none).expect("make the mounts private");
    enter_worker().expect("become a worker");
    *GROUND.lock().expect("nobody has it") = Some(Ground::new());
    seeds::write(|request| {
        // Lengths and stand-ins are put right when it is played.
        let mut request = request;
        request[16..24].copy_from_slice(&1u64.to_ne_bytes());
        let length = u16::try_from(request.len()).expect("seeds are small");
        [&length.to_le_bytes()[..], &request].concat()
    });
}

fuzz_target!(
    init: prepare(),
    |data: &[u8]| {
        let mut ground = GROUND.lock().expect("one thread");
        let ground = ground.as_mut().expect("it was prepared");
        let path = ground.next();
        {
            let bits = data.first().copied().unwrap_or(0);
            let mut world = World::new(&path, bits).expect("make a source");
            let mut rest = data;
            while let Some((length, tail)) = rest.split_first_chunk::<2>() {
                let length = usize::from(u16::from_le_bytes(*length)).min(tail.len());
                world.feed(&tail[..length]);
                rest = &tail[length..];
            }
            world.close().map(drop).unwrap_or_else(|text| panic!("{text}"));
        }
        ground.clear(path);
    }
);
