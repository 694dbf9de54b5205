//! The kernel's mixing rules, against any sequence of opens and releases.

use std::fs::File;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Gives out ids as the kernel would, each once. The device is none, so that releasing them fails,
/// as it does when the connection is gone.
struct Ids {
    registrar: Arc<Registrar>,
    next: i32,
    /// Whether the kernel can open what is registered.
    opens: bool,
}

impl Ids {
    fn new() -> Self {
        let device = File::open("/dev/null").expect("every machine has it");
        let kernel = Kernel::new(Arc::new(device.into()), 0);
        Ids { registrar: Arc::new(Registrar::new(kernel, Writer::Daemon)), next: 1, opens: true }
    }

    fn give(&mut self) -> Option<Backing> {
        let id = BackingId(self.next);
        self.next += 1;
        self.registrar.registered.fetch_add(1, Relaxed);
        Some(Backing { id, opens: self.opens, replica: None, registrar: self.registrar.clone() })
    }

    fn registered(&self) -> u64 {
        self.registrar.registered.load(Relaxed)
    }
}

#[test]
fn overlapping_opens_share_one_id_which_outlives_them() {
    let (mut state, mut ids) = (OpenState::default(), Ids::new());
    let first = state.open(Preferred::Passthrough, || ids.give());
    assert_eq!(first, IoMode::Passthrough(BackingId(1)));
    assert_eq!(state.open(Preferred::Passthrough, || panic!("there is one")), first);
    state.release(first);
    state.release(first);
    assert_eq!(state.open(Preferred::Passthrough, || panic!("it is kept with the inode")), first);
    assert_eq!(ids.registered(), 1);
    drop(state);
    assert_eq!(ids.registered(), 0, "released with the inode");
}

#[test]
fn what_began_through_the_page_cache_goes_on_so_until_all_are_closed() {
    let (mut state, mut ids) = (OpenState::default(), Ids::new());
    assert_eq!(state.open(Preferred::Passthrough, || None), IoMode::Cached);
    assert_eq!(
        state.open(Preferred::Passthrough, || panic!("not asked while one is cached")),
        IoMode::Cached
    );
    state.release(IoMode::Cached);
    assert_eq!(
        state.open(Preferred::Passthrough, || panic!("not asked while one is cached")),
        IoMode::Cached
    );
    state.release(IoMode::Cached);
    state.release(IoMode::Cached);
    assert_eq!(
        state.open(Preferred::Passthrough, || ids.give()),
        IoMode::Passthrough(BackingId(1))
    );
}

#[test]
fn a_preference_counts_for_the_first_of_overlapping_opens() {
    let (mut state, mut ids) = (OpenState::default(), Ids::new());
    assert_eq!(state.open(Preferred::Cached, || panic!("not wanted")), IoMode::Cached);
    assert_eq!(state.open(Preferred::Passthrough, || panic!("too late")), IoMode::Cached);
    state.release(IoMode::Cached);
    state.release(IoMode::Cached);
    let passed = state.open(Preferred::Passthrough, || ids.give());
    assert_eq!(passed, IoMode::Passthrough(BackingId(1)));
    let direct = state.open(Preferred::Cached, || panic!("there is one"));
    assert_eq!(direct, IoMode::Direct(BackingId(1)), "beside the page cache, on the same id");
    state.release(passed);
    assert_eq!(state.open(Preferred::Passthrough, || panic!("there is one")), passed);
    state.release(direct);
    state.release(passed);
    assert_eq!(state.open(Preferred::Cached, || panic!("not wanted")), IoMode::Cached);
}

#[test]
fn without_passthrough_every_open_is_cached() {
    let path = DataPath { registrar: None, reason: None };
    let object = || Arc::new(File::open("/dev/null").expect("every machine has it").into());
    let mut state = OpenState::default();
    for _ in 0..3 {
        assert_eq!(
            state.open(Preferred::Passthrough, || path.register(Candidate::of(object()))),
            IoMode::Cached
        );
    }
    assert_eq!((path.registered(), path.describe()), (0, ("copy", None)));
}

#[test]
fn a_file_that_can_not_be_registered_is_cached() {
    let ids = Ids::new();
    let path = DataPath { registrar: Some(ids.registrar.clone()), reason: None };
    let object = || Arc::new(File::open("/dev/null").expect("every machine has it").into());
    let mut state = OpenState::default();
    // /dev/null knows no such ioctl.
    assert_eq!(
        state.open(Preferred::Passthrough, || path.register(Candidate::of(object()))),
        IoMode::Cached
    );
    assert_eq!((path.registered(), path.describe()), (0, ("passthrough", None)));
    assert!(ids.registrar.warned.load(Relaxed), "it is said");
}

