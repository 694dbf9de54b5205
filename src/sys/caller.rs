//! Who a worker thread is towards the source: itself, or for a moment the caller of a request.
//!
//! All of it is state of the calling thread alone: file-system uid and gid (raw calls, so that
//! other threads keep theirs), effective capabilities, and the umask (after leaving the process's
//! shared `fs_struct`).
#![expect(unsafe_code, reason = "prctl(2)")]

use std::cell::Cell;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

thread_local! {
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
    static FSETID: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Prepares the calling thread for serving requests.
///
/// - Its umask becomes its own.
/// - A change of the file-system uid no longer changes its capabilities: the kernel has checked
///   the caller's permission before it sends a creating request, and the new object only has to
///   belong to the right user.
/// - CAP_SYS_RESOURCE goes, so that nobody's quota or the reserved blocks are overrun on behalf of
///   a caller; CAP_FSETID goes until [`keep_suid`] asks for it, so that the source clears
///   set-user-id and set-group-id bits itself.
pub fn enter_worker() -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    // SAFETY: PR_SET_SECUREBITS takes one integer and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) };
    // EPERM: an ordinary user, who can not switch anyway.
    match Errno::result(result) {
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    for capability in [Capability::CAP_SYS_RESOURCE, Capability::CAP_FSETID] {
        caps::drop(None, CapSet::Effective, capability).map_err(std::io::Error::other)?;
    }
    FSETID.set(Some(false));
    Ok(())
}

/// Sets the thread's umask for the next creation; costs nothing if it is that already.
pub fn set_umask(mask: u32) {
    if UMASK.get() != Some(mask) {
        umask(Mode::from_bits_truncate(mask));
        UMASK.set(Some(mask));
    }
}

/// Decides whether the source keeps set-user-id and set-group-id bits in the thread's next
/// operation (CAP_FSETID raised) or clears them as for an ordinary user.
pub fn keep_suid(keep: bool) {
    if FSETID.get() == Some(keep) {
        return;
    }
    let changed = match keep {
        true => caps::raise(None, CapSet::Effective, Capability::CAP_FSETID),
        false => caps::drop(None, CapSet::Effective, Capability::CAP_FSETID),
    };
    // Without the capability in the permitted set the bits are cleared: the safe side.
    if changed.is_ok() {
        FSETID.set(Some(keep));
    }
}

/// The thread acts with a caller's file-system uid and gid until this is dropped.
#[derive(Debug)]
pub struct Impersonation {
    restore: Option<(Uid, Gid)>,
}

/// Takes on `uid` and `gid` for a creation. EPERM if the process may not.
pub fn impersonate(uid: u32, gid: u32) -> Result<Impersonation, Errno> {
    let (own_uid, own_gid) = (Uid::effective(), Gid::effective());
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if uid == own_uid && gid == own_gid {
        return Ok(Impersonation { restore: None });
    }
    let guard = Impersonation { restore: Some((own_uid, own_gid)) };
    // Both calls return the previous value and never fail: ask again to see whether it worked.
    setfsgid(gid);
    setfsuid(uid);
    let (uid_now, gid_now) = (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)));
    if (uid_now, gid_now) == (uid, gid) { Ok(guard) } else { Err(Errno::EPERM) }
}

impl Drop for Impersonation {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.restore {
            setfsuid(uid);
            setfsgid(gid);
        }
    }
}
