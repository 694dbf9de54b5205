//! Each kind of change, and how soon it shows.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::common::daemon::Daemon;
use crate::common::shell::Shell;
use crate::{Ground, until};

/// A change, and what the mount answers before and after it.
struct Change {
    /// What makes the source ready.
    before: &'static [&'static str],
    /// What is made behind the mount.
    change: &'static [&'static str],
    /// What is asked through the mount, with the answer before and after. `*` at the end of an answer
    /// stands for anything.
    asked: &'static [(&'static str, &'static str, &'static str)],
}

const CHANGES: &[Change] = &[
    Change {
        before: &[],
        change: &["create f 600"],
        asked: &[("stat f", "ENOENT", "reg 600*"), ("ls .", "", "f/reg")],
    },
    Change {
        before: &["create f 600"],
        change: &["unlink f"],
        asked: &[("stat f", "reg 600*", "ENOENT"), ("ls .", "f/reg", "")],
    },
    Change {
        before: &[],
        change: &["mkdir d 755"],
        asked: &[("stat d", "ENOENT", "dir 755*"), ("ls .", "", "d/dir")],
    },
    Change {
        before: &["mkdir d 755"],
        change: &["rmdir d"],
        asked: &[("stat d", "dir 755*", "ENOENT"), ("ls .", "d/dir", "")],
    },
    Change {
        before: &["put a one"],
        change: &["rename a b"],
        asked: &[
            ("get a", "one", "ENOENT"),
            ("get b", "ENOENT", "one"),
            ("ls .", "a/reg", "b/reg"),
        ],
    },
    Change {
        before: &["put a one", "put b two"],
        change: &["rename a b"],
        asked: &[("get a", "one", "ENOENT"), ("get b", "two", "one")],
    },
    Change {
        before: &["put a one", "put b two"],
        change: &["rename2 a b exchange"],
        asked: &[("get a", "one", "two"), ("get b", "two", "one")],
    },
    Change {
        before: &["mkdir d 755", "put a one"],
        change: &["rename a d/a"],
        asked: &[("get a", "one", "ENOENT"), ("get d/a", "ENOENT", "one"), ("ls d", "", "a/reg")],
    },
    Change {
        before: &["put a one"],
        change: &["rename a ../outside"],
        asked: &[("get a", "one", "ENOENT"), ("ls .", "a/reg", "")],
    },
    Change {
        before: &["put ../outside one"],
        change: &["rename ../outside a"],
        asked: &[("get a", "ENOENT", "one"), ("ls .", "", "a/reg")],
    },
    Change {
        before: &["mkdir d 755", "put d/f one"],
        change: &["rename d e"],
        asked: &[("get d/f", "one", "ENOENT"), ("get e/f", "ENOENT", "one")],
    },
    Change {
        before: &["mkdir d 755", "put d/f one", "mkdir e 700"],
        change: &["rename d gone", "rename e d"],
        asked: &[("get d/f", "one", "ENOENT"), ("stat d", "dir 755*", "dir 700*")],
    },
    Change {
        before: &["put a one", "put b two", "symlink a l"],
        change: &["unlink l", "symlink b l"],
        asked: &[("readlink l", "a", "b"), ("get l", "one", "two")],
    },
    Change {
        before: &["put f one"],
        change: &["chmod f 640"],
        asked: &[("stat f", "reg 644*", "reg 640*")],
    },
    Change {
        before: &["put f one"],
        change: &["chown f 12 34"],
        asked: &[("stat f", "reg 644 0:0*", "reg 644 12:34*")],
    },
    Change {
        before: &["put f one"],
        change: &["setx f user.a value"],
        asked: &[("getx f user.a", "ENODATA", "value")],
    },
    Change {
        before: &["put f one"],
        change: &["utimens f 1000 2000"],
        asked: &[("stat f", "reg*", "reg*")],
    },
    Change {
        before: &["put f one"],
        change: &["truncate f 1"],
        asked: &[("stat f", "reg 644 0:0 n1 s3*", "reg 644 0:0 n1 s1*"), ("get f", "one", "o")],
    },
    Change {
        before: &["put f one"],
        change: &["append f -and-more"],
        asked: &[("stat f", "reg 644 0:0 n1 s3*", "reg 644 0:0 n1 s12*")],
    },
    Change {
        before: &["put f one"],
        change: &["open w f rw", "pwrite w 0 ONE", "close w"],
        asked: &[("get f", "one", "ONE")],
    },
    Change {
        before: &["put f {.*4096}"],
        change: &[
            "open w f rw",
            "mmap m w 0 4096 shared rw",
            "store m 0 new",
            "munmap m",
            "close w",
        ],
        asked: &[("pread f 0 3", "...", "new")],
    },
    Change {
        before: &["put a one"],
        change: &["link a b"],
        asked: &[
            ("stat a", "reg 644 0:0 n1*", "reg 644 0:0 n2*"),
            ("stat b", "ENOENT", "reg 644 0:0 n2*"),
        ],
    },
    Change {
        before: &["put a one", "link a b"],
        change: &["unlink a"],
        asked: &[("stat a", "reg*", "ENOENT"), ("stat b", "reg 644 0:0 n2*", "reg 644 0:0 n1*")],
    },
    Change {
        before: &["put f old"],
        change: &["put ../new fresh", "rename ../new f"],
        asked: &[("get f", "old", "fresh")],
    },
    Change {
        before: &["put f old"],
        change: &["unlink f", "mkdir f 700"],
        asked: &[("stat f", "reg*", "dir 700*")],
    },
];

