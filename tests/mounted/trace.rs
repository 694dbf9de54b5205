//! What a behaviour sees: a directory, those who act in it, and the transcript of what they got.
//!
//! Everything that is answered goes into the transcript, which must be the same on every stage; what
//! is known beforehand is asserted as well, so that a stage which does nothing fails on its own.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{getegid, geteuid};

use crate::common::actor::{Actor, Who};
use crate::common::daemon::Daemon;
use crate::common::raw;
use crate::common::shell::Shell;
use crate::known;

/// Where a behaviour is played.
pub(crate) struct Stage {
    /// The directory it works in.
    pub(crate) dir: PathBuf,
    /// The same directory without a mount in between.
    pub(crate) behind: PathBuf,
    /// Who moves the bytes; nothing on the plain directory.
    pub(crate) data: String,
    /// Whether FUSE is in between.
    pub(crate) fuse: bool,
    /// The mount; `None` on the plain directory, and in an ordinary user's process.
    pub(crate) daemon: Option<Arc<Daemon>>,
    /// How long a change behind the mount may take to show.
    pub(crate) shows_within: Duration,
}

/// One play of a behaviour.
pub(crate) struct Trace {
    stage: Stage,
    /// When the last change behind the mount was made that may not show yet.
    changed: Cell<Option<Instant>>,
    me: Shell,
    behind: Shell,
    actors: HashMap<Who, Actor>,
    pub(crate) lines: Vec<String>,
    pub(crate) failures: Vec<String>,
}

impl Trace {
    pub(crate) fn new(stage: Stage) -> Self {
        Trace {
            me: Shell::at(&stage.dir),
            behind: Shell::at(&stage.behind),
            stage,
            changed: Cell::default(),
            actors: HashMap::new(),
            lines: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Runs a line, whatever comes of it.
    pub(crate) fn run(&mut self, line: &str) -> Result<String, String> {
        self.by(Hand::Me).run(line)
    }

    /// Runs a line and leaves it out of the transcript: for what may happen any number of times.
    pub(crate) fn run_quietly(&mut self, line: &str) -> Result<String, String> {
        self.execute(Hand::Me, line)
    }

    /// Runs a line that must succeed.
    pub(crate) fn ok(&mut self, line: &str) -> String {
        self.by(Hand::Me).ok(line)
    }

    /// Runs a line that must fail with `errno`.
    pub(crate) fn err(&mut self, line: &str, errno: &str) {
        self.by(Hand::Me).err(line, errno);
    }

    /// Runs a line that must answer `expected`; a `*` at its end stands for anything.
    pub(crate) fn is(&mut self, line: &str, expected: &str) {
        self.by(Hand::Me).is(line, expected);
    }

    /// Lets everyone make and remove things in the behaviour's directory.
    pub(crate) fn open_to_all(&mut self) {
        self.ok("chmod . 777");
    }

    /// Acts on the backing directory, behind the mount.
    pub(crate) fn behind(&mut self) -> View<'_> {
        self.by(Hand::Behind)
    }

    /// Acts in another process, as another user.
    pub(crate) fn user(&mut self, who: Who) -> View<'_> {
        self.actors.entry(who).or_insert_with(|| Actor::start(who, &self.stage.dir));
        self.by(Hand::Other(who))
    }

    /// Ends another process; its descriptors and locks go with it.
    pub(crate) fn dismiss(&mut self, who: Who) {
        self.actors.remove(&who);
        self.lines.push(format!("{}: ended", who.name));
    }

