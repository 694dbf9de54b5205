//! Values of fuser and ours, one into the other.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use nix::errno::Errno;

use crate::abi::{self, SetattrValid};
use crate::fs::{Attributes, Caller, Entry, Name, NodeId, Result};

/// Longest name, and its end.
const NAME_ROOM: usize = 256;

pub(super) fn caller(request: &fuser::Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

pub(super) fn nodeid(ino: INodeNo) -> NodeId {
    NodeId(ino.0)
}

/// An errno without a name must not turn into the zero of success: fuser makes EIO of it.
pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

pub(super) fn size(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// A name with its end, which fuser has cut off.
#[derive(Debug)]
pub(super) struct Text([u8; NAME_ROOM]);

impl Text {
    pub(super) fn new(text: &OsStr) -> Result<Self> {
        let mut room = [0; NAME_ROOM];
        let bytes = text.as_bytes();
        let place = room[..NAME_ROOM - 1].get_mut(..bytes.len()).ok_or(Errno::ENAMETOOLONG)?;
        place.copy_from_slice(bytes);
        Ok(Text(room))
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).expect("the last byte is always zero")
    }

    pub(super) fn name(&self) -> Result<Name<'_>> {
        Name::new(self.as_c_str()).ok_or(Errno::EIO)
    }
}

/// fuser has one number for nodeid and `st_ino`, and it is the nodeid that must be right.
pub(super) fn file_attr(nodeid: u64, attr: &abi::Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(nodeid),
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime.cast_signed(), attr.atimensec),
        mtime: time(attr.mtime.cast_signed(), attr.mtimensec),
        ctime: time(attr.ctime.cast_signed(), attr.ctimensec),
        crtime: UNIX_EPOCH,
        kind: kind(attr.mode),
        perm: u16::try_from(attr.mode & 0o7777).expect("12 bits fit"),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: attr.blksize,
        flags: 0,
    }
}

pub(super) fn attributes(nodeid: NodeId, attributes: &Attributes) -> FileAttr {
    file_attr(nodeid.0, &attributes.attr)
}

/// The time for which name and attributes are both valid, where fuser takes one for the two.
pub(super) fn valid(entry: &Entry) -> Duration {
    entry.entry_valid.min(entry.attributes.valid)
}

/// The kind of file in the upper bits of a mode.
pub(super) fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let moment = match seconds {
        0.. => UNIX_EPOCH.checked_add(whole),
        _ => UNIX_EPOCH.checked_sub(whole),
    };
    let moment = moment.and_then(|m| m.checked_add(Duration::from_nanos(nanoseconds.into())));
    moment.unwrap_or(UNIX_EPOCH)
}

fn seconds(time: SystemTime) -> (u64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (after.as_secs(), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let nanoseconds = (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000;
            let whole = before.as_secs() + u64::from(nanoseconds > 0);
            (whole.wrapping_neg(), nanoseconds)
        }
    }
}

/// What a SETATTR changes, as fuser passes it on.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<TimeOrNow>,
    pub(super) mtime: Option<TimeOrNow>,
    pub(super) ctime: Option<SystemTime>,
    pub(super) fh: Option<fuser::FileHandle>,
}

impl Changes {
    /// The same as the kernel sent it.
    pub(super) fn args(&self) -> abi::SetattrIn {
        use SetattrValid as V;
        let mut valid = V::empty();
        for (given, flag) in [
            (self.mode.is_some(), V::MODE),
            (self.uid.is_some(), V::UID),
            (self.gid.is_some(), V::GID),
            (self.size.is_some(), V::SIZE),
            (self.atime.is_some(), V::ATIME),
            (self.mtime.is_some(), V::MTIME),
            (self.ctime.is_some(), V::CTIME),
            (self.fh.is_some(), V::FH),
            (matches!(self.atime, Some(TimeOrNow::Now)), V::ATIME_NOW),
            (matches!(self.mtime, Some(TimeOrNow::Now)), V::MTIME_NOW),
        ] {
            valid.set(flag, given);
        }
        let specific = |time: Option<TimeOrNow>| match time {
            Some(TimeOrNow::SpecificTime(time)) => seconds(time),
            _ => (0, 0),
        };
        let (atime, atimensec) = specific(self.atime);
        let (mtime, mtimensec) = specific(self.mtime);
        let (ctime, ctimensec) = self.ctime.map_or((0, 0), seconds);
        abi::SetattrIn {
            valid: valid.bits(),
            fh: self.fh.map_or(0, |fh| fh.0),
            size: self.size.unwrap_or(0),
            atime,
            mtime,
            ctime,
            atimensec,
            mtimensec,
            ctimensec,
            mode: self.mode.unwrap_or(0),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
            ..abi::SetattrIn::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_there_and_back() {
        for (whole, nanoseconds) in [(0, 0), (5, 7), (-1, 0), (-1, 1), (-5, 999_999_999)] {
            let (back, part) = seconds(time(whole, nanoseconds));
            assert_eq!((back.cast_signed(), part), (whole, nanoseconds));
        }
    }

    #[test]
    fn names_keep_to_their_room() {
        let longest = "n".repeat(255);
        let text = Text::new(longest.as_ref()).expect("255 bytes are a name");
        assert_eq!(text.name().expect("one component").as_c_str().to_bytes(), longest.as_bytes());
        assert_eq!(Text::new("n".repeat(256).as_ref()).err(), Some(Errno::ENAMETOOLONG));
        assert_eq!(Text::new("..".as_ref()).expect("it fits").name().err(), Some(Errno::EIO));
    }

    #[test]
    fn every_change_sets_its_bit() {
        use SetattrValid as V;
        let now = Changes { atime: Some(TimeOrNow::Now), size: Some(9), ..Changes::default() };
        let args = now.args();
        assert_eq!(args.valid, (V::ATIME | V::ATIME_NOW | V::SIZE).bits());
        assert_eq!(args.size, 9);
        let time = UNIX_EPOCH + Duration::new(3, 4);
        let set = Changes { mtime: Some(TimeOrNow::SpecificTime(time)), ..Changes::default() };
        let args = set.args();
        assert_eq!((args.valid, args.mtime, args.mtimensec), (V::MTIME.bits(), 3, 4));
    }
}