/// Every change shows, in names, attributes, data and listings, whoever moves the data.
pub(crate) fn every_kind(ground: &Ground) -> Result<(), String> {
    for options in ["coherence=watch", "coherence=watch,allow_other,transport=dev"] {
        for data in ["auto", "copy"] {
            let (source, mountpoint) = ground.pair();
            let daemon = Daemon::start(&source, &mountpoint, data, options)?;
            for (number, change) in CHANGES.iter().enumerate() {
                let name = format!("{number}/here");
                fs::create_dir_all(source.join(&name)).map_err(|error| error.to_string())?;
                let (behind, here) = (source.join(&name), mountpoint.join(&name));
                play(change, &behind, &here)
                    .map_err(|reason| format!("{data} {options}: {reason}"))?;
            }
            let coherence = daemon.stats()?.coherence;
            if (coherence.mode.as_str(), coherence.overflows) != ("watch", 0) {
                return Err(format!("not as it should be: {coherence:?}"));
            }
        }
    }
    Ok(())
}

fn play(change: &Change, behind: &Path, here: &Path) -> Result<(), String> {
    let (mut behind, mut here) = (Shell::at(behind), Shell::at(here));
    for line in change.before {
        behind.run(line).map_err(|errno| format!("{line}: {errno}"))?;
    }
    let answer = |here: &mut Shell, line: &str| here.run(line).unwrap_or_else(|e| format!("{e:?}"));
    // One that reads a file leaves it open, so that its data could be kept.
    if change.asked.iter().any(|(line, ..)| line.starts_with("pread f")) {
        here.run("open f f r").map_err(|errno| format!("open f: {errno}"))?;
    }
    for (line, before, _) in change.asked {
        until(&format!("{line} answers {before} before {:?}", change.change), || {
            fits(&answer(&mut here, line), before)
        })?;
    }
    for line in change.change {
        behind.run(line).map_err(|errno| format!("{line}: {errno}"))?;
    }
    for (line, _, after) in change.asked {
        until(&format!("{line} answers {after} after {:?}", change.change), || {
            fits(&answer(&mut here, line), after)
        })?;
    }
    Ok(())
}

fn fits(answer: &str, expected: &str) -> bool {
    match expected.strip_suffix('*') {
        Some(start) => answer.starts_with(start),
        None => answer == expected,
    }
}

/// A new name, a new size and a removed name show after milliseconds.
pub(crate) fn soon(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    let mut took = Vec::new();
    for number in 0..200 {
        let name = format!("f{number}");
        let (behind, here) = (daemon.source.join(&name), daemon.mountpoint.join(&name));
        let failed = |error: std::io::Error| format!("{name}: {error}");
        if here.exists() {
            return Err(format!("{name} is there already"));
        }
        fs::write(&behind, "x").map_err(failed)?;
        took.push(until("a new name", || here.exists())?);
        until("its size", || here.metadata().is_ok_and(|found| found.size() == 1))?;
        fs::write(&behind, "longer").map_err(failed)?;
        took.push(until("a new size", || here.metadata().is_ok_and(|found| found.size() == 6))?);
        fs::remove_file(&behind).map_err(failed)?;
        took.push(until("a removed name", || !here.exists())?);
    }
    took.sort();
    let percentile = |percent: usize| took[(took.len() - 1) * percent / 100];
    let (p50, p99) = (percentile(50), percentile(99));
    println!("a change behind the mount shows after {p50:.1?} (p50), {p99:.1?} (p99)");
    // The median, as one process more that wants the CPUs is enough for the rest.
    match p50 <= Duration::from_millis(100) {
        true => Ok(()),
        false => Err(format!("a change shows after {p50:?} (p50), {p99:?} (p99)")),
    }
}
