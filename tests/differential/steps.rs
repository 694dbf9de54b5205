//! A sequence of operations as text: `WHO: LINE` a step, the line in the language of the shell.

use std::fmt;

use crate::common::actor::{BOB, CAROL, SECOND, THIRD, Who};

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hand {
    /// A process of its own.
    Process(Who),
    /// Somebody behind the mount, as root.
    Behind,
}

/// Two processes of root, and two ordinary users who share a supplementary group.
pub(crate) const EVERYBODY: [Who; 4] = [SECOND, THIRD, BOB, CAROL];

impl fmt::Display for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hand::Process(who) => f.write_str(who.name),
            Hand::Behind => f.write_str("behind"),
        }
    }
}

/// One operation of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) hand: Hand,
    pub(crate) line: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.hand, self.line)
    }
}

impl Step {
    pub(crate) fn operation(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.line.split(' ').nth(at)
    }

    /// The names of descriptors and mappings that must be there for it to be taken.
    pub(crate) fn needs(&self) -> Vec<&str> {
        let places: &[usize] = match self.operation() {
            "close" | "dup" | "fstat" | "flook" | "fchmod" | "fchown" | "futimens"
            | "ftruncate" | "fsync" | "fdatasync" | "seek" | "fallocate" | "flock" | "setlk"
            | "getlk" | "ofdlk" | "ofdgetlk" | "read" | "pread" | "preadv" | "write" | "pwrite"
            | "writev" | "pwritev" | "relist" | "linkfd" | "fsetx" | "fgetx" | "flistx"
            | "frmx" | "load" | "store" | "msync" | "munmap" => &[1],
            "copy" => &[1, 3],
            "mmap" => &[2],
            _ => &[],
        };
        places.iter().filter_map(|&at| self.word(at)).collect()
    }

    /// The name of the descriptor or mapping that is there after it has succeeded.
    pub(crate) fn makes(&self) -> Option<&str> {
        match self.operation() {
            "open" | "mmap" => self.word(1),
            "dup" => self.word(2),
            _ => None,
        }
    }

    /// The name that is gone after it, whatever came of it.
    pub(crate) fn ends(&self) -> Option<&str> {
        match self.operation() {
            "close" | "munmap" => self.word(1),
            _ => None,
        }
    }

    /// Whether it changes nothing, so that it may be taken again.
    pub(crate) fn only_looks(&self) -> bool {
        matches!(
            self.operation(),
            "look"
                | "flook"
                | "relist"
                | "pread"
                | "preadv"
                | "readlink"
                | "access"
                | "ls"
                | "load"
                | "fgetx"
                | "flistx"
                | "lgetx"
                | "llistx"
                | "getacl"
                | "getlk"
                | "ofdgetlk"
        )
    }

    /// Whether a name may have come to mean another object than before.
    pub(crate) fn moves_names(&self) -> bool {
        matches!(self.operation(), "unlink" | "rmdir" | "rename" | "rename2")
    }
}

/// Sequences end up in files: comments, and for which settings it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    /// The settings it is played on; none are all.
    pub(crate) settings: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

impl Sequence {
    /// Reads what [`Sequence::text`] wrote; a lone `#` begins a comment.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut sequence = Sequence::default();
        for (number, line) in text.lines().enumerate() {
            let fail = |what: &str| format!("line {}: {what}: {line}", number + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (who, line) = line.split_once(": ").ok_or_else(|| fail("no `WHO: `"))?;
            let hand = match who {
                "on" => {
                    sequence.settings = line.split(' ').map(str::to_owned).collect();
                    continue;
                }
                "behind" => Hand::Behind,
                _ => EVERYBODY
                    .into_iter()
                    .find(|known| known.name == who)
                    .map(Hand::Process)
                    .ok_or_else(|| fail("nobody is called so"))?,
            };
            sequence.steps.push(Step { hand, line: line.to_owned() });
        }
        Ok(sequence)
    }

    /// The steps, one a line.
    pub(crate) fn text(steps: &[Step]) -> String {
        steps.iter().map(|step| format!("{step}\n")).collect()
    }
}
