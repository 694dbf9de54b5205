//! One request per opcode, byte by byte as `include/uapi/linux/fuse.h` lays it out.
//!
//! Written without the structures of `abi`, so that a mistake there can not hide behind itself.
//! Every field has another value, so that two that were swapped are told apart.

use zerocopy::IntoBytes;

pub(crate) const UNIQUE: u64 = 0x1122_3344_5566_7788;
pub(crate) const NODEID: u64 = 0x0102_0304_0506_0708;
pub(crate) const FH: u64 = 0xf1f2_f3f4_f5f6_f7f8;
pub(crate) const OWNER: u64 = 0xe1e2_e3e4_e5e6_e7e8;
pub(crate) const UID: u32 = 1000;
pub(crate) const GID: u32 = 1001;
pub(crate) const PID: u32 = 4242;

/// Bytes of `fuse_in_header`.
pub(crate) const HEADER: usize = 40;

/// Puts integers and bytes one behind the other, in the host's byte order as the kernel does.
#[derive(Default)]
pub(crate) struct Wire(Vec<u8>);

impl Wire {
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0
    }
}

/// Received bytes, aligned as a transport's buffer is.
pub(crate) struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Aligned { words, len: bytes.len() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }
}

/// A header that is true of `body`, and `body` behind it.
pub(crate) fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER + body.len()).expect("test requests are small");
    Wire::default()
        .u32(len)
        .u32(opcode)
        .u64(UNIQUE)
        .u64(NODEID)
        .u32(UID)
        .u32(GID)
        .u32(PID)
        .u16(0) // total_extlen
        .u16(0) // padding
        .bytes(body)
        .end()
}

/// What the kernel sends for one opcode.
pub(crate) struct Golden {
    pub(crate) opcode: u32,
    pub(crate) name: &'static str,
    pub(crate) body: Vec<u8>,
    /// The fewest bytes of `body` that still make sense.
    pub(crate) needed: usize,
}

impl Golden {
    /// The request as it is received.
    pub(crate) fn request(&self) -> Vec<u8> {
        request(self.opcode, &self.body)
    }
}

/// The request of `opcode`.
pub(crate) fn golden(opcode: u32) -> Golden {
    all().into_iter().find(|golden| golden.opcode == opcode).expect("there is one per opcode")
}

