//! Random sequences. The same seed makes the same sequence on every machine.
//!
//! Few names, few descriptors and few sizes, so that what is done meets what was done before. Each
//! sequence leaves out kinds of operations by chance: some mistakes need a crowd of the same kind.
//! Every open has O_NONBLOCK: any name may be that of a FIFO.

use crate::common::actor::Who;
use crate::steps::{Hand, Step};

/// SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

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

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

const FILES: &[&str] = &["a", "b", "c", "d1/a", "d1/b", "d2/a", "d1/d3/a", "l", "to_d1/b"];
const DIRECTORIES: &[&str] = &[".", "d1", "d2", "d1/d3", "to_d1"];
const ANYTHING: &[&str] =
    &["a", "b", "c", "d1/a", "d1/b", "d2/a", "d1/d3/a", "l", "d1", "d2", "d1/d3", "to_d1", "d2/d1"];

/// Every name that a sequence may use.
pub(crate) fn names_used() -> impl Iterator<Item = &'static str> {
    FILES.iter().chain(DIRECTORIES).chain(ANYTHING).copied()
}

const DESCRIPTORS: &[&str] = &["f0", "f1", "f2"];
const OFFSETS: &[&str] =
    &["0", "0", "0", "1", "100", "4095", "4096", "8192", "12288", "40000", "65536", "1000000"];
const ALIGNED: &[&str] = &["0", "0", "4096", "8192", "12288", "65536", "512"];
const LENGTHS: &[&str] =
    &["1", "10", "100", "512", "4095", "4096", "4097", "8192", "20000", "65536"];
const ALIGNED_LENGTHS: &[&str] = &["4096", "4096", "8192", "65536", "512"];
const MODES: &[&str] =
    &["644", "600", "666", "640", "755", "777", "0", "444", "4755", "2755", "2644"];
const OWNERS: &[&str] =
    &["0 0", "1002 1002", "1002 2000", "1003 2001", "-1 2000", "1003 -1", "-1 -1"];
const TIMES: &[&str] = &["now", "omit", "1000000000.123456789", "900000000", "1.5"];
const XATTRS: &[&str] = &["user.a", "user.b", "trusted.a", "security.a", "user.long-name"];
const ACLS: &[&str] = &[
    "u::rw,g::r,o::-",
    "u::rwx,u:1002:rw,g::r,m::rw,o::-",
    "u::rwx,u:1003:-,g::rx,m::rx,o::rx",
    "u::rw,g::-,g:2000:rw,m::rw,o::-",
    "u::rwx,g::rwx,g:2001:r,m::r,o::x",
];
/// Length of every mapping.
const MAPPED: usize = 16384;

/// What a sequence leaves in and out.
struct Taste {
    people: Vec<Who>,
    maps: bool,
    /// Where holes are is asked, and no space is given that was not written to: whether that is a hole,
    /// depends on what somebody has read ahead, and with a mapping on what was written back.
    holes: bool,
    direct: bool,
    locks: bool,
    rights: bool,
    special: bool,
    behind: bool,
    attributes: bool,
}

/// The sequence of `seed` for these people; with `watched` some of it happens behind the mount.
pub(crate) fn sequence(seed: u64, everybody: &[Who], watched: bool) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let count = 1 + dice.below(everybody.len());
    let maps = dice.once_in(3);
    let taste = Taste {
        people: everybody[..count].to_vec(),
        maps,
        holes: !maps && dice.once_in(2),
        direct: dice.once_in(3),
        locks: dice.once_in(3),
        rights: dice.once_in(2),
        special: dice.once_in(3),
        behind: watched && dice.once_in(2),
        attributes: dice.once_in(2),
    };
    let mut steps = Vec::new();
    let first = Hand::Process(everybody[0]);
    for line in
        ["mkdir d1 777", "mkdir d1/d3 777", "mkdir d2 1777", "symlink d1 to_d1", "symlink a l"]
    {
        if !dice.once_in(6) {
            steps.push(Step { hand: first, line: line.to_owned() });
        }
    }
    let length = 20 + dice.below(80);
    while steps.len() < length {
        if taste.behind && dice.once_in(6) {
            behind(&mut dice, &mut steps);
            continue;
        }
        let hand = Hand::Process(dice.one(&taste.people));
        let line = operation(&mut dice, &taste);
        let looks = dice.once_in(3);
        if looks {
            let line = look(&mut dice);
            steps.push(Step { hand, line });
        }
        steps.push(Step { hand, line });
    }
    steps
}

