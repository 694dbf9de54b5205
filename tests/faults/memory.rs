//! Daemons with little memory, what they have the kernel cache included.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::common::shell::pattern;
use crate::launch::Launch;
use crate::{Ground, text};

/// A share of what is written below, and twice what the daemon itself needs.
const LIMIT_BYTES: usize = 40 << 20;
const FILE_BYTES: usize = 96 << 20;
const FILES: usize = 3000;

/// A control group that bounds memory; removed when dropped.
struct Group {
    path: PathBuf,
    /// Which file tells, behind which word, how often the limit was met.
    refusals: (&'static str, &'static str),
    /// Which file tells, behind `oom_kill`, how many processes were killed.
    kills: &'static str,
}

impl Group {
    /// In the first or the second version of control groups, or not at all.
    fn new(name: &str) -> Result<Option<Self>, String> {
        let versions = [
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                ("memory.failcnt", ""),
                "memory.oom_control",
            ),
            ("/sys/fs/cgroup", "memory.max", ("memory.events", "max"), "memory.events"),
        ];
        for (root, limit, refusals, kills) in versions {
            let path = Path::new(root).join(name);
            if !Path::new(root).join("cgroup.procs").exists() || fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Group { path, refusals, kills };
            if group.path.join(limit).exists() {
                fs::write(group.path.join(limit), LIMIT_BYTES.to_string())
                    .map_err(|error| format!("{limit}: {error}"))?;
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    fn take(&self, pid: u32) -> Result<(), String> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .map_err(|error| format!("put process {pid} into {}: {error}", self.path.display()))
    }

    /// The number behind `word` in `file`.
    fn number(&self, file: &str, word: &str) -> Result<u64, String> {
        let content = fs::read_to_string(self.path.join(file)).map_err(text)?;
        let mut lines = content.lines();
        let number = lines.find_map(|line| match word {
            "" => line.parse().ok(),
            _ => line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok(),
        });
        number.ok_or_else(|| format!("{file} does not tell {word}: {content}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// It goes on, and nothing is lost.
pub(crate) fn little(ground: &Ground) -> Result<(), String> {
    let content = pattern(77, FILE_BYTES);
    for (data, options) in [("copy", "transport=auto"), ("splice", "transport=dev")] {
        let (source, mountpoint) = ground.pair();
        let name = mountpoint.parent().and_then(Path::file_name).unwrap_or_default();
        let Some(group) = Group::new(&format!("{}-{data}", name.display()))? else {
            eprintln!("memory: skipped, no control group bounds memory on this machine");
            return Ok(());
        };
        let served = Launch::new(&source, &mountpoint, data).option(options).go()?;
        group.take(served.stats()?.pid)?;
        use_much(&mountpoint, &source, &content).map_err(|reason| format!("{data}: {reason}"))?;
        let refused = group.number(group.refusals.0, group.refusals.1)?;
        let killed = group.number(group.kills, "oom_kill")?;
        let rss = served.stats()?.live.rss_bytes >> 20;
        eprintln!("memory, {data}: at the limit {refused} times, {rss} MiB resident in the end");
        served.finish().map_err(|reason| format!("{data}: {reason}"))?;
        if refused == 0 || killed != 0 {
            return Err(format!("{data}: at the limit {refused} times, killed {killed} times"));
        }
    }
    Ok(())
}

fn use_much(at: &Path, behind: &Path, content: &[u8]) -> Result<(), String> {
    fs::write(at.join("large"), content).map_err(text)?;
    File::open(at.join("large")).and_then(|file| file.sync_all()).map_err(text)?;
    for number in 0..FILES {
        fs::write(at.join(format!("small-{number}")), number.to_string()).map_err(text)?;
    }
    for number in 0..FILES {
        let read = fs::read_to_string(at.join(format!("small-{number}"))).map_err(text)?;
        if read != number.to_string() {
            return Err(format!("file {number} reads {read:?}"));
        }
    }
    for place in [at, behind] {
        if fs::read(place.join("large")).map_err(text)? != content {
            return Err("what was written is not what is read".to_owned());
        }
    }
    Ok(())
}
