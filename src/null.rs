//! A file system with no storage: what a request costs when answering it costs nothing.
//!
//! It is the floor below every other figure. A known delay can be put into GETATTR, so that a study
//! can check that it measures what it means to.

use std::time::{Duration, Instant};

use crate::fs::{
    Attributes, Caller, Data, DirEntry, DirSink, Entry, Errno, Fh, Filesystem, Name, NodeId,
    Opened, Payload, Result, abi,
};

/// Bytes of the largest READ under the default [`Wanted`](crate::fs::Wanted).
const READ_MAX: usize = 1 << 20;
static ZEROS: [u8; READ_MAX] = [0; READ_MAX];

const DIRECTORY: NodeId = NodeId(2);
const FILE: NodeId = NodeId(3);
/// Everything there is, as the root directory lists it.
const ENTRIES: [(NodeId, u8, &[u8]); 4] = [
    (NodeId::ROOT, libc::DT_DIR, b"."),
    (NodeId::ROOT, libc::DT_DIR, b".."),
    (DIRECTORY, libc::DT_DIR, b"empty"),
    (FILE, libc::DT_REG, b"zeros"),
];
/// Names never change.
const ENTRY_VALID: Duration = Duration::from_secs(3600);
/// A sleep of less is mostly the timer's own slack.
const SPIN_BELOW: Duration = Duration::from_micros(100);

/// An empty directory `empty`, and a file `zeros` which swallows whatever is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Null {
    /// Size of `zeros`, bytes.
    pub file_size: u64,
    /// How long GETATTR takes beyond what it takes anyway: spent running below 100 µs, asleep above.
    pub delay: Duration,
}

impl Default for Null {
    fn default() -> Self {
        Null { file_size: 1 << 30, delay: Duration::ZERO }
    }
}

impl Null {
    /// Valid for no time at all: every stat asks.
    fn attributes(&self, nodeid: NodeId) -> Attributes {
        let (mode, nlink, size) = match nodeid {
            FILE => (libc::S_IFREG | 0o666, 1, self.file_size),
            DIRECTORY => (libc::S_IFDIR | 0o755, 2, 0),
            _ => (libc::S_IFDIR | 0o755, 3, 0),
        };
        let attr =
            abi::Attr { ino: nodeid.0, mode, nlink, size, blksize: 4096, ..Default::default() };
        Attributes { attr, valid: Duration::ZERO }
    }
}

impl Filesystem for Null {
    fn lookup(&self, _: &Caller, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        let known = |entry: &&(NodeId, u8, &[u8])| entry.2 == name.as_c_str().to_bytes();
        let found = ENTRIES.iter().find(known).filter(|_| parent == NodeId::ROOT);
        let nodeid = found.ok_or(Errno::ENOENT)?.0;
        let attributes = self.attributes(nodeid);
        Ok(Entry { nodeid, generation: 0, entry_valid: ENTRY_VALID, attributes })
    }

    fn getattr(&self, _: &Caller, nodeid: NodeId, _: Option<Fh>) -> Result<Attributes> {
        wait(self.delay);
        Ok(self.attributes(nodeid))
    }

    /// Accepted, so that the file can be opened with O_TRUNC; changes nothing.
    fn setattr(&self, _: &Caller, nodeid: NodeId, _: &abi::SetattrIn) -> Result<Attributes> {
        Ok(self.attributes(nodeid))
    }

    fn open(&self, _: &Caller, _: NodeId, _: &abi::OpenIn) -> Result<Opened> {
        Ok(Opened { fh: Fh(0), flags: abi::OpenFlags::empty(), backing: None })
    }

    fn opendir(&self, caller: &Caller, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        self.open(caller, nodeid, args)
    }

    fn read(
        &self,
        _: &Caller,
        _: NodeId,
        args: &abi::ReadIn,
        out: &mut Payload<'_>,
    ) -> Result<Data> {
        let left = self.file_size.saturating_sub(args.offset).min(u64::from(args.size));
        let count = usize::try_from(left).unwrap_or(READ_MAX).min(READ_MAX);
        out.extend(&ZEROS[..count])?;
        Ok(Data::Filled)
    }

