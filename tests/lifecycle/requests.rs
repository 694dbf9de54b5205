//! Requests that must not be sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fusewire::metrics::snapshot::Snapshot;

use crate::Ground;
use crate::common::shell::pattern;
use crate::launch::{Launch, Served};
use crate::tool::tool;

const BLOCK: usize = 4096;

fn count(stats: &Snapshot, opcode: &str) -> u64 {
    stats.requests.get(opcode).map_or(0, |opcode| opcode.count)
}

fn passes_through(served: &Served) -> Result<(), String> {
    let data = served.stats()?.data;
    match (data.mode.as_str(), data.requested.as_str()) {
        ("passthrough", "auto") => Ok(()),
        _ => Err(format!("with default options as root: {data:?}")),
    }
}

/// fio reads and writes without a READ or WRITE.
pub(crate) fn no_data(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    passes_through(&served)?;
    let fio = |name: &str, args: &[&str]| {
        let job = format!("--name={name}");
        let fio = tool("fio", "fio").arg(job).args(["--filename=file", "--size=256m"]).args(args);
        fio.within(&mountpoint).run()
    };
    fio("write", &["--rw=write", "--bs=1m"])?;
    fio("read", &["--rw=read", "--bs=1m"])?;
    fio("direct", &["--rw=read", "--bs=1m", "--direct=1", "--ioengine=libaio", "--iodepth=32"])?;
    let random = ["--bs=4k", "--io_size=8m", "--ioengine=io_uring", "--iodepth=32"];
    fio("randread", &[&random as &[&str], &["--rw=randread"]].concat())?;
    fio("randwrite", &[&random as &[&str], &["--rw=randwrite"]].concat())?;
    fio("randrw", &[&random as &[&str], &["--rw=randrw", "--direct=1"]].concat())?;
    fio("mmap", &["--rw=randrw", "--bs=4k", "--io_size=8m", "--ioengine=mmap"])?;
    let stats = served.settled()?;
    for opcode in ["READ", "WRITE"] {
        if count(&stats, opcode) != 0 {
            return Err(format!("{} {opcode} requests", count(&stats, opcode)));
        }
    }
    served.finish()
}

/// A write costs no question about capabilities, however many there are.
pub(crate) fn no_questions(ground: &Ground) -> Result<(), String> {
    for data in ["auto", "copy"] {
        let (source, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let asked = questions(&served, &mountpoint)?;
        if asked.iter().any(|(_, before, after)| before != after) {
            return Err(format!("{data}: between 1,000 and 10,000 writes: {asked:?}"));
        }
        served.finish()?;
    }
    Ok(())
}

type Asked = Vec<(&'static str, u64, u64)>;

fn questions(served: &Served, at: &Path) -> Result<Asked, String> {
    const NAMES: [&str; 4] = ["GETXATTR", "GETATTR", "SETATTR", "LOOKUP"];
    let text = |error: std::io::Error| error.to_string();
    let path = at.join("file");
    fs::write(&path, pattern(1, 16 << 20)).map_err(text)?;
    let file = File::options().write(true).open(&path).map_err(text)?;
    let block = pattern(2, BLOCK);
    let write = |count: u64| {
        (0..count).try_for_each(|number| {
            let place = number.wrapping_mul(0x9e37_79b9) % 4096;
            file.write_all_at(&block, place * BLOCK as u64).map_err(text)
        })
    };
    write(1000)?;
    let before = served.settled()?;
    write(9000)?;
    let after = served.settled()?;
    Ok(NAMES.iter().map(|name| (*name, count(&before, name), count(&after, name))).collect())
}

/// What was seen once is seen, listed and read again without a request where the mount is for reading,
/// and what is changed behind it shows all the same.
pub(crate) fn none_at_all(ground: &Ground) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    for options in ["profile=read-mostly", "profile=read-mostly,allow_other"] {
        let (source, mountpoint) = ground.pair();
        fs::create_dir(source.join("d")).map_err(text)?;
        for n in 0..50 {
            fs::write(source.join(format!("d/{n}")), pattern(n, 5000)).map_err(text)?;
        }
        std::os::unix::fs::symlink("d/7", source.join("link")).map_err(text)?;
        let served = Launch::new(&source, &mountpoint, "auto").option(options).go()?;
        let refused = File::options().append(true).open(mountpoint.join("d/0"));
        if refused.err().and_then(|error| error.raw_os_error()) != Some(libc::EROFS) {
            return Err("a file could be opened for writing".to_owned());
        }
        look_around(&mountpoint)?;
        let before = served.settled()?;
        look_around(&mountpoint)?;
        let after = served.settled()?;
        let asked: Vec<_> = after
            .requests
            .iter()
            .map(|(name, opcode)| (name, opcode.count - count(&before, name)))
            .filter(|(_, count)| *count > 0)
            .collect();
        if !asked.is_empty() {
            return Err(format!("{options}: asked for what it had seen: {asked:?}"));
        }
        fs::write(source.join("d/7"), "changed").map_err(text)?;
        shows(&mountpoint.join("d/7"), "changed")?;
        fs::remove_file(source.join("link")).map_err(text)?;
        fs::write(source.join("link"), "no link").map_err(text)?;
        shows(&mountpoint.join("link"), "no link")?;
        served.finish()?;
    }
    Ok(())
}

/// Stats, lists and reads everything below `at`.
fn look_around(at: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let names = fs::read_dir(at.join("d")).map_err(text)?.count();
    if names != 50 {
        return Err(format!("{names} names of 50 are listed"));
    }
    for n in 0..50 {
        let path = at.join(format!("d/{n}"));
        let length = fs::metadata(&path).map_err(text)?.len();
        let bytes = fs::read(&path).map_err(text)?;
        if bytes != pattern(n, 5000) || length != 5000 {
            return Err(format!("{} reads as something else", path.display()));
        }
    }
    let target = fs::read_link(at.join("link")).map_err(text)?;
    match target == Path::new("d/7") {
        true => Ok(()),
        false => Err(format!("the link leads to {}", target.display())),
    }
}

/// Waits until a file that was changed behind the mount reads as it is.
fn shows(path: &Path, content: &str) -> Result<(), String> {
    for _ in 0..500 {
        if fs::read(path).is_ok_and(|bytes| bytes == content.as_bytes()) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(format!("{} does not show what was changed behind the mount", path.display()))
}

/// Without extended attributes nobody asks for one, not even before a write.
pub(crate) fn no_attributes(ground: &Ground) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").option("xattr=off").go()?;
    for n in 0..20 {
        fs::write(mountpoint.join(format!("{n}")), "x").map_err(text)?;
    }
    let getfattr = tool("getfattr", "attr").args(["-n", "user.none", "--absolute-names"]);
    let said = getfattr.arg(mountpoint.join("1")).run().err().unwrap_or_default();
    if !said.contains("not supported") {
        return Err(format!("getfattr: {said:?}"));
    }
    let asked = count(&served.settled()?, "GETXATTR");
    if asked > 1 {
        return Err(format!("{asked} GETXATTR after the first was refused"));
    }
    served.finish()
}
