//! INIT: which of the kernel's offers are taken, and why each of the others is not.

use crate::abi::{self, InitFlags, InitIn, InitOut};

/// What a file system and its transport would like to use, before the kernel is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Flags to take if they are offered.
    pub flags: InitFlags,
    /// Largest WRITE, bytes; a multiple of the page size.
    pub max_write: u32,
    /// Background requests the kernel may have in flight.
    pub max_background: u16,
    /// Stacking depth to announce along with PASSTHROUGH: 1, or 2 over an already stacked source.
    pub max_stack_depth: u32,
}

impl Wanted {
    /// What every file system can have: no state is needed behind any of these.
    pub const BASE: InitFlags = InitFlags::ASYNC_READ
        .union(InitFlags::BIG_WRITES)
        .union(InitFlags::ASYNC_DIO)
        .union(InitFlags::PARALLEL_DIROPS)
        .union(InitFlags::ABORT_ERROR)
        .union(InitFlags::MAX_PAGES)
        .union(InitFlags::SETXATTR_EXT)
        .union(InitFlags::INIT_EXT)
        .union(InitFlags::HAS_IOCTL_DIR)
        .union(InitFlags::NO_EXPORT_SUPPORT);
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted { flags: Self::BASE, max_write: 1 << 20, max_background: 64, max_stack_depth: 1 }
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// Minor version in force.
    pub minor: u32,
    /// Flags in force.
    pub flags: InitFlags,
    /// Flags that the kernel offered.
    pub offered: InitFlags,
    /// Largest WRITE, bytes.
    pub max_write: u32,
    /// Largest readahead, bytes.
    pub max_readahead: u32,
    /// Background requests the kernel may have in flight.
    pub max_background: u16,
    /// Stacking depth announced; 0 without passthrough.
    pub max_stack_depth: u32,
}

/// Why INIT can not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// Another major version: the kernel is answered with ours and asks again.
    #[error("the kernel speaks FUSE {0}, fusewire speaks 7")]
    Major(u32),
    /// Too old.
    #[error("the kernel speaks FUSE 7.{0}, fusewire needs 7.{min} (Linux 5.4)", min = abi::MINOR_MIN)]
    Minor(u32),
}

/// Settles INIT: what the kernel offers against what is wanted.
pub fn negotiate(
    args: &InitIn,
    flags2: u32,
    wanted: &Wanted,
) -> Result<(Negotiated, InitOut), InitError> {
    if args.major != abi::VERSION {
        return Err(InitError::Major(args.major));
    }
    if args.minor < abi::MINOR_MIN {
        return Err(InitError::Minor(args.minor));
    }
    let offered = InitFlags::from_bits_retain(u64::from(args.flags) | u64::from(flags2) << 32);
    let mut flags = offered & wanted.flags;
    // Neither side reads the other's second word without it (process_init_reply).
    if !flags.contains(InitFlags::INIT_EXT) {
        flags &= InitFlags::from_bits_retain(u64::from(u32::MAX));
    }
    let page = 4096;
    // Without MAX_PAGES the kernel sends at most 32 pages a request.
    let max_write = match flags.contains(InitFlags::MAX_PAGES) {
        true => wanted.max_write.max(page),
        false => wanted.max_write.clamp(page, 32 * page),
    };
    let max_pages = u16::try_from(max_write.div_ceil(page)).unwrap_or(u16::MAX);
    let passthrough = flags.contains(InitFlags::PASSTHROUGH);
    let max_stack_depth = if passthrough { wanted.max_stack_depth } else { 0 };
    let minor = args.minor.min(abi::MINOR);
    let max_background = wanted.max_background;
    let max_readahead = args.max_readahead;
    let negotiated = Negotiated {
        minor,
        flags,
        offered,
        max_write,
        max_readahead,
        max_background,
        max_stack_depth,
    };
    let (low, high) = words(flags);
    let out = InitOut {
        major: abi::VERSION,
        minor: abi::MINOR,
        max_readahead,
        flags: low,
        max_background,
        congestion_threshold: max_background / 4 * 3,
        max_write,
        time_gran: 1,
        max_pages,
        flags2: high,
        max_stack_depth,
        ..InitOut::default()
    };
    Ok((negotiated, out))
}

#[expect(clippy::cast_possible_truncation, reason = "splits a word into its halves")]
fn words(flags: InitFlags) -> (u32, u32) {
    (flags.bits() as u32, (flags.bits() >> 32) as u32)
}

/// Why a flag that the kernel offered is not in force, for `stats` and the log.
pub fn refusal(flag: InitFlags) -> &'static str {
    match flag {
        InitFlags::POSIX_LOCKS | InitFlags::FLOCK_LOCKS => {
            "locks stay with the kernel: they are local, and a waiter blocks no worker"
        }
        InitFlags::FILE_OPS => "no version of Linux has used it",
        InitFlags::ATOMIC_O_TRUNC | InitFlags::DONT_MASK => "the file system does not ask for it",
        InitFlags::EXPORT_SUPPORT => {
            "a nodeid is no handle for good here: the source is no file system as a whole, or its handles \
             are too long"
        }
        InitFlags::NO_EXPORT_SUPPORT => "file handles last: superseded by EXPORT_SUPPORT",
        InitFlags::SPLICE_WRITE | InitFlags::SPLICE_MOVE | InitFlags::SPLICE_READ => {
            "tells what the device can do; nothing to answer"
        }
        InitFlags::AUTO_INVAL_DATA => "data does not go through FUSE's page cache",
        InitFlags::EXPLICIT_INVAL_DATA => "would keep stale pages when the source changes",
        InitFlags::DO_READDIRPLUS | InitFlags::READDIRPLUS_AUTO => {
            "the file system does not ask for it"
        }
        InitFlags::WRITEBACK_CACHE => {
            "the kernel turns passthrough off with it, and sizes would lag behind the source"
        }
        InitFlags::NO_OPEN_SUPPORT => "tells what ENOSYS can do; nothing to answer",
        InitFlags::NO_OPENDIR_SUPPORT => "tells what ENOSYS can do; nothing to answer",
        InitFlags::HANDLE_KILLPRIV => "superseded by HANDLE_KILLPRIV_V2",
        InitFlags::HANDLE_KILLPRIV_V2 | InitFlags::CACHE_SYMLINKS => {
            "the file system does not ask for it"
        }
        InitFlags::POSIX_ACL => "only with default_permissions does the kernel check ACLs",
        InitFlags::MAP_ALIGNMENT | InitFlags::HAS_INODE_DAX => "DAX is for virtiofs",
        InitFlags::SUBMOUNTS => "other mounts inside the source are not entered",
        InitFlags::SECURITY_CTX => "security labels are set by the source's own policy",
        InitFlags::CREATE_SUPP_GROUP => {
            "the kernel strips set-group-id itself before it asks to create"
        }
        InitFlags::HAS_EXPIRE_ONLY => "tells what notifications can do; nothing to answer",
        InitFlags::DIRECT_IO_ALLOW_MMAP => {
            "what is opened past the page cache is mapped from its backing file"
        }
        InitFlags::PASSTHROUGH => "data goes by copy",
        InitFlags::HAS_RESEND => "a restarted daemon can not take a connection over",
        InitFlags::ALLOW_IDMAP => "idmapped mounts need uid and gid maps that are not served",
        InitFlags::OVER_IO_URING => "the transport is /dev/fuse",
        InitFlags::REQUEST_TIMEOUT => "an operation of the source may rightly take long",
        _ => "not known to this version of fusewire",
    }
}

#[cfg(test)]
mod tests;