fn operation(dice: &mut Dice, taste: &Taste) -> String {
    loop {
        let line = match dice.below(20) {
            0..=3 => open(dice, taste),
            4..=7 => data(dice, taste),
            8..=9 => length(dice, taste),
            10..=13 => names(dice, taste),
            14 => look(dice),
            15 => listing(dice),
            16 if taste.rights => rights(dice),
            17 if taste.maps => mapping(dice),
            18 if taste.locks => lock(dice),
            19 if taste.attributes => attribute(dice),
            _ => continue,
        };
        return line;
    }
}

fn open(dice: &mut Dice, taste: &Taste) -> String {
    let name = dice.one(DESCRIPTORS);
    if dice.once_in(8) {
        return match dice.below(3) {
            0 => format!("dup {name} {}", dice.one(DESCRIPTORS)),
            1 => format!("open {name} {} r,dir,nonblock", dice.one(DIRECTORIES)),
            _ => format!("close {name}"),
        };
    }
    let mut flags = dice.one(&["r", "w", "rw", "rw"]).to_owned();
    if dice.once_in(16) {
        let path = dice.one(DIRECTORIES);
        let more = dice.one(&["", ",excl"]);
        return format!("open {name} {path} {flags},tmpfile,nonblock{more} {}", dice.one(MODES));
    }
    if dice.once_in(12) {
        flags = "r,path".to_owned();
    }
    for (flag, times) in
        [("creat", 2), ("append", 6), ("trunc", 7), ("excl", 12), ("nofollow", 10), ("sync", 16)]
    {
        if dice.once_in(times) {
            flags = format!("{flags},{flag}");
        }
    }
    if taste.direct && dice.once_in(2) {
        flags += ",direct";
    }
    let path = if dice.once_in(8) { dice.one(ANYTHING) } else { dice.one(FILES) };
    format!("open {name} {path} {flags},nonblock {}", dice.one(MODES))
}

/// Somewhere in a file: mostly where direct I/O may go as well, if the sequence has it.
fn place(dice: &mut Dice, taste: &Taste) -> (&'static str, &'static str) {
    match taste.direct && !dice.once_in(4) {
        true => (dice.one(ALIGNED), dice.one(ALIGNED_LENGTHS)),
        false => (dice.one(OFFSETS), dice.one(LENGTHS)),
    }
}

fn data(dice: &mut Dice, taste: &Taste) -> String {
    let name = dice.one(DESCRIPTORS);
    let (offset, len) = place(dice, taste);
    let pattern = 1 + dice.below(1000);
    match dice.below(14) {
        0..=1 => format!("write {name} pat:{pattern}:{len}"),
        2..=4 => format!("pwrite {name} {offset} pat:{pattern}:{len}"),
        // `direct-vectors` of tests/known-differences.toml.
        5..=6 if taste.direct => {
            format!("pwritev {name} {offset} pat:{pattern}:4096 pat:{}:4096", pattern + 1)
        }
        5 => format!("pwritev {name} {offset} pat:{pattern}:{len} pat:{}:10", pattern + 1),
        6 => format!("writev {name} abc pat:{pattern}:{len}"),
        7 => format!("read {name} {len}"),
        8..=9 => format!("pread {name} {offset} {len}"),
        10 if taste.direct => format!("preadv {name} {offset} 4096 8192"),
        10 => format!("preadv {name} {offset} 3 {len} 100"),
        11 => {
            let all = ["data", "hole", "set", "cur", "end"];
            let whence = dice.one(if taste.holes { &all } else { &all[2..] });
            format!("seek {name} {offset} {whence}")
        }
        12 => {
            let to = dice.one(DESCRIPTORS);
            format!("copy {name} {offset} {to} {} {len}", dice.one(OFFSETS))
        }
        _ => format!("{} {name}", dice.one(&["fsync", "fdatasync"])),
    }
}

