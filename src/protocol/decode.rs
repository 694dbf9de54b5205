//! `&[u8]` to [`Request`]: typed views of the received bytes, without a copy or an allocation.
//!
//! A request is a header, an opcode's fixed argument, and a payload of names or data. On /dev/fuse
//! the three are contiguous; a ring entry has them in three places. [`Frame`] is what both become.

use std::ffi::CStr;

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::abi::{self, InHeader, Opcode};

/// Why bytes are not a request, and to whom the error can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// The request's id if the header was readable: it must be answered.
    pub unique: Option<u64>,
    /// The opcode's wire number, 0 if the header was not readable.
    pub opcode: u32,
    /// What to answer: ENOSYS for an unknown opcode, EIO for one whose bytes lie.
    pub errno: Errno,
    /// What is wrong, for the log.
    pub reason: &'static str,
}

/// One component of a path: not empty, no slash, not `.` or `..`.
///
/// The kernel sends nothing else but to ask by a file handle; checking it here keeps every name inside
/// its directory whatever is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// The name as a C string; `None` if it is not a single component.
    pub fn new(name: &'a CStr) -> Option<Self> {
        let bytes = name.to_bytes();
        let single = !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/');
        single.then_some(Name(name))
    }

    /// The name, for system calls.
    pub fn as_c_str(self) -> &'a CStr {
        self.0
    }
}

/// A request in its three parts, wherever a transport received them.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The common header.
    pub header: &'a InHeader,
    /// The opcode's fixed argument; empty if it has none.
    pub argument: &'a [u8],
    /// Names and data.
    pub payload: &'a [u8],
    /// Extensions, `total_extlen * 8` bytes.
    pub extensions: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits what one read of /dev/fuse returned. The buffer must be aligned to 8 bytes.
    pub fn from_contiguous(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Ok((header, body)) = InHeader::ref_from_prefix(bytes) else {
            let reason = "shorter than its header, or misaligned";
            return Err(Malformed { unique: None, opcode: 0, errno: Errno::EIO, reason });
        };
        let lie = |reason| malformed(header, Errno::EIO, reason);
        if usize::try_from(header.len) != Ok(bytes.len()) {
            return Err(lie("length in the header differs from what was received"));
        }
        let extension_bytes = usize::from(header.total_extlen) * 8;
        let Some(split) = body.len().checked_sub(extension_bytes) else {
            return Err(lie("extensions longer than the request"));
        };
        let (body, extensions) = body.split_at(split);
        let size = argument_size(header.opcode);
        if body.len() < size {
            return Err(lie("shorter than its opcode's argument"));
        }
        let (argument, payload) = body.split_at(size);
        Ok(Frame { header, argument, payload, extensions })
    }
}

/// Reads what stands in front of the data of a WRITE, of which `waiting` bytes are somewhere else; `None`
/// if that is not all of it, and [`decode`] has to say what is wrong.
pub fn decode_ahead(bytes: &[u8], waiting: usize) -> Option<(&InHeader, &abi::WriteIn)> {
    let (header, body) = InHeader::ref_from_prefix(bytes).ok()?;
    let args = abi::WriteIn::ref_from_bytes(body).ok()?;
    let whole = header.opcode == Opcode::Write as u32
        && header.total_extlen == 0
        && usize::try_from(header.len) == Ok(bytes.len() + waiting)
        && usize::try_from(args.size) == Ok(waiting);
    whole.then_some((header, args))
}

/// A decoded request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The common header: id, node, caller.
    pub header: &'a InHeader,
    /// What is asked for.
    pub operation: Operation<'a>,
}

