//! Requests to calls, and what calls return to replies.

mod random;
mod recorder;

use super::*;
use crate::protocol::decode::{Dialect, Frame, decode};
use crate::protocol::encode::Payload;
use crate::protocol::golden::{self, Aligned, NODEID, Wire, request};
use recorder::{CONTENT, Recorder};

/// What became of a request.
#[derive(Debug, PartialEq)]
enum Answer {
    /// Nothing is sent.
    Silence,
    /// The fixed part and the payload.
    Reply(Vec<u8>, Vec<u8>),
    /// `offset` and `len` of a file.
    Range(u64, u32),
    Error(Errno),
}

fn serve(fs: &impl Filesystem, bytes: &[u8]) -> Answer {
    serve_into(fs, bytes, &mut [0xaa; 4096])
}

fn serve_into(fs: &impl Filesystem, bytes: &[u8], buffer: &mut [u8]) -> Answer {
    let bytes = Aligned::new(bytes);
    let dialect = Dialect { setxattr_ext: true };
    let frame = Frame::from_contiguous(bytes.bytes()).expect("well-formed");
    let request = decode(frame, dialect).expect("well-formed");
    let mut reply = ReplyBuf::new(buffer);
    match dispatch(fs, &request, &mut reply) {
        Ok(Outcome::NoReply) => Answer::Silence,
        Ok(Outcome::Buffered) => {
            let (fixed, payload) = reply.parts();
            Answer::Reply(fixed.to_vec(), payload.to_vec())
        }
        Ok(Outcome::FileRange { offset, len, .. }) => Answer::Range(offset, len),
        Err(errno) => Answer::Error(errno),
    }
}

fn reply(fixed: Wire) -> Answer {
    Answer::Reply(fixed.end(), vec![])
}

fn payload(bytes: impl Into<Vec<u8>>) -> Answer {
    Answer::Reply(vec![], bytes.into())
}

/// `fuse_attr`.
fn attr(wire: Wire) -> Wire {
    let wire = (1..=6).fold(wire, Wire::u64);
    (7..=16).fold(wire, Wire::u32)
}

/// `fuse_attr_out`.
fn attr_out() -> Wire {
    attr(Wire::default().u64(20).u32(21).u32(0))
}

/// `fuse_entry_out`.
fn entry_out() -> Wire {
    attr(Wire::default().u64(30).u64(31).u64(32).u64(20).u32(33).u32(21))
}

/// `fuse_open_out`.
fn open_out(wire: Wire) -> Wire {
    wire.u64(40).u32(1 << 5).u32(0)
}

fn statx_out() -> Wire {
    let wire = Wire::default().u64(20).u32(21).u32(0).zeros(16);
    let wire = wire.u32(1).zeros(24).u16(2).u16(0).u64(3).zeros(24);
    let wire = (4..=7).fold(wire, |wire, second| wire.u64(second).u32(1).u32(0));
    wire.zeros(12).u32(8).zeros(112)
}

/// The entry `abc` of READDIR.
fn dirent(wire: Wire) -> Wire {
    wire.u64(1).u64(2).u32(3).u32(8).bytes(b"abc").zeros(5)
}

