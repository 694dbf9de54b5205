//! A file system that writes down what it is asked, and answers with values that are told apart.

use std::ffi::CStr;
use std::sync::Mutex;
use std::time::Duration;

use crate::abi::OpenFlags;
use crate::fs::*;

/// Writes down every call. With `fail`, each then returns that error.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    calls: Mutex<Vec<String>>,
    pub(super) fail: Option<Errno>,
}

pub(super) const ATTR: abi::Attr = abi::Attr {
    ino: 1,
    size: 2,
    blocks: 3,
    atime: 4,
    mtime: 5,
    ctime: 6,
    atimensec: 7,
    mtimensec: 8,
    ctimensec: 9,
    mode: 10,
    nlink: 11,
    uid: 12,
    gid: 13,
    rdev: 14,
    blksize: 15,
    flags: 16,
};

const ATTRIBUTES: Attributes = Attributes { attr: ATTR, valid: Duration::new(20, 21) };

const ENTRY: Entry = Entry {
    nodeid: NodeId(30),
    generation: 31,
    entry_valid: Duration::new(32, 33),
    attributes: ATTRIBUTES,
};

const OPENED: Opened = Opened { fh: Fh(40), flags: OpenFlags::NOFLUSH, backing: None };

/// What READ has; more than any test asks for.
pub(super) const CONTENT: &[u8] = &[0x5a; 8192];

impl Recorder {
    pub(super) fn failing(errno: Errno) -> Self {
        Recorder { fail: Some(errno), ..Recorder::default() }
    }

    /// What was asked since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().expect("no test panics while it holds this"))
    }

    fn note(&self, call: String) -> Result<()> {
        self.calls.lock().expect("no test panics while it holds this").push(call);
        self.fail.map_or(Ok(()), Err)
    }

    /// As [`note`](Self::note) for a call by `caller`, who is the same in all requests.
    fn asked(&self, caller: &Caller, call: String) -> Result<()> {
        assert_eq!(*caller, Caller { uid: 1000, gid: 1001, pid: 4242 }, "{call}");
        self.note(call)
    }
}

fn text(name: Name<'_>) -> &str {
    name.as_c_str().to_str().expect("test names are ASCII")
}

impl Filesystem for Recorder {
    fn lookup(&self, c: &Caller, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        self.asked(c, format!("lookup {} {}", parent.0, text(name)))?;
        Ok(ENTRY)
    }

    fn forget(&self, nodeid: NodeId, nlookup: u64) {
        // It can not fail.
        let _ = self.note(format!("forget {} {nlookup}", nodeid.0));
    }

    fn getattr(&self, c: &Caller, nodeid: NodeId, fh: Option<Fh>) -> Result<Attributes> {
        self.asked(c, format!("getattr {} {:x?}", nodeid.0, fh.map(|fh| fh.0)))?;
        Ok(ATTRIBUTES)
    }

    fn statx(&self, c: &Caller, nodeid: NodeId, args: &abi::StatxIn) -> Result<StatxReply> {
        self.asked(c, format!("statx {} {:#x}", nodeid.0, args.sx_mask))?;
        let time = |tv_sec| abi::SxTime { tv_sec, tv_nsec: 1, reserved: 0 };
        let stat = abi::Statx {
            mask: 1,
            mode: 2,
            ino: 3,
            atime: time(4),
            btime: time(5),
            ctime: time(6),
            mtime: time(7),
            dev_minor: 8,
            ..abi::Statx::default()
        };
        Ok(StatxReply { stat, valid: Duration::new(20, 21) })
    }

    fn setattr(&self, c: &Caller, nodeid: NodeId, args: &abi::SetattrIn) -> Result<Attributes> {
        self.asked(c, format!("setattr {} {:#x} {}", nodeid.0, args.valid, args.size))?;
        Ok(ATTRIBUTES)
    }

    fn readlink(&self, c: &Caller, nodeid: NodeId, out: &mut Payload<'_>) -> Result<()> {
        self.asked(c, format!("readlink {}", nodeid.0))?;
        out.extend(b"target")
    }

    fn symlink(&self, c: &Caller, parent: NodeId, name: Name<'_>, to: &CStr) -> Result<Entry> {
        self.asked(c, format!("symlink {} {} {to:?}", parent.0, text(name)))?;
        Ok(ENTRY)
    }

