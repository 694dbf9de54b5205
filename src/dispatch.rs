//! One exhaustive match from a decoded request to the file system and back to a reply.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use crate::abi;
use crate::fs::{
    Attributes, BackingId, Caller, Data, DirSink, Entry, Errno, Fh, Filesystem, IoctlBuffers,
    NodeId, Opened, Rename, Result, SetXattr, StatxReply,
};
use crate::protocol::decode::{Operation, Request};
use crate::protocol::encode::ReplyBuf;

/// What the transport has to send.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing: the kernel expects no answer.
    NoReply,
    /// What was put into the [`ReplyBuf`].
    Buffered,
    /// A piece of an open file: read it, or splice it.
    FileRange {
        /// The open file.
        file: Arc<File>,
        /// Position in it, bytes.
        offset: u64,
        /// Length, bytes.
        len: u32,
    },
}

/// Has `fs` answer `request`; the answer is put into `out` or named by the outcome.
pub fn dispatch<F: Filesystem + ?Sized>(
    fs: &F,
    request: &Request<'_>,
    out: &mut ReplyBuf<'_>,
) -> Result<Outcome> {
    let header = request.header;
    let nodeid = NodeId(header.nodeid);
    let caller = &Caller { uid: header.uid, gid: header.gid, pid: header.pid };
    match request.operation {
        Operation::Lookup { name } => put_entry(out, &fs.lookup(caller, nodeid, name)?),
        Operation::LookupSelf => put_entry(out, &fs.lookup_self(nodeid)?),
        Operation::LookupParent => put_entry(out, &fs.lookup_parent(nodeid)?),
        Operation::Forget(args) => {
            fs.forget(nodeid, args.nlookup);
            return Ok(Outcome::NoReply);
        }
        Operation::BatchForget(list) => {
            for one in list {
                fs.forget(NodeId(one.nodeid), one.nlookup);
            }
            return Ok(Outcome::NoReply);
        }
        Operation::Getattr(args) => {
            let fh = (args.getattr_flags & abi::GETATTR_FH != 0).then_some(Fh(args.fh));
            put_attributes(out, &fs.getattr(caller, nodeid, fh)?);
        }
        Operation::Statx(args) => put_statx(out, &fs.statx(caller, nodeid, args)?),
        Operation::Setattr(args) => put_attributes(out, &fs.setattr(caller, nodeid, args)?),
        Operation::Readlink => fs.readlink(caller, nodeid, out.payload())?,
        Operation::Symlink { name, target } => {
            put_entry(out, &fs.symlink(caller, nodeid, name, target)?);
        }
        Operation::Mknod { args, name } => put_entry(out, &fs.mknod(caller, nodeid, name, args)?),
        Operation::Mkdir { args, name } => put_entry(out, &fs.mkdir(caller, nodeid, name, args)?),
        Operation::Unlink { name } => fs.unlink(caller, nodeid, name)?,
        Operation::Rmdir { name } => fs.rmdir(caller, nodeid, name)?,
        Operation::Rename { newdir, flags, name, newname } => {
            let newparent = NodeId(newdir);
            fs.rename(caller, &Rename { parent: nodeid, name, newparent, newname, flags })?;
        }
        Operation::Link { args, newname } => {
            put_entry(out, &fs.link(caller, NodeId(args.oldnodeid), nodeid, newname)?);
        }
        Operation::Open(args) => put_opened(out, &fs.open(caller, nodeid, args)?),
        Operation::Create { args, name } => {
            let (entry, opened) = fs.create(caller, nodeid, name, args)?;
            put_entry(out, &entry);
            put_opened(out, &opened);
        }
        Operation::Tmpfile(args) => {
            let (entry, opened) = fs.tmpfile(caller, nodeid, args)?;
            put_entry(out, &entry);
            put_opened(out, &opened);
        }
        Operation::Read(args) => match fs.read(caller, nodeid, args, out.payload())? {
            Data::Filled => out.payload().truncate(index(args.size)),
            Data::FileRange { file, offset, len } => {
                return Ok(Outcome::FileRange { file, offset, len: len.min(args.size) });
            }
        },
        Operation::Write { args, data } => {
            let size = fs.write(caller, nodeid, args, data)?;
            out.put(&abi::WriteOut { size, padding: 0 });
        }
        Operation::Statfs => out.put(&fs.statfs(caller, nodeid)?),
        Operation::Release(args) => fs.release(nodeid, args)?,
        Operation::Flush(args) => fs.flush(caller, nodeid, args)?,
        Operation::Fsync(args) => fs.fsync(caller, nodeid, args)?,
        Operation::Opendir(args) => put_opened(out, &fs.opendir(caller, nodeid, args)?),
        Operation::Readdir(args) => {
            let mut sink = DirSink::new(out.payload(), args.size);
            fs.readdir(caller, nodeid, args, &mut sink)?;
        }
        Operation::Readdirplus(args) => {
            let mut sink = DirSink::new(out.payload(), args.size);
            fs.readdirplus(caller, nodeid, args, &mut sink)?;
        }
        Operation::Releasedir(args) => fs.releasedir(nodeid, args)?,
        Operation::Fsyncdir(args) => fs.fsyncdir(caller, nodeid, args)?,
        Operation::Setxattr { flags, setxattr_flags, name, value } => {
            let kill_sgid = setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0;
            fs.setxattr(caller, nodeid, &SetXattr { name, value, flags, kill_sgid })?;
        }
        Operation::Getxattr { size, name } => {
            sized(out, size, |value| fs.getxattr(caller, nodeid, name, value))?;
        }
        Operation::Listxattr { size } => {
            sized(out, size, |list| fs.listxattr(caller, nodeid, list))?;
        }
        Operation::Removexattr { name } => fs.removexattr(caller, nodeid, name)?,
        Operation::Access { mask } => fs.access(caller, nodeid, mask)?,
        Operation::Fallocate(args) => fs.fallocate(caller, nodeid, args)?,
        Operation::Lseek(args) => {
            out.put(&abi::LseekOut { offset: fs.lseek(caller, nodeid, args)? });
        }
        Operation::CopyFileRange(args) => {
            // The answer has 32 bits; the caller loops.
            let mut args = *args;
            args.len = args.len.min(1 << 30);
            let copied = fs.copy_file_range(caller, nodeid, &args)?;
            let size = u32::try_from(copied).map_err(|_| Errno::EIO)?;
            out.put(&abi::WriteOut { size, padding: 0 });
        }
        Operation::CopyFileRange64(args) => {
            let bytes_copied = fs.copy_file_range(caller, nodeid, args)?;
            out.put(&abi::CopyFileRangeOut { bytes_copied });
        }
        Operation::Ioctl { args, input } => {
            let output = out.payload().spare(index(args.out_size));
            if output.len() < index(args.out_size) {
                return Err(Errno::ENOMEM);
            }
            output.fill(0);
            let result = fs.ioctl(caller, nodeid, args, IoctlBuffers { input, output })?;
            out.payload().advance(index(args.out_size));
            out.put(&abi::IoctlOut { result, ..abi::IoctlOut::default() });
        }
        Operation::Syncfs => fs.syncfs(caller, nodeid)?,
        // No operation waits for another, so there is nothing to interrupt.
        Operation::Interrupt(_) => return Ok(Outcome::NoReply),
        Operation::Destroy => fs.destroy(),
        // A second INIT: the first was answered before any worker started.
        Operation::Init { .. } => return Err(Errno::EIO),
        Operation::Unsupported(_) => return Err(Errno::ENOSYS),
    }
    Ok(Outcome::Buffered)
}