    fn write(&self, _: &Caller, _: NodeId, args: &abi::WriteIn, _: &[u8]) -> Result<u32> {
        Ok(args.size)
    }

    fn readdir(
        &self,
        _: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        let count = if nodeid == NodeId::ROOT { ENTRIES.len() } else { 2 };
        let skip = usize::try_from(args.offset).unwrap_or(count);
        for (next_offset, (nodeid, kind, name)) in (1..).zip(&ENTRIES[..count]).skip(skip) {
            if sink.push(DirEntry { ino: nodeid.0, next_offset, kind: *kind, name }).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn wait(delay: Duration) {
    if delay >= SPIN_BELOW {
        std::thread::sleep(delay);
    } else if !delay.is_zero() {
        let end = Instant::now() + delay;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::encode::ReplyBuf;

    const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 0 };

    fn lookup(parent: NodeId, name: &std::ffi::CStr) -> Result<NodeId> {
        let name = Name::new(name).expect("one component");
        Null::default().lookup(&CALLER, parent, name).map(|entry| entry.nodeid)
    }

    fn listed(nodeid: NodeId, offset: u64, size: u32) -> usize {
        let mut buffer = [0; 4096];
        let mut reply = ReplyBuf::new(&mut buffer);
        let mut sink = DirSink::new(reply.payload(), size);
        let args = abi::ReadIn { offset, size, ..Default::default() };
        Null::default().readdir(&CALLER, nodeid, &args, &mut sink).expect("it never fails");
        reply.payload().filled().len()
    }

    fn read(offset: u64, size: u32) -> usize {
        let null = Null { file_size: 10, ..Null::default() };
        let args = abi::ReadIn { offset, size, ..Default::default() };
        let mut buffer = vec![0; READ_MAX];
        let mut reply = ReplyBuf::new(&mut buffer);
        let data = null.read(&CALLER, FILE, &args, reply.payload()).expect("it never fails");
        assert!(matches!(data, Data::Filled), "there is no file");
        reply.payload().filled().len()
    }

    #[test]
    fn names_are_found_in_the_root_only() {
        assert_eq!(lookup(NodeId::ROOT, c"empty"), Ok(DIRECTORY));
        assert_eq!(lookup(NodeId::ROOT, c"zeros"), Ok(FILE));
        assert_eq!(lookup(NodeId::ROOT, c"other"), Err(Errno::ENOENT));
        assert_eq!(lookup(DIRECTORY, c"zeros"), Err(Errno::ENOENT));
    }

    #[test]
    fn reads_end_where_the_file_ends() {
        assert_eq!([read(0, 4), read(0, 100), read(8, 4), read(10, 4)], [4, 10, 2, 0]);
        assert_eq!(read(u64::MAX, u32::MAX), 0);
    }

    #[test]
    fn a_listing_goes_on_where_it_was_cut() {
        // Records of one or two letters take 32 bytes, as do those of five.
        assert_eq!(listed(NodeId::ROOT, 0, 4096), 4 * 32);
        assert_eq!(listed(NodeId::ROOT, 0, 80), 2 * 32);
        assert_eq!(listed(NodeId::ROOT, 3, 4096), 32);
        assert_eq!(listed(NodeId::ROOT, 4, 4096), 0);
        assert_eq!(listed(DIRECTORY, 0, 4096), 2 * 32);
    }

    #[test]
    fn getattr_takes_as_long_as_it_was_told() {
        for delay in [Duration::from_micros(90), Duration::from_millis(2)] {
            let null = Null { delay, ..Null::default() };
            let start = Instant::now();
            null.getattr(&CALLER, FILE, None).expect("it never fails");
            assert!(start.elapsed() >= delay, "{delay:?}");
        }
    }
}
