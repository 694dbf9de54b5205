//! The generator of metadata operations: one thread, names known beforehand, every operation
//! relative to one directory descriptor, so that nothing but the system call is timed.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat, write};

use super::matrix::{MetadataJob, MetadataOperation};
use super::prepare;
use super::sample::{Consumption, Measurement, Percentiles, count};
use super::supervise::Cancel;

/// An operation which leaves its files as they were is repeated for so long, in whole passes.
const AT_LEAST: Duration = Duration::from_millis(120);
const SMALL_FILE: [u8; 4096] = [0x5a; 4096];

/// A directory made ready for one run, reached through the system that is to be measured.
#[derive(Debug)]
pub(crate) struct Arena {
    path: PathBuf,
    dir: OwnedFd,
    names: Vec<CString>,
    /// The names after a rename.
    others: Vec<CString>,
    job: MetadataJob,
}

impl Arena {
    /// Makes directory `name` natively, fills it as the job needs it, writes everything back, and
    /// then looks everything up once through the system at `root`: warm for that system alone.
    pub(crate) fn prepare(
        job: MetadataJob,
        native: &Path,
        root: &Path,
        name: &str,
    ) -> Result<Self, String> {
        let own = native.join(name);
        let said = |error: std::io::Error| format!("prepare {name}: {error}");
        fs::create_dir(&own).map_err(said)?;
        let named = |prefix: char| -> Vec<String> {
            (0..job.files).map(|index| format!("{prefix}{index:06}")).collect()
        };
        if job.operation != MetadataOperation::CreateWriteClose {
            for name in named('f') {
                fs::write(own.join(name), SMALL_FILE).map_err(said)?;
            }
        }
        prepare::sync(native).map_err(|error| error.to_string())?;
        let path = root.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(&path, flags, Mode::empty())
            .map_err(|errno| format!("prepare {name}: open: {}", errno.desc()))?;
        let c_string = |name: String| CString::new(name).expect("made of a letter and digits");
        let arena = Arena {
            path,
            dir,
            names: named('f').into_iter().map(c_string).collect(),
            others: named('g').into_iter().map(c_string).collect(),
            job,
        };
        arena.look_up().map_err(|errno| format!("prepare {name}: {}", errno.desc()))?;
        Ok(arena)
    }

    fn look_up(&self) -> Result<(), Errno> {
        self.list()?;
        if self.job.operation != MetadataOperation::CreateWriteClose {
            for name in &self.names {
                fstatat(&self.dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<usize, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty())?;
        dir.iter().try_fold(0, |entries, entry| entry.map(|_| entries + 1))
    }

    fn create(&self, index: usize) -> Result<(), Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        let file = openat(&self.dir, self.names[index].as_c_str(), flags, mode)?;
        match write(&file, &SMALL_FILE)? {
            length if length == SMALL_FILE.len() => nix::unistd::close(file),
            _ => Err(Errno::EIO),
        }
    }

    /// Does one operation; `pass` counts the passes over the files.
    fn operate(&self, pass: usize, index: usize) -> Result<(), Errno> {
        let name = self.names[index].as_c_str();
        match self.job.operation {
            MetadataOperation::Stat => {
                fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|_| ())
            }
            MetadataOperation::OpenClose => {
                let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
                nix::unistd::close(openat(&self.dir, name, flags, Mode::empty())?)
            }
            MetadataOperation::CreateWriteClose => self.create(index),
            MetadataOperation::Readdir => match self.list()? {
                entries if entries == self.job.files + 2 => Ok(()),
                // A listing that lost or invented names is no listing.
                _ => Err(Errno::EBADMSG),
            },
            MetadataOperation::Rename => {
                let other = self.others[index].as_c_str();
                let (from, to) = if pass.is_multiple_of(2) { (name, other) } else { (other, name) };
                renameat(&self.dir, from, &self.dir, to)
            }
            MetadataOperation::Unlink => unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir),
        }
    }

    /// The timed part. One clock reading per operation: the end of one is the start of the next.
    pub(crate) fn measure(&self, cancel: &Cancel) -> Result<Measurement, String> {
        let per_pass = match self.job.operation {
            MetadataOperation::Readdir => 1,
            _ => self.job.files,
        };
        let mut times_ns: Vec<u64> = Vec::with_capacity(1 << 17);
        let before = usage()?;
        let begin = Instant::now();
        let mut last = begin;
        for pass in 0.. {
            for index in 0..per_pass {
                self.operate(pass, index).map_err(|errno| {
                    let operation = self.job.operation;
                    format!("{operation:?} failed on file {index}: {}", errno.desc())
                })?;
                let now = Instant::now();
                times_ns.push(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
                last = now;
                if cancel.is_set() {
                    return Err("stopped".into());
                }
            }
            if self.job.operation.is_consuming() || last - begin >= AT_LEAST {
                break;
            }
        }
        let after = usage()?;
        let operations = times_ns.len() as u64;
        Ok(Measurement {
            operations,
            bytes: 0,
            seconds: (last - begin).as_secs_f64(),
            latency_ns: percentiles(&mut times_ns),
            client: consumed(&before, &after),
            daemon: None,
        })
    }

    /// Removes the directory through the system, so that the system forgets it too.
    pub(crate) fn remove(self) -> Result<(), String> {
        fs::remove_dir_all(&self.path).map_err(|error| format!("clean up after the cell: {error}"))
    }
}

