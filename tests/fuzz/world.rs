//! The request path without a kernel: bytes are decoded, dispatched to a local file system, and the
//! reply is read as the kernel would read it. An account is kept of what replies have handed out;
//! when it is given back, nothing may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use fusewire::abi::{self, EntryOut, InHeader, InitFlags, OpenFlags, OpenOut};
use fusewire::config::{Coherence, Config, DataMode};
use fusewire::dispatch::{Outcome, dispatch};
use fusewire::fs::{Filesystem, Kernel, Negotiated, NodeId};
use fusewire::passthrough::Local;
use fusewire::protocol::decode::{Dialect, Frame, Operation, decode};
use fusewire::protocol::encode::ReplyBuf;
use fusewire::sys::fuse_dev::Registered;
use fusewire::sys::handle::FileHandle;
use zerocopy::{FromBytes, IntoBytes};

use crate::canary::Canary;

/// Largest payload of a reply.
const ROOM: usize = 128 << 10;
/// Descriptors that the file system may hold, so that it has to let go of some.
const DESCRIPTORS: u64 = 256;
/// A number below this in a request stands for one of the nodes or open files that there are.
const STANDS_FOR_ONE: u64 = 48;
const HEADER: usize = size_of::<InHeader>();

/// A file system, and what the kernel would know of it.
pub(crate) struct World {
    fs: Local,
    kernel: Kernel,
    canary: Canary,
    /// What can not be asked for: the inode numbers and generations of the canary, as nodeids.
    foreign: Vec<u64>,
    nodes: BTreeMap<u64, Node>,
    files: Vec<u64>,
    directories: Vec<u64>,
    payload: Vec<u8>,
    before: Held,
    done: Done,
}

/// What has come of all requests.
#[derive(Default)]
pub(crate) struct Done {
    /// Numbers of the operations that were granted at least once.
    pub(crate) granted: BTreeSet<u32>,
    /// Opens whose file the kernel reads and writes by itself.
    pub(crate) passed: u64,
}

#[derive(Default)]
struct Node {
    lookups: u64,
    mode: u32,
}

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    inodes: u64,
    files: u64,
    directories: u64,
    backing: u64,
    descriptors: usize,
}

impl World {
    /// A new source in `folder`, and beside it what nobody may touch. The mount would be for everybody
    /// if the lowest of `bits` is 0, the kernel trust what it is told for good if the second is, and
    /// read and write by itself if the third is not. The calling thread must have entered `enter_worker`,
    /// and what it serves lie on a small file system of its own.
    pub(crate) fn new(folder: &Path, bits: u8) -> Result<Self, String> {
        let (shared, trusted, passed) = (bits & 1 == 0, bits & 2 == 0, bits & 4 != 0);
        let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
        let source = folder.join("source");
        fs::create_dir_all(source.join("d1")).map_err(fail)?;
        fs::write(source.join("name"), "content").map_err(fail)?;
        let outside = folder.join("outside");
        let canary = Canary::new(&outside, &["tree"], &["name", "a"]).map_err(fail)?;
        for (link, target) in [("out", "../outside/tree/name"), ("up", "../outside")] {
            std::os::unix::fs::symlink(target, source.join(link)).map_err(fail)?;
        }
        let mut config = Config::new(&source, folder.join("mount"));
        config.coherence = match trusted {
            true => Coherence::Exclusive,
            false => Coherence::Timeout(Duration::from_secs(1)),
        };
        config.data = if passed { DataMode::Passthrough } else { DataMode::Copy };
        config.mount.allow_other = shared;
        let fs = Local::new(&config, DESCRIPTORS).map_err(|error| error.to_string())?;
        let mut flags = fs.wanted().flags;
        flags.set(InitFlags::PASSTHROUGH, passed);
        let negotiated = Negotiated {
            minor: 45,
            flags,
            offered: flags,
            max_write: 64 << 10,
            max_readahead: 128 << 10,
            max_background: 12,
            max_stack_depth: passed.into(),
        };
        let kernel = Kernel::absent().map_err(|error| error.to_string())?;
        fs.init(&negotiated, kernel.clone()).map_err(|error| error.to_string())?;
        let mut world = World {
            foreign: nodeids(&outside),
            fs,
            kernel,
            canary,
            nodes: BTreeMap::new(),
            files: Vec::new(),
            directories: Vec::new(),
            payload: vec![0; ROOM],
            before: Held { inodes: 0, files: 0, directories: 0, backing: 0, descriptors: 0 },
            done: Done::default(),
        };
        // What is opened once for good is open before anything is counted.
        for opcode in [3, 23, 27, 28, 34] {
            let mut bytes = vec![0; HEADER + 40];
            bytes[4..8].copy_from_slice(&u32::to_ne_bytes(opcode));
            bytes[16..24].copy_from_slice(&abi::ROOT_ID.to_ne_bytes());
            world.feed(&bytes);
        }
        world.give_back();
        world.before = world.held();
        Ok(world)
    }

