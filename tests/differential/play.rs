//! Plays a sequence on a plain directory and on a mount, step by step, and stops at the first answer
//! that differs; then compares what is left.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::actor::{Actor, Who};
use crate::common::patience::Patience;
use crate::common::raw;
use crate::common::shell::Shell;
use crate::common::tree;
use crate::generate;
use crate::known::{self, Verdict};
use crate::steps::{Hand, Step};

/// Where a sequence is played.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// A plain directory, empty.
    pub(crate) plain: PathBuf,
    /// A directory seen through the mount, empty.
    pub(crate) mounted: PathBuf,
    /// The same directory behind the mount.
    pub(crate) source: PathBuf,
    /// Who takes part; steps of others are left out.
    pub(crate) everybody: Vec<Who>,
    /// Whether changes behind the mount show by themselves.
    pub(crate) watched: bool,
    /// By when they must.
    pub(crate) patience: Duration,
    /// Whether a change right after a look always has a later time.
    pub(crate) fine_times: bool,
}

/// Plays `steps`; what differs, if anything does.
pub(crate) fn play(scene: &Scene, steps: &[Step]) -> Result<(), String> {
    let mut play = Play {
        scene,
        native: Side::new(&scene.plain, &scene.plain),
        mounted: Side::new(&scene.mounted, &scene.source),
        open: HashSet::new(),
        stored: false,
        changed: false,
    };
    for (number, step) in steps.iter().enumerate() {
        let taken = play.take(step);
        if !taken.map_err(|text| format!("step {} is {step}\n{text}", number + 1))? {
            return Ok(());
        }
    }
    play.end()
}

/// One of the two places: those who act in it, and what was seen there.
struct Side {
    dir: PathBuf,
    behind: Shell,
    actors: HashMap<Who, Actor>,
    /// The times of what was looked at last under this name.
    looks: HashMap<String, (String, String)>,
}

impl Side {
    fn new(dir: &Path, behind: &Path) -> Self {
        let (behind, actors, looks) = (Shell::at(behind), HashMap::new(), HashMap::new());
        Side { dir: dir.to_owned(), behind, actors, looks }
    }

    fn run(&mut self, step: &Step) -> Result<String, String> {
        match step.hand {
            Hand::Behind => self.behind.run(&step.line).map_err(|errno| format!("{errno:?}")),
            Hand::Process(who) => {
                let actor = self.actors.entry(who).or_insert_with(|| Actor::start(who, &self.dir));
                actor.begin(&step.line);
                actor.finish()
            }
        }
    }

    /// An answer with the times replaced by what became of them since the last look.
    fn related(&mut self, subject: &str, answer: &str, times: bool) -> String {
        let words: Vec<&str> = answer.split(' ').collect();
        let [kind, mode, owner, links, size, modified, changed, born] = words[..] else {
            return answer.to_owned();
        };
        let before = self.looks.insert(subject.to_owned(), (modified.into(), changed.into()));
        let how = |before: Option<&str>, now: &str| match before {
            // The kernel moves the times of a pipe in FUSE's inode, which has none of its own.
            _ if !times || kind == "fifo" => "?".to_owned(),
            _ if is_set(now) => now.to_owned(),
            Some(before) if !is_set(before) => match before.cmp(now) {
                std::cmp::Ordering::Equal => "same".to_owned(),
                std::cmp::Ordering::Less => "later".to_owned(),
                std::cmp::Ordering::Greater => "earlier".to_owned(),
            },
            _ => "now".to_owned(),
        };
        let before = before.as_ref();
        let modified = how(before.map(|(modified, _)| modified.as_str()), modified);
        let changed = how(before.map(|(_, changed)| changed.as_str()), changed);
        format!("{kind} {mode} {owner} {links} {size} m:{modified} c:{changed} {born}")
    }
}

/// Whether a time was set by the sequence: those it sets are of the past, with fewer digits or a
/// lower first one.
fn is_set(time: &str) -> bool {
    let seconds = time[1..].split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
    seconds.is_some_and(|seconds| seconds < 1_500_000_000)
}

struct Play<'a> {
    scene: &'a Scene,
    native: Side,
    mounted: Side,
    /// Descriptors and mappings that are there.
    open: HashSet<(Hand, String)>,
    /// Somebody has stored through a mapping: times move when the kernel gets around to it.
    stored: bool,
    /// Something has been changed behind the mount.
    changed: bool,
}

