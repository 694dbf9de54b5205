//! A shell of system calls: one line is one call, its answer is one line or an errno.
//!
//! The same lines run in the test's own process and in a helper process under another user
//! (`actor`), so a behaviour is written once, whoever acts. Words are separated by blanks; in a
//! word `%41` is a byte, `{x*300}` is x 300 times, `pat:7:4096` is 4096 bytes that depend on 7, and
//! a lone `-` is nothing. Descriptors and mappings are kept under names the script chooses.
//!
//! It owns no mount and knows no oracle.

mod data;
mod files;
mod looks;
mod names;
mod xattrs;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

pub(crate) use self::names::kind_of;
use super::raw::Map;

/// What an operation answered: one line, or the errno.
pub(crate) type Outcome = Result<String, Errno>;

/// A place to run lines in.
#[derive(Default)]
pub(crate) struct Shell {
    /// Relative paths start here; `None` is the process's working directory.
    base: Option<PathBuf>,
    fds: HashMap<String, OwnedFd>,
    maps: HashMap<String, Map>,
}

impl Shell {
    /// A shell whose relative paths start at `base`.
    pub(crate) fn at(base: impl Into<PathBuf>) -> Self {
        Shell { base: Some(base.into()), ..Shell::default() }
    }

    /// Runs one line. Panics if the line itself is wrong: that is a mistake in the test.
    pub(crate) fn run(&mut self, line: &str) -> Outcome {
        let words: Vec<Vec<u8>> = line.split_whitespace().map(expand).collect();
        let args = Args { line: line.to_owned(), words };
        names::call(self, &args)
            .or_else(|| files::call(self, &args))
            .or_else(|| data::call(self, &args))
            .or_else(|| xattrs::call(self, &args))
            .or_else(|| looks::call(self, &args))
            .unwrap_or_else(|| panic!("no such operation: {line}"))
    }

    /// The descriptor called `name`.
    fn fd(&self, name: &str) -> &OwnedFd {
        self.fds.get(name).unwrap_or_else(|| panic!("no descriptor is called {name}"))
    }

    fn map(&self, name: &str) -> &Map {
        self.maps.get(name).unwrap_or_else(|| panic!("no mapping is called {name}"))
    }
}

/// The words of one line.
struct Args {
    line: String,
    words: Vec<Vec<u8>>,
}

impl Args {
    fn word(&self, at: usize) -> &[u8] {
        self.words.get(at).unwrap_or_else(|| panic!("word {at} is missing: {}", self.line))
    }

    fn text(&self, at: usize) -> &str {
        std::str::from_utf8(self.word(at)).expect("this word is text")
    }

    /// The words from `at` on, joined by blanks.
    fn rest(&self, at: usize) -> String {
        let words = self.words[at..].iter().map(|word| String::from_utf8_lossy(word));
        words.collect::<Vec<_>>().join(" ")
    }

    fn has(&self, at: usize) -> bool {
        self.words.len() > at
    }

    /// The word as it stands (a name, or a symlink's target).
    fn os(&self, at: usize) -> &OsStr {
        OsStr::from_bytes(if self.word(at) == b"-" { b"" } else { self.word(at) })
    }

    /// The word as a path below the shell's base.
    fn path(&self, shell: &Shell, at: usize) -> PathBuf {
        match &shell.base {
            Some(base) if !self.os(at).is_empty() => base.join(self.os(at)),
            _ => self.os(at).into(),
        }
    }

    fn number(&self, at: usize) -> i64 {
        let text = self.text(at);
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'K') => (&text[..text.len() - 1], 1 << 10),
            Some(b'M') => (&text[..text.len() - 1], 1 << 20),
            Some(b'G') => (&text[..text.len() - 1], 1 << 30),
            _ => (text, 1),
        };
        let number: i64 = digits.parse().unwrap_or_else(|_| panic!("not a number: {text}"));
        number * unit
    }

    fn size(&self, at: usize) -> usize {
        usize::try_from(self.number(at)).expect("a size is not negative")
    }

    fn octal(&self, at: usize) -> u32 {
        u32::from_str_radix(self.text(at), 8).expect("modes are octal")
    }

    /// The word as bytes to write.
    fn data(&self, at: usize) -> Vec<u8> {
        let word = self.word(at);
        match word.strip_prefix(b"pat:") {
            None if word == b"-" => Vec::new(),
            None => word.to_vec(),
            Some(rest) => {
                let text = std::str::from_utf8(rest).expect("a pattern is text");
                let (seed, len) = text.split_once(':').expect("pat:SEED:LEN");
                let seed = seed.parse().expect("the seed is a number");
                pattern(seed, len.parse().expect("the length is a number"))
            }
        }
    }
}

/// `len` bytes that depend on `seed` and do not repeat within a page.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes for a transcript: as they are if short and printable, else their length and hash.
pub(crate) fn show(bytes: &[u8]) -> String {
    if !bytes.is_empty() && bytes.iter().all(|&byte| byte == 0) {
        return format!("zeros:{}", bytes.len());
    }
    if bytes.len() > 100 {
        return format!("{}b:{:016x}", bytes.len(), hash(bytes));
    }
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Expands `%41` and `{x*3}`.
fn expand(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        if let Some((hex, tail)) = rest.strip_prefix('%').and_then(|tail| tail.split_at_checked(2))
        {
            bytes.push(u8::from_str_radix(hex, 16).expect("two hex digits follow %"));
            rest = tail;
        } else if let Some((inside, tail)) =
            rest.strip_prefix('{').and_then(|tail| tail.split_once('}'))
        {
            let (text, times) = inside.split_once('*').expect("{text*times}");
            let times = times.parse().expect("times is a number");
            bytes.extend_from_slice(text.repeat(times).as_bytes());
            rest = tail;
        } else {
            let tail = &rest[first.len_utf8()..];
            bytes.extend_from_slice(&rest.as_bytes()[..first.len_utf8()]);
            rest = tail;
        }
    }
    bytes
}

/// The answer of a call that has nothing to say.
fn done<T>(result: Result<T, Errno>) -> Outcome {
    result.map(|_| String::new())
}
