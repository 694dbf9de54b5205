//! The system calls of a request, from the read that receives it to the writev that answers it, as
//! strace sees them on a worker of a live mount: exactly those of the table. Needs root, /dev/fuse
//! and strace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use fusewire::abi::Opcode;
use libtest_mimic::{Arguments, Trial};

mod common;

/// Rounds of each step, of which more than half must show exactly what is expected: now and then
/// an idle descriptor is closed, or an object is too young to be identified by its name.
const ROUNDS: usize = 24;

/// What a client does, once with each number, and what requests of it shall cost.
struct Step {
    what: &'static str,
    act: fn(&Path, usize),
    /// For each data mode, or for both.
    costs: &'static [Cost],
}

struct Cost {
    opcode: Opcode,
    calls: &'static str,
    /// Where it is different when the kernel is to read and write the file by itself.
    passthrough: Option<&'static str>,
    /// Where it is different when READs are spliced.
    splice: Option<&'static str>,
}

const fn both(opcode: Opcode, calls: &'static str) -> Cost {
    Cost { opcode, calls, passthrough: None, splice: None }
}

const fn either(opcode: Opcode, calls: &'static str, passthrough: &'static str) -> Cost {
    Cost { opcode, calls, passthrough: Some(passthrough), splice: None }
}

/// A READ.
const fn read(calls: &'static str, splice: &'static str) -> Cost {
    Cost { opcode: Opcode::Read, calls, passthrough: Some(""), splice: Some(splice) }
}

/// A request that is answered from memory.
const NOTHING: &str = "nothing";

/// What the first open of a file costs beyond `$open` if the kernel is to read and write it: a look
/// at whether it may only be appended to, and the ioctl.
macro_rules! registered {
    ($open:literal) => {
        concat!($open, " statx ioctl")
    };
}

