//! Room for descriptors, when there is none.

use std::sync::Arc;

use nix::errno::Errno;

use crate::fs::NodeId;
use crate::passthrough::inode::tests::{By, Source};
use crate::passthrough::inode::{Inode, Keep};

/// A table that has looked up `count` files and keeps a descriptor of each.
fn source_with(count: usize) -> (Source, Vec<Arc<Inode>>) {
    let source = Source::new(By::Handle, 1000);
    let inodes = (0..count).map(|n| {
        let name = n.to_string();
        source.make(&name);
        source.lookup(&name, Keep::Fd)
    });
    let inodes = inodes.collect();
    (source, inodes)
}

fn open(inodes: &[Arc<Inode>]) -> usize {
    inodes.iter().filter(|inode| inode.has_fd()).count()
}

/// Fails with `errno` as long as more than `enough` of `inodes` have a descriptor.
fn until(inodes: &[Arc<Inode>], enough: usize, errno: Errno) -> impl FnMut() -> Result<u32, Errno> {
    move || if open(inodes) > enough { Err(errno) } else { Ok(7) }
}

#[test]
fn room_is_made_when_descriptors_have_run_out() {
    for errno in [Errno::EMFILE, Errno::ENFILE] {
        for count in [1, 2, 3, 10] {
            let (source, inodes) = source_with(count);
            let enough = until(&inodes, count - 1, errno);
            assert_eq!(source.table.make_room(enough), Ok(7), "{errno} with {count} cached");
            assert_eq!(open(&inodes), count / 2, "half stay, rounded down");
            assert_eq!(source.table.cached_fds(), (count / 2) as u64);
            for inode in &inodes {
                source.table.fd_of(inode).expect("reopened");
            }
        }
    }
}

#[test]
fn nothing_is_closed_for_a_success_or_another_error() {
    let (source, inodes) = source_with(10);
    assert_eq!(source.table.make_room(|| Ok(7)), Ok(7));
    let mut calls = 0;
    let denied = source.table.make_room(|| {
        calls += 1;
        Err::<(), _>(Errno::EACCES)
    });
    assert_eq!((denied, calls, open(&inodes)), (Err(Errno::EACCES), 1, 10));
}

#[test]
fn it_is_told_when_there_is_nothing_left_to_close() {
    let (source, _) = source_with(0);
    let mut calls = 0;
    let result = source.table.make_room(|| {
        calls += 1;
        assert!(calls < 100, "it must give up at last");
        Err::<(), _>(Errno::EMFILE)
    });
    assert_eq!(result, Err(Errno::ENFILE), "it is not the caller who has too many files open");
}

#[test]
fn forgotten_inodes_do_not_count_as_room_made() {
    let (source, mut inodes) = source_with(10);
    for inode in inodes.drain(..8) {
        source.table.forget(inode.nodeid, 1);
    }
    let made = source.table.make_room(until(&inodes, 1, Errno::EMFILE));
    assert_eq!(made, Ok(7), "a descriptor could have been closed, and was not");
}

#[test]
fn pinned_inodes_do_not_count_as_room_made() {
    let (source, mut inodes) = source_with(10);
    for (n, inode) in inodes.drain(..8).enumerate() {
        assert!(source.remove(&n.to_string()));
        assert!(inode.has_fd());
    }
    let made = source.table.make_room(until(&inodes, 1, Errno::EMFILE));
    assert_eq!(made, Ok(7), "a descriptor could have been closed, and was not");
}

#[test]
fn what_is_not_used_between_two_ticks_is_closed() {
    let (source, inodes) = source_with(3);
    source.table.age();
    source.table.fd_of(&inodes[0]).expect("known");
    assert!(source.table.age(), "one was used and is left");
    assert_eq!(open(&inodes), 1);
    assert!(!source.table.age(), "nothing is left");
    assert_eq!(open(&inodes), 0);
    source.table.fd_of(&inodes[0]).expect("reopened by its handle");
}

#[test]
fn the_oldest_go_first_but_what_was_used_gets_another_round() {
    let (source, inodes) = source_with(8);
    for inode in &inodes[..2] {
        source.table.fd_of(inode).expect("known");
    }
    source.table.make_room(until(&inodes, 7, Errno::EMFILE)).expect("room");
    let state: Vec<_> = inodes.iter().map(|inode| inode.has_fd()).collect();
    assert_eq!(state, [true, true, false, false, false, false, true, true]);
}

#[test]
fn inodes_that_are_all_in_use_still_make_room() {
    let (source, inodes) = source_with(8);
    for inode in &inodes {
        source.table.fd_of(inode).expect("known");
    }
    source.table.make_room(until(&inodes, 7, Errno::EMFILE)).expect("room");
    assert_eq!(open(&inodes), 4);
}

#[test]
fn the_root_is_never_closed() {
    let (source, _) = source_with(3);
    for _ in 0..5 {
        let _ = source.table.make_room(|| Err::<(), _>(Errno::EMFILE));
    }
    assert_eq!(source.table.cached_fds(), 0);
    let root = source.table.get(NodeId::ROOT).expect("the root");
    assert!(root.has_fd());
}
