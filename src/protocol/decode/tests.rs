//! Requests as the kernel sends them, and as it never would.

mod fields;
mod random;

use nix::errno::Errno;

use super::*;
use crate::protocol::golden::{self, Aligned, HEADER, UNIQUE, Wire, request};

const SHORT: &str = "shorter than its opcode's argument";
const NO_END: &str = "string without an end";
const BEHIND: &str = "bytes behind the last string";
const NOT_A_NAME: &str = "name is not a single path component";
const LENGTH: &str = "length in the header differs from what was received";

const EXT: Dialect = Dialect { setxattr_ext: true };

/// Opcodes that have names of directory entries, with what precedes the name and follows it.
fn with_a_name() -> Vec<(u32, Vec<u8>, &'static [u8])> {
    let w = Wire::default;
    vec![
        (1, vec![], b""),
        (6, vec![], b"target\0"),
        (8, w().zeros(16).end(), b""),
        (9, w().zeros(8).end(), b""),
        (10, vec![], b""),
        (11, vec![], b""),
        (12, w().zeros(8).end(), b"new\0"),
        (12, w().zeros(8).bytes(b"old\0").end(), b""),
        (13, w().zeros(8).end(), b""),
        (35, w().zeros(16).end(), b""),
        (45, w().zeros(16).end(), b"new\0"),
        (45, w().zeros(16).bytes(b"old\0").end(), b""),
    ]
}

/// What is wrong with `bytes`, if anything is.
fn fault(bytes: &[u8]) -> Option<Malformed> {
    fault_in(bytes, EXT)
}

fn fault_in(bytes: &[u8], dialect: Dialect) -> Option<Malformed> {
    let bytes = Aligned::new(bytes);
    Frame::from_contiguous(bytes.bytes()).and_then(|frame| decode(frame, dialect)).err()
}

/// The fault of a request whose header could be read: it is answered with EIO.
fn lie(opcode: u32, reason: &'static str) -> Option<Malformed> {
    Some(Malformed { unique: Some(UNIQUE), opcode, errno: Errno::EIO, reason })
}

#[test]
fn there_is_a_golden_request_for_every_opcode() {
    let golden = golden::all();
    let ours: Vec<_> = Opcode::ALL.iter().map(|op| (*op as u32, op.name())).collect();
    let theirs: Vec<_> = golden.iter().map(|golden| (golden.opcode, golden.name)).collect();
    assert_eq!(ours, theirs);
    for golden in golden {
        assert_eq!(fault(&golden.request()), None, "{}", golden.name);
    }
}

#[test]
fn a_body_that_ends_early_is_refused_wherever_it_ends() {
    for golden in golden::all() {
        for len in 0..golden.body.len() {
            let found = fault(&request(golden.opcode, &golden.body[..len]));
            let name = golden.name;
            if len >= golden.needed {
                assert_eq!(found, None, "{name} of {len} bytes");
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("{name} of {len} bytes was accepted"));
            assert_eq!((found.unique, found.errno), (Some(UNIQUE), Errno::EIO), "{name} {len}");
            assert_eq!(found.opcode, golden.opcode, "{name} {len}");
        }
    }
}

#[test]
fn what_was_received_must_be_as_long_as_the_header_says() {
    for golden in golden::all() {
        let whole = golden.request();
        for len in 0..whole.len() {
            let expected = match len {
                0..HEADER => Some(Malformed {
                    unique: None,
                    opcode: 0,
                    errno: Errno::EIO,
                    reason: "shorter than its header, or misaligned",
                }),
                _ => lie(golden.opcode, LENGTH),
            };
            assert_eq!(fault(&whole[..len]), expected, "{} cut at {len}", golden.name);
        }
        let longer = [&whole[..], b"\0"].concat();
        assert_eq!(fault(&longer), lie(golden.opcode, LENGTH), "{}", golden.name);
        for said in [0, 1, 39, 40, u32::MAX] {
            let mut lying = longer.clone();
            lying[..4].copy_from_slice(&said.to_ne_bytes());
            assert_eq!(fault(&lying), lie(golden.opcode, LENGTH), "{} {said}", golden.name);
        }
    }
}

