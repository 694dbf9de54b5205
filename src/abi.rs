//! The FUSE wire format: structures, opcodes and flags of protocol 7.45 (Linux 6.18), as in the
//! kernel's `include/uapi/linux/fuse.h`, whose names they keep.
//!
//! Everything here is plain old data in host byte order; sizes are asserted at compile time.
#![expect(missing_docs, reason = "fields and flags are the kernel's, documented in fuse.h")]
#![expect(missing_debug_implementations, reason = "of hidden types that zerocopy derives")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Major protocol version.
pub const VERSION: u32 = 7;
/// Newest minor protocol version that is understood.
pub const MINOR: u32 = 45;
/// Oldest minor version that is served: 7.31 (Linux 5.4) has every structure at today's size.
pub const MINOR_MIN: u32 = 31;
/// Nodeid of the root directory.
pub const ROOT_ID: u64 = 1;
/// Smallest buffer that the kernel accepts for a read of /dev/fuse.
pub const MIN_READ_BUFFER: usize = 8192;

/// Defines a wire structure: `repr(C)`, readable from and writable to bytes, of a known size.
macro_rules! wire {
    ($($(#[$meta:meta])* $name:ident[$size:literal] { $($(#[$doc:meta])* $field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$doc])* pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

wire! {
    /// Precedes every request.
    InHeader[40] {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        /// Length of the extensions behind the request, in units of 8 bytes.
        total_extlen: u16, padding: u16,
    }
    /// Precedes every reply; `error` is zero or a negative errno.
    OutHeader[16] { len: u32, error: i32, unique: u64 }
    Attr[88] {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    SxTime[16] { tv_sec: i64, tv_nsec: u32, reserved: i32 }
    /// Bit-compatible with `struct statx`.
    Statx[256] {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32,
        mode: u16, spare0: u16, ino: u64, size: u64, blocks: u64, attributes_mask: u64,
        atime: SxTime, btime: SxTime, ctime: SxTime, mtime: SxTime,
        rdev_major: u32, rdev_minor: u32, dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    }
    Kstatfs[80] {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64,
        bsize: u32, namelen: u32, frsize: u32, padding: u32, spare: [u32; 6],
    }
    EntryOut[128] {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64,
        entry_valid_nsec: u32, attr_valid_nsec: u32, attr: Attr,
    }
    ForgetIn[8] { nlookup: u64 }
    ForgetOne[16] { nodeid: u64, nlookup: u64 }
    BatchForgetIn[8] { count: u32, dummy: u32 }
    GetattrIn[16] { getattr_flags: u32, dummy: u32, fh: u64 }
    AttrOut[104] { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    StatxIn[24] { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32 }
    StatxOut[288] { attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: Statx }
    MknodIn[16] { mode: u32, rdev: u32, umask: u32, padding: u32 }
    MkdirIn[8] { mode: u32, umask: u32 }
    RenameIn[8] { newdir: u64 }
    Rename2In[16] { newdir: u64, flags: u32, padding: u32 }
    LinkIn[8] { oldnodeid: u64 }
    SetattrIn[88] {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64,
        atime: u64, mtime: u64, ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    OpenIn[8] { flags: u32, open_flags: u32 }
    CreateIn[16] { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    OpenOut[16] { fh: u64, open_flags: u32, backing_id: i32 }
    ReleaseIn[24] { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    FlushIn[24] { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    /// READ, READDIR and READDIRPLUS.
    ReadIn[40] {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    WriteIn[40] {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    WriteOut[8] { size: u32, padding: u32 }
    FsyncIn[16] { fh: u64, fsync_flags: u32, padding: u32 }
    SetxattrIn[16] { size: u32, flags: u32, setxattr_flags: u32, padding: u32 }
    /// SETXATTR where SETXATTR_EXT was not negotiated.
    SetxattrInCompat[8] { size: u32, flags: u32 }
    GetxattrIn[8] { size: u32, padding: u32 }
    GetxattrOut[8] { size: u32, padding: u32 }
    AccessIn[8] { mask: u32, padding: u32 }
    /// The part of `fuse_init_in` that every served kernel sends.
    InitIn[16] { major: u32, minor: u32, max_readahead: u32, flags: u32 }
    /// What INIT_EXT adds behind [`InitIn`].
    InitInExt[48] { flags2: u32, unused: [u32; 11] }
    InitOut[64] {
        major: u32, minor: u32, max_readahead: u32, flags: u32,
        max_background: u16, congestion_threshold: u16, max_write: u32, time_gran: u32,
        max_pages: u16, map_alignment: u16, flags2: u32, max_stack_depth: u32,
        request_timeout: u16, unused: [u16; 11],
    }
    InterruptIn[8] { unique: u64 }
    IoctlIn[32] { fh: u64, flags: u32, cmd: u32, arg: u64, in_size: u32, out_size: u32 }
    IoctlOut[16] { result: i32, flags: u32, in_iovs: u32, out_iovs: u32 }
    FallocateIn[32] { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    LseekIn[24] { fh: u64, offset: u64, whence: u32, padding: u32 }
    LseekOut[8] { offset: u64 }
    CopyFileRangeIn[56] {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }
    CopyFileRangeOut[8] { bytes_copied: u64 }
    SyncfsIn[8] { padding: u64 }
    NotifyInvalInodeOut[24] { ino: u64, off: i64, len: i64 }
    /// The name and a zero byte follow.
    NotifyInvalEntryOut[16] { parent: u64, namelen: u32, flags: u32 }
    /// So many nodeids follow.
    NotifyPruneOut[16] { count: u32, padding: u32, spare: u64 }
    /// Tail of a ring entry's header: which request is in it, and how much payload.
    UringEntInOut[32] { flags: u64, commit_id: u64, payload_sz: u32, padding: u32, reserved: u64 }
    /// In the command area of an SQE.
    UringCmdReq[24] { flags: u64, commit_id: u64, qid: u16, padding: [u8; 6] }
    /// Fixed part of a directory entry; the name follows, padded to 8 bytes.
    Dirent[24] { ino: u64, off: u64, namelen: u32, kind: u32 }
}

/// Defines [`Opcode`] with its wire numbers and names.
macro_rules! opcodes {
    ($($name:ident = $value:literal $text:literal),* $(,)?) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Opcode { $($name = $value),* }

        impl Opcode {
            /// Every opcode, in the order of their numbers.
            pub const ALL: &[Opcode] = &[$(Opcode::$name),*];

            /// The opcode of wire number `raw`, if there is one.
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw { $($value => Some(Opcode::$name),)* _ => None }
            }

            /// The kernel's name without `FUSE_`.
            pub const fn name(self) -> &'static str {
                match self { $(Opcode::$name => $text),* }
            }
        }
    };
}

opcodes! {
    Lookup = 1 "LOOKUP", Forget = 2 "FORGET", Getattr = 3 "GETATTR", Setattr = 4 "SETATTR",
    Readlink = 5 "READLINK", Symlink = 6 "SYMLINK", Mknod = 8 "MKNOD", Mkdir = 9 "MKDIR",
    Unlink = 10 "UNLINK", Rmdir = 11 "RMDIR", Rename = 12 "RENAME", Link = 13 "LINK",
    Open = 14 "OPEN", Read = 15 "READ", Write = 16 "WRITE", Statfs = 17 "STATFS",
    Release = 18 "RELEASE", Fsync = 20 "FSYNC", Setxattr = 21 "SETXATTR", Getxattr = 22 "GETXATTR",
    Listxattr = 23 "LISTXATTR", Removexattr = 24 "REMOVEXATTR", Flush = 25 "FLUSH",
    Init = 26 "INIT", Opendir = 27 "OPENDIR", Readdir = 28 "READDIR", Releasedir = 29 "RELEASEDIR",
    Fsyncdir = 30 "FSYNCDIR", Getlk = 31 "GETLK", Setlk = 32 "SETLK", Setlkw = 33 "SETLKW",
    Access = 34 "ACCESS", Create = 35 "CREATE", Interrupt = 36 "INTERRUPT", Bmap = 37 "BMAP",
    Destroy = 38 "DESTROY", Ioctl = 39 "IOCTL", Poll = 40 "POLL", NotifyReply = 41 "NOTIFY_REPLY",
    BatchForget = 42 "BATCH_FORGET", Fallocate = 43 "FALLOCATE", Readdirplus = 44 "READDIRPLUS",
    Rename2 = 45 "RENAME2", Lseek = 46 "LSEEK", CopyFileRange = 47 "COPY_FILE_RANGE",
    Setupmapping = 48 "SETUPMAPPING", Removemapping = 49 "REMOVEMAPPING", Syncfs = 50 "SYNCFS",
    Tmpfile = 51 "TMPFILE", Statx = 52 "STATX", CopyFileRange64 = 53 "COPY_FILE_RANGE_64",
}

bitflags::bitflags! {
    /// INIT flags: `flags` in the low word, `flags2` in the high one.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InitFlags: u64 {
        const ASYNC_READ = 1;
        const POSIX_LOCKS = 1 << 1;
        const FILE_OPS = 1 << 2;
        const ATOMIC_O_TRUNC = 1 << 3;
        const EXPORT_SUPPORT = 1 << 4;
        const BIG_WRITES = 1 << 5;
        const DONT_MASK = 1 << 6;
        const SPLICE_WRITE = 1 << 7;
        const SPLICE_MOVE = 1 << 8;
        const SPLICE_READ = 1 << 9;
        const FLOCK_LOCKS = 1 << 10;
        const HAS_IOCTL_DIR = 1 << 11;
        const AUTO_INVAL_DATA = 1 << 12;
        const DO_READDIRPLUS = 1 << 13;
        const READDIRPLUS_AUTO = 1 << 14;
        const ASYNC_DIO = 1 << 15;
        const WRITEBACK_CACHE = 1 << 16;
        const NO_OPEN_SUPPORT = 1 << 17;
        const PARALLEL_DIROPS = 1 << 18;
        const HANDLE_KILLPRIV = 1 << 19;
        const POSIX_ACL = 1 << 20;
        const ABORT_ERROR = 1 << 21;
        const MAX_PAGES = 1 << 22;
        const CACHE_SYMLINKS = 1 << 23;
        const NO_OPENDIR_SUPPORT = 1 << 24;
        const EXPLICIT_INVAL_DATA = 1 << 25;
        const MAP_ALIGNMENT = 1 << 26;
        const SUBMOUNTS = 1 << 27;
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        const SETXATTR_EXT = 1 << 29;
        const INIT_EXT = 1 << 30;
        const SECURITY_CTX = 1 << 32;
        const HAS_INODE_DAX = 1 << 33;
        const CREATE_SUPP_GROUP = 1 << 34;
        const HAS_EXPIRE_ONLY = 1 << 35;
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        const PASSTHROUGH = 1 << 37;
        const NO_EXPORT_SUPPORT = 1 << 38;
        const HAS_RESEND = 1 << 39;
        const ALLOW_IDMAP = 1 << 40;
        const OVER_IO_URING = 1 << 41;
        const REQUEST_TIMEOUT = 1 << 42;
    }

    /// `SetattrIn::valid`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SetattrValid: u32 {
        const MODE = 1;
        const UID = 1 << 1;
        const GID = 1 << 2;
        const SIZE = 1 << 3;
        const ATIME = 1 << 4;
        const MTIME = 1 << 5;
        const FH = 1 << 6;
        const ATIME_NOW = 1 << 7;
        const MTIME_NOW = 1 << 8;
        const LOCKOWNER = 1 << 9;
        const CTIME = 1 << 10;
        const KILL_SUIDGID = 1 << 11;
    }

    /// `OpenOut::open_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        const DIRECT_IO = 1;
        const KEEP_CACHE = 1 << 1;
        const NONSEEKABLE = 1 << 2;
        const CACHE_DIR = 1 << 3;
        const STREAM = 1 << 4;
        const NOFLUSH = 1 << 5;
        const PARALLEL_DIRECT_WRITES = 1 << 6;
        const PASSTHROUGH = 1 << 7;
    }
}

/// Bytes at the front of a ring entry's header for `fuse_in_header` or `fuse_out_header`.
pub const URING_IN_OUT_HEADER_SZ: usize = 128;
/// Bytes behind them for the opcode's fixed argument.
pub const URING_OP_IN_OUT_SZ: usize = 128;
/// Registers a ring entry and fetches its first request.
pub const URING_CMD_REGISTER: u32 = 1;
/// Answers a ring entry's request and fetches the next.
pub const URING_CMD_COMMIT_AND_FETCH: u32 = 2;

/// `GetattrIn::getattr_flags`: `fh` is valid.
pub const GETATTR_FH: u32 = 1;
/// `WriteIn::write_flags`: written back from the page cache, through whichever open file was at hand.
pub const WRITE_CACHE: u32 = 1;
/// `WriteIn::write_flags`: clear set-user-id and set-group-id.
pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `OpenIn::open_flags` and `CreateIn::open_flags`: clear set-user-id and set-group-id.
pub const OPEN_KILL_SUIDGID: u32 = 1;
/// `SetxattrIn::setxattr_flags`: clear set-group-id along with this change of the ACL.
pub const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// `IoctlIn::flags`: the file is a directory.
pub const IOCTL_DIR: u32 = 1 << 4;
/// `FsyncIn::fsync_flags`: data only.
pub const FSYNC_FDATASYNC: u32 = 1;
