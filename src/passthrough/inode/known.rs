//! What the kernel knows: nodeids, and how many lookups of each it has to take back.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::{BuildHasher, Hash};

use rustc_hash::FxBuildHasher;

use super::parts::Part;
use crate::fs::NodeId;
use crate::passthrough::shard::SHARDS;
use crate::sys::handle::FileHandle;

/// What an inode is, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::passthrough) enum Key {
    /// Its handle, on the source's own file system.
    Handle(FileHandle),
    /// Where it lies, device, number, and what else tells it from a later inode of that number (see
    /// `reach`).
    Number { part: Part, dev: u64, ino: u64, born: u64 },
}

impl Key {
    /// Where it lies.
    pub(super) fn part(&self) -> Part {
        match self {
            Key::Handle(_) => Part::MAIN,
            Key::Number { part, .. } => *part,
        }
    }
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
    /// nodeid was given out at all. What lies on another file system, and has no such handle, gets
    /// one of those that would be of number 0, which no inode has.
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
            // 1 is the root's nodeid.
            return match (ino, generation) {
                (1, 0) => NodeId(ONE),
                _ => NodeId(u64::from(ino) | u64::from(generation) << 32),
            };
        }
        let hash = FxBuildHasher.hash_one(key);
        match self {
            Scheme::Number => unreserved(hash >> 32 << 32),
            Scheme::Hash => unreserved(hash),
        }
    }

    /// Whether a nodeid is a number and a generation.
    pub(super) fn is_counted(self, nodeid: NodeId) -> bool {
        self == Scheme::Number && (nodeid.0 << 32 != 0 || nodeid.0 == ONE)
    }

    /// The handle of a nodeid that is a number and a generation.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits")]
    pub(super) fn handle(nodeid: NodeId) -> FileHandle {
        match (nodeid.0 as u32, (nodeid.0 >> 32) as u32) {
            (0, 1) => FileHandle::from_ino32(1, 0),
            (ino, generation) => FileHandle::from_ino32(ino, generation),
        }
    }
}

/// The nodeid of inode 1 of generation 0.
const ONE: u64 = 1 << 32;

/// The part of a shard's inodes that the kernel knows.
#[derive(Debug)]
pub(super) struct Known {
    scheme: Scheme,
    /// Lookups of those whose nodeid says it all.
    counts: Map<NodeId, u64>,
    /// The others.
    records: Records,
}

#[derive(Debug, Default)]
struct Records {
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
        Known { scheme, counts: Map::default(), records: Records::default() }
    }

    /// Counts a lookup of `key`, of which [`Scheme::nodeid`] says `wanted`; tells its nodeid.
    pub(super) fn add(&mut self, key: &Key, wanted: NodeId, way: Option<Way>) -> NodeId {
        if self.scheme.is_counted(wanted) {
            *self.counts.entry(wanted).or_default() += 1;
            return wanted;
        }
        self.records.add(key, wanted, way)
    }

    /// Counts a lookup of a nodeid that is known; tells whether it is.
    pub(super) fn add_to(&mut self, nodeid: NodeId) -> bool {
        let nlookup = match self.scheme.is_counted(nodeid) {
            true => self.counts.get_mut(&nodeid),
            false => self.records.by_id.get_mut(&nodeid).map(|record| &mut record.nlookup),
        };
        nlookup.map(|nlookup| *nlookup += 1).is_some()
    }

    /// Takes lookups back; tells whether none is left. More than were given would be the kernel's
    /// mistake; the inode goes all the same.
    pub(super) fn take(&mut self, nodeid: NodeId, nlookup: u64) -> bool {
        if !self.scheme.is_counted(nodeid) {
            return self.records.take(nodeid, nlookup);
        }
        let Some(known) = self.counts.get_mut(&nodeid) else { return false };
        *known = known.saturating_sub(nlookup);
        let gone = *known == 0;
        if gone {
            self.counts.remove(&nodeid);
            shrink(&mut self.counts);
        }
        gone
    }

    /// The nodeid of `key`, of which [`Scheme::nodeid`] says `wanted`, if it is known.
    pub(super) fn find(&self, key: &Key, wanted: NodeId) -> Option<NodeId> {
        match self.scheme.is_counted(wanted) {
            true => self.counts.contains_key(&wanted).then_some(wanted),
            false => self.records.find(key, wanted),
        }
    }

    /// What a nodeid stands for, if it is known.
    pub(super) fn key(&self, nodeid: NodeId) -> Option<Key> {
        match self.scheme.is_counted(nodeid) {
            true => self.counts.contains_key(&nodeid).then(|| Key::Handle(Scheme::handle(nodeid))),
            false => self.records.by_id.get(&nodeid).map(|record| record.key),
        }
    }

    /// What a nodeid stands for, and where it was last seen.
    pub(super) fn way(&self, nodeid: NodeId) -> Option<(Key, &Way)> {
        let record = self.records.by_id.get(&nodeid)?;
        Some((record.key, record.way.as_deref()?))
    }

    /// An inode was seen elsewhere.
    pub(super) fn set_way(&mut self, nodeid: NodeId, way: Way) {
        if let Some(record) = self.records.by_id.get_mut(&nodeid) {
            record.way = Some(Box::new(way));
        }
    }

    /// What a nodeid stood for is gone, and may come again as something else.
    pub(super) fn estrange(&mut self, nodeid: NodeId) {
        let Records { by_id, displaced } = &mut self.records;
        if let Some(record) = by_id.get_mut(&nodeid) {
            displaced.remove(&record.key);
            let part = record.key.part();
            record.key = Key::Number { part, dev: u64::MAX, ino: nodeid.0, born: u64::MAX };
            record.way = None;
        }
    }

    pub(super) fn nodeids(&self) -> Vec<NodeId> {
        self.counts.keys().chain(self.records.by_id.keys()).copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len() + self.records.by_id.len()
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
            nodeid = unreserved(nodeid.0.wrapping_add(STEP));
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

/// The shard of a nodeid: both halves count, as one of them may always be the same.
pub(super) fn shard(nodeid: NodeId) -> usize {
    usize::try_from((nodeid.0 ^ nodeid.0 >> 32) % SHARDS as u64).unwrap_or(0)
}

/// From a nodeid to another of the same shard, and the same lower half.
const STEP: u64 = (SHARDS as u64) << 32;

/// A nodeid of the same shard that is neither 0, which is none, nor the root's or that of inode 1.
fn unreserved(raw: u64) -> NodeId {
    NodeId(if raw > NodeId::ROOT.0 && raw != ONE { raw } else { raw + STEP })
}

/// Gives memory back once most of it is unused.
fn shrink<V>(map: &mut Map<NodeId, V>) {
    if map.capacity() > 1024 && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests;
