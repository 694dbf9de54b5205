//! What is measured: the cells, as data. Owns their identity and their names; knows nothing of
//! how they are run.

use serde::{Deserialize, Serialize};

use super::fio::FioSettings;
use super::work;

/// An operation which leaves its files as they were is repeated for so long.
const METADATA_SECONDS: f64 = 0.12;

/// One row of the result: a workload with its cache state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Stable name, as `direct-randread-4k-qd32`.
    pub id: String,
    /// What a reader sees.
    pub title: String,
    /// What is done.
    pub work: Work,
    /// In which state of the caches.
    pub cache: CacheState,
}

/// What is done in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    /// One fio job over the shared test file.
    Fio(FioJob),
    /// The generator of metadata operations.
    Metadata(MetadataJob),
}

/// State of the page cache and the dentry cache when the timing starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheState {
    /// Read (or looked up) once through the measured system.
    Warm,
    /// O_DIRECT, no page of the file cached.
    Direct,
}

/// One fio job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FioJob {
    /// Order of the offsets.
    pub access: Access,
    /// Reads or writes.
    pub direction: Direction,
    /// Bytes of one operation.
    pub block_bytes: u64,
    /// Operations in flight with O_DIRECT; `None` is buffered pread/pwrite.
    pub direct_queue_depth: Option<u32>,
}

/// Order of a job's offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// One after the other.
    Sequential,
    /// Uniformly random.
    Random,
}

/// Direction of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

impl FioJob {
    /// fio's name for access and direction.
    pub fn rw(&self) -> &'static str {
        match (self.access, self.direction) {
            (Access::Sequential, Direction::Read) => "read",
            (Access::Sequential, Direction::Write) => "write",
            (Access::Random, Direction::Read) => "randread",
            (Access::Random, Direction::Write) => "randwrite",
        }
    }
}

/// One metadata job, of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataJob {
    /// The operation that is timed.
    pub operation: MetadataOperation,
    /// Files in the directory.
    pub files: usize,
}

/// A timed metadata operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataOperation {
    /// stat of an existing file.
    Stat,
    /// open for reading, close.
    OpenClose,
    /// create, write 4 KiB, close.
    CreateWriteClose,
    /// open the directory, list all of it, close.
    Readdir,
    /// rename within the directory.
    Rename,
    /// unlink.
    Unlink,
}

/// What the figure of a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 10^6 bytes a second.
    MegabytesPerSecond,
    /// 10^3 operations a second.
    KiloOperationsPerSecond,
    /// Microseconds an operation.
    MicrosecondsPerOperation,
}

impl Unit {
    /// Whether a larger figure is better, and the ratio a share of native's.
    pub fn is_rate(self) -> bool {
        self != Unit::MicrosecondsPerOperation
    }
}

impl Cell {
    /// What the figure of this cell is.
    pub fn unit(&self) -> Unit {
        match self.work {
            Work::Fio(FioJob { access: Access::Sequential, .. }) => Unit::MegabytesPerSecond,
            Work::Fio(_) => Unit::KiloOperationsPerSecond,
            Work::Metadata(_) => Unit::MicrosecondsPerOperation,
        }
    }

    /// What it is in the words of a study.
    pub(crate) fn resolve(&self, fio: &FioSettings) -> work::Work {
        match self.work {
            Work::Fio(job) => work::Work::Fio(work::Fio {
                rw: job.rw().to_owned(),
                block_bytes: job.block_bytes,
                engine: match job.direct_queue_depth {
                    Some(_) => fio.direct_engine.to_owned(),
                    None => "psync".to_owned(),
                },
                depth: job.direct_queue_depth,
                jobs: 1,
                fsync: 0,
                dsync: false,
                seconds: fio.seconds,
                size_mib: fio.size_mib,
                is_once: false,
            }),
            Work::Metadata(job) => work::Work::Operation(work::Operations {
                operation: match job.operation {
                    MetadataOperation::Stat => work::Operation::Stat,
                    MetadataOperation::OpenClose => work::Operation::OpenClose,
                    MetadataOperation::CreateWriteClose => work::Operation::Create,
                    MetadataOperation::Readdir => work::Operation::Readdir,
                    MetadataOperation::Rename => work::Operation::Rename,
                    MetadataOperation::Unlink => work::Operation::Unlink,
                },
                files: job.files,
                threads: 1,
                is_shared: false,
                seconds: METADATA_SECONDS,
                passes: None,
                at_most: None,
                load_percent: None,
                rate_per_second: None,
            }),
        }
    }