impl Play<'_> {
    /// Takes a step in both places; false if from here on nothing can be compared.
    fn take(&mut self, step: &Step) -> Result<bool, String> {
        let takes_part = match step.hand {
            Hand::Behind => self.scene.watched,
            Hand::Process(who) => self.scene.everybody.contains(&who),
        };
        let has = |name: &&str| self.open.contains(&(step.hand, (*name).to_owned()));
        if !takes_part || !step.needs().iter().all(has) {
            return Ok(true);
        }
        if step.operation() == "seek" && self.is_directory(step) {
            return Ok(true);
        }
        let native = self.native.run(step);
        let mut mounted = self.mounted.run(step);
        self.stored |= step.operation() == "store";
        if !self.compare(step, &native, &mut mounted)? {
            return Ok(false);
        }
        self.account(step, &native);
        if step.hand == Hand::Behind {
            self.changed = true;
            self.await_behind()?;
        }
        Ok(true)
    }

    /// Demands the same answer. After a change behind the mount, a look may be taken again for a
    /// while. False if from here on nothing can be compared.
    fn compare(
        &mut self,
        step: &Step,
        native: &Result<String, String>,
        mounted: &mut Result<String, String>,
    ) -> Result<bool, String> {
        let mut patience = Patience::new(self.scene.patience);
        let subject = match step.operation() {
            "look" => step.line.clone(),
            _ => step.to_string(),
        };
        let looks = matches!(step.operation(), "look" | "flook");
        let times = self.scene.fine_times && !self.stored;
        let native = match native {
            Ok(answer) if looks => Ok(self.native.related(&subject, answer, times)),
            other => other.clone(),
        };
        let before = self.mounted.looks.get(&subject).cloned();
        loop {
            let shown = match &*mounted {
                Ok(answer) if looks => Ok(self.mounted.related(&subject, answer, times)),
                other => other.clone(),
            };
            if native == shown {
                return Ok(true);
            }
            match known::judge(step, &native, &shown) {
                Verdict::Mistake => {}
                verdict => return Ok(verdict == Verdict::Excused),
            }
            if !self.changed || !step.only_looks() || patience.is_over() {
                let text = |answer: Result<String, String>| answer.unwrap_or_else(|error| error);
                return Err(format!("natively: {}\nmounted:  {}", text(native), text(shown)));
            }
            match before.clone() {
                Some(before) => self.mounted.looks.insert(subject.clone(), before),
                None => self.mounted.looks.remove(&subject),
            };
            patience.pause();
            *mounted = self.mounted.run(step);
        }
    }

    /// Where a directory can be read from is its file system's own affair: ext4_dir_llseek() knows ends
    /// and holes in it, FUSE has generic_file_llseek(). `relist` seeks to the places that it was told.
    fn is_directory(&mut self, step: &Step) -> bool {
        let line = format!("flook {}", step.needs()[0]);
        self.native.run(&Step { hand: step.hand, line }).is_ok_and(|look| look.starts_with("dir"))
    }

    /// Keeps account of what is open and what is still known by its name.
    fn account(&mut self, step: &Step, answer: &Result<String, String>) {
        if let Some(name) = step.ends() {
            self.open.remove(&(step.hand, name.to_owned()));
        }
        if let (Some(name), Ok(_)) = (step.makes(), answer) {
            self.open.insert((step.hand, name.to_owned()));
            let subject = format!("{}: flook {name}", step.hand);
            self.native.looks.remove(&subject);
            self.mounted.looks.remove(&subject);
        }
        if let (Hand::Process(who), Err(text)) = (step.hand, answer)
            && text.starts_with("died")
        {
            self.native.actors.remove(&who);
            self.mounted.actors.remove(&who);
            self.open.retain(|(hand, _)| *hand != step.hand);
        }
        if step.operation().contains("write") && answer.is_err() {
            // ext4 moves the times of a file before it refuses an unaligned O_DIRECT.
            self.native.looks.clear();
            self.mounted.looks.clear();
        }
        if step.moves_names() {
            self.native.looks.retain(|subject, _| !subject.starts_with("look"));
            self.mounted.looks.retain(|subject, _| !subject.starts_with("look"));
        }
    }

    /// Waits until the mount shows what was done behind it.
    fn await_behind(&self) -> Result<(), String> {
        let mut patience = Patience::new(self.scene.patience);
        loop {
            let differences = self.unlike_source();
            if differences.is_empty() {
                return Ok(());
            }
            if patience.is_over() {
                let text = differences.join("\n");
                return Err(format!("the mount (+) is not as its source (-):\n{text}"));
            }
            patience.pause();
        }
    }

    /// How the mount differs from its own source.
    fn unlike_source(&self) -> Vec<String> {
        let times = !self.stored;
        tree::differences(&view(&self.scene.source, times), &view(&self.scene.mounted, times))
    }

    /// Everybody goes; then what is left must be the same.
    fn end(mut self) -> Result<(), String> {
        self.native.actors.clear();
        self.mounted.actors.clear();
        let native = tree::describe(&self.scene.plain);
        let source = tree::describe(&self.scene.source);
        if !known::is_same_tree(&native, &source) {
            let differences = tree::differences(&native, &source).join("\n");
            return Err(format!(
                "the trees left behind differ (- plain, + mounted):\n{differences}"
            ));
        }
        if self.scene.watched {
            return self.await_behind();
        }
        let differences = self.unlike_source();
        match differences.is_empty() {
            true => Ok(()),
            false => {
                let differences = differences.join("\n");
                Err(format!("the mount (+) is not as its source (-):\n{differences}"))
            }
        }
    }
}

/// A tree with everything that a mount must show exactly as its source has it, and what is found by
/// each name that a sequence uses: a listing does not tell of names that are kept too long.
fn view(root: &Path, times: bool) -> BTreeMap<String, String> {
    let mut lines = tree::describe(root);
    for name in generate::names_used() {
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        let found = raw::statx(&root.join(name), libc::AT_SYMLINK_NOFOLLOW, mask).map(|found| {
            let time = |time: libc::statx_timestamp| (time.tv_sec, time.tv_nsec);
            let all = [found.stx_mtime, found.stx_ctime, found.stx_btime].map(time);
            let shown = if times { format!("{all:?}") } else { String::new() };
            format!("inode {} {shown}", found.stx_ino)
        });
        lines.insert(format!("{name} found"), found.unwrap_or_else(|errno| errno.to_string()));
    }
    lines
}
