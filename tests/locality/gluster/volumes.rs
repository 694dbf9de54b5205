//! Volumes of other kinds, each made for one play: what is cut or encoded, what stops under load, what is
//! of another host, and clocks that disagree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{
    Ground, LENGTH, PATIENCE, all_of, becomes, expect, locality, read_locally, text, write,
};
use crate::common::daemon::Daemon;
use crate::common::shell::pattern;
use crate::tool::{exclusively, fusewire, tool};

const ADDRESS: &str = "10.78.0.1";

/// A volume that is started and mounted, and stopped at the end.
struct Volume<'a> {
    ground: &'a Ground,
    name: &'static str,
    below: PathBuf,
}

impl<'a> Volume<'a> {
    /// Makes one of `bricks` bricks, of a kind as `volume create` has it, with options.
    fn make(
        ground: &'a Ground,
        name: &'static str,
        kind: &str,
        bricks: usize,
        options: &[&str],
    ) -> Result<Self, String> {
        let below = ground.cluster.folder.join(format!("{name}1"));
        let volume = Volume { ground, name, below };
        let brick = |number| ground.brick(&format!("{name}-{number}"));
        let bricks: Vec<_> =
            (1..=bricks).map(|number| format!("{ADDRESS}:{}", brick(number).display())).collect();
        volume.ask(&format!("create {name}{kind} {} force", bricks.join(" ")))?;
        for option in options {
            volume.ask(&format!("set {name} {option}"))?;
        }
        volume.ask(&format!("start {name}"))?;
        fs::create_dir(&volume.below).map_err(text)?;
        let net = format!("--net={}", ground.cluster.folder.join("net").display());
        let log = ground.cluster.folder.join(format!("log/{name}1.log"));
        let mount =
            tool("nsenter", "util-linux").args([&*net, "glusterfs", "--acl", "-s", ADDRESS]);
        let mount = mount.arg(format!("--volfile-id={name}")).arg("-l").arg(log);
        mount.arg(&volume.below).run()?;
        volume.answers()?;
        Ok(volume)
    }

