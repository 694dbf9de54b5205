//! A system under test: `fusewire` with some arguments, mounted for as long as this value lives.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use fusewire::metrics::snapshot::Snapshot;
use nix::mount::{MntFlags, umount2};
use nix::unistd::Pid;
use serde::Serialize;

use crate::Failure;
use crate::client::Trip;
use crate::usage::Usage;

const READY_WITHIN: Duration = Duration::from_secs(15);
const GONE_WITHIN: Duration = Duration::from_secs(10);
const FILE: &str = "zeros";

/// What to start, and what it is called.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// Arguments of fusewire, without any path.
    pub(crate) arguments: Vec<String>,
}

impl Spec {
    /// What is compared if nothing else is asked for.
    pub(crate) fn usual() -> Vec<Spec> {
        [
            "uring=null --transport uring",
            "uring, normal=null --transport uring --sched normal",
            "uring, stored=mount --transport uring -o attr_timeout=0",
            "dev=null --transport dev",
            "dev, normal=null --transport dev --sched normal",
            "dev, 1 worker=null --transport dev --workers 1",
            "dev, pinned=null --transport dev --pin",
            "dev, io_uring=null --transport dev --dev-io uring",
            "dev, stored=mount --transport dev -o attr_timeout=0",
            "fuser, 1 thread=null --transport fuser --workers 1",
            "fuser=null --transport fuser",
        ]
        .into_iter()
        .map(|text| text.parse().expect("written so"))
        .collect()
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not NAME=null ARGUMENTS or NAME=mount ARGUMENTS");
        let (name, arguments) = text.split_once('=').ok_or_else(wrong)?;
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        match arguments.first().map(String::as_str) {
            Some("null" | "mount") => Ok(Spec { name: name.to_owned(), arguments }),
            _ => Err(wrong()),
        }
    }
}

/// A live mount.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) spec: Spec,
    mountpoint: PathBuf,
    child: Child,
}

impl System {
    /// Mounts in `folder`, which is made.
    pub(crate) fn start(spec: Spec, folder: &Path) -> Result<Self, Failure> {
        let (source, mountpoint) = (folder.join("source"), folder.join("mountpoint"));
        fs::create_dir_all(&source)?;
        fs::create_dir_all(&mountpoint)?;
        fs::write(source.join(FILE), [0; 4096])?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", env!("CARGO_BIN_EXE_fusewire")]);
        let (what, rest) = spec.arguments.split_first().expect("checked when it was parsed");
        command.arg(what).arg("-f").args(rest);
        if what == "mount" {
            command.arg(&source);
        }
        let log = folder.join("log");
        command.arg(&mountpoint).stdin(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().map_err(|error| format!("setpriv: {error}"))?;
        let mut system = System { spec, mountpoint, child };
        let deadline = Instant::now() + READY_WITHIN;
        while system.getattrs().is_err() {
            let ended = system.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{}: not mounted: {log}", system.spec.name).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(system)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"))
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of_process(self.pid().as_raw())
    }

    /// GETATTR requests so far.
    pub(crate) fn getattrs(&self) -> Result<u64, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusewire"));
        let output = command.arg("stats").arg(&self.mountpoint).arg("--json").output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let snapshot: Snapshot = serde_json::from_slice(&output.stdout)?;
        Ok(snapshot.requests.get("GETATTR").map_or(0, |figures| figures.count))
    }

    /// One GETATTR: attributes are valid for no time, so fstat(2) on an open file always asks.
    pub(crate) fn trip(&self) -> io::Result<Box<dyn Trip>> {
        Ok(Box::new(Stat(File::open(self.mountpoint.join(FILE))?)))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
        let deadline = Instant::now() + GONE_WITHIN;
        while Instant::now() < deadline {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        eprintln!("{}: outlives its mount, killed", self.spec.name);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Stat(File);

impl Trip for Stat {
    fn once(&mut self) -> io::Result<()> {
        Ok(nix::sys::stat::fstat(&self.0).map(drop)?)
    }
}
