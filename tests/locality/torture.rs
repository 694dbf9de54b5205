//! Readers of one mount against writers of another, and what a reader may see.
//!
//! Every cell of a file says which file and which block it belongs to, and of which version it is. A
//! writer tells the version before it begins to write it. So a cell that is read is wrong if it is of
//! another place or of a version that nobody has begun, and, once all are closed and the caches of the
//! mounts have run out, if it is not of the last.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 64;
const FILES: u64 = 6;
const CELL: usize = 16;
/// Until what the kernel and the distributed mount remember has run out.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// How long readers and writers go on.
pub(crate) fn duration() -> Duration {
    let asked = std::env::var("FUSEWIRE_TORTURE").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(asked.unwrap_or(6))
}

fn block(file: u64, block: u64, version: u64) -> Vec<u8> {
    let place = u32::try_from(file << 16 | block).expect("few files of few blocks");
    let mut cell = [0; CELL];
    cell[..4].copy_from_slice(b"cell");
    cell[4..8].copy_from_slice(&place.to_le_bytes());
    cell[8..].copy_from_slice(&version.to_le_bytes());
    cell.repeat(BLOCK / CELL)
}

/// The oldest and the newest version in what was read of a block; an error if a cell is another's.
fn versions(bytes: &[u8], file: u64, at: u64) -> Result<(u64, u64), String> {
    let (mut oldest, mut newest) = (u64::MAX, 0);
    for (index, cell) in bytes.chunks_exact(CELL).enumerate() {
        let version = u64::from_le_bytes(cell[8..].try_into().expect("eight bytes"));
        if cell[..8] != block(file, at, 0)[..8] {
            return Err(format!("file {file}, block {at}, cell {index}: {cell:02x?}"));
        }
        (oldest, newest) = (oldest.min(version), newest.max(version));
    }
    Ok((oldest, newest))
}

