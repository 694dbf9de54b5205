//! One `fusewire mount` in the foreground, from ready to gone.
//!
//! Whatever happens, the mount goes with the guard: a hung connection is aborted through fusectl, a
//! daemon which does not leave is killed, and one whose test process died gets SIGTERM.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use fusewire::metrics::snapshot::Snapshot;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::actor::Who;

const READY_WITHIN: Duration = Duration::from_secs(15);
const GONE_WITHIN: Duration = Duration::from_secs(10);
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// A mounted fusewire.
pub(crate) struct Daemon {
    pub(crate) mountpoint: PathBuf,
    pub(crate) source: PathBuf,
    /// The minor number of the mount's device: the name of its connection.
    connection: String,
    /// Who alone may enter, if that is not root.
    owner: Option<Who>,
    child: Mutex<Child>,
    log: PathBuf,
}

impl Daemon {
    /// Mounts `source` on `mountpoint` and waits until it answers.
    pub(crate) fn start(
        source: &Path,
        mountpoint: &Path,
        data: &str,
        options: &str,
    ) -> Result<Self, String> {
        Self::start_through(&[], source, mountpoint, data, options)
    }

    /// The same, run by `wrapper`: a program, and its arguments in front of the command.
    pub(crate) fn start_through(
        wrapper: &[&str],
        source: &Path,
        mountpoint: &Path,
        data: &str,
        options: &str,
    ) -> Result<Self, String> {
        Self::start_prepared(wrapper, source, mountpoint, data, options, |_| ())
    }

    /// The same with a command that `prepare` has had a hand in.
    pub(crate) fn start_prepared(
        wrapper: &[&str],
        source: &Path,
        mountpoint: &Path,
        data: &str,
        options: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self, String> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(wrapper);
        command.args([env!("CARGO_BIN_EXE_fusewire"), "mount"]);
        command.args([source, mountpoint]).args(["-f", "--data", data]);
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        prepare(&mut command);
        Self::launch(command, source, mountpoint, None)
    }

