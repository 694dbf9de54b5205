//! Extended attributes: requests that ask for a value, or for its length only.

use fuser::ReplyXattr;
use nix::errno::Errno;

use super::convert;
use crate::fs::Result;

/// Answers a request whose size 0 asks for the length only.
pub(super) fn sized(size: u32, fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut value = vec![0; convert::size(size)];
    let len = fill(&mut value)?;
    match size {
        0 => Ok(vec![0; len]),
        _ if len > value.len() => Err(Errno::ERANGE),
        _ => {
            value.truncate(len);
            Ok(value)
        }
    }
}

/// Sends what [`sized`] answered.
pub(super) fn send(reply: ReplyXattr, size: u32, value: &[u8]) {
    match (size, u32::try_from(value.len())) {
        (0, Ok(len)) => reply.size(len),
        (0, Err(_)) => reply.error(fuser::Errno::E2BIG),
        _ => reply.data(value),
    }
}