struct World<'a> {
    read: &'a Path,
    write: [&'a Path; 2],
    transient: fn(&io::Error) -> bool,
    /// Of each file, the version that is being written or was last.
    begun: Vec<AtomicU64>,
    over: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// Has readers of `read` and writers of both mounts in `write` at the same files; tells how many reads and
/// writes there were. One file of three is written through `write[1]`; of three, one is replaced as a
/// whole. What is `transient` of the errors of writers is not the end: they try again for a while.
pub(crate) fn run(
    read: &Path,
    write: [&Path; 2],
    transient: fn(&io::Error) -> bool,
) -> Result<(u64, u64), String> {
    let world = World {
        read,
        write,
        transient,
        begun: (0..FILES).map(|_| AtomicU64::new(0)).collect(),
        over: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        writes: AtomicU64::new(0),
    };
    for file in 0..FILES {
        let all: Vec<u8> = (0..BLOCKS).flat_map(|at| block(file, at, 0)).collect();
        fs::write(write[0].join(name(file)), all).map_err(|error| format!("prepare: {error}"))?;
    }
    let result = thread::scope(|scope| {
        let mut threads = Vec::new();
        for file in 0..FILES {
            let world = &world;
            threads.push(scope.spawn(move || world.write(file)));
        }
        for seed in 1..=4 {
            let world = &world;
            threads.push(scope.spawn(move || world.read(seed)));
        }
        let began = Instant::now();
        while began.elapsed() < duration() && !world.over.load(SeqCst) {
            thread::sleep(Duration::from_millis(50));
        }
        world.over.store(true, SeqCst);
        let ended = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        ended.fold(Ok(()), Result::and)
    });
    result?;
    world.settle()?;
    Ok((world.reads.load(SeqCst), world.writes.load(SeqCst)))
}

fn name(file: u64) -> String {
    format!("torture-{file}")
}

/// Random numbers that are good enough for places.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

impl World<'_> {
    fn write(&self, file: u64) -> Result<(), String> {
        let result = self.write_until_over(file);
        if result.is_err() {
            self.over.store(true, SeqCst);
        }
        result.map_err(|error| format!("write file {file}: {error}"))
    }

    fn write_until_over(&self, file: u64) -> io::Result<()> {
        let folder = self.write[usize::from(file % 3 == 1)];
        let (path, mut version, mut seed) = (folder.join(name(file)), 0, file + 7);
        while !self.over.load(SeqCst) {
            version += 1;
            self.begun[usize::try_from(file).expect("few")].store(version, SeqCst);
            let first = next(&mut seed) % BLOCKS;
            self.persistently(|| {
                if file % 3 == 2 {
                    let new = folder.join(format!("torture-new-{file}"));
                    let all: Vec<u8> =
                        (0..BLOCKS).flat_map(|at| block(file, at, version)).collect();
                    fs::write(&new, all)?;
                    return fs::rename(&new, &path);
                }
                let open = OpenOptions::new().write(true).open(&path)?;
                let mut blocks = first..(first + 8).min(BLOCKS);
                blocks.try_for_each(|at| {
                    open.write_all_at(&block(file, at, version), at * BLOCK as u64)
                })
            })?;
            self.writes.fetch_add(1, SeqCst);
            // Time to be found as it is.
            thread::sleep(Duration::from_millis(next(&mut seed) % 400));
        }
        // The last version is everywhere.
        self.persistently(|| {
            let open = OpenOptions::new().write(true).open(&path)?;
            for at in 0..BLOCKS {
                open.write_all_at(&block(file, at, version), at * BLOCK as u64)?;
            }
            open.sync_all()
        })
    }

    /// Writes again what was refused for a reason that passes.
    fn persistently(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match write() {
                Err(error) if (self.transient)(&error) && began.elapsed() < SETTLES_WITHIN => {
                    eprintln!("a writer is refused, and tries again: {error}");
                    thread::sleep(Duration::from_millis(200));
                }
                written => return written,
            }
        }
    }

    fn read(&self, seed: u64) -> Result<(), String> {
        let result = self.read_until_over(seed);
        if result.is_err() {
            self.over.store(true, SeqCst);
        }
        result
    }

    fn read_until_over(&self, mut seed: u64) -> Result<(), String> {
        while !self.over.load(SeqCst) {
            let file = next(&mut seed) % FILES;
            let open = match File::open(self.read.join(name(file))) {
                Ok(open) => open,
                // It is being replaced.
                Err(error) if is_replaced(&error) => continue,
                Err(error) => return Err(format!("open file {file}: {error}")),
            };
            for _ in 0..next(&mut seed) % 200 {
                let at = next(&mut seed) % BLOCKS;
                let mut bytes = vec![0; BLOCK];
                match open.read_exact_at(&mut bytes, at * BLOCK as u64) {
                    Ok(()) => {}
                    Err(error) if is_replaced(&error) && file % 3 == 2 => break,
                    Err(error) => return Err(format!("read file {file}, block {at}: {error}")),
                }
                let (_, newest) = versions(&bytes, file, at)?;
                let begun = self.begun[usize::try_from(file).expect("few")].load(SeqCst);
                if newest > begun {
                    return Err(format!("file {file}, block {at}: {newest} of {begun} versions"));
                }
                self.reads.fetch_add(1, SeqCst);
            }
        }
        Ok(())
    }

    /// Everything is the last version in the end.
    fn settle(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match self.look() {
                Ok(()) => return Ok(()),
                Err(reason) if began.elapsed() > SETTLES_WITHIN => return Err(reason),
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn look(&self) -> Result<(), String> {
        for file in 0..FILES {
            let bytes = fs::read(self.read.join(name(file))).map_err(|error| error.to_string())?;
            let last = self.begun[usize::try_from(file).expect("few")].load(SeqCst);
            if bytes.len() != BLOCK * usize::try_from(BLOCKS).expect("few") {
                return Err(format!("file {file} has {} bytes in the end", bytes.len()));
            }
            for (at, block) in (0..).zip(bytes.chunks_exact(BLOCK)) {
                let found = versions(block, file, at)?;
                if found != (last, last) {
                    return Err(format!(
                        "file {file}, block {at}: {found:?} in the end, not {last}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn is_replaced(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT))
}
