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
    let stats = served.stats()?;
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
    let before = served.stats()?;
    write(9000)?;
    let after = served.stats()?;
    Ok(NAMES.iter().map(|name| (*name, count(&before, name), count(&after, name))).collect())
}