    /// Another command of the cluster may be under way.
    fn ask(&self, line: &str) -> Result<String, String> {
        let began = Instant::now();
        loop {
            match self.ground.gluster(&format!("volume {line}")) {
                Err(error) if error.contains("in progress") && began.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(200));
                }
                result => return result,
            }
        }
    }

    /// Waits until files can be made.
    fn answers(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match File::create(self.below.join("answers")) {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > PATIENCE => {
                    return Err(format!("{} does not answer: {error}", self.name));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// fusewire over it, run by `wrapper`.
    fn shown(&self, wrapper: &[&str], options: &str) -> Result<Daemon, String> {
        let above = self.ground.cluster.folder.join(format!("above-{}", self.name));
        fs::create_dir_all(&above).map_err(text)?;
        exclusively(|| Daemon::start_through(wrapper, &self.below, &above, "auto", options))
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        // What is left goes with the cluster.
        let _ = tool("umount", "mount").arg("-l").arg(&self.below).run();
        let _ = self.ask(&format!("stop {} force", self.name));
    }
}

/// What is cut is not read where a piece of it lies.
pub(super) fn sharded(ground: &Ground) -> Result<(), String> {
    let options = ["features.shard on", "features.shard-block-size 4MB"];
    let volume = Volume::make(ground, "shard", "", 2, &options)?;
    let daemon = volume.shown(&[], "locality=gluster")?;
    for number in 0..3 {
        let (name, content) = (format!("file-{number}"), pattern(number, (5 << 20) + 3));
        write(&volume.below.join(&name), &content)?;
        let found = fs::read(daemon.mountpoint.join(&name)).map_err(text)?;
        expect(&format!("{name}: {} bytes", found.len()), found == content)?;
    }
    let found = locality(&daemon)?;
    let counted = found.misses.get("encoded").copied().unwrap_or(0);
    expect(&format!("{found:?}"), counted >= 3 && found.replica_reads == 0)?;
    let pieces =
        ["shard-1", "shard-2"].map(|brick| fs::read_dir(ground.brick(brick).join(".shard")));
    let pieces = pieces.into_iter().flatten().flatten().flatten();
    let is_piece = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|file| file.is_file());
    expect("nothing was cut", pieces.filter(is_piece).count() >= 3)
}

/// A volume that is encoded as a whole has no bricks to be read.
pub(super) fn dispersed(ground: &Ground) -> Result<(), String> {
    let volume = Volume::make(ground, "disp", " disperse 3 redundancy 1", 3, &[])?;
    let refused = volume.shown(&[], "locality=gluster").err().unwrap_or_default();
    let words = "as no dispersed volume does";
    expect(&format!("it is not refused: {refused}"), refused.contains(words))?;
    let content = pattern(1, LENGTH);
    write(&volume.below.join("file"), &content)?;
    let part = fs::metadata(ground.brick("disp-1/file")).map_err(text)?.len();
    expect("nothing was encoded", part < LENGTH as u64)?;
    let daemon = volume.shown(&[], "locality=auto")?;
    let found = fs::read(daemon.mountpoint.join("file")).map_err(text)?;
    expect(&format!("{} bytes", found.len()), found == content)?;
    let found = locality(&daemon)?;
    let told = found.reason.as_deref().unwrap_or_default().contains(words);
    expect(&format!("{found:?}"), told && found.replica_reads == 0)
}

/// Who reads and writes while a volume is stopped gets errors and no wrong byte, and nobody waits; all is
/// as before when it is started again.
pub(super) fn stopped_under_load(ground: &Ground) -> Result<(), String> {
    const FILES: u64 = 6;
    let volume = Volume::make(ground, "stop", "", 2, &[])?;
    let daemon = volume.shown(&[], "locality=gluster,attr_timeout=0,entry_timeout=0")?;
    let name = |number: u64| format!("file-{number}");
    for number in 0..FILES {
        write(&volume.below.join(name(number)), &pattern(number, LENGTH))?;
        read_locally(&daemon, &name(number), &pattern(number, LENGTH))?;
    }
    let (over, errors, reads) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let look = |number: u64| -> Result<(), String> {
        let wanted = pattern(number, LENGTH);
        while !over.load(SeqCst) {
            match fs::read(daemon.mountpoint.join(name(number))) {
                Ok(found) => {
                    expect(&format!("file {number}: {} bytes", found.len()), found == wanted)?;
                    reads.fetch_add(1, SeqCst);
                }
                Err(_) => {
                    errors.fetch_add(1, SeqCst);
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
        Ok(())
    };
    let store = || {
        while !over.load(SeqCst) {
            // Whether it succeeds is for the volume to say.
            let _ = write(&daemon.mountpoint.join("written"), &pattern(9, 5000));
            thread::sleep(Duration::from_millis(20));
        }
    };
    let play = || -> Result<(), String> {
        thread::sleep(Duration::from_millis(300));
        volume.ask("stop stop force")?;
        let began = Instant::now();
        while errors.load(SeqCst) == 0 {
            expect("nobody has noticed", began.elapsed() < PATIENCE)?;
            thread::sleep(Duration::from_millis(50));
        }
        let began = Instant::now();
        fusewire().arg("stats").arg(&daemon.mountpoint).run()?;
        expect("its figures wait", began.elapsed() < PATIENCE / 2)?;
        volume.ask("start stop")?;
        volume.answers()?;
        let (began, then) = (Instant::now(), reads.load(SeqCst));
        while reads.load(SeqCst) < then + FILES {
            expect("nobody can read again", began.elapsed() < PATIENCE)?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..FILES).map(|file| scope.spawn(move || look(file))).collect();
        scope.spawn(store);
        let played = play();
        over.store(true, SeqCst);
        let looked = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        looked.fold(played, Result::and)
    })?;
    read_locally(&daemon, &name(0), &pattern(0, LENGTH))
}

/// On a host of another name the bricks are somebody else's, whatever lies at their paths.
pub(super) fn no_storage_node(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    let rename = "echo elsewhere >/proc/sys/kernel/hostname && exec \"$@\"";
    let elsewhere = ["unshare", "--uts", "sh", "-c", rename, "sh"];
    let above = ground.cluster.folder.join("above-elsewhere");
    fs::create_dir(&above).map_err(text)?;
    let below = ground.cluster.folder.join("repl1");
    let start = |options: &str| {
        exclusively(|| Daemon::start_through(&elsewhere, &below, &above, "auto", options))
    };
    let refused = start("locality=gluster").err().unwrap_or_default();
    let words = "can be read on this host (elsewhere)";
    expect(&format!("it is not refused: {refused}"), refused.contains(words))?;
    let content = pattern(12, LENGTH);
    write(&ground.there("repl").join("elsewhere"), &content)?;
    let daemon = start("locality=auto")?;
    let found = fs::read(above.join("elsewhere")).map_err(text)?;
    expect(&format!("{} bytes", found.len()), found == content)?;
    let found = locality(&daemon)?;
    let told = found.reason.as_deref().unwrap_or_default().contains(words);
    expect(&format!("{found:?}"), told && found.mode == "off" && found.replica_reads == 0)
}

/// Has a brick's file know an hour more than it does of when it was changed.
fn ahead(file: &Path) -> Result<(), String> {
    const NAME: &str = "trusted.glusterfs.mdata";
    /// Digits of a version and of flags, which come first.
    const TIME: usize = 2 + 16;
    let told = tool("getfattr", "attr").args(["--absolute-names", "-e", "hex", "-n", NAME]);
    let told = told.arg(file).run()?;
    let digits = told.split_once("=0x").ok_or_else(|| format!("no times: {told}"))?.1.trim();
    let seconds = u64::from_str_radix(&digits[TIME..TIME + 16], 16).map_err(text)?;
    let value = format!("0x{}{:016x}{}", &digits[..TIME], seconds + 3600, &digits[TIME + 16..]);
    tool("setfattr", "attr").args(["-n", NAME, "-v", &value]).arg(file).run().map(drop)
}

/// Times are compared, and never with a clock: a writer's may go wrong by any amount. A brick on which they
/// are others than on the mount is not read.
pub(super) fn clocks_that_disagree(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    let daemon = &ground.repl;
    let there = ground.there("repl").join("clocks");
    let hours = |count: u64| Duration::from_secs(3600 * count);
    let now = SystemTime::now();
    let times = [now + hours(30 * 24), now - hours(1), SystemTime::UNIX_EPOCH];
    let content = |number: usize| pattern(number as u64 + 13, LENGTH);
    for (number, time) in times.into_iter().enumerate() {
        write(&there, &content(number))?;
        let file = File::options().write(true).open(&there).map_err(text)?;
        file.set_modified(time).map_err(text)?;
        drop(file);
        let read = || fs::read(daemon.mountpoint.join("clocks")).map_err(text);
        becomes("another clock", &content(number.saturating_sub(1)), &content(number), read)?;
        read_locally(daemon, "clocks", &content(number))?;
    }
    // As if the bricks had the write of a client whose clock was an hour ahead, and the mount did not.
    let content = content(times.len() - 1);
    let reader = File::open(daemon.mountpoint.join("clocks")).map_err(text)?;
    expect("as it was written", all_of(&reader)? == content)?;
    let differs = |now: &fusewire::metrics::snapshot::Locality| {
        now.misses.get("differs").copied().unwrap_or(0)
    };
    let before = differs(&locality(daemon)?);
    for brick in ["repl-1/clocks", "repl-2/clocks"] {
        ahead(&ground.brick(brick))?;
    }
    let began = Instant::now();
    while differs(&locality(daemon)?) == before {
        expect("nobody has noticed", began.elapsed() < PATIENCE)?;
        let found = fs::read(daemon.mountpoint.join("clocks")).map_err(text)?;
        expect(&format!("{} bytes", found.len()), found == content)?;
        thread::sleep(Duration::from_millis(50));
    }
    expect("still open", all_of(&reader)? == content)
}