fn length(dice: &mut Dice, taste: &Taste) -> String {
    let name = dice.one(DESCRIPTORS);
    let (offset, len) = (dice.one(OFFSETS), dice.one(LENGTHS));
    match dice.below(6) {
        0..=1 => format!("ftruncate {name} {offset}"),
        2 => format!("truncate {} {offset}", dice.one(FILES)),
        // Neither collapse nor insert: FUSE has neither, and afterwards all would differ.
        _ => {
            let all = ["punch,keep", "punch", "default", "keep", "zero", "zero,keep"];
            let mode = dice.one(if taste.holes { &all[..2] } else { &all });
            format!("fallocate {name} {mode} {offset} {len}")
        }
    }
}

fn names(dice: &mut Dice, taste: &Taste) -> String {
    let (one, other) = (dice.one(ANYTHING), dice.one(ANYTHING));
    let directory = dice.one(&["d1", "d2", "d1/d3", "d2/d1"]);
    match dice.below(17) {
        0..=2 => format!("unlink {}", dice.one(FILES)),
        3 => format!("rmdir {directory}"),
        4..=5 => format!("mkdir {directory} {}", dice.one(&["777", "755", "1777", "2777", "700"])),
        6..=7 => format!("link {} {}", dice.one(FILES), dice.one(FILES)),
        8 => format!("linkfd {} {}", dice.one(DESCRIPTORS), dice.one(FILES)),
        9..=10 => format!("rename {one} {other}"),
        11..=12 => {
            format!("rename2 {one} {other} {}", dice.one(&["noreplace", "exchange", "exchange"]))
        }
        13 => format!("symlink {} {one}", dice.one(&["a", "d1", "../a", "nowhere", "l"])),
        14 => format!("readlink {}", dice.one(&["l", "to_d1", "a"])),
        15 if taste.special => {
            let kind = dice.one(&["fifo", "fifo", "sock", "reg", "chr"]);
            let device = if kind == "chr" { " 1 3" } else { "" };
            format!("mknod {} {kind} {}{device}", dice.one(FILES), dice.one(MODES))
        }
        _ => format!("access {one} {}", dice.one(&["r", "w", "x", "rw", "f"])),
    }
}

fn look(dice: &mut Dice) -> String {
    match dice.once_in(2) {
        true => format!("look {}", dice.one(ANYTHING)),
        false => format!("flook {}", dice.one(DESCRIPTORS)),
    }
}

fn listing(dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => format!("open {} {} r,dir,nonblock", dice.one(DESCRIPTORS), dice.one(DIRECTORIES)),
        1 => format!("ls {}", dice.one(DIRECTORIES)),
        _ => {
            let room = dice.one(&["64", "256", "4096"]);
            format!("relist {} {room} {}", dice.one(DESCRIPTORS), dice.below(6))
        }
    }
}

fn rights(dice: &mut Dice) -> String {
    let (path, name) = (dice.one(ANYTHING), dice.one(DESCRIPTORS));
    match dice.below(9) {
        0..=1 => format!("chmod {path} {}", dice.one(MODES)),
        2 => format!("fchmod {name} {}", dice.one(MODES)),
        3 => format!("chown {path} {}", dice.one(OWNERS)),
        4 => format!("lchown {path} {}", dice.one(OWNERS)),
        5 => format!("fchown {name} {}", dice.one(OWNERS)),
        6 => format!("umask {}", dice.one(&["22", "0", "77", "27"])),
        7 => format!("setacl {path} {} {}", dice.one(&["access", "default"]), dice.one(ACLS)),
        _ => format!("getacl {path} {}", dice.one(&["access", "default"])),
    }
}

