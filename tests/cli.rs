//! The `fusewire` command as its users meet it: processes, exit codes, messages, mounts.
//!
//! Needs root and /dev/fuse, and fails without: a skipped test would pass for a good one.

#[path = "cli/harness.rs"]
mod harness;
#[path = "cli/life.rs"]
mod life;
#[path = "cli/line.rs"]
mod line;
#[path = "cli/mounting.rs"]
mod mounting;
#[path = "cli/ordinary_user.rs"]
mod ordinary_user;
#[path = "cli/study.rs"]
mod study;
#[path = "cli/watching.rs"]
mod watching;