/// Which call an opcode's golden request leads to, and what then goes out.
fn expected(opcode: u32) -> (Option<String>, Answer) {
    let w = Wire::default;
    let n = NODEID;
    let fh = "f1f2f3f4f5f6f7f8";
    let done = || reply(w());
    let call = |text: String, answer| (Some(text), answer);
    match opcode {
        1 => call(format!("lookup {n} name"), reply(entry_out())),
        2 => call(format!("forget {n} 3"), Answer::Silence),
        3 => call(format!("getattr {n} Some({fh})"), reply(attr_out())),
        4 => call(format!("setattr {n} 0x7ff {}", 1_u64 << 41), reply(attr_out())),
        5 => call(format!("readlink {n}"), payload("target")),
        6 => call(format!("symlink {n} name \"../some/target\""), reply(entry_out())),
        8 => call(format!("mknod {n} name 20640"), reply(entry_out())),
        9 => call(format!("mkdir {n} name 750"), reply(entry_out())),
        10 => call(format!("unlink {n} name"), done()),
        11 => call(format!("rmdir {n} name"), done()),
        12 => call(format!("rename {n} name 71 new name 0"), done()),
        13 => call(format!("link 72 {n} new name"), reply(entry_out())),
        14 => call(format!("open {n} 100002"), reply(open_out(w()))),
        15 => call(format!("read {n} {} 4096", 1_u64 << 40), payload(&CONTENT[..4096])),
        16 => call(format!("write {n} {} hello world", 1_u64 << 42), reply(w().u32(11).u32(0))),
        17 => {
            let counts = (1..=5).fold(w(), Wire::u64).u32(6).u32(7).u32(8);
            call(format!("statfs {n}"), reply(counts.zeros(28)))
        }
        18 => call(format!("release {n} {fh}"), done()),
        20 => call(format!("fsync {n} {fh} 1"), done()),
        21 => call(format!("setxattr {n} \"user.x\" value 2 true"), done()),
        22 => call(format!("getxattr {n} \"user.x\" 64"), payload("value")),
        23 => call(format!("listxattr {n} 64"), payload("user.x\0user.y\0")),
        24 => call(format!("removexattr {n} \"user.x\""), done()),
        25 => call(format!("flush {n} {fh}"), done()),
        27 => call(format!("opendir {n} 100002"), reply(open_out(w()))),
        28 => {
            let full = (0..128).fold(w(), |wire, _| dirent(wire));
            call(format!("readdir {n} {}", 1_u64 << 40), payload(full.end()))
        }
        29 => call(format!("releasedir {n} {fh}"), done()),
        30 => call(format!("fsyncdir {n} {fh} 1"), done()),
        34 => call(format!("access {n} 5"), done()),
        35 => call(format!("create {n} name 100640"), reply(open_out(entry_out()))),
        38 => call("destroy".to_owned(), done()),
        39 => {
            let fixed = w().u32((-7_i32).cast_unsigned()).zeros(12).end();
            let answer = Answer::Reply(fixed, b"out\0\0\0\0\0".to_vec());
            call(format!("ioctl {n} 0x40086602 [1, 2, 3, 4] 8"), answer)
        }
        43 => call(format!("fallocate {n} {} 3", 1_u64 << 33), done()),
        44 => {
            let entry = |wire: Wire| dirent(wire.bytes(&entry_out().end()));
            let full = (0..25).fold(w(), |wire, _| entry(wire));
            call(format!("readdirplus {n} {}", 1_u64 << 40), payload(full.end()))
        }
        45 => call(format!("rename {n} name 71 new name 2"), done()),
        46 => call(format!("lseek {n} {} 4", 1_u64 << 35), reply(w().u64(1 << 36))),
        47 => call(format!("copy_file_range {n} 14 15"), reply(w().u32(15).u32(0))),
        50 => call(format!("syncfs {n}"), done()),
        51 => call(format!("tmpfile {n} 100600"), reply(open_out(entry_out()))),
        52 => call(format!("statx {n} 0xfff"), reply(statx_out())),
        53 => call(format!("copy_file_range {n} 14 15"), reply(w().u64(15))),
        // The one that counts was answered before any worker started.
        26 => (None, Answer::Error(Errno::EIO)),
        36 => (None, Answer::Silence),
        _ => (None, Answer::Error(Errno::ENOSYS)),
    }
}

#[test]
fn every_opcode_reaches_its_method_and_its_reply_goes_out() {
    for golden in golden::all().into_iter().filter(|golden| golden.opcode != 42) {
        let fs = Recorder::default();
        let answer = serve(&fs, &golden.request());
        let (call, expected) = expected(golden.opcode);
        assert_eq!(fs.take(), Vec::from_iter(call), "{}", golden.name);
        assert_eq!(answer, expected, "{}", golden.name);
    }
}

#[test]
fn what_was_not_negotiated_is_answered_enosys_without_a_call() {
    let unsupported: Vec<_> = golden::all()
        .into_iter()
        .filter(|golden| {
            serve(&Recorder::default(), &golden.request()) == Answer::Error(Errno::ENOSYS)
        })
        .map(|golden| golden.name)
        .collect();
    let expected = [
        "GETLK",
        "SETLK",
        "SETLKW",
        "BMAP",
        "POLL",
        "NOTIFY_REPLY",
        "SETUPMAPPING",
        "REMOVEMAPPING",
    ];
    assert_eq!(unsupported, expected);
}

