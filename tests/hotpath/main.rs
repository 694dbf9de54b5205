//! No request that is warm asks for memory, under an allocator that counts. The file system is driven
//! in process, as its workers drive it; and it is mounted on each transport and used by a process
//! beside this one. Needs root and /dev/fuse: it is mounted while it is driven as well, so that files
//! are opened as they are on a mount.

use std::ffi::{CStr, CString};
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fusewire::abi::{self, InHeader, Opcode};
use fusewire::config::{Config, DataMode};
use fusewire::dispatch::{Outcome, dispatch};
use fusewire::fs::{Caller, Filesystem, Name, NodeId, Opened};
use fusewire::metrics::Metrics;
use fusewire::passthrough::Local;
use fusewire::protocol::decode::{Operation, Request};
use fusewire::protocol::encode::ReplyBuf;
use fusewire::session::{Options, Session};
use fusewire::sys::caller::enter_worker;
use fusewire::transport::dev::read_range;
use libtest_mimic::{Arguments, Trial};

#[path = "../common/mod.rs"]
mod common;
mod counting;
mod live;

use counting::ASKED;

const ROUNDS: u64 = 10_000;
const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const BLOCK: u32 = 4096;

fn main() -> ExitCode {
    live::be_a_client_if_asked();
    let mut args = Arguments::from_args();
    // What any worker of this process asks for is counted.
    args.test_threads = Some(1);
    if let Err(reason) = common::disk::private_mounts() {
        eprintln!("the tests of the hot path cannot run: {reason}");
        return ExitCode::FAILURE;
    }
    let modes = [("copy", DataMode::Copy), ("passthrough", DataMode::Passthrough)];
    let mut trials: Vec<_> = modes
        .map(|(name, data)| {
            Trial::test(format!("allocations::{name}"), move || Ok(allocations(data)?))
        })
        .into();
    trials.extend(live::WAYS.map(|way| {
        Trial::test(format!("allocations_on::{}", way.name), move || Ok(live::allocations(way)?))
    }));
    libtest_mimic::run(&args, trials).exit_code()
}

/// The file system, and a thread that behaves as a worker of it.
struct Driver {
    local: Arc<Local>,
    buffer: Vec<u8>,
    wrong: Vec<String>,
}

impl Driver {
    /// Serves one request on `nodeid` for `caller`; tells how many bytes it would reply.
    fn serve(&mut self, caller: Caller, nodeid: NodeId, operation: Operation<'_>) -> usize {
        let Caller { uid, gid, pid } = caller;
        let header = InHeader { nodeid: nodeid.0, uid, gid, pid, ..InHeader::default() };
        let mut reply = ReplyBuf::new(&mut self.buffer);
        let outcome = dispatch(&*self.local, &Request { header: &header, operation }, &mut reply);
        match outcome.unwrap_or_else(|errno| panic!("{operation:?}: {errno}")) {
            Outcome::FileRange { file, offset, len } => {
                let len = usize::try_from(len).expect("small");
                read_range(&file, offset, &mut self.buffer[..len]).expect("read")
            }
            _ => reply.parts().0.len() + reply.parts().1.len(),
        }
    }

    /// Plays `round` until it is warm, then counts what each one more asks for: exactly `expected`.
    fn check(&mut self, what: &str, expected: u64, mut round: impl FnMut(&mut Self)) {
        (0..100).for_each(|_| round(self));
        let before = ASKED.get();
        (0..ROUNDS).for_each(|_| round(self));
        let asked = ASKED.get() - before;
        if asked != expected * ROUNDS {
            self.wrong.push(format!("{what}: {asked} in {ROUNDS} rounds, not {expected} in each"));
        }
    }

    fn lookup(&self, name: &CStr) -> NodeId {
        let name = Name::new(name).expect("a name");
        self.local.lookup(&ROOT, NodeId::ROOT, name).expect("it is there").nodeid
    }

    fn open(&self, nodeid: NodeId, flags: i32) -> Opened {
        let args = abi::OpenIn { flags: flags.unsigned_abs(), open_flags: 0 };
        self.local.open(&ROOT, nodeid, &args).expect("open")
    }
}

fn allocations(data: DataMode) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let disk = common::disk::Disk::new(64 << 20)?;
    let source = disk.directory("source");
    fs::write(source.join("file"), vec![7; 1 << 16]).map_err(text)?;
    std::os::unix::fs::symlink("a target of some length", source.join("link")).map_err(text)?;
    let xattr = std::process::Command::new("setfattr")
        .args(["-n", "user.name", "-v", "value"])
        .arg(source.join("file"))
        .status();
    assert!(xattr.map_err(text)?.success(), "setfattr");
    fs::create_dir(source.join("dir")).map_err(text)?;
    for n in 0..50 {
        fs::write(source.join(format!("dir/{n}")), "").map_err(text)?;
    }
    let mountpoint = disk.mountpoint("mount");
    let mut config = Config::new(&source, &mountpoint);
    config.data = data;
    let local = Local::new(&config, 10_000).map_err(|error| error.to_string())?;
    let local = Arc::new(local);
    let session = Session::mount(local.clone(), &Options::new(&mountpoint));
    let session = session.map_err(|error| error.to_string())?;
    enter_worker().map_err(text)?;
    let mut driver = Driver { local, buffer: vec![0; 1 << 17], wrong: Vec::new() };
    requests(&mut driver);
    drop(session);
    match driver.wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(format!("memory was asked for:\n  {}", wrong.join("\n  "))),
    }
}

