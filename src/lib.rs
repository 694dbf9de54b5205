//! A passthrough FUSE file system.

pub mod abi;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dispatch;
pub mod doctor;
pub mod fs;
pub mod metrics;
pub mod mountinfo;
pub mod passthrough;
pub mod protocol;
pub mod report;
pub mod session;
pub mod stats_view;
pub mod study;
pub mod sys;
pub mod transport;
pub mod umount;
pub mod worker;