    fn by(&mut self, hand: Hand) -> View<'_> {
        View { trace: self, hand }
    }

    /// Writes a finding into the transcript.
    pub(crate) fn note(&mut self, what: &str, value: impl Display) {
        self.lines.push(format!("{what}: {value}"));
    }

    /// Writes whether something holds into the transcript; it must.
    pub(crate) fn check(&mut self, what: &str, holds: bool) {
        self.note(what, holds);
        if !holds {
            self.failures.push(format!("does not hold: {what}"));
        }
    }

    /// Runs a line on which FUSE is known to differ, as `known` says.
    pub(crate) fn known(&mut self, id: &str, line: &str) {
        self.by(Hand::Me).known(id, line);
    }

    /// The same for the `answer` to something that is no line.
    pub(crate) fn known_answer(&mut self, id: &str, what: &str, answer: &Result<String, String>) {
        let entry = known::find(id);
        let shows = self.stage.fuse
            && entry.only.as_ref().is_none_or(|modes| modes.contains(&self.stage.data));
        let expected = if shows { &entry.mounted } else { &entry.native };
        let expected = expected.as_ref().unwrap_or_else(|| panic!("{id} has no answers to expect"));
        if short(answer) != *expected && !long(answer).starts_with(expected) {
            let text = format!("known difference {id} ({}): {what}", entry.rule);
            self.failures.push(format!("{text}: expected {expected}, got {}", long(answer)));
        }
        self.lines.push(format!("{what} -> as the known difference {id} says"));
    }

    /// Lets time pass.
    pub(crate) fn wait_ms(&mut self, milliseconds: u64) {
        thread::sleep(Duration::from_millis(milliseconds));
    }

    /// Lets whatever changed without that the kernel was asked show, such as what was stored through
    /// a mapping.
    pub(crate) fn expire(&mut self) {
        self.wait_ms(1100);
    }

    /// Lets what was changed behind the mount show.
    fn settle(&self) {
        if let Some(changed) = self.changed.take() {
            thread::sleep(self.stage.shows_within.saturating_sub(changed.elapsed()));
        }
    }

    /// The path of `name` as the behaviour sees it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.settle();
        self.stage.dir.join(name)
    }

    /// The path of `name` behind the mount.
    pub(crate) fn path_behind(&self, name: &str) -> PathBuf {
        self.stage.behind.join(name)
    }

    /// The mount, if there is one.
    pub(crate) fn daemon(&self) -> Option<Arc<Daemon>> {
        self.stage.daemon.clone()
    }

    /// All that statx knows of `name`.
    pub(crate) fn statx(&self, name: &str) -> libc::statx {
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        raw::statx(&self.path(name), flags, mask)
            .unwrap_or_else(|errno| panic!("statx {name}: {errno}"))
    }

    /// Demands that statx says the same of `name` here and behind the mount: inode number, mode,
    /// owner, links, size, blocks, device and all four timestamps.
    pub(crate) fn same_behind(&mut self, name: &str) {
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        let here = self.statx(name);
        let behind = raw::statx(&self.path_behind(name), libc::AT_SYMLINK_NOFOLLOW, mask)
            .unwrap_or_else(|errno| panic!("statx {name} behind the mount: {errno}"));
        let show = |found: &libc::statx| {
            let (mode, uid, gid) = (found.stx_mode, found.stx_uid, found.stx_gid);
            let (size, blocks, links) = (found.stx_size, found.stx_blocks, found.stx_nlink);
            let device = (found.stx_rdev_major, found.stx_rdev_minor);
            let times = Times::of(found);
            format!(
                "inode {} mode {mode:o} {uid}:{gid} n{links} s{size} b{blocks} {device:?} {times:?}",
                found.stx_ino
            )
        };
        let (here, behind) = (show(&here), show(&behind));
        self.note(&format!("{name} is the same behind"), here == behind);
        if here != behind {
            self.failures.push(format!("{name} here:   {here}\n  {name} behind: {behind}"));
        }
    }

    /// The timestamps of `name`.
    pub(crate) fn times(&self, name: &str) -> Times {
        Times::of(&self.statx(name))
    }

    fn execute(&mut self, hand: Hand, line: &str) -> Result<String, String> {
        match hand {
            Hand::Behind => self.changed.set(self.stage.fuse.then(Instant::now)),
            Hand::Me | Hand::Other(_) => self.settle(),
        }
        match hand {
            Hand::Me => self.me.run(line).map_err(|errno| format!("{errno:?}")),
            Hand::Behind => self.behind.run(line).map_err(|errno| format!("{errno:?}")),
            Hand::Other(who) => {
                let actor = self.actors.get_mut(&who).expect("`user` has started it");
                actor.begin(line);
                actor.finish()
            }
        }
    }
}