#[test]
fn a_misaligned_buffer_is_refused() {
    let shifted = [&[0; 1][..], &request(17, b"")].concat();
    let shifted = Aligned::new(&shifted);
    let found = Frame::from_contiguous(&shifted.bytes()[1..]).expect_err("misaligned");
    assert_eq!((found.unique, found.errno), (None, Errno::EIO));
}

#[test]
fn extensions_are_taken_off_the_end() {
    // The kernel puts them right behind the last name, aligned or not (fuse_copy_args).
    for golden in golden::all() {
        let mut body = golden.body.clone();
        body.extend([0xee; 16]);
        let mut bytes = request(golden.opcode, &body);
        bytes[36..38].copy_from_slice(&2_u16.to_ne_bytes());
        let aligned = Aligned::new(&bytes);
        let frame = Frame::from_contiguous(aligned.bytes()).expect(golden.name);
        assert_eq!(frame.extensions, [0xee; 16], "{}", golden.name);
        assert!(!frame.payload.ends_with(&[0xee]), "{}", golden.name);
        decode(frame, EXT).expect(golden.name);
    }
}

#[test]
fn extensions_can_not_be_longer_than_the_request() {
    for golden in golden::all() {
        for words in [golden.body.len() / 8 + 1, usize::from(u16::MAX)] {
            let mut bytes = golden.request();
            let words = u16::try_from(words).expect("golden requests are short");
            bytes[36..38].copy_from_slice(&words.to_ne_bytes());
            let expected = lie(golden.opcode, "extensions longer than the request");
            assert_eq!(fault(&bytes), expected, "{} with {words}", golden.name);
        }
        // One that swallows part of the argument leaves too little of it.
        if golden.needed == golden.body.len() && golden.body.len() >= 8 {
            let mut bytes = golden.request();
            bytes[36..38].copy_from_slice(&1_u16.to_ne_bytes());
            let found = fault(&bytes).unwrap_or_else(|| panic!("{} accepted", golden.name));
            assert_eq!((found.unique, found.errno), (Some(UNIQUE), Errno::EIO));
        }
    }
}

#[test]
fn an_unknown_opcode_is_answered_enosys() {
    for opcode in [0, 7, 19, 54, 63, 64, 4096, 1 << 20, u32::MAX] {
        for body in [&b""[..], b"name\0", &[0xff; 64]] {
            let expected = Malformed {
                unique: Some(UNIQUE),
                opcode,
                errno: Errno::ENOSYS,
                reason: "unknown opcode",
            };
            assert_eq!(fault(&request(opcode, body)), Some(expected));
        }
    }
}

#[test]
fn a_name_is_one_component_of_a_path() {
    let bad: [&[u8]; 8] =
        [b"\0", b".\0", b"..\0", b"/\0", b"a/b\0", b"/etc/passwd\0", b"../x\0", b"name/\0"];
    for (opcode, before, after) in with_a_name() {
        for name in bad {
            let body = [&before[..], name, after].concat();
            let context = String::from_utf8_lossy(name);
            // The one request that may ask for them: by a file handle.
            if opcode == Opcode::Lookup as u32 && matches!(name, b".\0" | b"..\0") {
                assert_eq!(fault(&request(opcode, &body)), None, "{context:?}");
                continue;
            }
            assert_eq!(fault(&request(opcode, &body)), lie(opcode, NOT_A_NAME), "{context:?}");
        }
        for name in [&b"...\0"[..], b".a\0", b"..a\0", b"\xff\xfe\0", b" \0", b"a\\b\0"] {
            let body = [&before[..], name, after].concat();
            assert_eq!(fault(&request(opcode, &body)), None, "{opcode} {name:?}");
        }
    }
}

