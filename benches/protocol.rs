//! What a request costs in the daemon apart from system calls that move it: decoding, dispatch,
//! encoding and the inode table, without a mount.

use std::fs::File;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use zerocopy::IntoBytes;

use fusewire::abi;
use fusewire::config::{Config, DataMode};
use fusewire::dispatch::dispatch;
use fusewire::fs::{
    Attributes, Caller, DirEntry, DirSink, Entry, Errno, Fh, Filesystem, Name, NodeId, Result,
};
use fusewire::passthrough::{Local, TableAlone};
use fusewire::protocol::decode::{Dialect, Frame, Request, decode};
use fusewire::protocol::encode::{self, ReplyBuf};
use golden::{Aligned, Wire, golden, request};

#[path = "../src/protocol/golden.rs"]
#[expect(dead_code, reason = "the tests of the protocol use more of it")]
mod golden;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .configure_from_args();
    decoding(&mut criterion);
    encoding(&mut criterion);
    dispatching(&mut criterion);
    inodes(&mut criterion);
    local(&mut criterion);
    criterion.final_summary();
}

/// The request of one opcode, with a body of its own where the golden one is too small.
fn received(opcode: u32) -> Aligned {
    match opcode {
        // 4 KiB of data.
        16 => {
            let args = Wire::default().u64(1).u64(0).u32(4096).u32(0).u64(0).u32(2).u32(0);
            Aligned::new(&request(16, &args.zeros(4096).end()))
        }
        opcode => Aligned::new(&golden(opcode).request()),
    }
}

fn read(bytes: &[u8]) -> Request<'_> {
    let frame = Frame::from_contiguous(bytes).expect("well-formed");
    decode(frame, Dialect { setxattr_ext: true }).expect("well-formed")
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, opcode) in [("GETATTR", 3), ("LOOKUP", 1), ("WRITE 4 KiB", 16), ("CREATE", 35)] {
        let bytes = received(opcode);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(read(black_box(bytes.bytes()))));
        });
    }
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let mut buffer = vec![0; 32 << 10];
    let entry = black_box(abi::EntryOut { nodeid: 2, ..abi::EntryOut::default() });
    group.bench_function("entry reply", |bencher| {
        bencher.iter(|| {
            let mut reply = ReplyBuf::new(&mut buffer);
            reply.put(black_box(&entry));
            let (fixed, payload) = reply.parts();
            let header = encode::header(black_box(7), Ok(fixed.len() + payload.len()));
            black_box(header.as_bytes());
            black_box(fixed);
        });
    });
    group.throughput(Throughput::Bytes(32 << 10));
    let names: Vec<_> = (0..1024).map(|n| format!("some-file-name-{n:04}")).collect();
    let dirent =
        |name: &'static str| DirEntry { ino: 1, next_offset: 2, kind: 8, name: name.as_bytes() };
    let names: Vec<&'static str> =
        names.into_iter().map(|name| &*Box::leak(name.into_boxed_str())).collect();
    group.bench_function("READDIR of 32 KiB", |bencher| {
        bencher.iter(|| {
            let mut reply = ReplyBuf::new(&mut buffer);
            let mut sink = DirSink::new(reply.payload(), 32 << 10);
            for name in names.iter().cycle() {
                if sink.push(black_box(dirent(name))).is_err() {
                    break;
                }
            }
            black_box(reply.parts());
        });
    });
    group.bench_function("READDIRPLUS of 32 KiB", |bencher| {
        bencher.iter(|| {
            let mut reply = ReplyBuf::new(&mut buffer);
            let mut sink = DirSink::new(reply.payload(), 32 << 10);
            for name in names.iter().cycle() {
                if sink.push_plus(black_box(dirent(name)), &entry).is_err() {
                    break;
                }
            }
            black_box(reply.parts());
        });
    });
}

/// Answers at once, with nothing.
#[derive(Debug)]
struct Nothing;

const ATTRIBUTES: Attributes = Attributes {
    attr: abi::Attr {
        ino: 1,
        size: 0,
        blocks: 0,
        atime: 0,
        mtime: 0,
        ctime: 0,
        atimensec: 0,
        mtimensec: 0,
        ctimensec: 0,
        mode: 0o100_644,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    },
    valid: Duration::from_secs(1),
};

impl Filesystem for Nothing {
    fn lookup(&self, _: &Caller, _: NodeId, _: Name<'_>) -> Result<Entry> {
        let entry_valid = Duration::from_secs(1);
        Ok(Entry { nodeid: NodeId(2), generation: 0, entry_valid, attributes: ATTRIBUTES })
    }

    fn getattr(&self, _: &Caller, _: NodeId, _: Option<Fh>) -> Result<Attributes> {
        Ok(ATTRIBUTES)
    }

    fn write(&self, _: &Caller, _: NodeId, args: &abi::WriteIn, _: &[u8]) -> Result<u32> {
        Ok(args.size)
    }
}