#[test]
fn an_error_of_the_file_system_is_the_answer() {
    for golden in golden::all() {
        let fs = Recorder::failing(Errno::EDQUOT);
        let answer = serve(&fs, &golden.request());
        let asked = !fs.take().is_empty();
        let expected = match golden.name {
            "FORGET" | "BATCH_FORGET" | "INTERRUPT" => Answer::Silence,
            "DESTROY" => reply(Wire::default()),
            "INIT" => Answer::Error(Errno::EIO),
            _ if !asked => Answer::Error(Errno::ENOSYS),
            _ => Answer::Error(Errno::EDQUOT),
        };
        assert_eq!(answer, expected, "{}", golden.name);
    }
}

#[test]
fn a_batch_forgets_each_of_its_entries_in_order() {
    let fs = Recorder::default();
    assert_eq!(serve(&fs, &golden::golden(42).request()), Answer::Silence);
    assert_eq!(fs.take(), ["forget 81 1", "forget 82 2", "forget 83 3"]);
    let empty = Wire::default().u32(0).u32(0).end();
    assert_eq!(serve(&fs, &request(42, &empty)), Answer::Silence);
    assert!(fs.take().is_empty());
}

#[test]
fn getattr_names_a_file_only_if_the_kernel_says_so() {
    let fs = Recorder::default();
    serve(&fs, &request(3, &Wire::default().u32(0).u32(0).u64(5).end()));
    serve(&fs, &request(3, &Wire::default().u32(1).u32(0).u64(0).end()));
    assert_eq!(fs.take(), [format!("getattr {NODEID} None"), format!("getattr {NODEID} Some(0)")]);
}

#[test]
fn size_0_asks_for_the_length_of_an_attribute() {
    // 5 bytes of value, 14 of list.
    for (opcode, name, len) in [(22, &b"user.x\0"[..], 5_u32), (23, b"", 14)] {
        let ask = |size: u32| {
            let body = Wire::default().u32(size).u32(0).bytes(name).end();
            serve(&Recorder::default(), &request(opcode, &body))
        };
        assert_eq!(ask(0), reply(Wire::default().u32(len).u32(0)), "{opcode}");
        for short in [1, len - 1] {
            assert_eq!(ask(short), Answer::Error(Errno::ERANGE), "{opcode} into {short}");
        }
        for enough in [len, len + 1, u32::MAX] {
            let Answer::Reply(fixed, value) = ask(enough) else { panic!("{opcode} {enough}") };
            assert_eq!((fixed.len(), value.len()), (0, len as usize), "{opcode} into {enough}");
        }
    }
}

/// Says how long its attributes are without looking at the room, as a careless one would.
#[derive(Debug)]
struct Careless(usize);

impl Filesystem for Careless {
    fn lookup(&self, _: &Caller, _: NodeId, _: crate::fs::Name<'_>) -> Result<Entry> {
        Err(Errno::ENOENT)
    }

    fn getattr(&self, _: &Caller, _: NodeId, _: Option<Fh>) -> Result<Attributes> {
        Err(Errno::ENOENT)
    }

    fn listxattr(&self, _: &Caller, _: NodeId, _: &mut [u8]) -> Result<usize> {
        Ok(self.0)
    }

    fn copy_file_range(&self, _: &Caller, _: NodeId, args: &abi::CopyFileRangeIn) -> Result<u64> {
        assert!(args.len <= 1 << 30, "the answer must fit 32 bits");
        Ok(self.0 as u64)
    }

    fn read(&self, _: &Caller, _: NodeId, _: &abi::ReadIn, _: &mut Payload<'_>) -> Result<Data> {
        let file = File::open("/dev/null").map_err(|_| Errno::EIO)?;
        Ok(Data::FileRange { file: Arc::new(file), offset: 7, len: u32::MAX })
    }
}

#[test]
fn a_length_beyond_the_room_is_erange_and_nothing_is_sent() {
    let list = |size| request(23, &Wire::default().u32(size).u32(0).end());
    assert_eq!(serve(&Careless(65), &list(64)), Answer::Error(Errno::ERANGE));
    assert_eq!(serve(&Careless(64), &list(64)), payload([0xaa; 64]));
    assert_eq!(serve_into(&Careless(64), &list(64), &mut [0; 63]), Answer::Error(Errno::ERANGE));
    assert_eq!(serve(&Careless(1 << 33), &list(0)), Answer::Error(Errno::E2BIG));
}

