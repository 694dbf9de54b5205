//! stress-ng: its stressors of file systems, one after the other, each for a bounded time and with
//! what checks it has.

use std::fs;
use std::process::Output;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::ground::Ground;
use crate::tool::tool;
use crate::{Case, Outcome, Plan, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "stress-ng",
    play,
    users: false,
    limits: [Duration::from_secs(180), Duration::from_secs(900)],
};

/// Those of the short form.
const SHORT: &[&str] = &[
    "access",
    "chmod",
    "dentry",
    "fallocate",
    "fiemap",
    "flock",
    "getdent",
    "mmap",
    "rename",
    "utime",
    "xattr",
];

/// All that work below a directory which they are told.
const ALL: &[&str] = &[
    "access",
    "acl",
    "aio",
    "aiol",
    "bad-ioctl",
    "chattr",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "dup",
    "fallocate",
    "fcntl",
    "fiemap",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "handle",
    "hdd",
    "inode-flags",
    "inotify",
    "io",
    "iomix",
    "io-uring",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "mmap",
    "msync",
    "open",
    "readahead",
    "rename",
    "revio",
    "seek",
    "sendfile",
    "splice",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "verity",
    "xattr",
];

/// What a stressor is told beyond that: to keep to the size of the disk, and to work on files.
const OPTIONS: &[(&str, &[&str])] = &[
    ("copy-file", &["--copy-file-bytes", "32M"]),
    ("fallocate", &["--fallocate-bytes", "64M"]),
    ("hdd", &["--hdd-bytes", "64M"]),
    ("iomix", &["--iomix-bytes", "64M"]),
    ("mmap", &["--mmap-file", "--mmap-bytes", "32M"]),
    ("readahead", &["--readahead-bytes", "64M"]),
    ("revio", &["--revio-bytes", "64M"]),
    ("sync-file", &["--sync-file-bytes", "64M"]),
];

fn play(plan: &Plan, ground: &Ground) -> Result<Vec<Case>, String> {
    let (stressors, seconds) = if plan.full { (ALL, "4") } else { (SHORT, "1") };
    let mut cases = Vec::new();
    for &stressor in stressors {
        let options = OPTIONS.iter().find(|(name, _)| *name == stressor);
        let output = tool("stress-ng", "stress-ng")
            .within(ground.path())
            .args([format!("--{stressor}").as_str(), "1", "--timeout", seconds])
            .args(["--verify", "--no-rand-seed"])
            .args(options.map_or(&[][..], |(_, options)| options))
            .arg("--temp-path")
            .arg(ground.path())
            .limit(SUITE.limits[usize::from(plan.full)] / 3)
            .output()?;
        reap_orphans();
        cases.push(Case { name: stressor.to_owned(), outcome: outcome(&output) });
    }
    Ok(cases)
}

/// What stressors leave comes to this program, as it is the first of its namespace: thousands, by the
/// end of a long run, of which each would keep a process number. No other child of it has such a name.
fn reap_orphans() {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let name = fs::read(entry.path().join("comm"));
        if name.is_ok_and(|name| name.starts_with(b"stress-ng-")) {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

fn outcome(output: &Output) -> Outcome {
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let skipped = said.lines().find(|line| line.contains("skipping"));
    // As its manual says: 3 is a lack of resources, 4 a stressor that this machine does not have.
    match (output.status.code(), skipped) {
        (Some(0 | 3 | 4), Some(line)) => Outcome::Skipped(line.to_owned()),
        (Some(0), None) => Outcome::Passed,
        (Some(3 | 4), None) => Outcome::Skipped(said),
        _ => Outcome::Failed(format!("{}\n{said}", output.status)),
    }
}