#[test]
fn what_the_kernel_opens_alone_shares_the_id_of_the_others() {
    let (mut state, mut ids) = (OpenState::default(), Ids::new());
    assert_eq!(state.open_unseen(|| None), None, "not to be registered");
    assert_eq!(state.open_unseen(|| ids.give()), Some(BackingId(1)));
    let seen = state.open(Preferred::Passthrough, || panic!("there is one"));
    assert_eq!(seen, IoMode::Passthrough(BackingId(1)));
    state.release(seen);
    state.release(IoMode::Passthrough(BackingId(1)));
    assert_eq!(state.open(Preferred::Cached, || panic!("not wanted")), IoMode::Cached);
    assert_eq!(state.open_unseen(|| panic!("not asked while one is cached")), None);
}

#[test]
fn a_file_that_may_refuse_to_open_is_opened_to_see() {
    let (mut state, mut ids) = (OpenState::default(), Ids::new());
    ids.opens = false;
    assert_eq!(state.open_unseen(|| ids.give()), None);
    let opened = state.open(Preferred::Passthrough, || panic!("it is registered"));
    assert_eq!(opened, IoMode::Passthrough(BackingId(1)));
    state.release(opened);
    assert_eq!((state.passthrough, state.cached), (0, 0));
}

/// What the kernel keeps of one inode: `fuse_inode::iocachectr` and its backing file.
#[derive(Debug, Default)]
struct Iomode {
    open: Vec<IoMode>,
}

impl Iomode {
    /// `fuse_file_io_open`: whether the kernel accepts an OPEN's answer, or turns it into EIO.
    fn accepts(&self, mode: IoMode) -> bool {
        let backing = |mode: &IoMode| match mode {
            IoMode::Passthrough(id) | IoMode::Direct(id) => Some(*id),
            IoMode::Cached | IoMode::Unmapped => None,
        };
        // It goes with what it finds, but with a backing file, and nobody minds it.
        let minded = |other: &&IoMode| **other != IoMode::Unmapped;
        self.open.iter().filter(minded).all(|other| {
            backing(other) == backing(&mode) || mode == IoMode::Unmapped && backing(other).is_none()
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// An OPEN; what it would like, and whether a file could be registered at this moment.
    Open(Preferred, bool),
    /// An OPEN that the kernel may serve alone; whether a file could be registered.
    Read(bool),
    /// The kernel closes a file; its RELEASE is on the way.
    Close(Index),
    /// A RELEASE arrives, in any order.
    Release(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_usize, any::<bool>()).prop_map(|(preferred, possible)| {
            let all = [Preferred::Passthrough, Preferred::Cached, Preferred::Unmapped];
            Step::Open(all[preferred], possible)
        }),
        any::<bool>().prop_map(Step::Read),
        any::<Index>().prop_map(Step::Close),
        any::<Index>().prop_map(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_sequence_of_opens_of_one_file_ends_in_eio(steps in prop::collection::vec(step(), 1..100)) {
        let (mut state, mut ids) = (OpenState::default(), Ids::new());
        let mut kernel = Iomode::default();
        let mut on_the_way = Vec::new();
        for step in steps {
            match step {
                Step::Open(preferred, possible) => {
                    let mode = state.open(preferred, || if possible { ids.give() } else { None });
                    prop_assert!(kernel.accepts(mode), "{:?} while {:?}", mode, kernel.open);
                    kernel.open.push(mode);
                }
                Step::Read(possible) => {
                    let id = state.open_unseen(|| if possible { ids.give() } else { None });
                    if let Some(mode) = id.map(IoMode::Passthrough) {
                        prop_assert!(kernel.accepts(mode), "{:?} while {:?}", mode, kernel.open);
                        kernel.open.push(mode);
                    }
                }
                Step::Close(which) if !kernel.open.is_empty() => {
                    on_the_way.push(kernel.open.swap_remove(which.index(kernel.open.len())));
                }
                Step::Release(which) if !on_the_way.is_empty() => {
                    state.release(on_the_way.swap_remove(which.index(on_the_way.len())));
                }
                _ => {}
            }
            prop_assert!(state.cached == 0 || state.passthrough == 0);
            let counted = kernel.open.iter().chain(&on_the_way);
            let unreleased = counted.filter(|mode| **mode != IoMode::Unmapped).count();
            prop_assert_eq!((state.cached + state.passthrough) as usize, unreleased);
            prop_assert!(ids.registered() <= 1, "one id per inode");
        }
    }
}
