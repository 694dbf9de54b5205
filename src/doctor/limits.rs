//! What FUSE can not do, whoever serves it: measured on Linux 6.18, said before it surprises.

use serde::{Deserialize, Serialize};

/// One thing that works on the plain directory and not on the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What does not work.
    pub what: String,
    /// What happens, and what to do instead.
    pub instead: String,
}

/// The known limits.
pub fn limits() -> Vec<Limit> {
    [
        ("FICLONE (cp --reflink)", "EOPNOTSUPP; copy_file_range works"),
        ("FIEMAP (filefrag)", "EOPNOTSUPP; SEEK_HOLE and SEEK_DATA work"),
        ("fallocate COLLAPSE_RANGE, INSERT_RANGE", "EOPNOTSUPP; the other modes work"),
        ("inotify, fanotify", "report only changes made through the same mount"),
        (
            "mount -o remount",
            "changes ro, and adds nosuid, nodev and noexec; for the rest unmount and mount again",
        ),
        ("lsof, fuser on the source", "do not see files that are open through the mount"),
    ]
    .map(|(what, instead)| Limit { what: what.into(), instead: instead.into() })
    .into()
}
