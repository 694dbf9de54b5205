//! Programs that a test runs: each with a time limit, each with the package that brings it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::common::daemon::stacks;
use crate::common::patience::receive;

const TIME_LIMIT: Duration = Duration::from_secs(60);
/// A killed process that is not gone after this long hangs in the kernel.
const DIES_WITHIN: Duration = Duration::from_secs(5);

/// Held while a process is started: between fork and exec it has copies of all descriptors of this
/// one, and what another test has just closed is still in use there.
static STARTING: Mutex<()> = Mutex::new(());

/// Starts a process.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    exclusively(|| command.spawn())
}

/// Runs what starts a process by itself.
pub(crate) fn exclusively<T>(start: impl FnOnce() -> T) -> T {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    start()
}

/// Returns when no process holds a descriptor only because it is being started.
pub(crate) fn settle() {
    exclusively(|| ());
}

/// A program about to be run.
pub(crate) struct Tool {
    command: Command,
    package: &'static str,
    directory: Option<PathBuf>,
    limit: Duration,
}

/// `program`, which Debian's `package` brings.
pub(crate) fn tool(program: impl AsRef<OsStr>, package: &'static str) -> Tool {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").process_group(0);
    Tool { command, package, directory: None, limit: TIME_LIMIT }
}

/// A line for the shell, which stops at the first error.
pub(crate) fn shell(line: &str) -> Tool {
    tool("bash", "bash").args(["-euo", "pipefail", "-c", line])
}

/// The fusewire that is tested.
pub(crate) fn fusewire() -> Tool {
    tool(env!("CARGO_BIN_EXE_fusewire"), "nothing")
}

impl Tool {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Works in `directory`.
    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self.directory = Some(directory.to_owned());
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn input(mut self, path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.command.stdin(file);
        Ok(self)
    }

    /// Starts it, to be ended by [`Running::finish`].
    pub(crate) fn start(mut self) -> Result<Running, String> {
        let shown = format!("{:?}", self.command);
        let child =
            spawn(&mut self.command).map_err(|error| match (&self.directory, error.kind()) {
                (Some(at), io::ErrorKind::NotFound) if !at.exists() => {
                    format!("{shown}: there is no {}", at.display())
                }
                (_, io::ErrorKind::NotFound) => {
                    let package = self.package;
                    format!("{shown}: not installed; apt-get install {package}")
                }
                _ => format!("{shown}: {error}"),
            })?;
        Ok(Running { child, shown, limit: self.limit })
    }

    /// Runs it, whatever its exit status.
    pub(crate) fn output(self) -> Result<Output, String> {
        self.start()?.finish()
    }

    /// Runs it; its standard output if it succeeds, else all that it said.
    pub(crate) fn run(self) -> Result<String, String> {
        self.start()?.succeed()
    }
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    shown: String,
    limit: Duration,
}

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"))
    }

    /// Waits for its end, and kills it with all its children if that takes too long.
    pub(crate) fn finish(self) -> Result<Output, String> {
        let pid = self.pid();
        let Running { child, shown, limit } = self;
        let (give, get) = channel();
        thread::spawn(move || give.send(child.wait_with_output()));
        match receive(&get, limit) {
            Ok(output) => output.map_err(|error| format!("{shown}: {error}")),
            Err(RecvTimeoutError::Disconnected) => Err(format!("{shown}: nobody waits for it")),
            Err(RecvTimeoutError::Timeout) => {
                let where_it_is = stacks(&format!("/proc/{pid}/task"));
                let _ = killpg(pid, Signal::SIGKILL);
                let died = get.recv_timeout(DIES_WITHIN).is_ok();
                let seconds = limit.as_secs();
                Err(format!(
                    "{shown}: still ran after {seconds} s; died of SIGKILL: {died}\n{where_it_is}"
                ))
            }
        }
    }

    /// Waits for its end; its standard output if it succeeded.
    pub(crate) fn succeed(self) -> Result<String, String> {
        let shown = self.shown.clone();
        let output = self.finish()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("{shown}: {}\n{}\n{}", output.status, tail(&stdout), tail(&stderr)))
    }
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