    /// Hands over one request; the length in its header is set right where it is 0, and small numbers
    /// of nodes and open files stand for those that there are.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        let request = &mut words.as_mut_bytes()[..bytes.len()];
        if request.len() >= HEADER {
            self.settle(request);
        }
        let Ok(frame) = Frame::from_contiguous(request) else { return };
        let Ok(request) = decode(frame, Dialect { setxattr_ext: true }) else { return };
        let nodeid = request.header.nodeid;
        if self.is_special(nodeid)
            && matches!(request.operation, Operation::Open(_) | Operation::Syncfs)
        {
            // Pipes and devices the kernel opens by itself, and nobody may wait for one here.
            return;
        }
        let mut payload = std::mem::take(&mut self.payload);
        let mut reply = ReplyBuf::new(&mut payload);
        let outcome = dispatch(&self.fs, &request, &mut reply);
        if outcome.is_ok() {
            self.done.granted.insert(request.header.opcode);
        }
        match outcome {
            Ok(Outcome::FileRange { file, offset, len }) => {
                let len = usize::try_from(len).unwrap_or(ROOM).min(ROOM);
                let _ = file.read_at(&mut vec![0; len], offset);
            }
            Ok(_) => {
                let (fixed, payload) = reply.parts();
                self.account(nodeid, &request.operation, fixed, payload);
            }
            Err(_) => {}
        }
        self.payload = payload;
    }

    /// Gives everything back, and fails if anything is left, or was touched that may not be.
    pub(crate) fn close(mut self) -> Result<Done, String> {
        self.give_back();
        let held = self.held();
        if held != self.before {
            return Err(format!("before: {:?}\nafter:  {held:?}", self.before));
        }
        let World { fs, kernel, canary, done, .. } = self;
        drop(fs);
        let left = registered(&kernel);
        if !left.ids.is_empty() || left.mistakes > 0 {
            return Err(format!("when all is over: {left:?}"));
        }
        canary.is_untouched()?;
        Ok(done)
    }

    fn is_special(&self, nodeid: u64) -> bool {
        let mode = self.nodes.get(&nodeid).map_or(0, |node| node.mode & libc::S_IFMT);
        matches!(mode, libc::S_IFIFO | libc::S_IFCHR | libc::S_IFBLK | libc::S_IFSOCK)
    }

    /// Puts the real length, node and open file where the request has stand-ins for them.
    fn settle(&self, request: &mut [u8]) {
        let len = u32::try_from(request.len()).unwrap_or(u32::MAX);
        if request[..4] == [0; 4] {
            request[..4].copy_from_slice(&len.to_ne_bytes());
        }
        let opcode = u32::from_ne_bytes(request[4..8].try_into().expect("four bytes"));
        let nodes: Vec<u64> = self.nodes.keys().chain(&self.foreign).copied().collect();
        let stand_in = |request: &mut [u8], at: usize, known: &[u64]| {
            let Some(place) = request.get_mut(at..at + 8) else { return };
            let number = u64::from_ne_bytes((&*place).try_into().expect("eight bytes"));
            if number != abi::ROOT_ID && number < STANDS_FOR_ONE && !known.is_empty() {
                let one = usize::try_from(number).unwrap_or(0) % known.len();
                place.copy_from_slice(&known[one].to_ne_bytes());
            }
        };
        stand_in(request, 16, &nodes);
        match opcode {
            // RENAME, LINK, RENAME2: another node.
            12 | 13 | 45 => stand_in(request, HEADER, &nodes),
            // GETATTR, SETATTR, STATX.
            3 | 4 | 52 => stand_in(request, HEADER + 8, &self.files),
            // READ, WRITE, RELEASE, FSYNC, FLUSH, FALLOCATE, LSEEK.
            15 | 16 | 18 | 20 | 25 | 43 | 46 => stand_in(request, HEADER, &self.files),
            // READDIR, RELEASEDIR, FSYNCDIR, READDIRPLUS.
            28..=30 | 44 => stand_in(request, HEADER, &self.directories),
            39 => {
                let all = [&self.files[..], &self.directories].concat();
                stand_in(request, HEADER, &all);
            }
            // COPY_FILE_RANGE.
            47 | 53 => {
                stand_in(request, HEADER, &self.files);
                stand_in(request, HEADER + 24, &self.files);
            }
            _ => {}
        }
    }

    /// Takes down what a reply has handed out, and what a request has given back.
    fn account(&mut self, nodeid: u64, operation: &Operation<'_>, fixed: &[u8], payload: &[u8]) {
        match operation {
            Operation::Forget(args) => self.forgotten(nodeid, args.nlookup),
            Operation::BatchForget(list) => {
                list.iter().for_each(|one| self.forgotten(one.nodeid, one.nlookup));
            }
            Operation::Lookup { .. }
            | Operation::LookupSelf
            | Operation::LookupParent
            | Operation::Symlink { .. }
            | Operation::Mknod { .. }
            | Operation::Mkdir { .. }
            | Operation::Link { .. } => self.entry(fixed),
            Operation::Create { .. } | Operation::Tmpfile(_) => {
                self.entry(fixed);
                self.opened(&fixed[size_of::<EntryOut>()..]);
            }
            Operation::Open(_) => self.opened(fixed),
            Operation::Opendir(_) => self.directories.push(opened(fixed)),
            Operation::Release(args) => self.files.retain(|fh| *fh != args.fh),
            Operation::Releasedir(args) => self.directories.retain(|fh| *fh != args.fh),
            Operation::Readdirplus(_) => {
                let mut rest = payload;
                while rest.len() > size_of::<EntryOut>() + size_of::<abi::Dirent>() {
                    self.entry(rest);
                    let (dirent, _) = abi::Dirent::read_from_prefix(&rest[size_of::<EntryOut>()..])
                        .expect("a record is whole");
                    let name = usize::try_from(dirent.namelen).expect("names are short");
                    let record = size_of::<abi::Dirent>() + name;
                    rest = &rest[size_of::<EntryOut>() + record.next_multiple_of(8)..];
                }
            }
            _ => {}
        }
    }

    /// The kernel opens a file of its own by the id that it is told.
    fn opened(&mut self, reply: &[u8]) {
        let (out, _) = OpenOut::read_from_prefix(reply).expect("a reply is whole");
        if OpenFlags::from_bits_retain(out.open_flags).contains(OpenFlags::PASSTHROUGH) {
            let ids = registered(&self.kernel).ids;
            assert!(ids.contains(&out.backing_id), "{} is none of {ids:?}", out.backing_id);
            self.done.passed += 1;
        }
        self.files.push(out.fh);
    }

    fn entry(&mut self, reply: &[u8]) {
        let (entry, _) = EntryOut::read_from_prefix(reply).expect("a reply is whole");
        if entry.nodeid != 0 && entry.nodeid != abi::ROOT_ID {
            let node = self.nodes.entry(entry.nodeid).or_default();
            node.lookups += 1;
            node.mode = entry.attr.mode;
        }
    }

    fn forgotten(&mut self, nodeid: u64, count: u64) {
        if let Some(node) = self.nodes.get_mut(&nodeid) {
            node.lookups = node.lookups.saturating_sub(count);
            if node.lookups == 0 {
                self.nodes.remove(&nodeid);
            }
        }
    }

    fn give_back(&mut self) {
        for fh in std::mem::take(&mut self.files) {
            let args = abi::ReleaseIn { fh, ..FromBytes::read_from_bytes(&[0; 24]).expect("24") };
            let _ = self.fs.release(NodeId(0), &args);
        }
        for fh in std::mem::take(&mut self.directories) {
            let args = abi::ReleaseIn { fh, ..FromBytes::read_from_bytes(&[0; 24]).expect("24") };
            let _ = self.fs.releasedir(NodeId(0), &args);
        }
        for (nodeid, node) in std::mem::take(&mut self.nodes) {
            self.fs.forget(NodeId(nodeid), node.lookups);
        }
        // What is kept for speed goes as time goes by.
        for _ in 0..8 {
            self.fs.tick();
        }
    }

    fn held(&self) -> Held {
        let live = self.fs.live();
        let registered = registered(&self.kernel);
        assert_eq!(live.backing_ids, registered.ids.len() as u64, "{registered:?}");
        assert_eq!(registered.mistakes, 0, "{registered:?}");
        Held {
            inodes: live.inodes,
            files: live.open_files,
            directories: live.open_dirs,
            backing: live.backing_ids,
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        }
    }
}

fn registered(kernel: &Kernel) -> Registered {
    kernel.registered().expect("the kernel is not there")
}

fn opened(reply: &[u8]) -> u64 {
    OpenOut::read_from_prefix(reply).expect("a reply is whole").0.fh
}

/// What the nodeids of the objects in a tree would be, if they were of the source.
fn nodeids(root: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    for path in [root.to_owned(), root.join("tree"), root.join("tree/name")] {
        let file = fs::File::open(&path).ok();
        let handle = file.and_then(|file| FileHandle::of(file.as_fd()).ok());
        if let Some((number, generation)) = handle.and_then(|handle| handle.ino32()) {
            let (number, generation) = (u64::from(number), u64::from(generation));
            found.extend([number | generation << 32, generation | number << 32]);
        }
    }
    found
}
