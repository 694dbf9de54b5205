//! A file system that takes what is written to it at the close, as those across a network do, and
//! tells only then whether it could; and answers some questions late, or never. This program started
//! again with `--below`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use fusewire::config::Transport;
use fusewire::fs::*;
use fusewire::session::{Options, Session};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A file that takes everything.
pub(crate) const FILE: &str = "file";
/// A file whose close says EDQUOT.
pub(crate) const FULL: &str = "full";

/// A name that nobody finds, and only once somebody else has asked for [`NEXT`].
pub(crate) const HELD_UP: &str = "held up";
pub(crate) const NEXT: &str = "next";
/// A name that is busy while somebody waits for [`HELD_UP`], and else not there.
pub(crate) const WAITING: &str = "waiting";
/// A name that nobody finds; from then on the size of the file system is a question without an answer.
pub(crate) const HUSH: &str = "hush";

/// After this [`HELD_UP`] is something else than not there.
const HELD_UP_FOR: Duration = Duration::from_secs(20);

const NAMES: [(&str, u64); 2] = [(FILE, 2), (FULL, 3)];

/// A file that is open, and what has been written through it since it was last closed.
#[derive(Debug)]
struct Handle {
    inode: u64,
    written: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct State {
    /// What is taken, by inode.
    files: BTreeMap<u64, Vec<u8>>,
    open: BTreeMap<u64, Handle>,
    next: u64,
    waits: bool,
    goes_on: bool,
    is_hushed: bool,
}

#[derive(Debug, Default)]
struct Below {
    state: Mutex<State>,
    goes_on: Condvar,
}

impl Below {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// What the names that are no files are for.
    fn signal(&self, name: &[u8]) -> Errno {
        let mut state = self.state();
        match std::str::from_utf8(name) {
            Ok(HELD_UP) => {
                state.waits = true;
                let waits = |state: &mut State| !state.goes_on;
                let waited = self.goes_on.wait_timeout_while(state, HELD_UP_FOR, waits);
                let (mut state, waited) = waited.expect("no panic while locked");
                state.waits = false;
                match waited.timed_out() {
                    true => Errno::ETIMEDOUT,
                    false => Errno::ENOENT,
                }
            }
            Ok(NEXT) => {
                state.goes_on = true;
                self.goes_on.notify_all();
                Errno::ENOENT
            }
            Ok(WAITING) if state.waits => Errno::EBUSY,
            Ok(HUSH) => {
                state.is_hushed = true;
                Errno::ENOENT
            }
            _ => Errno::ENOENT,
        }
    }

    fn attributes(&self, inode: u64) -> Attributes {
        let (mode, size) = match inode {
            1 => (0o40755, 0),
            _ => (0o100644, self.state().files.get(&inode).map_or(0, Vec::len)),
        };
        let attr = abi::Attr {
            ino: inode,
            mode,
            size: size as u64,
            nlink: 1,
            blksize: 4096,
            ..Default::default()
        };
        Attributes { attr, valid: Duration::ZERO }
    }
}

impl Filesystem for Below {
    fn lookup(&self, _: &Caller, _: NodeId, name: Name<'_>) -> Result<Entry> {
        let name = name.as_c_str().to_bytes();
        let is_it = |(known, _): &&(&str, u64)| name == known.as_bytes();
        let (_, inode) = NAMES.iter().find(is_it).ok_or_else(|| self.signal(name))?;
        let (entry_valid, attributes) = (Duration::ZERO, self.attributes(*inode));
        Ok(Entry { nodeid: NodeId(*inode), generation: 0, entry_valid, attributes })
    }

    fn getattr(&self, _: &Caller, nodeid: NodeId, _: Option<Fh>) -> Result<Attributes> {
        Ok(self.attributes(nodeid.0))
    }

    fn setattr(&self, _: &Caller, nodeid: NodeId, args: &abi::SetattrIn) -> Result<Attributes> {
        const SIZE: u32 = 1 << 3;
        if args.valid & SIZE != 0 {
            let size = usize::try_from(args.size).map_err(|_| Errno::EFBIG)?;
            self.state().files.entry(nodeid.0).or_default().resize(size, 0);
        }
        Ok(self.attributes(nodeid.0))
    }

    fn open(&self, _: &Caller, nodeid: NodeId, _: &abi::OpenIn) -> Result<Opened> {
        let mut state = self.state();
        state.next += 1;
        let fh = state.next;
        state.open.insert(fh, Handle { inode: nodeid.0, written: Vec::new() });
        Ok(Opened { fh: Fh(fh), flags: abi::OpenFlags::empty(), backing: None })
    }