    fn mknod(
        &self,
        c: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MknodIn,
    ) -> Result<Entry> {
        self.asked(c, format!("mknod {} {} {:o}", parent.0, text(name), args.mode))?;
        Ok(ENTRY)
    }

    fn mkdir(
        &self,
        c: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MkdirIn,
    ) -> Result<Entry> {
        self.asked(c, format!("mkdir {} {} {:o}", parent.0, text(name), args.mode))?;
        Ok(ENTRY)
    }

    fn unlink(&self, c: &Caller, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.asked(c, format!("unlink {} {}", parent.0, text(name)))
    }

    fn rmdir(&self, c: &Caller, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.asked(c, format!("rmdir {} {}", parent.0, text(name)))
    }

    fn rename(&self, c: &Caller, n: &Rename<'_>) -> Result<()> {
        let (from, to) = (text(n.name), text(n.newname));
        self.asked(c, format!("rename {} {from} {} {to} {}", n.parent.0, n.newparent.0, n.flags))
    }

    fn link(&self, c: &Caller, nodeid: NodeId, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        self.asked(c, format!("link {} {} {}", nodeid.0, parent.0, text(name)))?;
        Ok(ENTRY)
    }

    fn open(&self, c: &Caller, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        self.asked(c, format!("open {} {:o}", nodeid.0, args.flags))?;
        Ok(OPENED)
    }

    fn create(
        &self,
        c: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::CreateIn,
    ) -> Result<(Entry, Opened)> {
        self.asked(c, format!("create {} {} {:o}", parent.0, text(name), args.mode))?;
        Ok((ENTRY, OPENED))
    }

    fn tmpfile(&self, c: &Caller, parent: NodeId, args: &abi::CreateIn) -> Result<(Entry, Opened)> {
        self.asked(c, format!("tmpfile {} {:o}", parent.0, args.mode))?;
        Ok((ENTRY, OPENED))
    }

    fn read(
        &self,
        c: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        out: &mut Payload<'_>,
    ) -> Result<Data> {
        self.asked(c, format!("read {} {} {}", nodeid.0, args.offset, args.size))?;
        // More than was asked for, if there is room.
        let asked = CONTENT.len().min(args.size as usize);
        let room = out.spare(CONTENT.len()).len();
        out.extend(&CONTENT[..if room > asked { asked + 1 } else { asked }])?;
        Ok(Data::Filled)
    }

    fn write(&self, c: &Caller, nodeid: NodeId, args: &abi::WriteIn, data: &[u8]) -> Result<u32> {
        self.asked(c, format!("write {} {} {}", nodeid.0, args.offset, data.escape_ascii()))?;
        Ok(args.size)
    }

    fn statfs(&self, c: &Caller, nodeid: NodeId) -> Result<abi::Kstatfs> {
        self.asked(c, format!("statfs {}", nodeid.0))?;
        let (bsize, namelen, frsize) = (6, 7, 8);
        let (blocks, bfree, bavail, files, ffree) = (1, 2, 3, 4, 5);
        let (padding, spare) = (0, [0; 6]);
        Ok(abi::Kstatfs {
            blocks,
            bfree,
            bavail,
            files,
            ffree,
            bsize,
            namelen,
            frsize,
            padding,
            spare,
        })
    }

    fn release(&self, nodeid: NodeId, args: &abi::ReleaseIn) -> Result<()> {
        self.note(format!("release {} {:x}", nodeid.0, args.fh))
    }

    fn flush(&self, c: &Caller, nodeid: NodeId, args: &abi::FlushIn) -> Result<()> {
        self.asked(c, format!("flush {} {:x}", nodeid.0, args.fh))
    }

    fn fsync(&self, c: &Caller, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        self.asked(c, format!("fsync {} {:x} {}", nodeid.0, args.fh, args.fsync_flags))
    }

    fn opendir(&self, c: &Caller, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        self.asked(c, format!("opendir {} {:o}", nodeid.0, args.flags))?;
        Ok(OPENED)
    }

