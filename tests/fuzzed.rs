//! Requests that no kernel would send, through the whole request path and without a kernel: whatever
//! comes, nothing panics, nothing hangs, nothing is kept that was given back, and nothing outside of
//! the source is touched.
//!
//! The same requests every time, for a few seconds; `FUSEWIRE_FUZZED_SEED=7` begins with those of
//! that seed. `scripts/fuzz.sh` looks for others, led by what they reach. It needs root.

#[path = "security/canary.rs"]
mod canary;
#[path = "common/mod.rs"]
mod common;
#[path = "../src/protocol/golden.rs"]
#[allow(dead_code, reason = "the library's own tests use the rest")]
mod golden;
#[path = "fuzz/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::disk::{Disk, Mounted, private_mounts};
use fusewire::sys::caller::enter_worker;
use golden::Golden;
use nix::mount::{MsFlags, mount};
use tempfile::TempDir;
use world::{Done, World};

/// How long it takes on each of two file systems, and how many seeds are played at least.
const FOR: Duration = Duration::from_secs(3);
const AT_LEAST: u64 = 60;
const AT_MOST: u64 = 200;
/// What is never granted.
const REFUSED: &[&str] = &[
    "INIT",
    "GETLK",
    "SETLK",
    "SETLKW",
    "BMAP",
    "POLL",
    "NOTIFY_REPLY",
    "SETUPMAPPING",
    "REMOVEMAPPING",
];
/// By when a few hundred requests must have been answered.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const REQUESTS: usize = 400;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("a count fits");
        usize::try_from(self.next() % count).expect("less than a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Names: those that there are, those that lead elsewhere, and those that are none.
fn name(dice: &mut Dice) -> Vec<u8> {
    let long = |len: usize| vec![b'n'; len];
    let names: [&[u8]; 18] = [
        b"name",
        b"name",
        b"d1",
        b"new name",
        b"a",
        b"out",
        b"up",
        b"b",
        b".",
        b"..",
        b"",
        b"/",
        b"../outside/tree/name",
        b"d1/..",
        b"out/",
        b"na\xff\xfeme",
        b"/etc/passwd",
        b"a\0b",
    ];
    match dice.below(22) {
        18 => long(255),
        19 => long(256),
        20 => long(5000),
        21 => (0..dice.below(40)).map(|_| dice.byte()).collect(),
        at => names[at].to_vec(),
    }
}

const XATTRS: [&[u8]; 5] =
    [b"user.x", b"user.y", b"trusted.x", b"security.x", b"system.posix_acl_access"];

/// Numbers at which something may break.
fn number(dice: &mut Dice) -> u64 {
    const NUMBERS: [u64; 16] = [
        0,
        1,
        2,
        7,
        64,
        4095,
        4096,
        65536,
        1 << 20,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 40,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    NUMBERS[dice.below(NUMBERS.len())]
}

/// A request of one kind: as the kernel sends it, with a field or two that it would not send, and
/// other names.
fn plausible(dice: &mut Dice, golden: &Golden) -> Vec<u8> {
    let has_names =
        matches!(golden.opcode, 1 | 6 | 8 | 9 | 10 | 11 | 12 | 13 | 21 | 22 | 24 | 35 | 45);
    let mut body = golden.body.clone();
    let fixed = match golden.opcode {
        1 | 6 | 10 | 11 | 24 => 0,
        8 | 35 | 45 | 21 => 16,
        9 | 12 | 13 | 22 => 8,
        _ => body.len(),
    };
    if golden.opcode != 2 && golden.opcode != 42 {
        // Whatever is open.
        for at in [0, 8, 24] {
            let is_handle = body.get(at..at + 8) == Some(&golden::FH.to_ne_bytes());
            if is_handle || (at == 0 && matches!(golden.opcode, 12 | 13 | 45 | 47 | 53)) {
                body[at..at + 8].copy_from_slice(&(dice.next() % 48).to_ne_bytes());
            }
        }
    }
    if matches!(golden.opcode, 47 | 53) {
        body[24..32].copy_from_slice(&(dice.next() % 48).to_ne_bytes());
    }
    for _ in 0..dice.below(3) {
        if fixed >= 8 {
            let at = 4 * dice.below(fixed / 4 - 1);
            let value = number(dice).to_ne_bytes();
            let width = [4, 8][dice.below(2)];
            body[at..at + width].copy_from_slice(&value[..width]);
        }
    }
    if has_names {
        body.truncate(fixed);
        if matches!(golden.opcode, 21 | 22 | 24) && dice.below(4) != 0 {
            body.extend(XATTRS[dice.below(XATTRS.len())]);
            body.push(0);
        } else {
            for _ in 0..1 + usize::from(matches!(golden.opcode, 6 | 12 | 45)) {
                body.extend(name(dice));
                if dice.below(20) != 0 {
                    body.push(0);
                }
            }
        }
        match golden.opcode {
            21 => {
                let value = dice.below(40);
                body.extend((0..value).map(|_| dice.byte()));
                if dice.below(4) != 0 {
                    body[..4].copy_from_slice(&u32::try_from(value).expect("small").to_ne_bytes());
                    body[4..8].fill(0);
                }
            }
            12 | 45 if dice.below(2) == 0 => body[..8].copy_from_slice(&1u64.to_ne_bytes()),
            _ => {}
        }
        if golden.opcode == 45 {
            body[8] = [0, 0, 1, 2, 4, 255][dice.below(6)];
        }
    }
    let mut request = golden::request(golden.opcode, &body);
    let nodeid = match dice.below(8) {
        0..=2 => 1,
        3..=4 if has_names => 1,
        3..=6 => dice.next() % 48,
        _ => number(dice),
    };
    request[16..24].copy_from_slice(&nodeid.to_ne_bytes());
    if dice.below(3) == 0 {
        request[24..28].fill(0);
        request[28..32].fill(0);
    }
    request
}

/// One request: mostly of some sense.
fn request(dice: &mut Dice, all: &[Golden]) -> Vec<u8> {
    let golden = &all[dice.below(all.len())];
    let mut bytes = plausible(dice, golden);
    match dice.below(10) {
        // Bytes that lie.
        0 => {
            for _ in 0..1 + dice.below(8) {
                let at = dice.below(bytes.len());
                bytes[at] = dice.byte();
            }
        }
        // Too short, with a length that is right or not.
        1 => {
            bytes.truncate(dice.below(bytes.len() + 1));
            if bytes.len() > 4 && dice.below(2) == 0 {
                bytes[..4].fill(0);
            }
        }
        // Too long.
        2 => {
            bytes.extend((0..dice.below(64)).map(|_| dice.byte()));
            bytes[..4].fill(0);
        }
        // Nothing at all.
        3 if dice.below(4) == 0 => bytes = (0..dice.below(200)).map(|_| dice.byte()).collect(),
        _ => {}
    }
    bytes
}

/// Plays the requests of one seed in a new source in `folder`.
fn play(seed: u64, folder: &Path) -> Result<Done, String> {
    let mut dice = Dice(seed);
    let all = golden::all();
    let mut world = World::new(folder, seed.to_le_bytes()[0])?;
    let mut last = Vec::new();
    let fed = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..REQUESTS {
            last = request(&mut dice, &all);
            world.feed(&last);
        }
        world.close()
    }));
    match fed {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(text)) => Err(format!("seed {seed}: {text}")),
        Err(_) => Err(format!("seed {seed}: panicked at the request {last:02x?}")),
    }
}

