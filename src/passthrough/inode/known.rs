//! What the kernel knows: nodeids, and how many lookups of each it has to take back.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::{BuildHasher, Hash};

use rustc_hash::FxBuildHasher;

use crate::fs::NodeId;
use crate::passthrough::shard::SHARDS;
use crate::sys::handle::FileHandle;

/// What an inode is, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::passthrough) enum Key {
    Handle(FileHandle),
    /// Device, number, and what else tells it from a later inode of that number (see `reach`).
    Number {
        dev: u64,
        ino: u64,
        born: u64,
    },
}

/// Where an inode was last seen, for those that nothing else leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) parent: NodeId,
    pub(super) name: CString,
}

/// Numbers and generations that file systems give: nobody can choose them to collide, so they need
/// no keyed hash.
pub(super) type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// How nodeids are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// The nodeid is the handle, an inode number and a generation of 32 bits each. Nothing is kept
    /// of an inode but the count of its lookups, which tells when a deleted one may go, and that a
    /// nodeid was given out at all.
    Number,
    /// The nodeid is a hash of the key, which is kept.
    Hash,
}

impl Scheme {
    /// The nodeid of `key`, unless another inode has it.
    pub(super) fn nodeid(self, key: &Key) -> NodeId {
        if let (Scheme::Number, Key::Handle(handle)) = (self, key)
            && let Some((ino, generation)) = handle.ino32()
        {
            // 1 is the root's nodeid. There is no inode 0.
            return match (ino, generation) {
                (1, 0) => NodeId(1 << 32),
                _ => NodeId(u64::from(ino) | u64::from(generation) << 32),
            };
        }
        unreserved(FxBuildHasher.hash_one(key))
    }

    /// The key of a nodeid that is a number and a generation.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits")]
    fn key(nodeid: NodeId) -> Key {
        Key::Handle(match (nodeid.0 as u32, (nodeid.0 >> 32) as u32) {
            (0, 1) => FileHandle::from_ino32(1, 0),
            (ino, generation) => FileHandle::from_ino32(ino, generation),
        })
    }
}

/// The part of a shard's inodes that the kernel knows.
#[derive(Debug)]
pub(super) enum Known {
    Numbers(Map<NodeId, u64>),
    Hashes(Records),
}

#[derive(Debug, Default)]
pub(super) struct Records {
    by_id: Map<NodeId, Record>,
    /// Those whose hash another had when they came, hardly ever any.
    displaced: Map<Key, NodeId>,
}

#[derive(Debug)]
struct Record {
    key: Key,
    nlookup: u64,
    way: Option<Box<Way>>,
}

