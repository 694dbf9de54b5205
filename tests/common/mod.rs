//! What the mounted tests stand on: disks, daemons, other users, and the shell of system calls.
#![allow(dead_code, reason = "each test target uses a part of it")]

pub(crate) mod actor;
pub(crate) mod daemon;
pub(crate) mod disk;
pub(crate) mod limit;
pub(crate) mod patience;
pub(crate) mod raw;
pub(crate) mod rings;
pub(crate) mod setting;
pub(crate) mod shell;
pub(crate) mod tree;
pub(crate) mod warden;

/// An error as tests tell of it.
pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