/// The mount trusts neither names nor attributes, so that each round asks. `known-` and
/// `fresh-` names are older than the mount, `new-` names are made by the steps.
const STEPS: &[Step] = &[
    Step {
        what: "open of files that are new to it",
        act: |at, n| drop(File::open(at.join(format!("fresh-{n}"))).expect("open")),
        costs: &[
            either(Opcode::Open, "open_by_handle_at", registered!("open_by_handle_at")),
            either(Opcode::Release, "close", NOTHING),
        ],
    },
    Step {
        what: "stat of names that are new to it",
        act: |at, n| stat(&at.join(format!("known-{n}"))),
        costs: &[both(Opcode::Lookup, "name_to_handle_at newfstatat")],
    },
    Step {
        what: "stat of a known name",
        act: |at, _| stat(&at.join("known-0")),
        costs: &[both(Opcode::Lookup, "name_to_handle_at fstat")],
    },
    Step {
        what: "stat of a name that is not there",
        act: |at, _| assert!(fs::metadata(at.join("none")).is_err()),
        costs: &[both(Opcode::Lookup, "name_to_handle_at")],
    },
    Step {
        what: "statx with the time of birth",
        act: |at, _| stat(at),
        costs: &[both(Opcode::Statx, "statx")],
    },
    Step {
        what: "fstat",
        act: |at, _| {
            let file = File::open(at).expect("open");
            nix::sys::stat::fstat(&file).expect("fstat");
        },
        costs: &[both(Opcode::Getattr, "fstat")],
    },
    Step {
        what: "statfs",
        act: |at, _| {
            nix::sys::statfs::statfs(at).expect("statfs");
        },
        costs: &[both(Opcode::Statfs, "fstatfs")],
    },
    Step {
        what: "open of a file again and again",
        act: |at, _| drop(File::open(at.join("known-0")).expect("open")),
        costs: &[
            either(Opcode::Open, "open_by_handle_at", NOTHING),
            either(Opcode::Release, "close", NOTHING),
        ],
    },
    Step {
        what: "open for writing",
        act: |at, _| drop(File::options().write(true).open(at.join("known-0")).expect("open")),
        costs: &[both(Opcode::Open, "open_by_handle_at fstat"), both(Opcode::Release, "close")],
    },
    Step {
        what: "read",
        act: |at, n| drop(fs::read(at.join(format!("known-{n}"))).expect("read")),
        // Twice: what there is, and that there is no more. A pipe has the header in it by then, for
        // more than there is, and is emptied again.
        costs: &[read("pread64 pread64", "write splice splice readv")],
    },
    Step {
        what: "read of a whole page",
        act: |at, n| drop(fs::read(at.join(format!("page-{n}"))).expect("read")),
        costs: &[read("pread64", "write splice splice")],
    },
    Step {
        what: "chmod",
        act: |at, n| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(if n % 2 == 0 {
                0o600
            } else {
                0o640
            });
            fs::set_permissions(at.join("known-0"), mode).expect("chmod");
        },
        costs: &[both(Opcode::Setattr, "fchmodat2 fstat")],
    },
    Step {
        what: "utimes",
        act: |at, _| {
            let file = at.join("known-0");
            let now = nix::sys::time::TimeVal::new(1_000_000_000, 0);
            nix::sys::stat::lutimes(&file, &now, &now).expect("utimes");
        },
        costs: &[both(Opcode::Setattr, "utimensat fstat")],
    },
    Step {
        what: "getxattr",
        act: |at, _| {
            getfattr(&at.join("known-0"));
        },
        costs: &[both(Opcode::Getxattr, "getxattrat")],
    },
    Step {
        what: "listing a directory",
        act: |at, _| assert_eq!(fs::read_dir(at.join("known-dir")).expect("opendir").count(), 3),
        // Three entries by name, without `.` and `..`; a second READDIR meets the end.
        costs: &[
            both(Opcode::Opendir, "open_by_handle_at"),
            both(
                Opcode::Readdirplus,
                "getdents64 name_to_handle_at newfstatat name_to_handle_at newfstatat \
                 name_to_handle_at newfstatat getdents64",
            ),
            both(Opcode::Releasedir, "close"),
        ],
    },
    Step {
        what: "create and unlink",
        act: |at, n| {
            let path = at.join(format!("new-{n}"));
            drop(File::create_new(&path).expect("create"));
            fs::remove_file(path).expect("unlink");
        },
        costs: &[
            either(
                Opcode::Create,
                "openat name_to_handle_at fstat",
                // None of the attributes that registered files must not have is inherited.
                "openat name_to_handle_at fstat open_by_handle_at ioctl",
            ),
            both(Opcode::Release, "close"),
            // The LOOKUP before it has opened what was too young to be identified by its name.
            both(Opcode::Unlink, "name_to_handle_at unlinkat fstat"),
        ],
    },
    Step {
        what: "rename",
        act: |at, n| {
            let (old, new) = (at.join(format!("known-{n}")), at.join(format!("renamed-{n}")));
            fs::rename(&old, &new).expect("rename");
            fs::rename(&new, &old).expect("rename back");
        },
        costs: &[both(Opcode::Rename, "name_to_handle_at renameat")],
    },
    Step {
        what: "link, and unlink of one name of several",
        act: |at, n| {
            let new = at.join(format!("link-{n}"));
            fs::hard_link(at.join("known-0"), &new).expect("link");
            fs::remove_file(new).expect("unlink");
        },
        costs: &[
            both(Opcode::Link, "linkat fstat"),
            both(Opcode::Unlink, "name_to_handle_at unlinkat fstat"),
        ],
    },
    Step {
        what: "mkdir and rmdir",
        act: |at, n| {
            let path = at.join(format!("dir-{n}"));
            fs::create_dir(&path).expect("mkdir");
            fs::remove_dir(path).expect("rmdir");
        },
        costs: &[
            both(Opcode::Mkdir, "mkdirat openat fstat name_to_handle_at"),
            both(Opcode::Rmdir, "name_to_handle_at unlinkat fstat"),
        ],
    },
    Step {
        what: "symlink and readlink",
        act: |at, n| {
            let path = at.join(format!("symlink-{n}"));
            symlink("target", &path).expect("symlink");
            assert_eq!(fs::read_link(path).expect("readlink"), Path::new("target"));
        },
        costs: &[
            both(Opcode::Symlink, "symlinkat openat fstat name_to_handle_at"),
            both(Opcode::Readlink, "readlinkat"),
        ],
    },
];

fn stat(path: &Path) {
    fs::metadata(path).expect("stat");
}

fn getfattr(path: &Path) -> std::process::ExitStatus {
    let mut command = Command::new("getfattr");
    command.args(["-n", "user.none"]).arg(path).stderr(Stdio::null());
    command.status().expect("getfattr")
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    if let Err(reason) = common::disk::private_mounts() {
        eprintln!("the tests of the hot path cannot run: {reason}");
        return ExitCode::FAILURE;
    }
    let trials = ["copy", "passthrough", "splice"]
        .map(|data| Trial::test(format!("calls::{data}"), move || Ok(calls(data)?)));
    libtest_mimic::run(&args, trials.into()).exit_code()
}

