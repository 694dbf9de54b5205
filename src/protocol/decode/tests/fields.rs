//! Each opcode's golden request, field by field.

use std::fmt::Debug;

use crate::abi::*;
use crate::protocol::decode::{Dialect, Frame, Operation, decode};
use crate::protocol::golden::{Aligned, FH, GID, NODEID, OWNER, PID, UID, UNIQUE, golden, request};

/// Has `check` look at the golden request of an opcode.
fn read(opcode: u32, check: impl FnOnce(Operation<'_>)) {
    let bytes = Aligned::new(&golden(opcode).request());
    let frame = Frame::from_contiguous(bytes.bytes()).expect("well-formed");
    let request = decode(frame, Dialect { setxattr_ext: true }).expect("well-formed");
    check(request.operation);
}

/// The operation must be of one variant, with these values in it.
macro_rules! expect {
    ($opcode:literal, $pattern:pat => $($got:expr, $want:expr);+ $(;)?) => {
        read($opcode, |operation| match operation {
            $pattern => { $(same($got, $want);)+ }
            other => panic!("opcode {} was read as {other:?}", $opcode),
        })
    };
}

#[track_caller]
fn same<T: PartialEq<U> + Debug, U: Debug>(got: T, want: U) {
    assert_eq!(got, want);
}

#[test]
fn the_header() {
    let bytes = Aligned::new(&request(5, b""));
    let header = Frame::from_contiguous(bytes.bytes()).expect("well-formed").header;
    let expected = InHeader {
        len: 40,
        opcode: 5,
        unique: UNIQUE,
        nodeid: NODEID,
        uid: UID,
        gid: GID,
        pid: PID,
        total_extlen: 0,
        padding: 0,
    };
    assert_eq!(*header, expected);
}

/// A LOOKUP of `passwd` in the root directory, by root, written out.
#[test]
#[cfg(target_endian = "little")]
fn a_lookup_in_bytes() {
    #[rustfmt::skip]
    let bytes_read = [
        0x2f, 0, 0, 0,  1, 0, 0, 0,  6, 0, 0, 0, 0, 0, 0, 0,  1, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0,  0, 0, 0, 0,  0x39, 0x30, 0, 0,  0, 0, 0, 0,
        b'p', b'a', b's', b's', b'w', b'd', 0,
    ];
    let bytes = Aligned::new(&bytes_read);
    let frame = Frame::from_contiguous(bytes.bytes()).expect("well-formed");
    let request = decode(frame, Dialect::default()).expect("well-formed");
    assert_eq!((request.header.unique, request.header.nodeid, request.header.pid), (6, 1, 12345));
    let Operation::Lookup { name } = request.operation else { panic!("{request:?}") };
    assert_eq!(name.as_c_str(), c"passwd");
}

#[test]
fn lookups_and_attributes() {
    expect!(1, Operation::Lookup { name } => name.as_c_str(), c"name");
    expect!(2, Operation::Forget(args) => *args, ForgetIn { nlookup: 3 });
    expect!(42, Operation::BatchForget(list) => list, [
        ForgetOne { nodeid: 81, nlookup: 1 },
        ForgetOne { nodeid: 82, nlookup: 2 },
        ForgetOne { nodeid: 83, nlookup: 3 },
    ]);
    expect!(3, Operation::Getattr(args) => *args, GetattrIn { getattr_flags: 1, dummy: 0, fh: FH });
    expect!(52, Operation::Statx(args) => *args, StatxIn {
        getattr_flags: 1, reserved: 0, fh: FH, sx_flags: 0x4000, sx_mask: 0xfff,
    });
    expect!(4, Operation::Setattr(args) => *args, SetattrIn {
        valid: 0x7ff, padding: 0, fh: FH, size: 1 << 41, lock_owner: OWNER,
        atime: 101, mtime: 102, ctime: 103, atimensec: 104, mtimensec: 105, ctimensec: 106,
        mode: 0o104_755, unused4: 0, uid: 107, gid: 108, unused5: 0,
    });
    expect!(34, Operation::Access { mask } => mask, 5);
}

#[test]
fn names() {
    expect!(5, Operation::Readlink => (), ());
    expect!(6, Operation::Symlink { name, target } =>
        name.as_c_str(), c"name"; target, c"../some/target");
    expect!(8, Operation::Mknod { args, name } =>
        *args, MknodIn { mode: 0o020_640, rdev: 0x0103, umask: 0o022, padding: 0 };
        name.as_c_str(), c"name");
    expect!(9, Operation::Mkdir { args, name } =>
        *args, MkdirIn { mode: 0o750, umask: 0o027 }; name.as_c_str(), c"name");
    expect!(10, Operation::Unlink { name } => name.as_c_str(), c"name");
    expect!(11, Operation::Rmdir { name } => name.as_c_str(), c"name");
    expect!(12, Operation::Rename { newdir, flags, name, newname } =>
        (newdir, flags), (71, 0); name.as_c_str(), c"name"; newname.as_c_str(), c"new name");
    expect!(45, Operation::Rename { newdir, flags, name, newname } =>
        (newdir, flags), (71, 2); name.as_c_str(), c"name"; newname.as_c_str(), c"new name");
    expect!(13, Operation::Link { args, newname } =>
        *args, LinkIn { oldnodeid: 72 }; newname.as_c_str(), c"new name");
}

#[test]
fn open_files() {
    let open = OpenIn { flags: 0o100_002, open_flags: 1 };
    expect!(14, Operation::Open(args) => *args, open);
    expect!(27, Operation::Opendir(args) => *args, open);
    expect!(35, Operation::Create { args, name } =>
        *args, CreateIn { flags: 0o100_302, mode: 0o100_640, umask: 0o022, open_flags: 1 };
        name.as_c_str(), c"name");
    expect!(51, Operation::Tmpfile(args) =>
        *args, CreateIn { flags: 0o20_200_002, mode: 0o100_600, umask: 0o022, open_flags: 0 });
    let release = ReleaseIn { fh: FH, flags: 0o100_002, release_flags: 1, lock_owner: OWNER };
    expect!(18, Operation::Release(args) => *args, release);
    expect!(29, Operation::Releasedir(args) => *args, release);
    expect!(25, Operation::Flush(args) =>
        *args, FlushIn { fh: FH, unused: 0, padding: 0, lock_owner: OWNER });
    let fsync = FsyncIn { fh: FH, fsync_flags: 1, padding: 0 };
    expect!(20, Operation::Fsync(args) => *args, fsync);
    expect!(30, Operation::Fsyncdir(args) => *args, fsync);
}

#[test]
fn data() {
    let read_in = ReadIn {
        fh: FH,
        offset: 1 << 40,
        size: 4096,
        read_flags: 2,
        lock_owner: OWNER,
        flags: 0o40000,
        padding: 0,
    };
    expect!(15, Operation::Read(args) => *args, read_in);
    expect!(28, Operation::Readdir(args) => *args, read_in);
    expect!(44, Operation::Readdirplus(args) => *args, read_in);
    expect!(16, Operation::Write { args, data } => data, b"hello world"; *args, WriteIn {
        fh: FH, offset: 1 << 42, size: 11, write_flags: 4, lock_owner: OWNER, flags: 2, padding: 0,
    });
    expect!(43, Operation::Fallocate(args) => *args, FallocateIn {
        fh: FH, offset: 1 << 33, length: 1 << 34, mode: 3, padding: 0,
    });
    expect!(46, Operation::Lseek(args) =>
        *args, LseekIn { fh: FH, offset: 1 << 35, whence: 4, padding: 0 });
    let copy = CopyFileRangeIn {
        fh_in: FH,
        off_in: 11,
        nodeid_out: 12,
        fh_out: 13,
        off_out: 14,
        len: 15,
        flags: 0,
    };
    expect!(47, Operation::CopyFileRange(args) => *args, copy);
    expect!(53, Operation::CopyFileRange64(args) => *args, copy);
    expect!(39, Operation::Ioctl { args, input } => input, [1, 2, 3, 4]; *args, IoctlIn {
        fh: FH, flags: 1, cmd: 0x4008_6602, arg: 99, in_size: 4, out_size: 8,
    });
}

#[test]
fn extended_attributes() {
    expect!(21, Operation::Setxattr { flags, setxattr_flags, name, value } =>
        (flags, setxattr_flags), (2, 1); name, c"user.x"; value, b"value");
    expect!(22, Operation::Getxattr { size, name } => (size, name), (64, c"user.x"));
    expect!(23, Operation::Listxattr { size } => size, 64);
    expect!(24, Operation::Removexattr { name } => name, c"user.x");
}

#[test]
fn the_connection() {
    expect!(17, Operation::Statfs => (), ());
    expect!(50, Operation::Syncfs => (), ());
    expect!(38, Operation::Destroy => (), ());
    expect!(36, Operation::Interrupt(args) => *args, InterruptIn { unique: 77 });
    expect!(26, Operation::Init { args, flags2 } => flags2, 0x7fd; *args, InitIn {
        major: 7, minor: 45, max_readahead: 128 << 10, flags: 0x73ff_fffb,
    });
}

/// Before 7.36 INIT ends after `flags`.
#[test]
fn an_init_without_its_extension_has_no_second_flags() {
    let bytes = Aligned::new(&request(26, &golden(26).body[..16]));
    let frame = Frame::from_contiguous(bytes.bytes()).expect("well-formed");
    let request = decode(frame, Dialect::default()).expect("well-formed");
    let Operation::Init { flags2: 0, .. } = request.operation else { panic!("{request:?}") };
}

#[test]
fn nothing_was_negotiated_for_the_rest() {
    for opcode in [31, 32, 33, 37, 40, 41, 48, 49] {
        read(opcode, |operation| match operation {
            Operation::Unsupported(found) => assert_eq!(found as u32, opcode),
            other => panic!("opcode {opcode} was read as {other:?}"),
        });
    }
}
