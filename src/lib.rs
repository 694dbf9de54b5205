//! A passthrough FUSE file system.

pub mod config;
pub mod metrics;
pub mod report;
pub mod study;