fn index(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Answers a request whose size 0 asks for the length only.
fn sized(
    out: &mut ReplyBuf<'_>,
    size: u32,
    fill: impl FnOnce(&mut [u8]) -> Result<usize>,
) -> Result<()> {
    let buffer = out.payload().spare(index(size));
    let room = buffer.len();
    let len = fill(buffer)?;
    if size == 0 {
        let size = u32::try_from(len).map_err(|_| Errno::E2BIG)?;
        out.put(&abi::GetxattrOut { size, padding: 0 });
    } else if len > room {
        return Err(Errno::ERANGE);
    } else {
        out.payload().advance(len);
    }
    Ok(())
}

/// The wire form of an [`Entry`].
pub(crate) fn entry_out(entry: &Entry) -> abi::EntryOut {
    let (entry_valid, entry_valid_nsec) = seconds(entry.entry_valid);
    let (attr_valid, attr_valid_nsec) = seconds(entry.attributes.valid);
    abi::EntryOut {
        nodeid: entry.nodeid.0,
        generation: entry.generation,
        entry_valid,
        attr_valid,
        entry_valid_nsec,
        attr_valid_nsec,
        attr: entry.attributes.attr,
    }
}

fn put_entry(out: &mut ReplyBuf<'_>, entry: &Entry) {
    out.put(&entry_out(entry));
}

fn put_attributes(out: &mut ReplyBuf<'_>, attributes: &Attributes) {
    let (attr_valid, attr_valid_nsec) = seconds(attributes.valid);
    out.put(&abi::AttrOut { attr_valid, attr_valid_nsec, dummy: 0, attr: attributes.attr });
}

fn put_statx(out: &mut ReplyBuf<'_>, reply: &StatxReply) {
    let (attr_valid, attr_valid_nsec) = seconds(reply.valid);
    let stat = reply.stat;
    out.put(&abi::StatxOut { attr_valid, attr_valid_nsec, flags: 0, spare: [0; 2], stat });
}

fn put_opened(out: &mut ReplyBuf<'_>, opened: &Opened) {
    let backing_id = opened.backing.map_or(0, BackingId::raw);
    out.put(&abi::OpenOut { fh: opened.fh.0, open_flags: opened.flags.bits(), backing_id });
}

fn seconds(duration: Duration) -> (u64, u32) {
    (duration.as_secs(), duration.subsec_nanos())
}

#[cfg(test)]
mod tests;