impl Known {
    pub(super) fn new(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Number => Known::Numbers(Map::default()),
            Scheme::Hash => Known::Hashes(Records::default()),
        }
    }

    /// Counts a lookup of `key`, of which [`Scheme::nodeid`] says `wanted`; tells its nodeid.
    pub(super) fn add(&mut self, key: &Key, wanted: NodeId, way: Option<Way>) -> NodeId {
        match self {
            Known::Numbers(counts) => {
                *counts.entry(wanted).or_default() += 1;
                wanted
            }
            Known::Hashes(records) => records.add(key, wanted, way),
        }
    }

    /// Counts a lookup of a nodeid that is known; tells whether it is.
    pub(super) fn add_to(&mut self, nodeid: NodeId) -> bool {
        let nlookup = match self {
            Known::Numbers(counts) => counts.get_mut(&nodeid),
            Known::Hashes(records) => {
                records.by_id.get_mut(&nodeid).map(|record| &mut record.nlookup)
            }
        };
        nlookup.map(|nlookup| *nlookup += 1).is_some()
    }

    /// Takes lookups back; tells whether none is left. More than were given would be the kernel's
    /// mistake; the inode goes all the same.
    pub(super) fn take(&mut self, nodeid: NodeId, nlookup: u64) -> bool {
        match self {
            Known::Numbers(counts) => {
                let Some(known) = counts.get_mut(&nodeid) else { return false };
                *known = known.saturating_sub(nlookup);
                let gone = *known == 0;
                if gone {
                    counts.remove(&nodeid);
                    shrink(counts);
                }
                gone
            }
            Known::Hashes(records) => records.take(nodeid, nlookup),
        }
    }

    /// The nodeid of `key`, of which [`Scheme::nodeid`] says `wanted`, if it is known.
    pub(super) fn find(&self, key: &Key, wanted: NodeId) -> Option<NodeId> {
        match self {
            Known::Numbers(counts) => counts.contains_key(&wanted).then_some(wanted),
            Known::Hashes(records) => records.find(key, wanted),
        }
    }

    /// What a nodeid stands for, if it is known.
    pub(super) fn key(&self, nodeid: NodeId) -> Option<Key> {
        match self {
            Known::Numbers(counts) => counts.contains_key(&nodeid).then(|| Scheme::key(nodeid)),
            Known::Hashes(records) => records.by_id.get(&nodeid).map(|record| record.key),
        }
    }

    /// What a nodeid stands for, and where it was last seen.
    pub(super) fn way(&self, nodeid: NodeId) -> Option<(Key, &Way)> {
        let Known::Hashes(records) = self else { return None };
        let record = records.by_id.get(&nodeid)?;
        Some((record.key, record.way.as_deref()?))
    }

    /// An inode was seen elsewhere.
    pub(super) fn set_way(&mut self, nodeid: NodeId, way: Way) {
        if let Known::Hashes(records) = self
            && let Some(record) = records.by_id.get_mut(&nodeid)
        {
            record.way = Some(Box::new(way));
        }
    }

    /// What a nodeid stood for is gone, and may come again as something else.
    pub(super) fn estrange(&mut self, nodeid: NodeId) {
        if let Known::Hashes(records) = self
            && let Some(record) = records.by_id.get_mut(&nodeid)
        {
            records.displaced.remove(&record.key);
            record.key = Key::Number { dev: u64::MAX, ino: nodeid.0, born: u64::MAX };
            record.way = None;
        }
    }

    pub(super) fn nodeids(&self) -> Vec<NodeId> {
        match self {
            Known::Numbers(counts) => counts.keys().copied().collect(),
            Known::Hashes(records) => records.by_id.keys().copied().collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Known::Numbers(counts) => counts.len(),
            Known::Hashes(records) => records.by_id.len(),
        }
    }
}

impl Records {
    fn find(&self, key: &Key, wanted: NodeId) -> Option<NodeId> {
        let is_it =
            |nodeid: &NodeId| self.by_id.get(nodeid).is_some_and(|record| record.key == *key);
        if is_it(&wanted) {
            return Some(wanted);
        }
        self.displaced.get(key).copied()
    }

    fn add(&mut self, key: &Key, wanted: NodeId, way: Option<Way>) -> NodeId {
        if let Some(nodeid) = self.find(key, wanted) {
            let record = self.by_id.get_mut(&nodeid).expect("it was just found");
            record.nlookup += 1;
            if let Some(way) = way
                && record.way.as_deref() != Some(&way)
            {
                record.way = Some(Box::new(way));
            }
            return nodeid;
        }
        let mut nodeid = wanted;
        while self.by_id.contains_key(&nodeid) {
            // Of the same shard.
            nodeid = unreserved(nodeid.0.wrapping_add(SHARDS as u64));
        }
        if nodeid != wanted {
            self.displaced.insert(*key, nodeid);
        }
        self.by_id.insert(nodeid, Record { key: *key, nlookup: 1, way: way.map(Box::new) });
        nodeid
    }

    fn take(&mut self, nodeid: NodeId, nlookup: u64) -> bool {
        let Some(record) = self.by_id.get_mut(&nodeid) else { return false };
        record.nlookup = record.nlookup.saturating_sub(nlookup);
        let gone = record.nlookup == 0;
        if gone {
            if !self.displaced.is_empty() {
                self.displaced.remove(&record.key);
            }
            self.by_id.remove(&nodeid);
            shrink(&mut self.by_id);
        }
        gone
    }
}

/// A nodeid of the same shard that is neither 0, which is none, nor the root's.
fn unreserved(raw: u64) -> NodeId {
    NodeId(if raw > NodeId::ROOT.0 { raw } else { raw + SHARDS as u64 })
}

/// Gives memory back once most of it is unused.
fn shrink<V>(map: &mut Map<NodeId, V>) {
    if map.capacity() > 1024 && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests;