#[test]
fn a_read_is_cut_to_the_size_that_was_asked_for() {
    let read = |size| {
        let w = Wire::default().u64(1).u64(0).u32(size).u32(0).u64(0).u32(0).u32(0);
        request(15, &w.end())
    };
    for size in [0, 1, 4095, 4096] {
        let Answer::Reply(fixed, data) = serve(&Recorder::default(), &read(size)) else {
            panic!("read of {size}")
        };
        assert_eq!((fixed.len(), data.len()), (0, size as usize));
    }
    // More than the transport's buffer holds.
    assert_eq!(serve(&Recorder::default(), &read(4097)), Answer::Error(Errno::ERANGE));
    assert_eq!(serve(&Careless(0), &read(512)), Answer::Range(7, 512));
}

#[test]
fn an_ioctl_gets_zeroed_room_for_what_its_caller_takes() {
    let ioctl = |out_size| {
        let w = Wire::default().u64(1).u32(0).u32(0x40).u64(0).u32(0).u32(out_size);
        request(39, &w.end())
    };
    for size in [0, 2, 3, 8, 4096] {
        let Answer::Reply(fixed, out) = serve(&Recorder::default(), &ioctl(size)) else {
            panic!("ioctl of {size}")
        };
        assert_eq!((fixed.len(), out.len()), (16, size as usize));
        assert!(out.starts_with(&b"out"[..out.len().min(3)]));
    }
    for size in [4097, u32::MAX] {
        let fs = Recorder::default();
        assert_eq!(serve(&fs, &ioctl(size)), Answer::Error(Errno::ENOMEM), "{size}");
        assert!(fs.take().is_empty(), "not asked for what can not be answered");
    }
}

#[test]
fn a_copy_is_cut_to_what_its_answer_can_count() {
    let copy = |opcode, len| {
        let w = (0..5).fold(Wire::default(), |wire, _| wire.u64(0));
        request(opcode, &w.u64(len).u64(0).end())
    };
    let fs = Recorder::default();
    for (asked, given) in
        [(u64::MAX, 1 << 30), ((1 << 30) + 1, 1 << 30), (1 << 30, 1 << 30), (0, 0)]
    {
        assert_eq!(serve(&fs, &copy(47, asked)), reply(Wire::default().u32(given).u32(0)));
    }
    assert_eq!(serve(&fs, &copy(53, 1 << 40)), reply(Wire::default().u64(1 << 40)));
    assert_eq!(serve(&Careless(1 << 33), &copy(47, 5)), Answer::Error(Errno::EIO));
}

#[test]
fn a_time_keeps_its_nanoseconds() {
    assert_eq!(seconds(Duration::ZERO), (0, 0));
    assert_eq!(seconds(Duration::from_millis(1500)), (1, 500_000_000));
    assert_eq!(seconds(Duration::MAX), (u64::MAX, 999_999_999));
}

/// A file system that answers what the trait demands and leaves the rest to its defaults.
#[test]
fn defaults_answer_every_opcode() {
    for golden in golden::all() {
        let answer = serve(&Careless(0), &golden.request());
        let fine = match golden.name {
            "LOOKUP" | "GETATTR" => answer == Answer::Error(Errno::ENOENT),
            "FORGET" | "BATCH_FORGET" | "INTERRUPT" => answer == Answer::Silence,
            "READ" => answer == Answer::Range(7, 4096),
            "READLINK" => answer == Answer::Error(Errno::EINVAL),
            "IOCTL" => answer == Answer::Error(Errno::ENOTTY),
            "TMPFILE" => answer == Answer::Error(Errno::EOPNOTSUPP),
            "INIT" => answer == Answer::Error(Errno::EIO),
            "SYMLINK" | "MKNOD" | "MKDIR" | "UNLINK" | "RMDIR" | "RENAME" | "RENAME2" | "LINK" => {
                answer == Answer::Error(Errno::EPERM)
            }
            "STATFS" | "RELEASE" | "RELEASEDIR" | "DESTROY" | "LISTXATTR" | "COPY_FILE_RANGE"
            | "COPY_FILE_RANGE_64" => matches!(answer, Answer::Reply(..)),
            _ => answer == Answer::Error(Errno::ENOSYS),
        };
        assert!(fine, "{} was answered {answer:?}", golden.name);
    }
}
