//! Lookups and forgets from several threads at once.

use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;

use super::*;

const THREADS: usize = 4;
const ROUNDS: usize = 2000;
const FILES: usize = 8;

/// Each thread forgets exactly what it was given, as the kernel does.
fn race(by: By, fd_capacity: usize) {
    let source = Source::new(by, fd_capacity);
    let names: Vec<_> = (0..FILES).map(|n| format!("file {n}")).collect();
    for name in &names {
        source.make(name);
    }
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (source, names, start) = (&source, &names, &start);
            scope.spawn(move || {
                start.wait();
                let mut held = Vec::new();
                for round in 0..ROUNDS {
                    let name = &names[(round * 7 + round / 5 + thread) % FILES];
                    let keep = if round % 3 == 0 { Keep::Nothing } else { Keep::Fd };
                    let nodeid = source.lookup(name, keep).nodeid;
                    held.push((nodeid, name));
                    // A nodeid stays valid, and stays this file, until it is forgotten.
                    for (nodeid, name) in &held {
                        source.table.get(*nodeid).expect("a lookup is held");
                        if round % 16 == 0 {
                            assert_eq!(source.content(*nodeid).as_ref(), Ok(*name));
                        }
                    }
                    if held.len() == 5 || round % 2 == 0 {
                        let (nodeid, _) = held.swap_remove(round % held.len());
                        source.table.forget(nodeid, 1);
                    }
                }
                for (nodeid, _) in held {
                    source.table.forget(nodeid, 1);
                }
            });
        }
    });
    assert_eq!(source.known(), 0, "by {by:?}");
    assert!(source.table.cached_fds() <= fd_capacity as u64);
}

#[test]
fn racing_lookups_and_forgets_end_with_nothing_known() {
    race(By::Handle, 100);
    race(By::Name, 100);
}

#[test]
fn so_they_do_when_descriptors_are_evicted_all_the_time() {
    race(By::Handle, 2);
}

/// The same file, of which each thread holds at most one lookup: it is known and unknown in turn.
#[test]
fn a_nodeid_is_never_lost_between_the_last_forget_and_the_next_lookup() {
    let source = Source::new(By::Handle, 4);
    source.make("file");
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..5 * ROUNDS {
                    let nodeid = source.nodeid("file");
                    let inode = source.table.get(nodeid).expect("a lookup is held");
                    assert_eq!(inode.nodeid, nodeid);
                    source.table.forget(nodeid, 1);
                }
            });
        }
    });
    assert_eq!(source.known(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Lookup(usize, bool),
    Forget(usize, u64),
    Use(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..FILES, any::<bool>()).prop_map(|(file, keep)| Step::Lookup(file, keep)),
        2 => (0..FILES, 1..4_u64).prop_map(|(file, count)| Step::Forget(file, count)),
        2 => (0..FILES).prop_map(Step::Use),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_sequence_agrees_with_a_map_of_counts(
        steps in prop::collection::vec(step(), 1..80),
        capacity in 0..6_usize,
        by_handle in any::<bool>(),
    ) {
        let by = if by_handle { By::Handle } else { By::Name };
        let source = Source::new(by, capacity);
        let names: Vec<_> = (0..FILES).map(|n| n.to_string()).collect();
        names.iter().for_each(|name| source.make(name));
        let mut model: [Option<(NodeId, u64)>; FILES] = [None; FILES];
        for step in steps {
            match step {
                Step::Lookup(file, keep) => {
                    let keep = if keep { Keep::Fd } else { Keep::Nothing };
                    let nodeid = source.lookup(&names[file], keep).nodeid;
                    let (known, count) = model[file].get_or_insert((nodeid, 0));
                    prop_assert_eq!(*known, nodeid);
                    *count += 1;
                }
                Step::Forget(file, count) => {
                    if let Some((nodeid, known)) = model[file] {
                        let count = count.min(known);
                        source.table.forget(nodeid, count);
                        model[file] = (known > count).then_some((nodeid, known - count));
                    }
                }
                Step::Use(file) => {
                    if let Some((nodeid, _)) = model[file] {
                        prop_assert_eq!(source.content(nodeid), Ok(names[file].clone()));
                    }
                }
            }
            prop_assert_eq!(source.known(), model.iter().flatten().count() as u64);
            prop_assert!(source.table.cached_fds() <= capacity as u64);
        }
    }
}
