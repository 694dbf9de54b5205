//! The process that writes what the kernel may wait for, when it does not.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::daemon::Daemon;
use crate::{Ground, until};

/// `fusewire notify` of a daemon.
pub(crate) fn of(daemon: &Daemon) -> Result<Pid, String> {
    let daemon = format!("PPid:\t{}\n", daemon.pid());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if status.contains(&daemon) && command.starts_with(b"fusewire\0notify\0") {
            let pid = entry.file_name().to_string_lossy().parse();
            return pid.map(Pid::from_raw).map_err(|error| format!("{error}"));
        }
    }
    Err("the daemon has no `fusewire notify`".to_owned())
}

/// Stopped, it holds up neither the mount nor what is told; continued, it takes its work up again.
pub(crate) fn stopped(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    let helper = of(&daemon)?;
    changes_show(&daemon, "before")?;
    kill(helper, Signal::SIGSTOP).map_err(|errno| format!("stop it: {errno}"))?;
    let shown = changes_show(&daemon, "meanwhile");
    let expirations = daemon.stats().map(|now| now.coherence.expirations);
    kill(helper, Signal::SIGCONT).map_err(|errno| format!("continue it: {errno}"))?;
    shown?;
    if expirations? == 0 {
        return Err("it was not stopped: no name had to expire".to_owned());
    }
    // It has to catch up first.
    thread::sleep(Duration::from_millis(500));
    let before = daemon.stats()?.coherence.expirations;
    changes_show(&daemon, "afterwards")?;
    match daemon.stats()?.coherence.expirations == before {
        true => Ok(()),
        false => Err("names still expire when it works again".to_owned()),
    }
}

/// Without it every change still shows.
pub(crate) fn killed(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    kill(of(&daemon)?, Signal::SIGKILL).map_err(|errno| format!("kill it: {errno}"))?;
    changes_show(&daemon, "without it")
}

fn changes_show(daemon: &Daemon, name: &str) -> Result<(), String> {
    for number in 0..200 {
        let name = format!("{name}-{number}");
        let (behind, here) = (daemon.source.join(&name), daemon.mountpoint.join(&name));
        if number % 20 == 0 {
            // Is not there, of which the kernel takes a note.
            assert!(!here.exists(), "{name}");
        }
        fs::write(&behind, "x").map_err(|error| format!("{name}: {error}"))?;
        if number % 20 == 0 {
            until(&format!("{name} appears"), || here.exists())?;
            fs::remove_file(&behind).map_err(|error| format!("{name}: {error}"))?;
            until(&format!("{name} goes"), || !here.exists())?;
        }
        listing(&daemon.mountpoint);
    }
    Ok(())
}

fn listing(directory: &Path) -> usize {
    fs::read_dir(directory).into_iter().flatten().count()
}