fn calls(data: &'static str) -> Result<(), String> {
    let disk = common::disk::Disk::new(64 << 20)?;
    if let Some(reason) = &disk.fallback {
        return Err(format!("the table is ext4's: {reason}"));
    }
    let source = disk.directory("source");
    let text = |error: std::io::Error| error.to_string();
    for n in 0..ROUNDS {
        for name in ["known", "fresh"] {
            fs::write(source.join(format!("{name}-{n}")), "content").map_err(text)?;
        }
        fs::write(source.join(format!("page-{n}")), [b'x'; 4096]).map_err(text)?;
    }
    fs::create_dir(source.join("known-dir")).map_err(text)?;
    for n in 0..3 {
        fs::write(source.join(format!("known-dir/{n}")), "").map_err(text)?;
    }
    let options = "workers=1,coherence=timeout=0";
    let daemon = common::daemon::Daemon::start(&source, &disk.mountpoint("mount"), data, options)?;
    let worker = worker(daemon.pid())?;
    let mut wrong = Vec::new();
    for step in STEPS {
        let seen = trace(worker, || (0..ROUNDS).for_each(|n| (step.act)(&daemon.mountpoint, n)))?;
        for cost in step.costs {
            let calls = match (data, cost.passthrough, cost.splice) {
                ("passthrough", Some(calls), _) | ("splice", _, Some(calls)) => calls,
                _ => cost.calls,
            };
            wrong.extend(judge(step.what, cost.opcode, calls, &seen));
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(format!("not the system calls of the table:\n{}", wrong.join("\n"))),
    }
}

/// The thread that serves, of a daemon with one worker.
fn worker(pid: u32) -> Result<u32, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
    let mut threads = Vec::new();
    for task in tasks.flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        match (name.starts_with("worker"), task.file_name().to_string_lossy().parse()) {
            (true, Ok(thread)) => return Ok(thread),
            _ => threads.push(name.trim().to_owned()),
        }
    }
    Err(format!("no worker among the daemon's threads {threads:?}"))
}

/// Requests that were seen: an opcode's wire number, and the calls that it cost.
type Seen = Vec<(u32, String)>;

/// Traces `thread` while `act` runs.
fn trace(thread: u32, act: impl FnOnce()) -> Result<Seen, String> {
    let mut strace = Command::new("strace");
    // The first 8 bytes of a request are its length and opcode.
    strace.args(["-qqq", "-xx", "-s", "8", "-e", "signal=none"]);
    let output = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut strace = Running(
        strace
            .args(["-p", &thread.to_string(), "-o"])
            .arg(output.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("run strace (Debian: apt-get install strace): {error}"))?,
    );
    wait_traced(thread, &mut strace.0)?;
    act();
    // RELEASE and the like come after the call that caused them.
    sleep(Duration::from_millis(100));
    drop(strace);
    let trace = fs::read_to_string(output.path()).map_err(|error| error.to_string())?;
    Ok(requests(trace.lines()))
}

/// A tracer, which detaches when it is told to end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).expect("process ids are small");
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn wait_traced(thread: u32, strace: &mut Child) -> Result<(), String> {
    for _ in 0..500 {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
            // Attached; a moment more, and it has resumed the thread.
            sleep(Duration::from_millis(50));
            return Ok(());
        }
        if strace.try_wait().is_ok_and(|ended| ended.is_some()) {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    let mut said = String::new();
    if let Some(stderr) = strace.stderr.as_mut() {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    Err(format!("strace does not attach: {said}"))
}

/// Splits a trace into requests: from each read of /dev/fuse to the next.
fn requests<'t>(lines: impl Iterator<Item = &'t str>) -> Seen {
    // Memory and locks are not the request's own business; the first has a test of its own. Debug
    // builds of the standard library ask fcntl whether what they close is open.
    const PASSED_OVER: [&str; 8] =
        ["futex", "brk", "mmap", "munmap", "mprotect", "madvise", "restart_syscall", "fcntl"];
    let mut seen: Seen = Vec::new();
    for line in lines {
        let Some((name, arguments)) = line.split_once('(') else { continue };
        match name {
            "read" => {
                if let Some(opcode) = opcode(arguments) {
                    seen.push((opcode, String::new()));
                }
            }
            "writev" => {}
            name if PASSED_OVER.contains(&name) => {}
            name => {
                let Some((_, calls)) = seen.last_mut() else { continue };
                // How the C library spells fstat.
                let of_descriptor = name == "newfstatat" && arguments.contains("AT_EMPTY_PATH");
                let name = match name {
                    _ if of_descriptor => "fstat",
                    // Younger than some a strace.
                    "syscall_0x1c4" => "fchmodat2",
                    "syscall_0x1d0" => "getxattrat",
                    name => name,
                };
                let separator = if calls.is_empty() { "" } else { " " };
                calls.extend([separator, name]);
            }
        }
    }
    seen
}

/// The opcode in `4, "\x38\x00\x00\x00\x03\x00\x00\x00"..., 1056768) = 56`.
fn opcode(arguments: &str) -> Option<u32> {
    let bytes = arguments.split('"').nth(1)?;
    let bytes = bytes.split("\\x").skip(5).take(4).map(|byte| u8::from_str_radix(byte, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// What is wrong with the requests of one opcode, if anything is.
fn judge(what: &str, opcode: Opcode, expected: &str, seen: &Seen) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, calls) in seen.iter().filter(|(seen, _)| *seen == opcode as u32) {
        let calls = if calls.is_empty() { NOTHING } else { calls };
        *counts.entry(calls).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let as_expected = counts.get(expected).copied().unwrap_or_default();
    // An empty entry of the table: no such request at all.
    let good = if expected.is_empty() { total == 0 } else { as_expected * 2 > total };
    (!good).then(|| {
        let opcode = opcode.name();
        format!("  {what}: {opcode} costs {counts:?}, the table says {expected:?}")
    })
}