    fn read(
        &self,
        _: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        out: &mut Payload<'_>,
    ) -> Result<Data> {
        let state = self.state();
        let taken = state.files.get(&nodeid.0).map_or(&[][..], Vec::as_slice);
        let start = usize::try_from(args.offset).map_err(|_| Errno::EINVAL)?.min(taken.len());
        let size = usize::try_from(args.size).map_err(|_| Errno::EINVAL)?;
        out.extend(&taken[start..][..size.min(taken.len() - start)])?;
        Ok(Data::Filled)
    }

    fn write(&self, _: &Caller, _: NodeId, args: &abi::WriteIn, data: &[u8]) -> Result<u32> {
        let offset = usize::try_from(args.offset).map_err(|_| Errno::EFBIG)?;
        let mut state = self.state();
        let handle = state.open.get_mut(&args.fh).ok_or(Errno::EBADF)?;
        handle.written.push((offset, data.to_vec()));
        u32::try_from(data.len()).map_err(|_| Errno::EINVAL)
    }

    fn flush(&self, _: &Caller, _: NodeId, args: &abi::FlushIn) -> Result<()> {
        let mut state = self.state();
        let handle = state.open.get_mut(&args.fh).ok_or(Errno::EBADF)?;
        let (inode, written) = (handle.inode, std::mem::take(&mut handle.written));
        if inode == NAMES[1].1 && !written.is_empty() {
            return Err(Errno::EDQUOT);
        }
        let file = state.files.entry(inode).or_default();
        for (offset, data) in written {
            let end = offset + data.len();
            file.resize(file.len().max(end), 0);
            file[offset..end].copy_from_slice(&data);
        }
        Ok(())
    }

    fn statfs(&self, _: &Caller, _: NodeId) -> Result<abi::Kstatfs> {
        while self.state().is_hushed {
            thread::park();
        }
        Ok(abi::Kstatfs { bsize: 4096, frsize: 4096, namelen: 255, ..abi::Kstatfs::default() })
    }

    fn release(&self, _: NodeId, args: &abi::ReleaseIn) -> Result<()> {
        // What is left by now is lost.
        self.state().open.remove(&args.fh);
        Ok(())
    }
}

/// Serves the file system if this program was started for that.
pub(crate) fn serve_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "--below") {
        let mountpoint = arguments.next().expect("a mount point follows");
        let below = Below::default();
        below.state().is_hushed = arguments.next().is_some();
        let mut options = Options::new(mountpoint);
        // Where others serve while one waits.
        options.transport = Transport::Dev;
        let session = Session::mount(Arc::new(below), &options);
        let served = session
            .map_err(|error| error.to_string())
            .and_then(|session| session.join().map_err(|error| error.to_string()));
        if let Err(error) = &served {
            eprintln!("--below: {error}");
        }
        std::process::exit(i32::from(served.is_err()));
    }
}

/// The file system, mounted by a process of its own.
pub(crate) struct Served {
    mountpoint: PathBuf,
    child: Child,
}

impl Served {
    pub(crate) fn start(mountpoint: &Path) -> std::result::Result<Self, String> {
        Self::start_as(mountpoint, &[])
    }

    /// The same with more on its command line: anything, and it is hushed from the beginning.
    pub(crate) fn start_as(mountpoint: &Path, more: &[&str]) -> std::result::Result<Self, String> {
        let device = || std::fs::metadata(mountpoint).map(|metadata| metadata.dev()).ok();
        let before = device();
        let mut command = Command::new("/proc/self/exe");
        let child = command.arg("--below").arg(mountpoint).args(more).spawn();
        let child = child.map_err(|error| format!("start the file system below: {error}"))?;
        let served = Served { mountpoint: mountpoint.to_owned(), child };
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(15) {
            if device() != before {
                return Ok(served);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("the file system below was not mounted within 15 s".to_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) -> std::result::Result<(), String> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"));
        kill(pid, signal).map_err(|errno| format!("signal the file system below: {errno}"))
    }

    /// Whether it ends by SIGKILL, and soon.
    pub(crate) fn kill(&mut self) -> std::result::Result<(), String> {
        self.signal(Signal::SIGKILL)?;
        if self.ends_within(Duration::from_secs(10)) {
            return Ok(());
        }
        // Where it waits for itself, this ends it.
        let _ = umount2(&self.mountpoint, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
        Err("the file system below was killed 10 s ago and is still there".to_owned())
    }

    fn ends_within(&mut self, patience: Duration) -> bool {
        let began = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if began.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.signal(Signal::SIGCONT);
        let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
        if !self.ends_within(Duration::from_secs(5)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
