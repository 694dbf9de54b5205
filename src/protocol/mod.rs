//! Bytes to requests and replies to bytes, without I/O and without unsafe code.

pub mod decode;
pub mod encode;
pub mod init;