/// What a request asks for, by opcode. Names of fields follow the kernel's structures.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each variant is the opcode of its name, each field its argument")]
pub enum Operation<'a> {
    Lookup {
        name: Name<'a>,
    },
    /// LOOKUP of `.`: by a file handle.
    LookupSelf,
    /// LOOKUP of `..`: of a directory that a file handle led to.
    LookupParent,
    Forget(&'a abi::ForgetIn),
    BatchForget(&'a [abi::ForgetOne]),
    Getattr(&'a abi::GetattrIn),
    Statx(&'a abi::StatxIn),
    Setattr(&'a abi::SetattrIn),
    Readlink,
    Symlink {
        name: Name<'a>,
        target: &'a CStr,
    },
    Mknod {
        args: &'a abi::MknodIn,
        name: Name<'a>,
    },
    Mkdir {
        args: &'a abi::MkdirIn,
        name: Name<'a>,
    },
    Unlink {
        name: Name<'a>,
    },
    Rmdir {
        name: Name<'a>,
    },
    Rename {
        newdir: u64,
        flags: u32,
        name: Name<'a>,
        newname: Name<'a>,
    },
    Link {
        args: &'a abi::LinkIn,
        newname: Name<'a>,
    },
    Open(&'a abi::OpenIn),
    Create {
        args: &'a abi::CreateIn,
        name: Name<'a>,
    },
    Tmpfile(&'a abi::CreateIn),
    Read(&'a abi::ReadIn),
    Write {
        args: &'a abi::WriteIn,
        data: &'a [u8],
    },
    Statfs,
    Release(&'a abi::ReleaseIn),
    Flush(&'a abi::FlushIn),
    Fsync(&'a abi::FsyncIn),
    Opendir(&'a abi::OpenIn),
    Readdir(&'a abi::ReadIn),
    Readdirplus(&'a abi::ReadIn),
    Releasedir(&'a abi::ReleaseIn),
    Fsyncdir(&'a abi::FsyncIn),
    Setxattr {
        flags: u32,
        setxattr_flags: u32,
        name: &'a CStr,
        value: &'a [u8],
    },
    Getxattr {
        size: u32,
        name: &'a CStr,
    },
    Listxattr {
        size: u32,
    },
    Removexattr {
        name: &'a CStr,
    },
    Access {
        mask: u32,
    },
    Fallocate(&'a abi::FallocateIn),
    Lseek(&'a abi::LseekIn),
    CopyFileRange(&'a abi::CopyFileRangeIn),
    CopyFileRange64(&'a abi::CopyFileRangeIn),
    Ioctl {
        args: &'a abi::IoctlIn,
        input: &'a [u8],
    },
    Syncfs,
    Interrupt(&'a abi::InterruptIn),
    Destroy,
    Init {
        args: &'a abi::InitIn,
        flags2: u32,
    },
    /// A known opcode that nothing was negotiated for: remote locks, BMAP, POLL, DAX, CUSE.
    Unsupported(Opcode),
}

/// Protocol state that changes how bytes are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dialect {
    /// SETXATTR_EXT was negotiated: SETXATTR has the long argument.
    pub setxattr_ext: bool,
}

/// Reads `frame` as what its opcode says.
pub fn decode(frame: Frame<'_>, dialect: Dialect) -> Result<Request<'_>, Malformed> {
    let header = frame.header;
    let Some(opcode) = Opcode::from_raw(header.opcode) else {
        return Err(malformed(header, Errno::ENOSYS, "unknown opcode"));
    };
    match operation(opcode, frame, dialect) {
        Ok(operation) => Ok(Request { header, operation }),
        Err(reason) => Err(malformed(header, Errno::EIO, reason)),
    }
}

fn malformed(header: &InHeader, errno: Errno, reason: &'static str) -> Malformed {
    Malformed { unique: Some(header.unique), opcode: header.opcode, errno, reason }
}

/// Bytes of the fixed argument that precedes names and data, by wire opcode.
///
/// 0 for SETXATTR, whose argument depends on the dialect: [`decode`] splits it off.
pub fn argument_size(opcode: u32) -> usize {
    use Opcode as O;
    match Opcode::from_raw(opcode) {
        Some(O::Forget) => size_of::<abi::ForgetIn>(),
        Some(O::BatchForget) => size_of::<abi::BatchForgetIn>(),
        Some(O::Getattr) => size_of::<abi::GetattrIn>(),
        Some(O::Statx) => size_of::<abi::StatxIn>(),
        Some(O::Setattr) => size_of::<abi::SetattrIn>(),
        Some(O::Mknod) => size_of::<abi::MknodIn>(),
        Some(O::Mkdir) => size_of::<abi::MkdirIn>(),
        Some(O::Rename) => size_of::<abi::RenameIn>(),
        Some(O::Rename2) => size_of::<abi::Rename2In>(),
        Some(O::Link) => size_of::<abi::LinkIn>(),
        Some(O::Open | O::Opendir) => size_of::<abi::OpenIn>(),
        Some(O::Create | O::Tmpfile) => size_of::<abi::CreateIn>(),
        Some(O::Read | O::Readdir | O::Readdirplus) => size_of::<abi::ReadIn>(),
        Some(O::Write) => size_of::<abi::WriteIn>(),
        Some(O::Release | O::Releasedir) => size_of::<abi::ReleaseIn>(),
        Some(O::Flush) => size_of::<abi::FlushIn>(),
        Some(O::Fsync | O::Fsyncdir) => size_of::<abi::FsyncIn>(),
        Some(O::Getxattr | O::Listxattr) => size_of::<abi::GetxattrIn>(),
        Some(O::Access) => size_of::<abi::AccessIn>(),
        Some(O::Fallocate) => size_of::<abi::FallocateIn>(),
        Some(O::Lseek) => size_of::<abi::LseekIn>(),
        Some(O::CopyFileRange | O::CopyFileRange64) => size_of::<abi::CopyFileRangeIn>(),
        Some(O::Ioctl) => size_of::<abi::IoctlIn>(),
        Some(O::Interrupt) => size_of::<abi::InterruptIn>(),
        Some(O::Init) => size_of::<abi::InitIn>(),
        _ => 0,
    }
}

type Parsed<T> = Result<T, &'static str>;

fn operation<'a>(opcode: Opcode, frame: Frame<'a>, dialect: Dialect) -> Parsed<Operation<'a>> {
    use Operation as Op;
    let Frame { argument, payload, .. } = frame;
    Ok(match opcode {
        Opcode::Lookup => match payload {
            b".\0" => Op::LookupSelf,
            b"..\0" => Op::LookupParent,
            _ => Op::Lookup { name: only_name(payload)? },
        },
        Opcode::Forget => Op::Forget(fixed(argument)?),
        Opcode::BatchForget => Op::BatchForget(forgets(fixed(argument)?, payload)?),
        Opcode::Getattr => Op::Getattr(fixed(argument)?),
        Opcode::Statx => Op::Statx(fixed(argument)?),
        Opcode::Setattr => Op::Setattr(fixed(argument)?),
        Opcode::Readlink => Op::Readlink,
        Opcode::Symlink => {
            let (name, rest) = name(payload)?;
            Op::Symlink { name, target: only_string(rest)? }
        }
        Opcode::Mknod => Op::Mknod { args: fixed(argument)?, name: only_name(payload)? },
        Opcode::Mkdir => Op::Mkdir { args: fixed(argument)?, name: only_name(payload)? },
        Opcode::Unlink => Op::Unlink { name: only_name(payload)? },
        Opcode::Rmdir => Op::Rmdir { name: only_name(payload)? },
        Opcode::Rename => {
            let args: &abi::RenameIn = fixed(argument)?;
            rename(args.newdir, 0, payload)?
        }
        Opcode::Rename2 => {
            let args: &abi::Rename2In = fixed(argument)?;
            rename(args.newdir, args.flags, payload)?
        }
        Opcode::Link => Op::Link { args: fixed(argument)?, newname: only_name(payload)? },
        Opcode::Open => Op::Open(fixed(argument)?),
        Opcode::Create => Op::Create { args: fixed(argument)?, name: only_name(payload)? },
        // The kernel sends the name "/" along, which means nothing.
        Opcode::Tmpfile => Op::Tmpfile(fixed(argument)?),
        Opcode::Read => Op::Read(fixed(argument)?),
        Opcode::Write => {
            let args: &abi::WriteIn = fixed(argument)?;
            Op::Write { args, data: exactly(args.size, payload)? }
        }
        Opcode::Statfs => Op::Statfs,
        Opcode::Release => Op::Release(fixed(argument)?),
        Opcode::Flush => Op::Flush(fixed(argument)?),
        Opcode::Fsync => Op::Fsync(fixed(argument)?),
        Opcode::Opendir => Op::Opendir(fixed(argument)?),
        Opcode::Readdir => Op::Readdir(fixed(argument)?),
        Opcode::Readdirplus => Op::Readdirplus(fixed(argument)?),
        Opcode::Releasedir => Op::Releasedir(fixed(argument)?),
        Opcode::Fsyncdir => Op::Fsyncdir(fixed(argument)?),
        Opcode::Setxattr => setxattr(argument, payload, dialect)?,
        Opcode::Getxattr => {
            let args: &abi::GetxattrIn = fixed(argument)?;
            Op::Getxattr { size: args.size, name: only_string(payload)? }
        }
        Opcode::Listxattr => {
            let args: &abi::GetxattrIn = fixed(argument)?;
            Op::Listxattr { size: args.size }
        }
        Opcode::Removexattr => Op::Removexattr { name: only_string(payload)? },
        Opcode::Access => {
            let args: &abi::AccessIn = fixed(argument)?;
            Op::Access { mask: args.mask }
        }
        Opcode::Fallocate => Op::Fallocate(fixed(argument)?),
        Opcode::Lseek => Op::Lseek(fixed(argument)?),
        Opcode::CopyFileRange => Op::CopyFileRange(fixed(argument)?),
        Opcode::CopyFileRange64 => Op::CopyFileRange64(fixed(argument)?),
        Opcode::Ioctl => {
            let args: &abi::IoctlIn = fixed(argument)?;
            Op::Ioctl { args, input: exactly(args.in_size, payload)? }
        }
        Opcode::Syncfs => Op::Syncfs,
        Opcode::Interrupt => Op::Interrupt(fixed(argument)?),
        Opcode::Destroy => Op::Destroy,
        Opcode::Init => {
            let args = fixed(argument)?;
            let flags2 = abi::InitInExt::ref_from_prefix(payload).map_or(0, |(ext, _)| ext.flags2);
            Op::Init { args, flags2 }
        }
        Opcode::Getlk
        | Opcode::Setlk
        | Opcode::Setlkw
        | Opcode::Bmap
        | Opcode::Poll
        | Opcode::NotifyReply
        | Opcode::Setupmapping
        | Opcode::Removemapping => Op::Unsupported(opcode),
    })
}

fn fixed<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Parsed<&T> {
    match T::ref_from_prefix(bytes) {
        Ok((value, _)) => Ok(value),
        Err(_) => Err("shorter than its opcode's argument"),
    }
}

fn exactly(size: u32, payload: &[u8]) -> Parsed<&[u8]> {
    match usize::try_from(size) {
        Ok(size) if size == payload.len() => Ok(payload),
        _ => Err("data differs in length from what its argument says"),
    }
}

fn string(bytes: &[u8]) -> Parsed<(&CStr, &[u8])> {
    let text = CStr::from_bytes_until_nul(bytes).map_err(|_| "string without an end")?;
    Ok((text, &bytes[text.to_bytes_with_nul().len()..]))
}

fn only_string(bytes: &[u8]) -> Parsed<&CStr> {
    match string(bytes)? {
        (text, []) => Ok(text),
        _ => Err("bytes behind the last string"),
    }
}

fn name(bytes: &[u8]) -> Parsed<(Name<'_>, &[u8])> {
    let (text, rest) = string(bytes)?;
    Ok((Name::new(text).ok_or("name is not a single path component")?, rest))
}

fn only_name(bytes: &[u8]) -> Parsed<Name<'_>> {
    Name::new(only_string(bytes)?).ok_or("name is not a single path component")
}

fn rename(newdir: u64, flags: u32, payload: &[u8]) -> Parsed<Operation<'_>> {
    let (name, rest) = name(payload)?;
    Ok(Operation::Rename { newdir, flags, name, newname: only_name(rest)? })
}

fn forgets<'a>(args: &abi::BatchForgetIn, payload: &'a [u8]) -> Parsed<&'a [abi::ForgetOne]> {
    let count = usize::try_from(args.count).map_err(|_| "absurd count")?;
    match <[abi::ForgetOne]>::ref_from_prefix_with_elems(payload, count) {
        Ok((list, _)) => Ok(list),
        Err(_) => Err("fewer entries than its count says"),
    }
}

/// The argument stands in front of the name on /dev/fuse, in a place of its own on a ring.
fn setxattr<'a>(argument: &'a [u8], payload: &'a [u8], dialect: Dialect) -> Parsed<Operation<'a>> {
    let source = if argument.is_empty() { payload } else { argument };
    let (size, flags, setxattr_flags, rest) = if dialect.setxattr_ext {
        let (args, rest) = abi::SetxattrIn::ref_from_prefix(source)
            .map_err(|_| "shorter than its opcode's argument")?;
        (args.size, args.flags, args.setxattr_flags, rest)
    } else {
        let (args, rest) = abi::SetxattrInCompat::ref_from_prefix(source)
            .map_err(|_| "shorter than its opcode's argument")?;
        (args.size, args.flags, 0, rest)
    };
    let (name, value) = string(if argument.is_empty() { rest } else { payload })?;
    Ok(Operation::Setxattr { flags, setxattr_flags, name, value: exactly(size, value)? })
}
#[cfg(test)]
mod tests;