/// From received bytes to a reply that is ready to be sent.
fn dispatching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatch to nothing");
    let mut buffer = vec![0; 4096];
    // FLUSH is left to its default: ENOSYS.
    for (name, opcode) in [("GETATTR", 3), ("LOOKUP", 1), ("WRITE 4 KiB", 16), ("FLUSH", 25)] {
        let bytes = received(opcode);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = read(black_box(bytes.bytes()));
                let mut reply = ReplyBuf::new(&mut buffer);
                let outcome = dispatch(&Nothing, &request, &mut reply);
                let body = outcome.map(|_| reply.parts().0.len());
                black_box(encode::header(request.header.unique, body));
            });
        });
    }
}

/// The inode table alone, by one thread and by two on two CPUs, which meet at the locks of its shards.
fn inodes(criterion: &mut Criterion) {
    const INODES: u32 = 100_000;
    let table = TableAlone::new(2 * INODES as usize).expect("a table: / needs file handles");
    let look_up = |number| table.look_up(number).expect("it is new, or known");
    // Neighbours in number lie in different shards.
    let ids: Vec<_> = (1..=INODES).map(|number| look_up(number * 7)).collect();
    let find = |thread: usize, turn: u64| {
        let index = usize::try_from(turn).unwrap_or(0) * 31 + thread * ids.len() / 2;
        table.find(black_box(ids[index % ids.len()])).expect("it is known");
    };
    let find_one = |_, _| table.find(black_box(ids[0])).expect("it is known");
    let insert = |thread: usize, turn: u64| {
        let number = u32::try_from(turn % u64::from(INODES)).unwrap_or(0) * 7 + 1;
        let nodeid = look_up(number + u32::try_from(thread).unwrap_or(0));
        table.forget(black_box(nodeid));
    };
    let mut group = criterion.benchmark_group("inode table of 100,000");
    let mut bench = |name: &str, operation: &(dyn Fn(usize, u64) + Sync)| {
        for threads in [1, 2] {
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|turns| together(threads, turns, operation));
            });
        }
    };
    bench("find by nodeid", &find);
    bench("find one and the same", &find_one);
    bench("lookup of a new one and forget", &insert);
}

/// Has `threads` threads do `operation` so many times each; how long the last of them took.
fn together(threads: usize, turns: u64, operation: &(dyn Fn(usize, u64) + Sync)) -> Duration {
    let start = Barrier::new(threads);
    let run = |thread| {
        on_cpu(thread);
        start.wait();
        let began = Instant::now();
        (0..turns).for_each(|turn| operation(thread, turn));
        began.elapsed()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let times = running.into_iter().map(|thread| thread.join().expect("no panic"));
        times.max().expect("one thread at least")
    })
}

/// Binds the calling thread to one of the CPUs that it may run on, the `index`th if there are so many.
fn on_cpu(index: usize) {
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own).expect("its own affinity");
    let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let cpus: Vec<_> = cpus.collect();
    let mut set = CpuSet::new();
    set.set(cpus[index % cpus.len()]).expect("it runs there");
    sched_setaffinity(own, &set).expect("it may run there");
}

/// The inode table under the passthrough file system, by what goes through it and does least
/// besides. The difference to `fstat` alone is the table's.
fn local(criterion: &mut Criterion) {
    const FILES: u64 = 1000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let names: Vec<_> = (0..FILES).map(|n| format!("file-{n}")).collect();
    for name in &names {
        File::create(dir.path().join(name)).expect("make a file");
    }
    let mut config = Config::new(dir.path(), "/nonexistent");
    config.data = DataMode::Copy;
    let fs = Local::new(&config, 100_000).expect("open the directory");
    let uid = nix::unistd::getuid().as_raw();
    let caller = Caller { uid, gid: 0, pid: 1 };
    let texts: Vec<_> =
        names.iter().map(|name| std::ffi::CString::new(&**name).expect("no zero")).collect();
    let lookup = |text: &std::ffi::CString| -> Result<NodeId> {
        let name = Name::new(text).ok_or(Errno::EINVAL)?;
        Ok(fs.lookup(&caller, NodeId::ROOT, name)?.nodeid)
    };
    let ids: Vec<_> = texts.iter().map(|text| lookup(text).expect("it is there")).collect();

    let mut group = criterion.benchmark_group("local");
    let file = File::open(dir.path().join(&names[0])).expect("open a file");
    group.bench_function("fstat alone", |bencher| {
        bencher.iter(|| black_box(nix::sys::stat::fstat(&file)));
    });
    let mut cycle = ids.iter().cycle();
    group.bench_function("GETATTR: nodeid, descriptor, fstat", |bencher| {
        bencher.iter(|| {
            let nodeid = cycle.next().expect("it never ends");
            black_box(fs.getattr(&caller, *nodeid, None)).expect("it is known")
        });
    });
    let mut cycle = texts.iter().cycle();
    group.bench_function("LOOKUP and FORGET of a known name", |bencher| {
        bencher.iter(|| {
            let nodeid = lookup(cycle.next().expect("it never ends")).expect("it is there");
            fs.forget(black_box(nodeid), 1);
        });
    });
}
