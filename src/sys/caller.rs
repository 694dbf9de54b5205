//! Who a worker thread is towards the source: itself, or for a moment the caller of a request.
//!
//! All of it is state of the calling thread alone: file-system uid and gid (raw calls, so that
//! other threads keep theirs), effective capabilities, and the umask (after leaving the process's
//! shared `fs_struct`).
#![expect(unsafe_code, reason = "prctl, setgroups, capget and capset for one thread")]

use std::cell::Cell;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, setfsgid, setfsuid};

const SECBIT_NO_SETUID_FIXUP: libc::c_int = 1 << 2;
const CAP_FSETID: u32 = 1 << 4;
const CAP_SYS_RESOURCE: u32 = 1 << 24;

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::UNPREPARED) };
    static PATIENT: Cell<bool> = const { Cell::new(true) };
}

/// What is known of the calling thread, so that nothing is asked or set twice.
#[derive(Debug, Clone, Copy)]
struct Thread {
    umask: Option<u32>,
    uid: Uid,
    gid: Gid,
    /// Its capabilities; `None` before [`enter_worker`].
    capabilities: Option<[CapabilityWords; 2]>,
}

impl Thread {
    const UNPREPARED: Thread =
        Thread { umask: None, uid: Uid::from_raw(0), gid: Gid::from_raw(0), capabilities: None };
}

/// `struct __user_cap_data_struct`: one 32-bit word of each set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `struct __user_cap_header_struct` for the calling thread.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

const CAPABILITY_HEADER: CapabilityHeader = CapabilityHeader { version: 0x2008_0522, pid: 0 };

fn get_capabilities() -> Result<[CapabilityWords; 2], Errno> {
    let mut words = [CapabilityWords::default(); 2];
    let mut header = CAPABILITY_HEADER;
    // SAFETY: version 3 of the call writes two structures behind the second pointer; both pointers
    // outlive it.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(words)
}

fn set_capabilities(words: &[CapabilityWords; 2]) -> Result<(), Errno> {
    let mut header = CAPABILITY_HEADER;
    // SAFETY: version 3 of the call reads two structures behind the second pointer; both pointers
    // outlive it.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Has the calling thread, and those that it starts, keep their capabilities when their
/// file-system uid changes. EPERM without CAP_SETPCAP, unless that is so already.
pub fn keep_capabilities() -> Result<(), Errno> {
    // SAFETY: PR_GET_SECUREBITS takes nothing and touches no memory.
    let bits = Errno::result(unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) })?;
    if bits & SECBIT_NO_SETUID_FIXUP != 0 {
        return Ok(());
    }
    let bits = libc::c_long::from(bits | SECBIT_NO_SETUID_FIXUP);
    // SAFETY: PR_SET_SECUREBITS takes one integer and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) };
    Errno::result(result).map(drop)
}

/// Prepares the calling thread for serving requests.
///
/// - Its umask and working directory become its own; the latter is `/`, so that it keeps no other
///   file system busy.
/// - A change of the file-system uid no longer changes its capabilities: the kernel has checked
///   the caller's permission before it sends a creating request, and the new object only has to
///   belong to the right user.
/// - It leaves its supplementary groups, which are nobody's but the daemon's.
/// - CAP_SYS_RESOURCE goes, so that nobody's quota or the reserved blocks are overrun on behalf of
///   a caller; CAP_FSETID goes until [`keep_suid`] asks for it, so that the source clears
///   set-user-id and set-group-id bits itself.
pub fn enter_worker() -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    chdir("/")?;
    let (uid, gid) = (Uid::effective(), Gid::effective());
    // An ordinary user can not switch, and need not: nobody else is served.
    let tolerate = |errno| if uid.is_root() { Err(errno) } else { Ok(0) };
    keep_capabilities().or_else(|errno| tolerate(errno).map(drop))?;
    // SAFETY: no group is read; the raw call changes this thread only.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) };
    Errno::result(result).map(|_| 0).or_else(tolerate)?;
    let mut words = get_capabilities()?;
    words[0].effective &= !(CAP_FSETID | CAP_SYS_RESOURCE);
    set_capabilities(&words)?;
    THREAD.set(Thread { umask: None, uid, gid, capabilities: Some(words) });
    Ok(())
}

/// Tells the file system that others wait for the calling thread: an operation that would wait for
/// somebody else answers EWOULDBLOCK instead, and is done again by a thread that may.
pub fn be_impatient() {
    PATIENT.set(false);
}

/// Runs `work` as a thread that may wait, whoever the calling thread is.
pub fn while_patient<T>(work: impl FnOnce() -> T) -> T {
    let before = PATIENT.replace(true);
    let result = work();
    PATIENT.set(before);
    result
}

/// Whether the calling thread may wait for somebody else.
pub fn is_patient() -> bool {
    PATIENT.get()
}

/// Sets the thread's umask for the next creation; costs nothing if it is that already.
pub fn set_umask(mask: u32) {
    let mut thread = THREAD.get();
    if thread.umask != Some(mask) {
        umask(Mode::from_bits_truncate(mask));
        thread.umask = Some(mask);
        THREAD.set(thread);
    }
}

/// Decides whether the source keeps set-user-id and set-group-id bits in the thread's next
/// operation (CAP_FSETID raised) or clears them as for an ordinary user. Costs nothing if that is
/// so already.
pub fn keep_suid(keep: bool) {
    let mut thread = THREAD.get();
    let Some(mut words) = thread.capabilities else { return };
    words[0].effective &= !CAP_FSETID;
    if keep {
        words[0].effective |= words[0].permitted & CAP_FSETID;
    }
    if thread.capabilities != Some(words) && set_capabilities(&words).is_ok() {
        thread.capabilities = Some(words);
        THREAD.set(thread);
    }
}

/// The thread acts with a caller's file-system uid and gid until this is dropped.
#[derive(Debug)]
pub struct Impersonation {
    uid: Option<Uid>,
    gid: Option<Gid>,
}

/// Takes on `uid` and `gid`, for whatever depends on who does it: the owner of a new object, disk
/// blocks that are reserved for root, the group that may keep set-group-id. EPERM if the process
/// may not.
pub fn impersonate(uid: u32, gid: u32) -> Result<Impersonation, Errno> {
    let thread = THREAD.get();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let mut guard = Impersonation { uid: None, gid: None };
    // The calls never fail; they return the previous value. An ordinary user's change nothing.
    if gid != thread.gid {
        setfsgid(gid);
        guard.gid = Some(thread.gid);
    }
    if uid != thread.uid {
        setfsuid(uid);
        guard.uid = Some(thread.uid);
    }
    match thread.uid.is_root() || (guard.uid.is_none() && guard.gid.is_none()) {
        true => Ok(guard),
        false => Err(Errno::EPERM),
    }
}

impl Drop for Impersonation {
    fn drop(&mut self) {
        if let Some(uid) = self.uid {
            setfsuid(uid);
        }
        if let Some(gid) = self.gid {
            setfsgid(gid);
        }
    }
}
