//! Whatever bytes come: they are read as a request, or refused.
#![no_main]

#[path = "../../src/protocol/golden.rs"]
#[allow(dead_code, reason = "the library's own tests use the rest")]
mod golden;
#[path = "seeds.rs"]
mod seeds;

use fusewire::protocol::decode::{Dialect, Frame, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds::write(|request| request),
    |data: &[u8]| {
        let aligned = golden::Aligned::new(data);
        for setxattr_ext in [false, true] {
            let frame = Frame::from_contiguous(aligned.bytes());
            if let Ok(request) = frame.and_then(|frame| decode(frame, Dialect { setxattr_ext })) {
                // Every field is looked at.
                std::hint::black_box(format!("{request:?}"));
            }
        }
    }
);