/// A request for every opcode of protocol 7.45.
pub(crate) fn all() -> Vec<Golden> {
    let w = Wire::default;
    let whole = |opcode, name, body: Wire| {
        let body = body.end();
        Golden { opcode, name, needed: body.len(), body }
    };
    // What is behind the first `needed` bytes is not looked at.
    let prefix =
        |opcode, name, needed, body: Wire| Golden { opcode, name, needed, body: body.end() };
    let open = || w().u32(0o100_002).u32(1);
    let read = || w().u64(FH).u64(1 << 40).u32(4096).u32(2).u64(OWNER).u32(0o40000).u32(0);
    let release = || w().u64(FH).u32(0o100_002).u32(1).u64(OWNER);
    let fsync = || w().u64(FH).u32(1).u32(0);
    let lock = || w().u64(FH).u64(OWNER).u64(0).u64(9).u32(1).u32(PID).u32(0).u32(0);
    let copy = || w().u64(FH).u64(11).u64(12).u64(13).u64(14).u64(15).u64(0);
    vec![
        whole(1, "LOOKUP", w().bytes(b"name\0")),
        whole(2, "FORGET", w().u64(3)),
        whole(3, "GETATTR", w().u32(1).u32(0).u64(FH)),
        whole(4, "SETATTR", setattr()),
        prefix(5, "READLINK", 0, w()),
        whole(6, "SYMLINK", w().bytes(b"name\0../some/target\0")),
        whole(8, "MKNOD", w().u32(0o020_640).u32(0x0103).u32(0o022).u32(0).bytes(b"name\0")),
        whole(9, "MKDIR", w().u32(0o750).u32(0o027).bytes(b"name\0")),
        whole(10, "UNLINK", w().bytes(b"name\0")),
        whole(11, "RMDIR", w().bytes(b"name\0")),
        whole(12, "RENAME", w().u64(71).bytes(b"name\0new name\0")),
        whole(13, "LINK", w().u64(72).bytes(b"new name\0")),
        whole(14, "OPEN", open()),
        whole(15, "READ", read()),
        whole(16, "WRITE", write()),
        prefix(17, "STATFS", 0, w()),
        whole(18, "RELEASE", release()),
        whole(20, "FSYNC", fsync()),
        whole(21, "SETXATTR", w().u32(5).u32(2).u32(1).u32(0).bytes(b"user.x\0value")),
        whole(22, "GETXATTR", w().u32(64).u32(0).bytes(b"user.x\0")),
        whole(23, "LISTXATTR", w().u32(64).u32(0)),
        whole(24, "REMOVEXATTR", w().bytes(b"user.x\0")),
        whole(25, "FLUSH", w().u64(FH).u32(0).u32(0).u64(OWNER)),
        prefix(26, "INIT", 16, init()),
        whole(27, "OPENDIR", open()),
        whole(28, "READDIR", read()),
        whole(29, "RELEASEDIR", release()),
        whole(30, "FSYNCDIR", fsync()),
        prefix(31, "GETLK", 0, lock()),
        prefix(32, "SETLK", 0, lock()),
        prefix(33, "SETLKW", 0, lock()),
        whole(34, "ACCESS", w().u32(5).u32(0)),
        whole(35, "CREATE", w().u32(0o100_302).u32(0o100_640).u32(0o022).u32(1).bytes(b"name\0")),
        whole(36, "INTERRUPT", w().u64(77)),
        prefix(37, "BMAP", 0, w().u64(9).u32(512).u32(0)),
        prefix(38, "DESTROY", 0, w()),
        whole(
            39,
            "IOCTL",
            w().u64(FH).u32(1).u32(0x4008_6602).u64(99).u32(4).u32(8).bytes(b"\x01\x02\x03\x04"),
        ),
        prefix(40, "POLL", 0, w().u64(FH).u64(1).u32(0).u32(4)),
        prefix(
            41,
            "NOTIFY_REPLY",
            0,
            w().u64(0).u64(4096).u32(4).u32(0).u64(0).u64(0).bytes(b"data"),
        ),
        whole(42, "BATCH_FORGET", w().u32(3).u32(0).u64(81).u64(1).u64(82).u64(2).u64(83).u64(3)),
        whole(43, "FALLOCATE", w().u64(FH).u64(1 << 33).u64(1 << 34).u32(3).u32(0)),
        whole(44, "READDIRPLUS", read()),
        whole(45, "RENAME2", w().u64(71).u32(2).u32(0).bytes(b"name\0new name\0")),
        whole(46, "LSEEK", w().u64(FH).u64(1 << 35).u32(4).u32(0)),
        whole(47, "COPY_FILE_RANGE", copy()),
        prefix(48, "SETUPMAPPING", 0, w().u64(FH).u64(0).u64(4096).u64(1).u64(0)),
        prefix(49, "REMOVEMAPPING", 0, w().u32(1).u64(0).u64(4096)),
        prefix(50, "SYNCFS", 0, w().u64(0)),
        // The name is "/" and says nothing.
        prefix(
            51,
            "TMPFILE",
            16,
            w().u32(0o20_200_002).u32(0o100_600).u32(0o022).u32(0).bytes(b"/\0"),
        ),
        whole(52, "STATX", w().u32(1).u32(0).u64(FH).u32(0x4000).u32(0xfff)),
        whole(53, "COPY_FILE_RANGE_64", copy()),
    ]
}

fn setattr() -> Wire {
    Wire::default()
        .u32(0x7ff) // valid
        .u32(0) // padding
        .u64(FH)
        .u64(1 << 41) // size
        .u64(OWNER)
        .u64(101) // atime
        .u64(102) // mtime
        .u64(103) // ctime
        .u32(104) // atimensec
        .u32(105) // mtimensec
        .u32(106) // ctimensec
        .u32(0o104_755) // mode
        .u32(0)
        .u32(107) // uid
        .u32(108) // gid
        .u32(0)
}

fn write() -> Wire {
    Wire::default()
        .u64(FH)
        .u64(1 << 42) // offset
        .u32(11) // size
        .u32(4) // write_flags
        .u64(OWNER)
        .u32(0o2) // flags
        .u32(0) // padding
        .bytes(b"hello world")
}

fn init() -> Wire {
    Wire::default()
        .u32(7)
        .u32(45)
        .u32(128 << 10) // max_readahead
        .u32(0x73ff_fffb)
        .u32(0x0000_07fd) // flags2
        .zeros(44)
}