fn requests(driver: &mut Driver) {
    use Operation as Op;
    let (file, link) = (driver.lookup(c"file"), driver.lookup(c"link"));
    let dir = driver.lookup(c"dir");
    let name = CString::new("file").expect("no zero byte");
    let name = Name::new(&name).expect("a name");
    let none = CString::new("none").expect("no zero byte");
    let user = Caller { uid: 1000, gid: 1000, pid: 1 };

    let getattr = abi::GetattrIn::default();
    driver.check("GETATTR", 0, |driver| {
        driver.serve(ROOT, file, Op::Getattr(&getattr));
    });
    driver.check("LOOKUP of a known name", 0, |driver| {
        driver.serve(ROOT, NodeId::ROOT, Op::Lookup { name });
    });
    driver.check("LOOKUP of a missing name", 0, |driver| {
        let name = Name::new(&none).expect("a name");
        driver.local.lookup(&ROOT, NodeId::ROOT, name).expect_err("not there");
    });
    driver.check("STATFS", 0, |driver| {
        driver.serve(ROOT, NodeId::ROOT, Op::Statfs);
    });
    driver.check("READLINK", 0, |driver| {
        assert_eq!(driver.serve(ROOT, link, Op::Readlink), 23);
    });
    driver.check("GETXATTR", 0, |driver| {
        driver.serve(ROOT, file, Op::Getxattr { size: 64, name: c"user.name" });
    });
    driver.check("LISTXATTR of root and of a user", 0, |driver| {
        driver.serve(ROOT, file, Op::Listxattr { size: 64 });
        // Not through `serve`: the mount is root's alone, but attributes are read freely.
        driver.local.listxattr(&user, file, &mut [0; 64]).expect("list");
        driver.local.listxattr(&user, file, &mut []).expect("length of the list");
    });
    let mode = abi::SetattrIn { valid: 1, mode: 0o100_640, ..abi::SetattrIn::default() };
    driver.check("SETATTR", 0, |driver| {
        driver.serve(ROOT, file, Op::Setattr(&mode));
    });

    let metrics = Metrics::new(1);
    driver.check("counting a request", 0, |_| {
        let took = Duration::from_micros(10);
        metrics.shard(0).record(Opcode::Lookup, Err(nix::errno::Errno::ENOENT), took);
        metrics.shard(0).record_read(4096);
    });

    let open = abi::OpenIn { flags: libc::O_RDWR.unsigned_abs(), open_flags: 0 };
    // The one is what READ hands to the transport: a shared reference to the file.
    driver.check("OPEN and RELEASE", 1, |driver| {
        let fh = driver.local.open(&ROOT, file, &open).expect("open").fh.0;
        driver.serve(ROOT, file, Op::Release(&abi::ReleaseIn { fh, ..Default::default() }));
    });
    let open = abi::OpenIn { flags: libc::O_RDONLY.unsigned_abs(), open_flags: 0 };
    let by_kernel = driver.local.data().mode == "passthrough";
    driver.check("OPEN for reading and RELEASE", if by_kernel { 0 } else { 1 }, |driver| {
        let fh = driver.local.open(&ROOT, file, &open).expect("open").fh.0;
        driver.serve(ROOT, file, Op::Release(&abi::ReleaseIn { fh, ..Default::default() }));
    });
    let fh = driver.open(file, libc::O_RDWR).fh.0;
    let read = abi::ReadIn { fh, size: BLOCK, ..abi::ReadIn::default() };
    driver.check("READ", 0, |driver| {
        assert_eq!(driver.serve(ROOT, file, Op::Read(&read)), 4096);
    });
    let (write, block) = (abi::WriteIn { fh, size: BLOCK, ..Default::default() }, [1; 4096]);
    driver.check("WRITE", 0, |driver| {
        driver.serve(ROOT, file, Op::Write { args: &write, data: &block });
    });
    driver.check("FLUSH", 0, |driver| {
        driver.serve(ROOT, file, Op::Flush(&abi::FlushIn { fh, ..Default::default() }));
    });

    for plus in [false, true] {
        let what = if plus { "READDIRPLUS" } else { "READDIR" };
        driver.check(&format!("OPENDIR, {what} and RELEASEDIR"), 0, |driver| {
            let open = abi::OpenIn::default();
            let fh = driver.local.opendir(&ROOT, dir, &open).expect("opendir").fh.0;
            let args = abi::ReadIn { fh, size: 32 << 10, ..abi::ReadIn::default() };
            let operation = if plus { Op::Readdirplus(&args) } else { Op::Readdir(&args) };
            assert!(driver.serve(ROOT, dir, operation) > 50 * 24, "fifty entries");
            driver.serve(ROOT, dir, Op::Releasedir(&abi::ReleaseIn { fh, ..Default::default() }));
        });
    }
}
