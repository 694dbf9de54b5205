//! fusewire: a passthrough FUSE file system at the speed of the directory that it shows, and the
//! means to prove it.
//!
//! # The path of a request
//!
//! ```text
//! kernel -> transport -> protocol::decode -> dispatch -> Filesystem -> protocol::encode
//!        -> transport -> kernel
//! ```
//!
//! A [`worker`] receives on a channel of /dev/fuse or on a ring of io_uring ([`transport`]), reads
//! the bytes as a typed request ([`protocol`]), has a [`Filesystem`](fs::Filesystem) answer it ([`dispatch`]), and
//! replies. A [`session`] is the life of a mount around its workers. [`passthrough::Local`] is the
//! file system that shows a directory of this machine; what the kernel reads and writes by itself
//! never comes this way.
//!
//! # Map
//!
//! | module | owns |
//! |---|---|
//! | [`abi`] | the wire format |
//! | [`protocol`] | bytes to requests, replies to bytes, INIT |
//! | [`dispatch`] | one match from a request to the file system |
//! | [`fs`] | the trait that a file system implements |
//! | [`coherence`] | what the kernel may answer by itself, and who tells it of changes |
//! | [`locality`] | which local file holds the bytes of a distributed file, and until when |
//! | [`passthrough`], [`null`] | the local file system, and one without storage |
//! | [`transport`], [`worker`], [`keeper`], [`offload`], [`discipline`], [`session`] | channels, threads, the life of a mount |
//! | [`baseline`] | the same on the session loop of the crate fuser, to compare with |
//! | [`sys`] | system calls that need `unsafe` |
//! | [`metrics`], [`control`], [`stats_view`] | what is counted, how it is asked for and shown |
//! | [`study`], [`report`] | measuring, and telling what was measured |
//! | [`semantics`] | no code: what is as on the source's file system, and what is not |
//! | [`cli`], [`config`], [`daemon`], [`umount`], [`mountinfo`], [`doctor`] | the command |
//!
//! # A file system of one's own
//!
//! One file, complete; a test mounts exactly this.
//!
//! ```no_run
#![doc = include_str!("../tests/hello/hello.rs")]
//! ```

pub mod abi;
pub mod baseline;
pub mod cli;
pub mod coherence;
pub mod config;
pub mod control;
pub mod daemon;
pub mod discipline;
pub mod dispatch;
pub mod doctor;
pub mod fs;
pub mod keeper;
pub mod locality;
pub mod metrics;
pub mod mountinfo;
pub mod null;
pub mod offload;
pub mod passthrough;
pub mod protocol;
pub mod remount;
pub mod report;
#[doc = include_str!("semantics.md")]
pub mod semantics {}
pub mod session;
pub mod stats_view;
pub mod study;
pub mod sys;
pub mod transport;
pub mod umount;
pub mod worker;