fn usage() -> Result<Usage, String> {
    getrusage(UsageWho::RUSAGE_THREAD).map_err(|errno| format!("getrusage: {}", errno.desc()))
}

fn consumed(before: &Usage, after: &Usage) -> Consumption {
    let microseconds = |time: nix::sys::time::TimeVal| {
        count(u64::try_from(time.tv_sec()).unwrap_or(0)) * 1e6
            + count(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    let switches =
        |usage: &Usage| usage.voluntary_context_switches() + usage.involuntary_context_switches();
    Consumption {
        user_cpu_us: microseconds(after.user_time()) - microseconds(before.user_time()),
        system_cpu_us: microseconds(after.system_time()) - microseconds(before.system_time()),
        switches: u64::try_from(switches(after) - switches(before)).unwrap_or(0),
    }
}

/// Nearest-rank percentiles.
fn percentiles(times_ns: &mut [u64]) -> Percentiles {
    times_ns.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (times_ns.len() * per_mille).div_ceil(1000).max(1);
        times_ns.get(rank - 1).copied().unwrap_or(0)
    };
    Percentiles { p50: at(500), p99: at(990), p999: at(999) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::matrix::{self, Work};

    #[test]
    fn every_operation_runs_and_cleans_up() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for cell in matrix::demo() {
            let Work::Metadata(mut job) = cell.work else { continue };
            job.files = 20;
            let arena =
                Arena::prepare(job, dir.path(), dir.path(), &cell.id).expect("can be prepared");
            let run = arena.measure(&Cancel::default()).expect("works on a plain directory");
            if job.operation.is_consuming() {
                assert_eq!(run.operations, 20, "{}", cell.id);
            } else {
                assert!(run.seconds >= AT_LEAST.as_secs_f64(), "{}", cell.id);
            }
            assert!(run.latency_ns.p50 > 0 && run.latency_ns.p50 <= run.latency_ns.p999);
            arena.remove().expect("can be removed");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_listing_that_lost_a_name_fails() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let job = MetadataJob { operation: MetadataOperation::Readdir, files: 20 };
        let arena = Arena::prepare(job, dir.path(), dir.path(), "d").expect("can be prepared");
        fs::remove_file(dir.path().join("d/f000003")).expect("exists");
        let error = arena.measure(&Cancel::default()).expect_err("a name is missing");
        assert!(error.contains("Readdir"), "{error}");
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut times: Vec<u64> = (1..=1000).rev().collect();
        assert_eq!(percentiles(&mut times), Percentiles { p50: 500, p99: 990, p999: 999 });
        assert_eq!(percentiles(&mut [7]), Percentiles { p50: 7, p99: 7, p999: 7 });
        assert_eq!(percentiles(&mut []), Percentiles::default());
    }
}
