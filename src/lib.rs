//! A passthrough FUSE file system.

pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod metrics;
pub mod mountinfo;
pub mod stats_view;
pub mod umount;
