//! The mixes of FAST'17 ("To FUSE or Not to FUSE"), after the Filebench workloads they are named for:
//! fixed work on a set of files of each thread's own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Clock, Worker};
use crate::study::work::{Mix, Personality};

/// What is appended at a time.
const APPEND_BYTES: usize = 16 << 10;
/// What is read or written at a time.
const TRANSFER_BYTES: usize = 1 << 20;
/// Files of one directory.
const FAN_OUT: usize = 100;

/// One thread's files.
#[derive(Debug)]
pub(crate) struct Actor {
    mix: Mix,
    directory: PathBuf,
    files: usize,
    operations: usize,
    sizes: Vec<usize>,
    buffer: Vec<u8>,
    random: StdRng,
}

/// One thread's part of a personality.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    work: Personality,
    /// Below the root of a system.
    directory: PathBuf,
    thread: usize,
}

impl Part {
    /// The part of `thread` in directory `turn`.
    pub(crate) fn new(work: &Personality, turn: &Path, thread: usize) -> Self {
        Part { work: work.clone(), directory: turn.join(format!("t{thread}")), thread }
    }

    fn files(&self) -> usize {
        (self.work.files / self.work.threads).max(1)
    }

    /// Sizes around the mean, the same for all systems: from a quarter of it to somewhat less than
    /// twice as much.
    fn sizes(&self) -> Vec<usize> {
        let mut random = StdRng::seed_from_u64(self.thread as u64);
        let mean = (self.work.mean_kib << 10).max(4);
        (0..self.files()).map(|_| random.random_range(mean / 4..mean * 7 / 4)).collect()
    }

    /// Makes the files natively.
    pub(crate) fn make(&self, native: &Path) -> io::Result<()> {
        let directory = native.join(&self.directory);
        let sizes = self.sizes();
        let content = vec![0x61; sizes.iter().copied().max().unwrap_or(0)];
        for (index, size) in sizes.iter().enumerate() {
            let path = directory.join(name(index));
            if index.is_multiple_of(FAN_OUT) {
                fs::create_dir_all(path.parent().expect("a name has a directory before it"))?;
            }
            if self.work.mix != Mix::FilesCreate {
                fs::write(path, &content[..*size])?;
            }
        }
        if self.work.mix == Mix::WebServer {
            fs::write(directory.join("log"), "")?;
        }
        Ok(())
    }

    /// The thread that works on them through the system at `root`.
    pub(crate) fn enter(&self, root: &Path, seed: u64) -> Actor {
        let Part { work, directory, thread } = self;
        let sizes = self.sizes();
        let largest = sizes.iter().copied().max().unwrap_or(0);
        Actor {
            mix: work.mix,
            directory: root.join(directory),
            files: sizes.len(),
            operations: (work.operations / work.threads).max(1),
            buffer: vec![0x62; largest.max(APPEND_BYTES).max(4096)],
            sizes,
            random: StdRng::seed_from_u64(seed ^ *thread as u64),
        }
    }
}

fn name(index: usize) -> PathBuf {
    PathBuf::from(format!("d{}", index / FAN_OUT)).join(format!("f{index}"))
}

impl Worker for Actor {
    fn work(&mut self, clock: &mut Clock<'_>) -> Result<(), String> {
        let mut round = 0;
        while clock.recorder.count() < self.operations as u64 {
            let begun = clock.recorder.count();
            self.play(round, clock).map_err(|error| format!("{:?}: {error}", self.mix))?;
            clock.check()?;
            round += 1;
            // What consumes its files ends with them.
            if clock.recorder.count() == begun {
                break;
            }
        }
        Ok(())
    }
}

impl Actor {
    fn path(&self, index: usize) -> PathBuf {
        self.directory.join(name(index))
    }

    fn any(&mut self) -> usize {
        self.random.random_range(0..self.files)
    }

    /// The loop's body, once.
    fn play(&mut self, round: usize, clock: &mut Clock<'_>) -> io::Result<()> {
        match self.mix {
            Mix::FileServer => self.serve_files(clock),
            Mix::MailServer => self.serve_mail(clock),
            Mix::WebServer => self.serve_web(clock),
            Mix::FilesCreate if round < self.files => {
                self.write_new(round, 4096, clock)?;
                done(clock)
            }
            Mix::FilesRead => {
                let index = self.any();
                self.read_whole(index, clock)
            }
            Mix::FilesDelete if round < self.files => {
                fs::remove_file(self.path(round))?;
                done(clock)
            }
            Mix::FilesCreate | Mix::FilesDelete => Ok(()),
        }
    }

