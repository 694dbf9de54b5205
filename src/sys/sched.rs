//! Scheduling policies of single threads.
#![expect(unsafe_code, reason = "sched_setscheduler(2) and setpriority(2)")]

use nix::errno::Errno;
use nix::unistd::Pid;

/// How the kernel schedules a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// SCHED_OTHER, as everybody else.
    Normal,
    /// SCHED_IDLE: only while nobody else wants the CPU.
    Idle,
}

/// Sets the policy of `thread`. EPERM for the way back from [`Policy::Idle`] without CAP_SYS_NICE.
pub fn set_policy(thread: Pid, policy: Policy) -> Result<(), Errno> {
    let policy = match policy {
        Policy::Normal => libc::SCHED_OTHER,
        Policy::Idle => libc::SCHED_IDLE,
    };
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure is read only and outlives the call.
    Errno::result(unsafe { libc::sched_setscheduler(thread.as_raw(), policy, &raw const param) })
        .map(drop)
}

/// Lets the calling thread run before most others, for a short while at a time. Without CAP_SYS_NICE
/// it stays as it is.
pub fn prefer_this_thread() {
    // SAFETY: the call takes three integers.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
}

/// Whether a thread may be put back to [`Policy::Normal`].
pub fn may_return() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_NICE).unwrap_or(false)
}
