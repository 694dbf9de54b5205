//! Nodeids: whose they are, however they are given.

use super::*;

fn numbered(ino: u32, generation: u32) -> Key {
    Key::Handle(FileHandle::from_ino32(ino, generation))
}

#[test]
fn a_nodeid_that_is_a_handle_tells_it_and_is_never_the_roots() {
    let mut known = Known::new(Scheme::Number);
    let pairs = [(1, 0), (1, 1), (2, 0), (11, u32::MAX), (u32::MAX, u32::MAX), (1, 7), (7, 1)];
    for (ino, generation) in pairs {
        let key = numbered(ino, generation);
        let nodeid = Scheme::Number.nodeid(&key);
        assert!(nodeid > NodeId::ROOT, "{key:?}");
        assert_eq!(known.key(nodeid), None, "it was not given out");
        assert_eq!(known.add(&key, nodeid, None), nodeid);
        assert_eq!(known.key(nodeid), Some(key));
    }
    assert_eq!(known.len(), pairs.len(), "each has its own");
}

#[test]
fn a_hash_is_never_the_roots_and_keeps_its_shard() {
    for raw in [0, 1, 2, 15, 16, ONE, u64::MAX] {
        let nodeid = unreserved(raw);
        assert!(nodeid > NodeId::ROOT && nodeid.0 != ONE);
        assert_eq!(shard(nodeid), shard(NodeId(raw)));
    }
}

fn number(ino: u64) -> Key {
    Key::Number { part: Part::MAIN, dev: 1, ino, born: 0 }
}

/// Beside numbers, which take nearly every nodeid.
#[test]
fn what_has_no_handle_never_gets_the_nodeid_of_one_that_has() {
    let mut known = Known::new(Scheme::Number);
    for ino in 1..1000 {
        let key = number(ino);
        let wanted = Scheme::Number.nodeid(&key);
        assert!(wanted.0 << 32 == 0 && wanted.0 > ONE, "{wanted:?}");
        let nodeid = known.add(&key, wanted, None);
        assert_eq!((known.key(nodeid), known.find(&key, wanted)), (Some(key), Some(nodeid)));
    }
    let wanted = NodeId(7 << 32);
    let ids = [2000, 2001].map(|ino| known.add(&number(ino), wanted, None));
    assert_eq!((ids[0], ids[1].0 << 32, shard(ids[1])), (wanted, 0, shard(wanted)));
    let one = Scheme::Number.nodeid(&numbered(1, 0));
    known.add(&numbered(1, 0), one, None);
    assert_eq!((known.len(), known.nodeids().len()), (1002, 1002));
    assert!(ids.iter().all(|nodeid| known.take(*nodeid, 1)) && known.take(one, 1));
    assert_eq!((known.len(), known.key(one)), (999, None));
}

/// The same hash for each of them, which no test could find keys for.
#[test]
fn inodes_whose_hash_is_the_same_are_told_apart() {
    let wanted = NodeId(u64::MAX);
    let mut known = Known::new(Scheme::Hash);
    let ids = [1, 2, 3].map(|ino| known.add(&number(ino), wanted, None));
    assert!(
        ids[0] == wanted && ids[1] != ids[0] && ids[2] != ids[1] && ids[2] != ids[0],
        "{ids:?}"
    );
    assert!(ids.iter().all(|nodeid| nodeid.0 > 1 && shard(*nodeid) == shard(wanted)), "{ids:?}");
    for (ino, nodeid) in (1..).zip(ids) {
        assert_eq!(known.find(&number(ino), wanted), Some(nodeid));
        assert_eq!(known.key(nodeid), Some(number(ino)));
    }
    // The first goes, and the others are still who they are.
    assert!(known.take(ids[0], 1));
    assert_eq!(known.find(&number(1), wanted), None);
    assert_eq!(known.add(&number(2), wanted, None), ids[1], "not a second nodeid");
    assert_eq!(known.add(&number(4), wanted, None), wanted);
    assert!(!known.take(ids[1], 1) && known.take(ids[1], 1));
    assert_eq!(known.find(&number(2), wanted), None);
    assert_eq!(known.len(), 2);
}

#[test]
fn memory_is_given_back_once_most_are_forgotten() {
    let mut known = Known::new(Scheme::Number);
    for ino in 10..100_010 {
        known.add(&numbered(ino, 1), NodeId(ino.into()), None);
    }
    for ino in 10..100_000 {
        assert!(known.take(NodeId(ino), 1));
    }
    let counts = &known.counts;
    assert!(counts.len() == 10 && counts.capacity() < 2000, "{}", counts.capacity());
}