    fn readdir(
        &self,
        c: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        self.asked(c, format!("readdir {} {}", nodeid.0, args.offset))?;
        let entry = DirEntry { ino: 1, next_offset: 2, kind: 8, name: b"abc" };
        while sink.push(entry).is_ok() {}
        Ok(())
    }

    fn readdirplus(
        &self,
        c: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        self.asked(c, format!("readdirplus {} {}", nodeid.0, args.offset))?;
        let entry = DirEntry { ino: 1, next_offset: 2, kind: 8, name: b"abc" };
        while sink.push_plus(entry, &crate::dispatch::entry_out(&ENTRY)).is_ok() {}
        Ok(())
    }

    fn releasedir(&self, nodeid: NodeId, args: &abi::ReleaseIn) -> Result<()> {
        self.note(format!("releasedir {} {:x}", nodeid.0, args.fh))
    }

    fn fsyncdir(&self, c: &Caller, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        self.asked(c, format!("fsyncdir {} {:x} {}", nodeid.0, args.fh, args.fsync_flags))
    }

    fn setxattr(&self, c: &Caller, nodeid: NodeId, x: &SetXattr<'_>) -> Result<()> {
        let value = x.value.escape_ascii();
        let (name, flags, kill) = (x.name, x.flags, x.kill_sgid);
        self.asked(c, format!("setxattr {} {name:?} {value} {flags} {kill}", nodeid.0))
    }

    fn getxattr(&self, c: &Caller, nodeid: NodeId, name: &CStr, out: &mut [u8]) -> Result<usize> {
        self.asked(c, format!("getxattr {} {name:?} {}", nodeid.0, out.len()))?;
        fill(b"value", out)
    }

    fn listxattr(&self, c: &Caller, nodeid: NodeId, out: &mut [u8]) -> Result<usize> {
        self.asked(c, format!("listxattr {} {}", nodeid.0, out.len()))?;
        fill(b"user.x\0user.y\0", out)
    }

    fn removexattr(&self, c: &Caller, nodeid: NodeId, name: &CStr) -> Result<()> {
        self.asked(c, format!("removexattr {} {name:?}", nodeid.0))
    }

    fn access(&self, c: &Caller, nodeid: NodeId, mask: u32) -> Result<()> {
        self.asked(c, format!("access {} {mask}", nodeid.0))
    }

    fn fallocate(&self, c: &Caller, nodeid: NodeId, args: &abi::FallocateIn) -> Result<()> {
        self.asked(c, format!("fallocate {} {} {}", nodeid.0, args.offset, args.mode))
    }

    fn lseek(&self, c: &Caller, nodeid: NodeId, args: &abi::LseekIn) -> Result<u64> {
        self.asked(c, format!("lseek {} {} {}", nodeid.0, args.offset, args.whence))?;
        Ok(1 << 36)
    }

    fn copy_file_range(
        &self,
        c: &Caller,
        nodeid: NodeId,
        args: &abi::CopyFileRangeIn,
    ) -> Result<u64> {
        self.asked(c, format!("copy_file_range {} {} {}", nodeid.0, args.off_out, args.len))?;
        Ok(args.len)
    }

    fn ioctl(
        &self,
        c: &Caller,
        nodeid: NodeId,
        args: &abi::IoctlIn,
        buffers: IoctlBuffers<'_>,
    ) -> Result<i32> {
        let IoctlBuffers { input, output } = buffers;
        assert!(output.iter().all(|byte| *byte == 0), "nothing of an older reply leaks");
        self.asked(c, format!("ioctl {} {:#x} {input:?} {}", nodeid.0, args.cmd, output.len()))?;
        for (out, byte) in output.iter_mut().zip(b"out") {
            *out = *byte;
        }
        Ok(-7)
    }

    fn syncfs(&self, c: &Caller, nodeid: NodeId) -> Result<()> {
        self.asked(c, format!("syncfs {}", nodeid.0))
    }

    fn destroy(&self) {
        let _ = self.note("destroy".to_owned());
    }
}

/// As getxattr(2): the length, and the bytes if there is room at all.
fn fill(value: &[u8], out: &mut [u8]) -> Result<usize> {
    if !out.is_empty() {
        out.get_mut(..value.len()).ok_or(Errno::ERANGE)?.copy_from_slice(value);
    }
    Ok(value.len())
}
