//! Everything at once, in the source and through the mount.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use fusewire::metrics::snapshot::Snapshot;
use nix::sys::signal::Signal;

use crate::common::daemon::Daemon;
use crate::common::tree::{describe, differences};
use crate::helper;
use crate::{Ground, until};

/// Parts of a storm, after each of which both sides are compared.
const PARTS: u32 = 5;
const SIDES: u64 = 2;
/// Few, so that both sides meet in them.
const DIRECTORIES: u64 = 4;
const NAMES: u64 = 12;

/// Numbers as a storm needs them: any, and the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn size(&mut self, limit: u64) -> usize {
        usize::try_from(self.below(limit)).expect("it is small")
    }

    fn path(&mut self, root: &Path) -> PathBuf {
        let directory = root.join(format!("d{}", self.below(DIRECTORIES)));
        directory.join(format!("n{}", self.below(NAMES)))
    }
}

/// One random operation; most fail, as somebody else was faster.
fn act(root: &Path, numbers: &mut Numbers) -> std::io::Result<()> {
    let (path, other) = (numbers.path(root), numbers.path(root));
    match numbers.below(14) {
        0 | 1 => File::create(&path)?.write_all(&vec![b'x'; numbers.size(9000)]),
        2 => File::options().append(true).open(&path)?.write_all(b"more"),
        3 => File::options().write(true).open(&path)?.set_len(numbers.below(5000)),
        4 => fs::remove_file(&path),
        5 | 6 => fs::rename(&path, &other),
        7 => fs::hard_link(&path, &other),
        8 => symlink(&path, &other),
        9 => fs::create_dir(&path),
        10 => fs::remove_dir(&path),
        11 => {
            let mode = 0o600 + u32::try_from(numbers.below(64)).expect("it is small");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        }
        12 => File::open(&path)?.read_to_end(&mut Vec::new()).map(drop),
        _ => {
            for entry in fs::read_dir(path.parent().expect("it is in a directory"))?.flatten() {
                let _ = entry.metadata();
            }
            Ok(())
        }
    }
}

/// Load in the source and in the mount for `time`, or until it is over by itself.
fn rage(source: &Path, mountpoint: &Path, time: Duration, over: &AtomicBool) -> u64 {
    let began = Instant::now();
    let one = |root: &Path, seed: u64| {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut acts = 0;
        while began.elapsed() < time && !over.load(Ordering::Relaxed) {
            let _ = act(root, &mut numbers);
            acts += 1;
        }
        acts
    };
    thread::scope(|scope| {
        let sides = (0..SIDES).flat_map(|side| [(source, side), (mountpoint, side + SIDES)]);
        let threads: Vec<_> =
            sides.map(|(root, seed)| scope.spawn(move || one(root, seed + 1))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    })
}

fn prepare(source: &Path) -> Result<(), String> {
    for number in 0..DIRECTORIES {
        let path = source.join(format!("d{number}"));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// How long it lasts.
pub(crate) fn lasts() -> Duration {
    let seconds = std::env::var("FUSEWIRE_STORM_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// After each part of it the mount shows what the source holds, and the daemon has not grown.
pub(crate) fn both_sides(ground: &Ground) -> Result<(), String> {
    let options = std::env::var("FUSEWIRE_STORM_OPTIONS").unwrap_or_default();
    let (source, mountpoint) = ground.pair();
    let options = format!("coherence=watch,{options}");
    let daemon = Daemon::start(&source, &mountpoint, "auto", options.trim_end_matches(','))?;
    prepare(&source)?;
    let compared = || differences(&describe(&source), &describe(&mountpoint));
    let part = lasts() / PARTS;
    let (mut acts, mut grown) = (0, Vec::new());
    for _ in 0..PARTS {
        acts += rage(&source, &mountpoint, part, &AtomicBool::new(false));
        until("both sides are the same", || compared().is_empty())
            .map_err(|reason| format!("{reason}:\n{}", compared().join("\n")))?;
        let Snapshot { coherence, live, .. } = daemon.stats()?;
        println!("{acts} operations, then {coherence:?}, {live:?}");
        grown.push(live);
    }
    // The first part may be too short to have touched most of it.
    let (first, last) = (&grown[1], &grown[grown.len() - 1]);
    match last.fds <= first.fds + 64 && last.rss_bytes <= first.rss_bytes + (16 << 20) {
        true => Ok(()),
        false => Err(format!("the daemon has grown: {grown:?}")),
    }
}

/// A daemon that is killed in it leaves nobody waiting, not even where `fusewire notify` was.
pub(crate) fn killed(ground: &Ground) -> Result<(), String> {
    for round in 0..6 {
        let daemon = ground.watched()?;
        prepare(&daemon.source)?;
        let helper = helper::of(&daemon)?;
        let (source, mountpoint) = (daemon.source.clone(), daemon.mountpoint.clone());
        let (done, finished) = channel();
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        thread::spawn(move || {
            done.send(rage(&source, &mountpoint, Duration::from_secs(60), &stop))
        });
        thread::sleep(Duration::from_millis(300 + 130 * round));
        daemon.signal(Signal::SIGKILL).map_err(|errno| format!("kill the daemon: {errno}"))?;
        over.store(true, Ordering::Relaxed);
        let freed = finished.recv_timeout(Duration::from_secs(20));
        let ended = until("`fusewire notify` has ended", || helper::is_gone(helper));
        if freed.is_err() || ended.is_err() {
            let state = crate::common::daemon::stacks(&format!("/proc/{helper}/task"));
            daemon.abort();
            return Err(format!("round {round}: clients came back: {freed:?}, {ended:?}\n{state}"));
        }
        let dead = fs::metadata(&daemon.mountpoint).map_err(|error| error.raw_os_error());
        if !matches!(dead, Err(Some(libc::ENOTCONN))) {
            return Err(format!("the mount of a killed daemon answers {dead:?}"));
        }
    }
    Ok(())
}