    fn fio(access: Access, direction: Direction, direct_queue_depth: Option<u32>) -> Cell {
        let (block_bytes, size) = match access {
            Access::Sequential => (1 << 20, "1m"),
            Access::Random => (4 << 10, "4k"),
        };
        let job = FioJob { access, direction, block_bytes, direct_queue_depth };
        let words = match (access, direction) {
            (Access::Sequential, Direction::Read) => "seq read 1M",
            (Access::Sequential, Direction::Write) => "seq write 1M",
            (Access::Random, Direction::Read) => "rand read 4K",
            (Access::Random, Direction::Write) => "rand write 4K",
        };
        let (id, title, cache) = match direct_queue_depth {
            None => (
                format!("buffered-{}-{size}", job.rw()),
                format!("{words}, buffered"),
                CacheState::Warm,
            ),
            Some(depth) => (
                format!("direct-{}-{size}-qd{depth}", job.rw()),
                format!("{words}, O_DIRECT QD{depth}"),
                CacheState::Direct,
            ),
        };
        Cell { id, title, work: Work::Fio(job), cache }
    }

    fn metadata(id: &str, title: &str, operation: MetadataOperation, files: usize) -> Cell {
        let work = Work::Metadata(MetadataJob { operation, files });
        Cell { id: id.to_owned(), title: title.to_owned(), work, cache: CacheState::Warm }
    }
}

/// The cells of `fusewire demo`, in the order in which they are shown.
pub fn demo() -> Vec<Cell> {
    let mut cells = Vec::new();
    for depth in [None, Some(1), Some(32)] {
        for access in [Access::Sequential, Access::Random] {
            for direction in [Direction::Read, Direction::Write] {
                cells.push(Cell::fio(access, direction, depth));
            }
        }
    }
    for (id, title, operation, files) in [
        ("stat", "stat, warm", MetadataOperation::Stat, 1000),
        ("open-close", "open + close", MetadataOperation::OpenClose, 1000),
        (
            "create-write-close",
            "create + write 4K + close",
            MetadataOperation::CreateWriteClose,
            2000,
        ),
        ("readdir", "readdir of 1,000 entries", MetadataOperation::Readdir, 1000),
        ("rename", "rename", MetadataOperation::Rename, 1000),
        ("unlink", "unlink", MetadataOperation::Unlink, 2000),
    ] {
        cells.push(Cell::metadata(id, title, operation, files));
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_demo_has_the_cells_it_promises() {
        let cells = demo();
        let ids: Vec<&str> = cells.iter().map(|cell| cell.id.as_str()).collect();
        assert_eq!(ids.len(), 18);
        assert_eq!(ids[0], "buffered-read-1m");
        assert!(ids.contains(&"direct-randwrite-4k-qd32"));
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique");
    }

    #[test]
    fn units_follow_the_work() {
        for cell in demo() {
            let unit = cell.unit();
            match cell.id.as_str() {
                id if id.contains("-1m") => assert_eq!(unit, Unit::MegabytesPerSecond),
                id if id.contains("-4k") => assert_eq!(unit, Unit::KiloOperationsPerSecond),
                _ => assert_eq!(unit, Unit::MicrosecondsPerOperation),
            }
        }
    }
}
