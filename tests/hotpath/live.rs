//! The same on live mounts, one for each way that requests and data may come and go: the session is in
//! this process, its client in another, so that either may be killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fusewire::config::{Config, DataMode, DevIo, Transport};
use fusewire::passthrough::Local;
use fusewire::session::{Options, Session};
use fusewire::transport::splice::Splice;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::common;
use super::counting::SERVING;

const ROUNDS: u64 = 10_000;
/// A step that is told nothing in so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const CLIENT: &str = "--client";

/// How requests and data come and go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    transport: Transport,
    dev_io: DevIo,
    data: DataMode,
    splice: Splice,
}

const fn way(name: &'static str, transport: Transport, data: DataMode) -> Way {
    Way { name, transport, dev_io: DevIo::Read, data, splice: Splice::Never }
}

pub(crate) const WAYS: [Way; 5] = [
    way("dev", Transport::Dev, DataMode::Copy),
    Way { splice: Splice::Always, ..way("dev_splice", Transport::Dev, DataMode::Splice) },
    Way { dev_io: DevIo::Uring, ..way("dev_uring", Transport::Dev, DataMode::Copy) },
    way("uring", Transport::Uring, DataMode::Copy),
    way("uring_passthrough", Transport::Uring, DataMode::Passthrough),
];

/// What the client does in one round.
struct Step {
    what: &'static str,
    /// How often a round may ask for memory.
    asks: u64,
    prepare: fn(&Path) -> Box<dyn FnMut()>,
}

const STEPS: &[Step] = &[
    Step {
        what: "LOOKUP",
        asks: 0,
        prepare: |at| {
            let file = at.join("file");
            Box::new(move || assert!(fs::metadata(&file).expect("stat").is_file()))
        },
    },
    Step {
        what: "LOOKUP of a missing name",
        asks: 0,
        prepare: |at| {
            let none = at.join("none");
            Box::new(move || drop(fs::metadata(&none).expect_err("it is not there")))
        },
    },
    Step {
        what: "GETATTR",
        asks: 0,
        prepare: |at| {
            let file = File::open(at.join("file")).expect("open");
            Box::new(move || assert_eq!(nix::sys::stat::fstat(&file).expect("fstat").st_size, 7))
        },
    },
    Step {
        what: "OPENDIR, READDIRPLUS and RELEASEDIR",
        asks: 0,
        prepare: |at| {
            let dir = at.join("dir");
            Box::new(move || assert_eq!(fs::read_dir(&dir).expect("opendir").count(), 3))
        },
    },
    Step {
        // The one is what READ hands to the transport: a shared reference to the file.
        what: "OPEN and RELEASE",
        asks: 1,
        prepare: |at| {
            let file = at.join("file");
            Box::new(move || drop(File::options().write(true).open(&file).expect("open")))
        },
    },
    Step { what: "READ of 4 KiB", asks: 0, prepare: |at| transfer(at, 4 << 10, false) },
    Step { what: "READ of 64 KiB", asks: 0, prepare: |at| transfer(at, 64 << 10, false) },
    Step { what: "WRITE of 4 KiB", asks: 0, prepare: |at| transfer(at, 4 << 10, true) },
    Step { what: "WRITE of 64 KiB", asks: 0, prepare: |at| transfer(at, 64 << 10, true) },
    // Through a pipe, where there is one.
    Step { what: "WRITE of 128 KiB", asks: 0, prepare: |at| transfer(at, 128 << 10, true) },
];

/// Reads, or writes, past the mount's cache, so that each is a request.
fn transfer(at: &Path, size: usize, write: bool) -> Box<dyn FnMut()> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    let file = options.open(at.join("data")).expect("open");
    let mut memory = memmap2::MmapMut::map_anon(size).expect("memory");
    Box::new(move || {
        let count = match write {
            true => file.write_at(&memory, 0),
            false => file.read_at(&mut memory, 0),
        };
        assert_eq!(count.expect("the mount answers"), size);
    })
}

