//! Arbitrary bytes: whatever arrives is read or refused, and a refusal names its request.

use nix::errno::Errno;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::abi::Opcode;
use crate::protocol::decode::{Dialect, Frame, Operation, decode};
use crate::protocol::golden::{self, Aligned, HEADER};

/// Reads `bytes` and holds the result against what holds of every result.
fn read(bytes: &[u8], dialect: Dialect) -> Result<(), TestCaseError> {
    let aligned = Aligned::new(bytes);
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    match Frame::from_contiguous(aligned.bytes()).and_then(|frame| decode(frame, dialect)) {
        Ok(request) => {
            let opcode = Opcode::from_raw(word(4));
            prop_assert!(opcode.is_some());
            prop_assert_eq!(usize::try_from(word(0)).expect("64 bits"), bytes.len());
            if let Operation::Lookup { name } | Operation::Unlink { name } = request.operation {
                let name = name.as_c_str().to_bytes();
                prop_assert!(!name.is_empty() && !name.contains(&b'/') && name != b"..");
            }
            if let Operation::Write { args, data } = request.operation {
                prop_assert_eq!(usize::try_from(args.size).expect("64 bits"), data.len());
            }
        }
        Err(fault) if bytes.len() < HEADER => {
            prop_assert_eq!((fault.unique, fault.errno), (None, Errno::EIO));
        }
        Err(fault) => {
            let unique = u64::from_ne_bytes(bytes[8..16].try_into().expect("8 bytes"));
            prop_assert_eq!((fault.unique, fault.opcode), (Some(unique), word(4)));
            // A lie about lengths is found before the opcode is looked up.
            if Opcode::from_raw(word(4)).is_some() {
                prop_assert_eq!(fault.errno, Errno::EIO);
            }
        }
    }
    Ok(())
}

fn dialect() -> impl Strategy<Value = Dialect> {
    any::<bool>().prop_map(|setxattr_ext| Dialect { setxattr_ext })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), dialect in dialect()) {
        read(&bytes, dialect)?;
    }

    #[test]
    fn any_body_of_a_known_opcode(
        opcode in prop::sample::select(Opcode::ALL),
        body in prop::collection::vec(any::<u8>(), 0..160),
        dialect in dialect(),
    ) {
        read(&golden::request(opcode as u32, &body), dialect)?;
    }

    #[test]
    fn golden_requests_with_bytes_changed(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<Index>()),
        mend_length in any::<bool>(),
        dialect in dialect(),
    ) {
        let all = golden::all();
        let mut bytes = which.get(&all).request();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        if mend_length && bytes.len() >= HEADER {
            let len = u32::try_from(bytes.len()).expect("short");
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
        }
        read(&bytes, dialect)?;
    }
}
