//! Behaviours of the file system, each played on a plain directory and on mounts of every kind: the
//! plain directory is the oracle.
//!
//! `cargo test --test mounted -- dev_copy::rename` plays one family on one transport and data mode;
//! `dev_copy_shared` and so on are the same with `allow_other`, `user_uring_copy` and so on by an
//! ordinary user who mounts through fusermount3. It needs root and /dev/fuse and fails without them;
//! FUSE over io_uring is switched on meanwhile.

#[path = "../common/mod.rs"]
mod common;
mod harness;
mod known;
mod trace;

/// Names the behaviours of a family by what they need: `Needs::Any => [this, that];`.
macro_rules! behaviours {
    ($($needs:expr => [$($name:ident),* $(,)?];)*) => {
        pub(crate) const ALL: &[$crate::harness::Behaviour] = &[$($(
            $crate::harness::Behaviour { name: stringify!($name), needs: $needs, body: $name },
        )*)*];
    };
}

mod alloc;
mod attr;
mod behind;
mod data;
mod dir;
mod locks;
mod matrix;
mod mixing;
mod mmap;
mod names;
mod open;
mod options;
mod owner;
mod perm;
mod rename;
mod setid;
mod special;
mod times;
mod user;
mod workload;
mod xattr;

use std::process::ExitCode;
use std::sync::Arc;

use common::actor::NOBODY;
use harness::{Behaviour, Needs, SHORT_TIMEOUTS, Setting, World};
use libtest_mimic::{Arguments, Trial};

const FAMILIES: &[(&str, &[Behaviour])] = &[
    ("attr", attr::ALL),
    ("times", times::ALL),
    ("open", open::ALL),
    ("data", data::ALL),
    ("mmap", mmap::ALL),
    ("dir", dir::ALL),
    ("names", names::ALL),
    ("rename", rename::ALL),
    ("xattr", xattr::ALL),
    ("alloc", alloc::ALL),
    ("locks", locks::ALL),
    ("special", special::ALL),
    ("mixing", mixing::ALL),
    ("behind", behind::ALL),
    ("owner", owner::ALL),
    ("perm", perm::ALL),
    ("matrix", matrix::ALL),
    ("setid", setid::ALL),
    ("options", options::ALL),
    ("workload", workload::ALL),
];

/// Each transport with each data mode, for its owner and for everybody; and ordinary users' mounts.
const SETTINGS: [Setting; 14] = [
    setting("uring", "passthrough", "uring_passthrough", ""),
    setting("uring", "copy", "uring_copy", ""),
    setting("uring", "passthrough", "uring_passthrough_shared", "allow_other"),
    setting("uring", "copy", "uring_copy_shared", "allow_other"),
    setting("dev", "passthrough", "dev_passthrough", ""),
    setting("dev", "copy", "dev_copy", ""),
    setting("dev", "passthrough", "dev_passthrough_shared", "allow_other"),
    setting("dev", "copy", "dev_copy_shared", "allow_other"),
    SPLICE,
    DEV_URING,
    STACKED,
    BASELINE,
    Setting {
        who: Some(NOBODY),
        ..setting("uring", "copy", "user_uring_copy", "default_permissions")
    },
    Setting { who: Some(NOBODY), ..setting("dev", "splice", "user_dev_splice", SHORT_TIMEOUTS) },
];

/// Reads go from file to reply through a pipe; everything else is as with `copy`.
const SPLICE: Setting = setting("dev", "splice", "dev_splice", "");
/// What is played on it: whatever reads.
const ON_SPLICE: &[&str] = &["open", "data", "mmap", "alloc", "mixing", "behind", "workload"];

/// Requests are read, and replies written, through an io_uring.
const DEV_URING: Setting = setting("dev,dev_io=uring", "copy", "dev_uring", "");
/// What is played on it: every kind of reply.
const ON_DEV_URING: &[&str] = &["attr", "open", "data", "dir", "names", "xattr", "alloc"];

/// The source is a FUSE mount itself, through which the changes behind are made too.
const STACKED: Setting = setting("uring", "passthrough", "stacked", "");
/// What is played on it: whatever reads and writes, and the names of it.
const ON_STACKED: &[&str] =
    &["attr", "open", "data", "mmap", "dir", "names", "rename", "xattr", "alloc", "mixing"];
/// Save for these: FUSE takes O_DIRECT at any offset, seeks without what is still to be written back, and
/// is written to by requests only, as nothing else that is passed through; and one that waits a second for
/// each of many changes below is too slow.
const NOT_ON_STACKED: &[&str] = &[
    "direct_unaligned",
    "direct_unaligned_over_holes",
    "direct_unaligned_in_part",
    "direct_vector_of_odd_parts",
    "seeking_what_was_stored",
    "append_cleared_by_fcntl",
    "every_pair_closed_in_between",
];

/// The same file system on the session loop of the crate fuser.
const BASELINE: Setting = setting("fuser", "copy", "fuser", "");
/// What is played on it: enough to show that every operation is carried over.
const ON_BASELINE: &[&str] =
    &["attr", "open", "data", "mmap", "dir", "names", "rename", "xattr", "alloc"];
