//! Directory streams of a kernel that opens directories by itself: it names a directory and a
//! position, and mostly the position where its last request has ended.
//!
//! A few streams of each worker stay open between two requests. One that has gone is no loss: another
//! is opened and begins at the same position.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

use super::dir::DirStream;
use super::shard::{self, SHARDS};
use crate::fs::NodeId;

/// Streams that each worker keeps.
const KEPT: usize = 4;

#[derive(Debug)]
struct Kept {
    nodeid: NodeId,
    listing: u64,
    stream: DirStream,
    /// Since streams were last aged.
    used: bool,
}

/// Those that nobody reads at the moment.
#[derive(Debug, Default)]
pub(super) struct Streams {
    shards: [CachePadded<Mutex<Vec<Kept>>>; SHARDS],
    /// Listings that were begun, of whatever directory.
    begun: CachePadded<AtomicU64>,
}

impl Streams {
    /// To be asked with each request, before anything is read for it. A stream of another number has
    /// read ahead, it or the file system below, what may be older than the listing that it would
    /// become a part of. No request says which listing it belongs to, so that any new one counts.
    pub(super) fn listing(&self, offset: u64) -> u64 {
        match offset {
            0 => self.begun.fetch_add(1, SeqCst) + 1,
            _ => self.begun.load(SeqCst),
        }
    }

    /// A stream of `nodeid` that stands at `offset`, which the caller then has for itself. None at the
    /// start, where everything is read anew.
    ///
    /// No stream is led elsewhere: ext4 lists nothing from the start of a directory that was opened
    /// and first read at its end (`ext4_dx_readdir()` keeps the hash it began with).
    pub(super) fn take(&self, nodeid: NodeId, offset: u64, listing: u64) -> Option<DirStream> {
        let mut kept = self.shard(shard::own());
        let there = |kept: &Kept| {
            (kept.nodeid, kept.listing, kept.stream.position()) == (nodeid, listing, offset)
        };
        let at = kept.iter().position(there).filter(|_| offset != 0)?;
        Some(kept.remove(at).stream)
    }

    /// Keeps a stream for the next request; of too many the one goes that was kept for longest.
    pub(super) fn keep(&self, nodeid: NodeId, listing: u64, stream: DirStream) {
        let mut kept = self.shard(shard::own());
        let oldest = (kept.len() == KEPT).then(|| kept.remove(0));
        kept.push(Kept { nodeid, listing, stream, used: true });
        // Closing it may take a while.
        drop(kept);
        drop(oldest);
    }

    /// Closes what was not used since this was last called; tells whether any is left.
    pub(super) fn age(&self) -> bool {
        let mut left = false;
        for shard in 0..SHARDS {
            let mut kept = self.shard(shard);
            kept.retain_mut(|kept| std::mem::take(&mut kept.used));
            left |= !kept.is_empty();
        }
        left
    }

    fn shard(&self, shard: usize) -> MutexGuard<'_, Vec<Kept>> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn stream() -> DirStream {
        let mut stream = DirStream::default();
        stream.open(File::open("/").expect("every machine has it").into());
        stream.advance(0, 5);
        stream
    }

    #[test]
    fn a_stream_is_one_readers_at_a_time() {
        let streams = Streams::default();
        assert!(streams.take(NodeId(7), 5, 1).is_none());
        streams.keep(NodeId(7), 1, stream());
        assert!(streams.take(NodeId(8), 5, 1).is_none());
        assert!(streams.take(NodeId(7), 6, 1).is_none());
        assert!(streams.take(NodeId(7), 5, 2).is_none(), "a listing has begun since");
        assert!(streams.take(NodeId(7), 5, 1).is_some());
        assert!(streams.take(NodeId(7), 5, 1).is_none());
    }

    #[test]
    fn a_directory_is_read_anew_from_its_start() {
        let (streams, mut begun) = (Streams::default(), stream());
        begun.advance(0, 0);
        streams.keep(NodeId(7), 1, begun);
        assert!(streams.take(NodeId(7), 0, 1).is_none());
    }

    #[test]
    fn few_are_kept_and_none_for_long() {
        let streams = Streams::default();
        for nodeid in 1..=10 {
            streams.keep(NodeId(nodeid), 1, stream());
        }
        let left = (1..=10).filter_map(|nodeid| streams.take(NodeId(nodeid), 5, 1)).count();
        assert_eq!(left, KEPT);
        streams.keep(NodeId(1), 1, stream());
        assert!(streams.age(), "it was used a moment ago");
        assert!(!streams.age());
        assert!(streams.take(NodeId(1), 5, 1).is_none());
    }
}