#[test]
fn a_string_ends_and_nothing_is_behind_it() {
    for (opcode, before, after) in with_a_name() {
        let endless = [&before[..], b"name"].concat();
        assert_eq!(fault(&request(opcode, &endless)), lie(opcode, NO_END), "{opcode}");
        for trail in [&b"\0"[..], b"x", b"more\0"] {
            let body = [&before[..], b"name\0", after, trail].concat();
            assert_eq!(fault(&request(opcode, &body)), lie(opcode, BEHIND), "{opcode}");
        }
    }
    for (opcode, argument) in [(22, 8), (24, 0)] {
        let before = vec![0; argument];
        let body = |tail: &[u8]| [&before[..], tail].concat();
        assert_eq!(fault(&request(opcode, &body(b"user.x"))), lie(opcode, NO_END));
        assert_eq!(fault(&request(opcode, &body(b"user.x\0y"))), lie(opcode, BEHIND));
    }
}

#[test]
fn data_is_as_long_as_its_argument_says() {
    const DIFFERS: &str = "data differs in length from what its argument says";
    // The opcode, the length of its request, and where its argument says how much data follows.
    for (opcode, at) in [(16, 16), (21, 0), (39, 24)] {
        let golden = golden::golden(opcode);
        let size = |body: &[u8]| u32::from_ne_bytes(body[at..at + 4].try_into().expect("4 bytes"));
        let said = size(&golden.body);
        for lying in [0, said - 1, said + 1, 1 << 31, u32::MAX] {
            let mut body = golden.body.clone();
            body[at..at + 4].copy_from_slice(&lying.to_ne_bytes());
            assert_eq!(fault(&request(opcode, &body)), lie(opcode, DIFFERS), "{opcode} {lying}");
        }
    }
}

#[test]
fn a_batch_has_as_many_entries_as_its_count_says() {
    let golden = golden::golden(42);
    for count in [4_u32, 5, 1 << 28, 1 << 31, u32::MAX] {
        let mut body = golden.body.clone();
        body[..4].copy_from_slice(&count.to_ne_bytes());
        let expected = lie(42, "fewer entries than its count says");
        assert_eq!(fault(&request(42, &body)), expected, "{count}");
    }
    let mut body = golden.body;
    body[..4].copy_from_slice(&0_u32.to_ne_bytes());
    assert_eq!(fault(&request(42, &body)), None, "an empty batch asks for nothing");
}

#[test]
fn setxattr_is_read_in_the_dialect_that_was_negotiated() {
    let short = Wire::default().u32(5).u32(2).bytes(b"user.x\0value").end();
    let bytes = Aligned::new(&request(21, &short));
    let frame = Frame::from_contiguous(bytes.bytes()).expect("whole");
    let request = decode(frame, Dialect::default()).expect("the short form");
    let Operation::Setxattr { flags, setxattr_flags, name, value } = request.operation else {
        panic!("{request:?}")
    };
    assert_eq!((flags, setxattr_flags, name, value), (2, 0, c"user.x", &b"value"[..]));
    assert_eq!(fault_in(bytes.bytes(), EXT).expect("too short").errno, Errno::EIO);
    for len in 0..8 {
        let cut = golden::request(21, &short[..len]);
        assert_eq!(fault_in(&cut, Dialect::default()), lie(21, SHORT), "{len}");
    }
}

#[test]
fn a_write_whose_data_is_elsewhere_is_read_if_all_about_it_fits() {
    let write = |opcode: u32, size: u32| {
        let args = Wire::default().u64(7).u64(4096).u32(size).u32(0).u64(0).u32(2).u32(0);
        Aligned::new(&request(opcode, &args.zeros(4096).end()))
    };
    let good = write(16, 4096);
    let (header, args) = decode_ahead(&good.bytes()[..80], 4096).expect("well-formed");
    assert_eq!((header.unique, args.fh, args.offset, args.size), (UNIQUE, 7, 4096, 4096));
    for (bytes, waiting) in [(&write(16, 4095), 4096), (&write(15, 4096), 4096), (&good, 4095)] {
        assert!(decode_ahead(&bytes.bytes()[..80], waiting).is_none());
    }
    assert!(decode_ahead(&good.bytes()[..79], 4097).is_none());
}
