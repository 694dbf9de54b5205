//! What a READ or a WRITE costs where the kernel does not pass data through: copied and spliced on
//! /dev/fuse, and copied on io_uring with payloads of several sizes.
//!
//! `cargo bench --bench data` reads and writes one file, which is in memory, with O_DIRECT, so that
//! each call is one request of its size, or as few as the payload allows. Client and worker are on
//! one CPU: what is measured is the work, not who wakes whom. Needs root and /dev/fuse; what comes
//! through io_uring is left out where that is switched off. The memory of a daemon goes to standard
//! error.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use memmap2::MmapMut;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

const SIZES: [usize; 7] = [4, 16, 32, 64, 128, 512, 1024];
const KIB: usize = 1024;
const FILE_LEN: usize = 8 << 20;
/// Clients at a time when a daemon's memory is looked at.
const CROWD: usize = 32;
const READY_WITHIN: Duration = Duration::from_secs(15);

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(30)
        // What a percent more or less of certainty costs is minutes.
        .nresamples(2000)
        .configure_from_args();
    alone().expect("a mount namespace of its own, which needs root");
    on_one_cpu().expect("bind to a CPU");
    let folder = tempfile::tempdir().expect("make a folder");
    let dev = ["copy", "splice"].map(|data| {
        let arguments = ["--data", data, "--transport", "dev", "--workers", "1", "--pin"];
        (data, Mount::start(&folder.path().join(data), &arguments).expect("mount"))
    });
    reads_and_writes(&mut criterion, "/dev/fuse", &dev);
    drop(dev);
    if io_uring_is_on() {
        let rings = ["32", "64", "128", "256", "512", "1024"].map(|payload| {
            let max_write = (payload.parse::<usize>().expect("a number") * KIB).to_string();
            let arguments = ["--data", "copy", "--transport", "uring", "--max-write", &max_write];
            let at = folder.path().join(payload);
            (payload, Mount::start(&at, &arguments).expect("mount"))
        });
        reads_and_writes(&mut criterion, "io_uring by KiB of payload", &rings);
    }
    criterion.final_summary();
}

fn reads_and_writes(criterion: &mut Criterion, transport: &str, mounts: &[(&str, Mount)]) {
    let fresh: Vec<_> = mounts.iter().map(|(_, mount)| mount.resident_kib()).collect();
    for write in [false, true] {
        let what = if write { "WRITE" } else { "READ" };
        let mut group = criterion.benchmark_group(format!("{what}, {transport}"));
        for size in SIZES {
            group.throughput(Throughput::Bytes((size * KIB) as u64));
            for (name, mount) in mounts {
                measure(&mut group, BenchmarkId::new(*name, format!("{size} KiB")), || {
                    mount.transfer(size * KIB, write)
                });
            }
        }
    }
    for ((name, mount), fresh) in mounts.iter().zip(fresh) {
        let one = mount.resident_kib();
        mount.crowd();
        let many = mount.resident_kib();
        eprintln!(
            "{transport}, {name}: the daemon holds {fresh} KiB at first, {one} after one client, \
             {many} after {CROWD} at a time"
        );
    }
}

fn measure<F: FnMut()>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    prepare: impl Fn() -> F,
) {
    group.bench_function(id, |bencher| bencher.iter(prepare()));
}

/// Every mount ends with this process, and no other daemon's control socket is in the way.
fn alone() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    nix::mount::mount(none, "/", none, flags, none)
}

/// On the first CPU that may be used: a daemon that is started from here has no other.
fn on_one_cpu() -> nix::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut set = CpuSet::new();
    set.set(first.unwrap_or(0))?;
    sched_setaffinity(this, &set)
}

fn io_uring_is_on() -> bool {
    let parameter = fs::read_to_string("/sys/module/fuse/parameters/enable_uring");
    parameter.is_ok_and(|text| text.trim() == "Y")
}

/// A live mount of one file.
struct Mount {
    mountpoint: PathBuf,
    child: Child,
}

impl Mount {
    fn start(folder: &Path, arguments: &[&str]) -> io::Result<Self> {
        let (source, mountpoint) = (folder.join("source"), folder.join("mountpoint"));
        fs::create_dir_all(&source)?;
        fs::create_dir_all(&mountpoint)?;
        fs::write(source.join("file"), vec![b'x'; FILE_LEN])?;
        let device = |path: &Path| Ok::<_, io::Error>(nix::sys::stat::stat(path)?.st_dev);
        let below = device(&mountpoint)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", env!("CARGO_BIN_EXE_fusewire"), "mount", "-f"]);
        command.args(arguments).args([&source, &mountpoint]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut mount = Mount { mountpoint, child };
        let deadline = Instant::now() + READY_WITHIN;
        while device(&mount.mountpoint)? == below {
            if mount.child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(io::Error::other(format!("not mounted: {command:?}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(mount)
    }

    /// Reads, or writes, so many bytes each time that it is called.
    fn transfer(&self, size: usize, write: bool) -> impl FnMut() + use<> {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        let file = options.open(self.mountpoint.join("file")).expect("open the file");
        let mut memory = MmapMut::map_anon(size).expect("memory");
        memory.fill(b'y');
        let mut at = 0;
        move || {
            let offset = at as u64;
            let count = match write {
                true => file.write_at(&memory, offset),
                false => file.read_at(&mut memory, offset),
            };
            assert_eq!(count.expect("the daemon answers"), size);
            at = (at + size) % FILE_LEN;
        }
    }

    /// Reads the whole file by so many threads at a time.
    fn crowd(&self) {
        std::thread::scope(|scope| {
            for _ in 0..CROWD {
                let mut read = self.transfer(KIB * KIB, false);
                scope.spawn(move || (0..FILE_LEN / KIB / KIB).for_each(|_| read()));
            }
        });
    }

    fn resident_kib(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap_or("?").trim().trim_end_matches(" kB").to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
        let deadline = Instant::now() + READY_WITHIN;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                eprintln!("a daemon outlives its mount, killed");
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