/// A small file system: some of what is asked for would fill any other.
struct Ground {
    // Dropped in this order.
    _mounted: Option<Mounted>,
    _folder: Option<TempDir>,
    _disk: Option<Disk>,
    path: PathBuf,
}

impl Ground {
    fn tmpfs() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("make a folder: {error}"))?;
        let (none, options) = (None::<&str>, Some("size=64m,mode=755"));
        mount(none, folder.path(), Some("tmpfs"), MsFlags::empty(), options)
            .map_err(|errno| format!("mount a tmpfs: {errno}"))?;
        let path = folder.path().to_owned();
        let mounted = Some(Mounted::new(path.clone()));
        Ok(Ground { _mounted: mounted, _folder: Some(folder), _disk: None, path })
    }

    fn ext4() -> Result<Self, String> {
        let disk = Disk::new(64 << 20)?;
        match &disk.fallback {
            Some(reason) => Err(format!("a small ext4 is needed: {reason}")),
            None => {
                let path = disk.path();
                Ok(Ground { _mounted: None, _folder: None, _disk: Some(disk), path })
            }
        }
    }
}

/// Plays for a while on file systems of one kind, and tells how many seeds that were.
fn play_on(make: fn() -> Result<Ground, String>, first: u64) -> Result<u64, String> {
    let began = Instant::now();
    let mut ground = make()?;
    let mut seed = first;
    let (mut granted, mut passed) = (BTreeSet::new(), 0);
    while seed < first + AT_LEAST || began.elapsed() < FOR && seed < first + AT_MOST {
        let (give, get) = channel();
        let folder = ground.path.join(seed.to_string());
        let path = folder.clone();
        let thread = thread::spawn(move || {
            let entered = enter_worker().map_err(|error| format!("enter_worker: {error}"));
            give.send(entered.and_then(|()| play(seed, &path)))
        });
        match get.recv_timeout(TIME_LIMIT) {
            Ok(result) => {
                let done = result?;
                granted.extend(done.granted);
                passed += done.passed;
            }
            Err(RecvTimeoutError::Timeout) => return Err(format!("seed {seed}: it hangs")),
            Err(RecvTimeoutError::Disconnected) => return Err(format!("seed {seed}: it ended")),
        }
        let _ = thread.join();
        // What was made immutable stays.
        if std::fs::remove_dir_all(&folder).is_err() {
            ground = make()?;
        }
        seed += 1;
    }
    // Otherwise this would be a test of refusals.
    let refused: Vec<_> = golden::all()
        .into_iter()
        .filter(|golden| !granted.contains(&golden.opcode) && !REFUSED.contains(&golden.name))
        .map(|golden| golden.name)
        .collect();
    if !refused.is_empty() {
        return Err(format!("never granted from seed {first} to {seed}: {refused:?}"));
    }
    match passed > 0 {
        true => Ok(seed - first),
        false => Err(format!("no file was passed through from seed {first} to {seed}")),
    }
}

#[test]
fn requests_that_no_kernel_would_send() {
    private_mounts().expect("run the tests as root");
    let first = std::env::var("FUSEWIRE_FUZZED_SEED").ok();
    let first = first.map_or(1, |seed| seed.parse().expect("FUSEWIRE_FUZZED_SEED is a number"));
    let on_tmpfs = play_on(Ground::tmpfs, first).unwrap_or_else(|text| panic!("tmpfs: {text}"));
    let on_ext4 = play_on(Ground::ext4, first).unwrap_or_else(|text| panic!("ext4: {text}"));
    eprintln!("{on_tmpfs} seeds on tmpfs, {on_ext4} on ext4, {REQUESTS} requests each");
}