    /// The same by an ordinary user, who must be able to execute `program` and to open /dev/fuse.
    pub(crate) fn start_as(
        who: Who,
        program: &Path,
        (source, mountpoint): (&Path, &Path),
        data: &str,
        options: &str,
    ) -> Result<Self, String> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program).arg("mount");
        command.args([source, mountpoint]).args(["-f", "--data", data, "-o", options]);
        // Which clears its groups as well.
        command.uid(who.uid).gid(who.gid).current_dir("/");
        Self::launch(command, source, mountpoint, Some(who))
    }

    fn launch(
        mut command: Command,
        source: &Path,
        mountpoint: &Path,
        owner: Option<Who>,
    ) -> Result<Self, String> {
        let log = mountpoint.with_extension("log");
        let stderr = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stderr(stderr);
        let shown = format!("{command:?}");
        let child = spawn(command).map_err(|error| format!("{shown}: {error}"))?;
        let mut daemon = Daemon {
            mountpoint: mountpoint.to_owned(),
            source: source.to_owned(),
            connection: String::new(),
            owner,
            child: Mutex::new(child),
            log,
        };
        daemon.wait_ready().map_err(|reason| format!("{shown}: {reason}\n{}", daemon.report()))?;
        Ok(daemon)
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.exit_status() {
                return Err(format!("ended with {status} instead of mounting"));
            }
            if let Some(connection) = connection_of(&self.mountpoint) {
                self.connection = connection;
                if self.wait_answer(deadline)? {
                    return Ok(());
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("not mounted after {} s", READY_WITHIN.as_secs()))
    }

    /// The first stat may hang: it gets a thread of its own. False if the daemon gave this mount up,
    /// to mount again without rings.
    fn wait_answer(&self, deadline: Instant) -> Result<bool, String> {
        let (answer, answered) = channel();
        let (owner, mountpoint) = (self.owner, self.mountpoint.clone());
        thread::spawn(move || answer.send(stat(owner, &mountpoint)));
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) if given_up(&error) => Ok(false),
            Ok(Err(error)) => Err(format!("mounted, but stat says: {error}")),
            Err(_) => {
                self.abort();
                Err("mounted, but stat does not come back".to_owned())
            }
        }
    }

    /// How it ended, if it did.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().expect("no panic while locked").try_wait().ok().flatten()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().expect("no panic while locked").id()
    }

    /// What `fusewire stats --json` says now. A mount shows a moment before its daemon can be asked.
    pub(crate) fn stats(&self) -> Result<Snapshot, String> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.stats_once() {
                Err(_) if self.exit_status().is_none() && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }

    /// The same once nothing moves any more: a request is counted a moment after its reply.
    pub(crate) fn settled(&self) -> Result<Snapshot, String> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut last = self.stats()?;
        loop {
            thread::sleep(Duration::from_millis(20));
            let now = self.stats()?;
            if now.totals == last.totals || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    fn stats_once(&self) -> Result<Snapshot, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusewire"));
        let output = command.arg("stats").arg(&self.mountpoint).arg("--json").output();
        let output = output.map_err(|error| format!("fusewire stats: {error}"))?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            format!("fusewire stats: {error}: {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// Ends the connection: every request in flight fails, nothing hangs any longer.
    pub(crate) fn abort(&self) {
        let abort = Path::new(CONNECTIONS).join(&self.connection).join("abort");
        if !abort.exists() {
            let none = None::<&str>;
            let _ = mount(Some("none"), CONNECTIONS, Some("fusectl"), MsFlags::empty(), none);
        }
        if let Err(error) = fs::write(&abort, "1") {
            eprintln!("abort {}: {error}; killing the daemon", abort.display());
            let _ = self.signal(Signal::SIGKILL);
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid()).expect("process ids are small")), signal)
    }

    /// Where each of its threads is, and what it said.
    pub(crate) fn report(&self) -> String {
        let mut text = stacks(&format!("/proc/{}/task", self.pid()));
        if let Some(status) = self.exit_status() {
            let _ = writeln!(text, "the daemon ended: {status} (signal {:?})", status.signal());
        }
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(40)..];
        text + "its standard error:\n  " + &tail.join("\n  ")
    }

    fn wait_gone(&self) -> bool {
        let deadline = Instant::now() + GONE_WITHIN;
        while Instant::now() < deadline {
            if self.exit_status().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if connection_of(&self.mountpoint).is_some() {
            let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
        } else {
            let _ = self.signal(Signal::SIGTERM);
        }
        if !self.wait_gone() {
            eprintln!("the daemon outlives its mount; killed\n{}", self.report());
            self.abort();
            let _ = self.signal(Signal::SIGKILL);
        }
        let _ = self.child.lock().map(|mut child| child.wait());
        let _ = fs::remove_file(&self.log);
    }
}

/// Asks for the attributes of `path`, as `who` if that is not root.
fn stat(who: Option<Who>, path: &Path) -> io::Result<()> {
    let Some(who) = who else { return fs::metadata(path).map(drop) };
    let mut command = Command::new("stat");
    let output = command.arg(path).uid(who.uid).gid(who.gid).current_dir("/").output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// What a client of a connection that was aborted is told.
fn given_up(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOTCONN | Errno::ECONNABORTED | Errno::ECANCELED))
}

/// State and kernel stack of each task in a `/proc/PID/task`.
pub(crate) fn stacks(tasks: &str) -> String {
    let mut text = String::new();
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find(|line| line.starts_with("State")).unwrap_or_default();
        let _ = writeln!(text, "task {} {} {state}", task.path().display(), read("comm").trim());
        for line in read("stack").lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

/// The minor number of what is mounted on `mountpoint`.
fn connection_of(mountpoint: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().rev().find_map(|line| {
        let mut words = line.split(' ');
        let (device, at) = (words.nth(2)?, words.nth(1)?);
        (Path::new(at) == mountpoint).then(|| device.split(':').nth(1).map(str::to_owned))?
    })
}

type Job = (Command, Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this process: the parent-death signal
/// follows the thread which forked, and a test's thread ends long before its mount may.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, todo) = channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in todo {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (answer, answered) = channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    spawner.lock().expect("no panic while locked").send((command, answer)).map_err(|_| gone(()))?;
    answered.recv().map_err(|_| gone(()))?
}