fn attribute(dice: &mut Dice) -> String {
    let (path, name) = (dice.one(ANYTHING), dice.one(DESCRIPTORS));
    let xattr = dice.one(XATTRS);
    let value = dice.one(&["value", "-", "pat:5:100", "pat:6:2000"]);
    let how = dice.one(&["", " create", " replace"]);
    match dice.below(10) {
        0..=1 => format!("lsetx {path} {xattr} {value}{how}"),
        2 => format!("fsetx {name} {xattr} {value}{how}"),
        3 => format!("lgetx {path} {xattr}"),
        4 => format!("fgetx {name} {xattr} {}", dice.one(&["0", "3", "4096"])),
        5 => format!("llistx {path}"),
        6 => format!("flistx {name}"),
        7 => format!("lrmx {path} {xattr}"),
        8 => format!("futimens {name} {} {}", dice.one(TIMES), dice.one(TIMES)),
        _ => format!("lutimens {path} {} {}", dice.one(TIMES), dice.one(TIMES)),
    }
}

fn mapping(dice: &mut Dice) -> String {
    let (map, name) = (dice.one(&["m0", "m1"]), dice.one(DESCRIPTORS));
    let at = dice.one(&[0, 0, 1, 100, 4096, 8000]);
    let len = dice.one(&[1, 100, 4096, 5000]);
    match dice.below(10) {
        0..=2 => {
            let how = dice.one(&["shared", "shared", "private"]);
            format!("mmap {map} {name} 0 {MAPPED} {how} {}", dice.one(&["r", "rw", "rw"]))
        }
        3..=4 => format!("load {map} {at} {len}"),
        5..=7 => format!("store {map} {at} pat:{}:{len}", 4000 + dice.below(1000)),
        8 => format!("msync {map}"),
        _ => format!("munmap {map}"),
    }
}

fn lock(dice: &mut Dice) -> String {
    let name = dice.one(DESCRIPTORS);
    if dice.once_in(3) {
        return format!("flock {name} {}", dice.one(&["sh,nb", "ex,nb", "un"]));
    }
    let call = dice.one(&["setlk", "setlk", "getlk", "ofdlk", "ofdgetlk"]);
    let kind = match call.ends_with("getlk") {
        true => dice.one(&["rd", "wr"]),
        false => dice.one(&["rd", "wr", "un"]),
    };
    format!("{call} {name} {kind} {}", dice.one(&["0 0", "0 10", "5 10", "100 1"]))
}

/// Changes that are made where the mount does not see them.
fn behind(dice: &mut Dice, steps: &mut Vec<Step>) {
    let (path, file) = (dice.one(ANYTHING), dice.one(FILES));
    let lines = match dice.below(13) {
        0..=2 => {
            let how = dice.one(&[
                "w,nonblock",
                "w,creat,nonblock",
                "w,append,nonblock",
                "w,trunc,nonblock",
            ]);
            let (offset, len) = (dice.one(OFFSETS), dice.one(LENGTHS));
            let pattern = 2000 + dice.below(1000);
            vec![
                format!("open b0 {file} {how} 666"),
                format!("pwrite b0 {offset} pat:{pattern}:{len}"),
                "close b0".to_owned(),
            ]
        }
        3 => vec![format!("truncate {file} {}", dice.one(OFFSETS))],
        4 => vec![format!("unlink {file}")],
        5 => vec![format!("rename {path} {}", dice.one(ANYTHING))],
        6 => vec![format!("chmod {path} {}", dice.one(MODES))],
        // Not a chown to nobody: it moves the time of change, and fanotify does not tell of it.
        7 => vec![format!("lchown {path} {}", dice.one(&OWNERS[..OWNERS.len() - 1]))],
        8 => vec![format!("mkdir {} 777", dice.one(&["d1", "d2", "d1/d3", "d2/d1"]))],
        9 => vec![format!("rmdir {}", dice.one(&["d1", "d2", "d1/d3", "d2/d1"]))],
        10 => vec![format!("link {file} {}", dice.one(FILES))],
        11 => vec![format!("lsetx {path} {} behind", dice.one(&["user.a", "user.b"]))],
        _ => vec![format!("rename2 {path} {} exchange", dice.one(ANYTHING))],
    };
    steps.extend(lines.into_iter().map(|line| Step { hand: Hand::Behind, line }));
}
