//! The laboratory: measures what FUSE costs, in a way that others can repeat and believe.
//!
//! Data flows one way: [`matrix`] (the cells) -> [`environment`] (what this machine is) ->
//! [`system`]s (native, fusewire) -> [`plan`] (who runs when) -> [`runner`] -> [`sample`]s ->
//! [`crate::report`]. It drives the daemon as a subprocess, through the same two commands a user
//! types, and knows nothing of its insides.
//!
//! # What makes a ratio of native and fusewire fair
//! - **The same blocks.** Both systems use the same file, natively and through the mount: same
//!   inode, same extents, same place on the device. It is written once, in full and before
//!   anything is timed, and only overwritten in place; no cell allocates, so none inherits the
//!   fragmentation or the journal traffic of the one before.
//! - **The same cache.** Before each data cell, outside the timing, the source file system is
//!   synced, so that nobody pays for another's dirty pages. A buffered cell then reads the whole
//!   file once *through the system it is about to measure* (warm for it); an O_DIRECT cell drops
//!   the file's pages on both paths, because a direct write must otherwise invalidate them first.
//!   fio is told not to touch the cache itself (`invalidate=0`): its default drops the pages of
//!   the inode it opened, which means the shared pages natively but a private copy through FUSE.
//! - **The same offsets.** Within one round fio gets the same random seed for each system.
//! - **The same path length.** Metadata operations are relative to a directory descriptor, so the
//!   two mount points' depth does not matter.
//! - **Fresh names.** Each metadata run has a directory of its own, made natively and then looked
//!   up through the system, so that no dentry of an earlier run helps or hinders.
//! - **Turns.** In each round each cell runs three times: native, fusewire, native, in a seeded
//!   order in which fusewire's turn moves through all places. The ratio of a round is fusewire
//!   against the geometric mean of its two native runs; the two native runs against each other
//!   (A/A) say what this machine calls a difference when there is none.
//! - **Requests are counted** by the daemon, around the timed part only.

mod backing;
mod daemon;
mod demo;
pub mod environment;
mod error;
mod execute;
mod family;
mod file;
mod fio;
mod image;
mod interrupt;
mod load;
pub mod matrix;
mod mounts;
mod options;
pub mod plan;
mod preflight;
mod prepare;
mod process;
mod progress;
pub mod record;
pub mod requests;
mod run;
pub mod runner;
pub mod sample;
mod say;
mod scratch;
mod supervise;
pub mod system;
mod trace;
mod uring;
pub mod work;

pub use demo::run;
pub use error::StudyError;
pub use options::DemoOptions;
pub use requests::{RequestsOptions, run as count_requests};
pub use run::{RunOptions, run as run_study};
