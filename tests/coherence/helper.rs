//! The process that writes what the kernel may wait for, when it does not.

use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::Pid;

use crate::common::daemon::{Daemon, stacks};
use crate::{Ground, SHOWS_WITHIN, until};

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
    // It has to catch up first, and on a busy machine may be late more than once.
    for round in 0..10 {
        thread::sleep(Duration::from_millis(500));
        let before = daemon.stats()?.coherence.expirations;
        changes_show(&daemon, &format!("afterwards-{round}"))?;
        if daemon.stats()?.coherence.expirations == before {
            return Ok(());
        }
    }
    Err("names still expire when it works again".to_owned())
}

/// Without it every change still shows.
pub(crate) fn killed(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    kill(of(&daemon)?, Signal::SIGKILL).map_err(|errno| format!("kill it: {errno}"))?;
    changes_show(&daemon, "without it")
}

/// Stopped, and full of what it should have passed on, it does not hold up the end of the daemon.
pub(crate) fn stopped_at_the_end(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    let helper = of(&daemon)?;
    kill(helper, Signal::SIGSTOP).map_err(|errno| format!("stop it: {errno}"))?;
    changes_show(&daemon, "queued")?;
    umount2(&daemon.mountpoint, MntFlags::empty()).map_err(|errno| format!("unmount: {errno}"))?;
    until("the daemon has ended", || daemon.exit_status().is_some())?;
    until("so has its helper", || is_gone(helper))?;
    match daemon.exit_status() {
        Some(status) if status.success() => Ok(()),
        status => Err(format!("the daemon ended: {status:?}")),
    }
}

/// It waits in the kernel for a directory whose lock somebody has who waits for the daemon, which does
/// not answer: that holds nobody up once the daemon answers, and not even if the daemon is killed.
pub(crate) fn waits_in_the_kernel(ground: &Ground) -> Result<(), String> {
    for ends in [false, true] {
        let daemon = ground.watched()?;
        let helper = of(&daemon)?;
        let send = |pid: Pid, signal| kill(pid, signal).map_err(|e| format!("{signal}: {e}"));
        let (behind, here) = (daemon.source.join("d"), daemon.mountpoint.join("d"));
        fs::create_dir(&behind).map_err(|error| error.to_string())?;
        until("the directory shows", || here.exists())?;
        // Opened now, so that whoever makes something in it has no name to ask for first.
        let opened = fs::File::open(&here).map_err(|error| error.to_string())?;
        // Of the directory itself: what is told of its making is over then.
        thread::sleep(Duration::from_millis(200));
        send(helper, Signal::SIGSTOP)?;
        let told = daemon.stats()?.coherence.notifications;
        fs::write(behind.join("behind"), "x").map_err(|error| error.to_string())?;
        until("it has something to pass on", || {
            daemon.stats().is_ok_and(|now| now.coherence.notifications > told + 1)
        })?;
        daemon.signal(Signal::SIGSTOP).map_err(|errno| format!("stop the daemon: {errno}"))?;
        let (done, finished) = channel();
        thread::spawn(move || done.send(mkdirat(&opened, "new", Mode::S_IRWXU)));
        // It has to have the lock first.
        thread::sleep(Duration::from_secs(1));
        send(helper, Signal::SIGCONT)?;
        let waits = until("it waits in the kernel", || {
            stacks(&format!("/proc/{helper}/task")).contains("fuse_reverse_inval_entry")
        });
        let signal = if ends { Signal::SIGKILL } else { Signal::SIGCONT };
        daemon.signal(signal).map_err(|errno| format!("{signal} to the daemon: {errno}"))?;
        let made = finished.recv_timeout(SHOWS_WITHIN).map_err(|_| daemon.report());
        if made.is_err() {
            daemon.abort();
        }
        let made = made.map_err(|report| format!("the client hangs:\n{report}"))?;
        waits?;
        match ends {
            true => until("it has ended with the daemon", || is_gone(helper)).map(drop)?,
            false => changes_show(&daemon, "afterwards")?,
        }
        if made.is_ok() == ends {
            return Err(format!("killed: {ends}, and the client was told {made:?}"));
        }
    }
    Ok(())
}

/// Whether a process has ended.
pub(crate) fn is_gone(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.is_empty() || status.contains("(zombie)")
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
