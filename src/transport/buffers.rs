//! The memory of a worker: one buffer to receive in, one to reply from, both for its whole life.

use std::io;

use memmap2::MmapMut;

/// Room in front of the data of the largest WRITE: its headers, and names of other requests.
const HEADER_ROOM: usize = 8192;

/// A worker's two buffers, page-aligned, so that every header in them is aligned too.
#[derive(Debug)]
pub struct Buffers {
    /// What was received.
    pub request: MmapMut,
    /// The payload of the reply.
    pub reply: MmapMut,
}

impl Buffers {
    /// Buffers for a connection whose largest data is `max_payload` bytes.
    pub fn new(max_payload: usize) -> io::Result<Self> {
        Ok(Buffers {
            request: MmapMut::map_anon(HEADER_ROOM + max_payload)?,
            reply: MmapMut::map_anon(HEADER_ROOM.max(max_payload))?,
        })
    }
}
