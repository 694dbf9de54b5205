//! Processes with time limits, and a place to mount at that cleans up after itself.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fusewire::metrics::snapshot::Snapshot;
use fusewire::mountinfo::{Mount, MountTable, find_top};
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// Nothing here takes a second on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a process left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Failed with `code`, and said each of `parts` on standard error in the program's name.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fusewire"))
}

/// Runs `fusewire` with these arguments to its end.
#[track_caller]
pub(crate) fn fusewire<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    run(Command::new(binary()).args(args))
}

/// Runs a command to its end. Its output goes to files: a daemon that kept a pipe open could not
/// hold up the test.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let create = |path| File::create(path).expect("create in a temporary folder");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out))
        .stderr(create(&err))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let code = wait(&mut child);
    let read = |path| std::fs::read_to_string(path).expect("text");
    Output { code, stdout: read(&out), stderr: read(&err) }
}

/// Waits for a process, and kills it if that takes too long.
#[track_caller]
pub(crate) fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().expect("our child");
            panic!("a process hung");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A source and a mount point in a temporary folder; unmounts what is left there when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) source: PathBuf,
    pub(crate) mountpoint: PathBuf,
}

impl Place {
    /// The source holds `file` with the text `hello`. From here on this thread and its processes have
    /// a network namespace of their own, and with it their own abstract sockets: device numbers are
    /// used again at once, and daemons of other tests may be slow to end, some of them on purpose.
    #[track_caller]
    pub(crate) fn new() -> Self {
        assert!(Uid::effective().is_root(), "these tests mount: run them as root");
        assert!(Path::new("/dev/fuse").exists(), "these tests need /dev/fuse: modprobe fuse");
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().canonicalize().expect("it exists");
        // Ordinary users come here, too.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        let (source, mountpoint) = (path.join("source"), path.join("mountpoint"));
        std::fs::create_dir(&source).expect("mkdir");
        std::fs::create_dir(&mountpoint).expect("mkdir");
        std::fs::write(source.join("file"), "hello").expect("write");
        Place { folder, source, mountpoint }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("it exists")
    }

    /// `fusewire mount SOURCE MOUNTPOINT` and these arguments.
    #[track_caller]
    pub(crate) fn mount(&self, args: &[&str]) -> Output {
        let paths = [self.source.as_os_str(), self.mountpoint.as_os_str()];
        fusewire([OsStr::new("mount")].into_iter().chain(paths).chain(args.iter().map(OsStr::new)))
    }

    /// The same in the foreground, waited for until it works.
    #[track_caller]
    pub(crate) fn mount_in_foreground(&self, args: &[&str]) -> Foreground {
        let log = self.path().join("log");
        let child = Command::new(binary())
            .args(["mount", "-f"])
            .args([&self.source, &self.mountpoint])
            .args(args)
            .stdin(Stdio::null())
            .stderr(File::create(&log).expect("create"))
            .spawn()
            .expect("it runs");
        let foreground = Foreground { child, log };
        eventually("mounted in the foreground", || {
            self.mounted().is_some() && self.mountpoint.join("file").exists()
        });
        foreground
    }

    #[track_caller]
    pub(crate) fn umount(&self, args: &[&str]) -> Output {
        fusewire(
            [OsStr::new("umount"), self.mountpoint.as_os_str()]
                .into_iter()
                .chain(args.iter().map(OsStr::new)),
        )
    }

    /// The mount on top of the mount point.
    pub(crate) fn mounted(&self) -> Option<Mount> {
        find_top(&self.mountpoint).expect("the mount table is readable").1
    }

    #[track_caller]
    pub(crate) fn read(&self) -> String {
        std::fs::read_to_string(self.mountpoint.join("file")).expect("readable through the mount")
    }

    /// The figures once nothing moves any more: a request is counted a moment after its reply, and
    /// RELEASE comes a moment after close(2).
    #[track_caller]
    pub(crate) fn settled(&self) -> Snapshot {
        let mut last = self.snapshot();
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.snapshot();
            if now.totals == last.totals && now.requests == last.requests {
                return now;
            }
            last = now;
        }
    }

    #[track_caller]
    pub(crate) fn snapshot(&self) -> Snapshot {
        let output =
            fusewire([OsStr::new("stats"), self.mountpoint.as_os_str(), "--json".as_ref()]);
        serde_json::from_str(&output.succeeded().stdout).expect("a snapshot")
    }

    /// The mount point for a message.
    pub(crate) fn at(&self) -> &str {
        self.mountpoint.to_str().expect("temporary names are text")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let below = self.path();
        // Mounts may lie over one another, and a panic must not leave any.
        for _ in 0..10 {
            let table = MountTable::read().unwrap_or_default();
            let Some(mount) = table.below(&below).last() else { return };
            let _ = umount2(&mount.mount_point, MntFlags::MNT_DETACH);
        }
    }
}

/// A daemon in the foreground; killed if it is still there when dropped.
#[derive(Debug)]
pub(crate) struct Foreground {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Foreground {
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().expect("a pid")), signal).expect("it runs");
    }

    #[track_caller]
    pub(crate) fn ended_with(&mut self) -> Option<i32> {
        wait(&mut self.child)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log is text")
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process is there and is no zombie, or one whose threads still run.
pub(crate) fn runs(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        threads > 1 || !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    })
}
