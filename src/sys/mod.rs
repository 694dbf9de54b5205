//! The system-call boundary: safe functions over what `nix` does not have.
//!
//! `unsafe` is denied in the crate and reopened here file by file. Every function takes and returns
//! owned or borrowed descriptors; none keeps a pointer beyond the call.

pub(crate) mod apart;
pub mod caller;
pub(crate) mod client;
pub(crate) mod clock;
pub mod fanotify;
pub mod fuse_dev;
pub mod fusectl;
pub mod handle;
pub(crate) mod libgfarm;
pub mod mount;
pub(crate) mod objfd;
pub mod probe;
pub mod process;
pub mod sched;
