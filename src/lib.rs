//! A passthrough FUSE file system.

pub mod abi;
pub mod config;
pub mod dispatch;
pub mod fs;
pub mod metrics;
pub mod protocol;
pub mod sys;