/// Save for these, which ask for inode numbers (fuser shows nodeids), times of birth or O_TMPFILE
/// (fuser has neither STATX nor TMPFILE).
const NOT_ON_BASELINE: &[&str] = &[
    "statx_has_a_birth_time",
    "inode_numbers_and_all_attributes_are_the_backings",
    "inode_number_survives_forgetting",
    "dot_and_dotdot",
    "entry_inode_numbers_are_the_files",
    "hard_links_are_one_file",
    "default_acl_is_inherited",
];

/// What ordinary users play: all but what natively takes root (giving files away, devices, names that
/// are not `user.*`, inode flags, dropping caches), and what changes things behind the mount a
/// hundred times, for each of which they wait a second.
const NOT_FOR_USERS: &[&str] = &[
    "inode_numbers_and_all_attributes_are_the_backings",
    "inode_number_survives_forgetting",
    "chown_keeps_what_is_not_given",
    "fchmod_and_fchown_without_a_name",
    "chown_by_root_clears_setuid",
    "lchown_of_a_symlink",
    "setting_times_of_directories_and_devices",
    "changing_attributes_moves_ctime",
    "creating_with_modes",
    "content_survives_dropped_caches",
    "listing_in_order_with_kinds",
    "walking_two_thousand_files",
    "missing_attributes",
    "every_namespace",
    "attributes_of_symlinks",
    "attributes_of_special_files",
    "capabilities_go_with_a_write",
    "capabilities_go_with_truncate_and_chown",
    "devices_can_be_used",
    "device_numbers",
    "immutable_files",
    "immutable_files_seem_writable",
    "immutable_directories",
    "append_only_files",
    "append_only_files_after_fcntl",
    "append_only_files_and_mappings",
    "append_only_directories",
    "running_a_program",
    "modes_and_owners",
    "root_and_every_mode",
    "unpacking_as_tar_does",
    "archiving_with_tar",
    "every_pair_closed_in_between",
];

const fn setting(
    transport: &'static str,
    data: &'static str,
    name: &'static str,
    options: &'static str,
) -> Setting {
    Setting { name, transport, data, options, who: None }
}

fn main() -> ExitCode {
    common::actor::serve_if_asked();
    user::serve_if_asked(|name| {
        FAMILIES.iter().flat_map(|(_, all)| *all).find(|behaviour| behaviour.name == name).copied()
    });
    let mut args = Arguments::from_args();
    // Many behaviours only wait for something to show.
    args.test_threads = args.test_threads.or(Some(6));
    if args.list {
        return libtest_mimic::run(&args, trials(None)).exit_code();
    }
    let world = match prepare() {
        Ok(world) => Arc::new(world),
        Err(reason) => {
            eprintln!("the mounted tests cannot run: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let rings = match common::rings::Rings::switch("Y") {
        Ok(rings) => rings,
        Err(reason) => {
            eprintln!("the mounted tests cannot run: switch FUSE over io_uring on: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&args, trials(Some(&world)));
    world.close();
    drop(rings);
    conclusion.exit_code()
}

fn prepare() -> Result<World, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mounting a loop device needs root; run them with sudo".to_owned());
    }
    std::fs::File::open("/dev/fuse")
        .map_err(|error| format!("/dev/fuse: {error}; load it with: modprobe fuse"))?;
    common::disk::private_mounts()?;
    // Daemons elsewhere on the machine must not meet ours: control sockets are named after device
    // numbers, which the kernel gives out again at once.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("unshare the network: {errno}"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_retain(0o022));
    World::new()
}

/// Each behaviour in each setting that suits it. What needs other users or options of its own is
/// played once for each data mode.
fn trials(world: Option<&Arc<World>>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in SETTINGS {
        for (family, behaviours) in FAMILIES {
            for &behaviour in *behaviours {
                if setting == BASELINE
                    && (!ON_BASELINE.contains(family) || NOT_ON_BASELINE.contains(&behaviour.name))
                {
                    continue;
                }
                if setting.who.is_some() && NOT_FOR_USERS.contains(&behaviour.name) {
                    continue;
                }
                if setting == SPLICE && !ON_SPLICE.contains(family)
                    || setting == DEV_URING && !ON_DEV_URING.contains(family)
                    || setting == STACKED
                        && (!ON_STACKED.contains(family)
                            || NOT_ON_STACKED.contains(&behaviour.name))
                {
                    continue;
                }
                let shared = !setting.options.is_empty()
                    || [BASELINE, SPLICE, DEV_URING, STACKED].contains(&setting);
                let mut at = setting;
                match behaviour.needs {
                    Needs::Any => {}
                    Needs::SmallDisk if setting.who.is_some() => {}
                    _ if setting.who.is_some() => continue,
                    _ if shared => continue,
                    Needs::Users => at.options = "allow_other",
                    Needs::Options(_) | Needs::SmallDisk => {}
                }
                let name = format!("{}::{family}::{}", setting.name, behaviour.name);
                let world = world.cloned();
                trials.push(Trial::test(name, move || match &world {
                    Some(world) => world.judge(at, behaviour).map_err(Into::into),
                    None => Ok(()),
                }));
            }
        }
    }
    trials
}
