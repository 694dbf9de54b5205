//! What the daemon may do for as long as it lives: what serving a directory takes, and no more.
//!
//! Two further fences were tried and left out. A seccomp filter, even one that the kernel has
//! reduced to a bitmap of calls that are always allowed, adds 35 to 45 ns to each system call (a null
//! call 175 against 215 ns; open, fstat and close together 2.24 against 2.41 µs; five rounds each in
//! turns on Linux 6.18), and a request takes four to twelve: what it would forbid a daemon that must
//! keep CAP_SYS_ADMIN is not worth 1 to 3 % of every round trip. Landlock checks an open file by
//! walking from its dentry to the root; one that was opened by handle may be connected to no parent,
//! so that walk ends nowhere and the open would be refused.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::Uid;

use crate::metrics::snapshot::Privileges;
use crate::sys::caller;

/// What root keeps. Each stands for something that native root may, or that the kernel asks of who
/// serves a mount.
const NEEDED: [Capability; 15] = [
    // Register backing files, unmount, trusted.* and security.* attributes.
    Capability::CAP_SYS_ADMIN,
    // Open an object by its handle.
    Capability::CAP_DAC_READ_SEARCH,
    // The kernel has checked the caller's permission: the daemon's own must not matter.
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_CHOWN,
    Capability::CAP_FSETID,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
    Capability::CAP_LINUX_IMMUTABLE,
    // Labels of Smack, which root may set.
    Capability::CAP_MAC_ADMIN,
    Capability::CAP_MAC_OVERRIDE,
    // New objects belong to their maker.
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    // Queues that starve beside others are scheduled normally again.
    Capability::CAP_SYS_NICE,
    // Pipes that hold the largest reply. Workers do without while they serve.
    Capability::CAP_SYS_RESOURCE,
];

/// Gives up, for good, what is not needed. To be called before the first thread is started: each
/// inherits from who starts it.
///
/// Root loses all other capabilities, also for whatever it would execute, and can gain none by
/// executing. An ordinary user has none, and still needs the set-user-id bit of fusermount3.
pub(super) fn reduce() -> io::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    // This takes CAP_SETPCAP, which is among what goes.
    caller::keep_capabilities()?;
    let keep: CapsHashSet = NEEDED.into_iter().collect();
    for capability in caps::runtime::thread_all_supported().difference(&keep) {
        if caps::has_cap(None, CapSet::Bounding, *capability).map_err(io::Error::other)? {
            caps::drop(None, CapSet::Bounding, *capability).map_err(io::Error::other)?;
        }
    }
    caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept = permitted.intersection(&keep).copied().collect();
    // In this order: what is effective must be permitted.
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(io::Error::other)?;
    }
    prctl::set_no_new_privs().map_err(Into::into)
}

/// What the calling thread may do, as `stats` tells it.
pub(super) fn in_force() -> Privileges {
    let permitted = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let mut capabilities: Vec<_> = permitted.iter().map(ToString::to_string).collect();
    capabilities.sort();
    Privileges { capabilities, no_new_privs: prctl::get_no_new_privs().unwrap_or(false) }
}