/// The other process: plays each step that it is told, first to warm up, then to be counted.
pub(crate) fn be_a_client_if_asked() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(CLIENT) {
        return;
    }
    let at = PathBuf::from(args.next().expect("a mount point"));
    // One queue, one worker, so that a few rounds warm up whoever answers.
    on_one_cpu();
    let mut orders = std::io::stdin().lines();
    let mut order = || orders.next().and_then(Result::ok);
    while let Some(index) = order() {
        let step = &STEPS[index.parse::<usize>().expect("a number")];
        let mut round = (step.prepare)(&at);
        (0..200).for_each(|_| round());
        println!("warm");
        order();
        (0..ROUNDS).for_each(|_| round());
        println!("done");
    }
    std::process::exit(0);
}

fn on_one_cpu() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("its own affinity");
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut set = CpuSet::new();
    set.set(first.expect("it runs on one")).expect("a CPU");
    sched_setaffinity(this, &set).expect("it may run there already");
}

/// The other process, from here.
struct Client {
    child: Child,
    said: Receiver<String>,
}

impl Client {
    fn start(mountpoint: &Path) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(CLIENT).arg(mountpoint).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("start a client: {error}"))?;
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (say, said) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        Ok(Client { child, said })
    }

    /// Gives an order and waits for the answer.
    fn order(&mut self, order: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{order}").map_err(|error| format!("the client is gone: {error}"))?;
        let answer = self.said.recv_timeout(PATIENCE);
        answer.map(drop).map_err(|error| format!("the client says nothing more: {error}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts what each step asks for on a mount of this kind.
pub(crate) fn allocations(way: Way) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let _rings = common::rings::Rings::switch("Y")
        .map_err(|error| format!("switch FUSE over io_uring on: {error}"))?;
    let disk = common::disk::Disk::new(64 << 20)?;
    let source = disk.directory("source");
    fs::write(source.join("file"), "content").map_err(text)?;
    fs::write(source.join("data"), vec![7; 1 << 20]).map_err(text)?;
    fs::create_dir(source.join("dir")).map_err(text)?;
    for n in 0..3 {
        fs::write(source.join(format!("dir/{n}")), "").map_err(text)?;
    }
    let mountpoint = disk.mountpoint("mount");
    let mut config = Config::new(&source, &mountpoint);
    config.data = way.data;
    // So that every round asks.
    let never = Some(Duration::ZERO);
    (config.entry_timeout, config.attr_timeout, config.negative_timeout) = (never, never, never);
    let local = Local::new(&config, 10_000).map_err(|error| error.to_string())?;
    let mut options = Options::new(&mountpoint);
    (options.transport, options.dev_io, options.splice) = (way.transport, way.dev_io, way.splice);
    if way.transport == Transport::Dev {
        // Of two, one opens the next directory while the other still closes the last.
        (options.workers, options.pin) = (NonZeroUsize::new(1), true);
    }
    let session = Session::mount(Arc::new(local), &options).map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    let mut client = Client::start(&mountpoint)?;
    for (index, step) in STEPS.iter().enumerate() {
        // What is not at hand for once goes to the pool, which takes memory: rarely, so not every time.
        let mut seen: Vec<u64> = Vec::new();
        let held = |seen: &[u64]| seen.iter().any(|asked| *asked <= step.asks * ROUNDS);
        while seen.len() < 3 && !held(&seen) {
            client.order(&index.to_string())?;
            let before = SERVING.load(Relaxed);
            client.order("go")?;
            seen.push(SERVING.load(Relaxed) - before);
        }
        if !held(&seen) {
            let Step { what, asks, .. } = step;
            wrong.push(format!("{what}: {seen:?} in {ROUNDS} rounds, more than {asks} in each"));
        }
    }
    drop(client);
    drop(session);
    match wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(format!("memory was asked for:\n  {}", wrong.join("\n  "))),
    }
}