/// Timestamps in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) atime: i128,
    pub(crate) mtime: i128,
    pub(crate) ctime: i128,
    pub(crate) btime: i128,
}

impl Times {
    /// The timestamps in an answer of statx.
    pub(crate) fn of(found: &libc::statx) -> Self {
        let nanos = |time: libc::statx_timestamp| {
            i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
        };
        Times {
            atime: nanos(found.stx_atime),
            mtime: nanos(found.stx_mtime),
            ctime: nanos(found.stx_ctime),
            btime: nanos(found.stx_btime),
        }
    }
}

#[derive(Clone, Copy)]
enum Hand {
    Me,
    Behind,
    Other(Who),
}

/// Someone who acts, with the transcript at hand.
pub(crate) struct View<'t> {
    trace: &'t mut Trace,
    hand: Hand,
}

impl View<'_> {
    fn name(&self) -> String {
        match self.hand {
            Hand::Me => String::new(),
            Hand::Behind => "behind: ".to_owned(),
            Hand::Other(who) => format!("{}: ", who.name),
        }
    }

    pub(crate) fn run(&mut self, line: &str) -> Result<String, String> {
        let answer = self.trace.execute(self.hand, line);
        self.record(line, &answer);
        answer
    }

    fn record(&mut self, line: &str, answer: &Result<String, String>) {
        let name = self.name();
        let shown: String = line.chars().take(160).collect();
        self.trace.lines.push(format!("{name}{shown} -> {}", long(answer)));
    }

    pub(crate) fn ok(&mut self, line: &str) -> String {
        let answer = self.run(line);
        if let Err(errno) = &answer {
            self.fail(line, "success", errno);
        }
        answer.unwrap_or_default()
    }

    /// Runs a line on which FUSE is known to differ, as `known` says.
    pub(crate) fn known(&mut self, id: &str, line: &str) {
        let answer = self.trace.execute(self.hand, line);
        self.trace.known_answer(id, line, &answer);
    }

    pub(crate) fn err(&mut self, line: &str, errno: &str) {
        let answer = self.run(line);
        if answer.as_ref().err().map(String::as_str) != Some(errno) {
            self.fail(line, errno, &long(&answer));
        }
    }

    pub(crate) fn is(&mut self, line: &str, expected: &str) {
        let answer = self.run(line);
        // Behaviours are written for root; where somebody else plays, what they make is theirs.
        let (uid, gid) = (geteuid(), getegid());
        let expected = &expected.replace(" 0:0", &format!(" {uid}:{gid}"));
        let fits = answer.as_ref().is_ok_and(|text| match expected.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == expected,
        });
        if !fits {
            self.fail(line, expected, &long(&answer));
        }
    }

    /// Hands over a line without waiting for its answer.
    pub(crate) fn begin(&mut self, line: &str) {
        let Hand::Other(who) = self.hand else {
            panic!("only another process can be left waiting")
        };
        self.trace.actors.get_mut(&who).expect("`user` has started it").begin(line);
        self.trace.lines.push(format!("{}: {line} ...", who.name));
    }

    /// Waits for the answer of what was begun; it must be success.
    pub(crate) fn finish(&mut self) -> String {
        let Hand::Other(who) = self.hand else {
            panic!("only another process can be left waiting")
        };
        let answer = self.trace.actors.get_mut(&who).expect("`user` has started it").finish();
        self.record("...", &answer);
        if let Err(errno) = &answer {
            self.fail("what was begun", "success", errno);
        }
        answer.unwrap_or_default()
    }

    fn fail(&mut self, line: &str, expected: &str, got: &str) {
        let line: String = line.chars().take(160).collect();
        let text = format!("{}{line}: expected {expected}, got {got}", self.name());
        self.trace.failures.push(text);
    }
}

fn long(answer: &Result<String, String>) -> String {
    match answer {
        Ok(text) if text.is_empty() => "ok".to_owned(),
        Ok(text) => text.clone(),
        Err(errno) => errno.clone(),
    }
}

fn short(answer: &Result<String, String>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(errno) => errno.clone(),
    }
}