    fn serve_files(&mut self, clock: &mut Clock<'_>) -> io::Result<()> {
        let index = self.any();
        fs::remove_file(self.path(index))?;
        done(clock)?;
        self.write_new(index, self.sizes[index], clock)?;
        done(clock)?;
        let index = self.any();
        drop(self.append(index, clock)?);
        done(clock)?;
        let index = self.any();
        self.read_whole(index, clock)?;
        fs::metadata(self.path(index))?;
        done(clock)
    }

    fn serve_mail(&mut self, clock: &mut Clock<'_>) -> io::Result<()> {
        let index = self.any();
        fs::remove_file(self.path(index))?;
        done(clock)?;
        self.write_new(index, self.sizes[index], clock)?.sync_all()?;
        done(clock)?;
        let index = self.any();
        self.read_whole(index, clock)?;
        self.append(index, clock)?.sync_all()?;
        done(clock)?;
        let index = self.any();
        self.read_whole(index, clock)
    }

    fn serve_web(&mut self, clock: &mut Clock<'_>) -> io::Result<()> {
        for _ in 0..10 {
            let index = self.any();
            self.read_whole(index, clock)?;
        }
        let mut log = OpenOptions::new().append(true).open(self.directory.join("log"))?;
        log.write_all(&self.buffer[..APPEND_BYTES])?;
        clock.moved(APPEND_BYTES);
        drop(log);
        done(clock)
    }

    fn write_new(&self, index: usize, size: usize, clock: &mut Clock<'_>) -> io::Result<File> {
        let mut file = File::create_new(self.path(index))?;
        for chunk in self.buffer[..size].chunks(TRANSFER_BYTES) {
            file.write_all(chunk)?;
        }
        clock.moved(size);
        Ok(file)
    }

    fn append(&self, index: usize, clock: &mut Clock<'_>) -> io::Result<File> {
        let mut file = OpenOptions::new().append(true).open(self.path(index))?;
        // Bounded: a file that is appended to again and again starts anew, as its owner would.
        if file.metadata()?.len() > 4 * self.sizes[index] as u64 + APPEND_BYTES as u64 {
            file.set_len(0)?;
        }
        file.write_all(&self.buffer[..APPEND_BYTES])?;
        clock.moved(APPEND_BYTES);
        Ok(file)
    }

    /// Counts as one operation.
    fn read_whole(&mut self, index: usize, clock: &mut Clock<'_>) -> io::Result<()> {
        let mut file = File::open(self.path(index))?;
        loop {
            let length = self.buffer.len().min(TRANSFER_BYTES);
            match file.read(&mut self.buffer[..length])? {
                0 => break,
                read => clock.moved(read),
            }
        }
        drop(file);
        done(clock)
    }
}

fn done(clock: &mut Clock<'_>) -> io::Result<()> {
    clock.lap().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::load::run;
    use crate::study::supervise::Cancel;

    #[test]
    fn every_mix_does_its_fixed_work() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for mix in [
            Mix::FileServer,
            Mix::MailServer,
            Mix::WebServer,
            Mix::FilesCreate,
            Mix::FilesRead,
            Mix::FilesDelete,
        ] {
            let work = Personality { mix, files: 240, mean_kib: 4, threads: 2, operations: 200 };
            let turn = PathBuf::from(format!("{mix:?}"));
            let parts: Vec<Part> = (0..2).map(|thread| Part::new(&work, &turn, thread)).collect();
            parts.iter().for_each(|part| part.make(dir.path()).expect("can be made"));
            let mut actors: Vec<Box<dyn Worker>> =
                parts.iter().map(|part| Box::new(part.enter(dir.path(), 3)) as _).collect();
            let measured = run(&mut actors, &Cancel::default()).expect("works");
            // A loop that has begun is played to its end.
            assert!((200..=220).contains(&measured.operations), "{mix:?}: {measured:?}");
            assert!(measured.bytes > 0 || mix == Mix::FilesDelete, "{mix:?}");
        }
    }

    #[test]
    fn what_uses_its_files_up_ends_with_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let work = Personality {
            mix: Mix::FilesDelete,
            files: 10,
            mean_kib: 4,
            threads: 1,
            operations: 99,
        };
        let part = Part::new(&work, Path::new("d"), 0);
        part.make(dir.path()).expect("can be made");
        let mut actors: Vec<Box<dyn Worker>> = vec![Box::new(part.enter(dir.path(), 3))];
        assert_eq!(run(&mut actors, &Cancel::default()).expect("works").operations, 10);
    }
}
