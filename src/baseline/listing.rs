//! Directory listings: the records that a file system pushed, handed over to fuser one by one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use zerocopy::FromBytes;

use super::convert::{file_attr, kind, size};
use crate::abi::{Attr, Dirent, EntryOut};
use crate::fs::{Filesystem, NodeId};

/// Sends as much of a listing as the kernel has room for; the rest is read again from where it ends.
pub(super) fn send(mut reply: ReplyDirectory, mut rest: &[u8]) {
    while let Some((entry, name)) = record(&mut rest) {
        if reply.add(INodeNo(entry.ino), entry.off, kind(mode(entry.kind)), name) {
            break;
        }
    }
    reply.ok();
}

/// The same with lookups; those that the kernel is not told of are taken back.
pub(super) fn send_plus<F: Filesystem + ?Sized>(
    fs: &F,
    mut reply: ReplyDirectoryPlus,
    mut rest: &[u8],
) {
    let mut full = false;
    while let Ok((lookup, after)) = EntryOut::read_from_prefix(rest) {
        rest = after;
        let Some((entry, name)) = record(&mut rest) else { break };
        let entry_valid = Duration::new(lookup.entry_valid, lookup.entry_valid_nsec);
        let valid = entry_valid.min(Duration::new(lookup.attr_valid, lookup.attr_valid_nsec));
        let attr = match lookup.nodeid {
            0 => file_attr(unknown(&entry, name), &Attr { mode: mode(entry.kind), ..lookup.attr }),
            nodeid => file_attr(nodeid, &lookup.attr),
        };
        let generation = Generation(lookup.generation);
        full = full || reply.add(attr.ino, entry.off, name, &valid, &attr, generation);
        if full && lookup.nodeid != 0 {
            fs.forget(NodeId(lookup.nodeid), 1);
        }
    }
    reply.ok();
}

/// The number to show for an entry that was not looked up. fuser would pass it on as a nodeid, too;
/// only of `.` and `..` does the kernel look at no more than the name.
fn unknown(entry: &Dirent, name: &OsStr) -> u64 {
    if name == "." || name == ".." { entry.ino } else { 0 }
}

/// Takes the first record off `listing`: its fixed part and its name.
fn record<'a>(listing: &mut &'a [u8]) -> Option<(Dirent, &'a OsStr)> {
    let (fixed, rest) = Dirent::read_from_prefix(listing).ok()?;
    let name = rest.get(..size(fixed.namelen))?;
    let whole = (size_of::<Dirent>() + name.len()).next_multiple_of(8);
    *listing = listing.get(whole..)?;
    Some((fixed, OsStr::from_bytes(name)))
}

/// The upper bits of a mode, of a `d_type`.
fn mode(d_type: u32) -> u32 {
    d_type << 12
}
