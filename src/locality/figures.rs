//! What was read where (relaxed: figures).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Miss;
use crate::metrics::snapshot;

#[derive(Debug, Default)]
pub(super) struct Figures {
    reads: AtomicU64,
    bytes: AtomicU64,
    through: AtomicU64,
    held: AtomicU64,
    checks: AtomicU64,
    misses: [AtomicU64; Miss::ALL.len()],
}

impl Figures {
    /// A READ was answered from a replica.
    pub(super) fn read(&self, bytes: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A READ has to go through the mount.
    pub(super) fn read_through(&self) {
        self.through.fetch_add(1, Relaxed);
    }

    /// The kernel is given a replica to read by itself.
    pub(super) fn held(&self) {
        self.held.fetch_add(1, Relaxed);
    }

    /// A replica was looked for.
    pub(super) fn checked(&self, miss: Option<Miss>) {
        self.checks.fetch_add(1, Relaxed);
        let slot = miss.and_then(|miss| Miss::ALL.iter().position(|known| *known == miss));
        if let Some(slot) = slot {
            self.misses[slot].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn snapshot(&self, base: snapshot::Locality) -> snapshot::Locality {
        let figure = |figure: &AtomicU64| figure.load(Relaxed);
        let misses = Miss::ALL.iter().zip(&self.misses).map(|(miss, count)| (miss, figure(count)));
        let misses = misses.filter(|(_, count)| *count > 0);
        snapshot::Locality {
            replica_reads: figure(&self.reads),
            replica_bytes: figure(&self.bytes),
            mount_reads: figure(&self.through),
            held_opens: figure(&self.held),
            checks: figure(&self.checks),
            misses: misses.map(|(miss, count)| (miss.name().to_owned(), count)).collect(),
            ..base
        }
    }
}
