//! Bytes to requests and replies to bytes, without I/O and without unsafe code.

pub mod decode;
pub mod encode;
#[cfg(test)]
pub(crate) mod golden;
pub mod init;
pub mod notify;
