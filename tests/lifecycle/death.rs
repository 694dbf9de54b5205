//! Daemons that are killed, stopped or cut off while clients work.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;

use crate::Ground;
use crate::clients::{self, Client, Ended, Kind};
use crate::common::text;
use crate::common::warden::Warden;
use crate::launch::{ENDS_WITHIN, Launch, Served, eventually, mounted};
use crate::tool::{fusewire, spawn};

/// No client waits longer for a daemon that is gone.
const CLIENTS_END_WITHIN: Duration = Duration::from_secs(20);
const KILLS: u64 = 20;

/// Two writers, two readers, and one who makes and removes names.
fn load(at: &Path, first: usize, time: Duration, limit: Duration) -> Result<Vec<Client>, String> {
    let kinds = [Kind::Write, Kind::Write, Kind::Read, Kind::Read, Kind::Names];
    let start = |(number, kind)| Client::start(kind, first + number, at, time, limit);
    kinds.into_iter().enumerate().map(start).collect()
}

/// Nobody hangs, nothing that was synced is lost, and the place can be mounted again.
pub(crate) fn killed_under_load(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    clients::prepare(&source)?;
    let mut synced = 0;
    for kill in 0..KILLS {
        synced += kill_once(kill, &source, &mountpoint)
            .map_err(|reason| format!("kill {kill}: {reason}"))?;
    }
    if synced == 0 {
        return Err("nothing was ever synced: this showed nothing".to_owned());
    }
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    load(&mountpoint, 5000, Duration::from_millis(200), CLIENTS_END_WITHIN)?
        .into_iter()
        .try_for_each(|client| unharmed(&client.finish()?))?;
    served.finish()
}

fn kill_once(number: u64, source: &Path, mountpoint: &Path) -> Result<usize, String> {
    let data = ["passthrough", "copy"][usize::from(number % 2 == 1)];
    let served = Launch::new(source, mountpoint, data).go()?;
    let first = usize::try_from(number).expect("a small number") * 10;
    let clients = load(mountpoint, first, Duration::from_secs(30), CLIENTS_END_WITHIN)?;
    thread::sleep(Duration::from_millis(60 + number * 13 % 90));
    served.signal(Signal::SIGKILL)?;
    let mut synced = 0;
    for client in clients {
        let ended = client.finish()?;
        // A read that was under way may be told by the page cache that it has failed.
        // ECANCELED: a request that was on its way to the dead task of a ring
        // (fuse_uring_send_in_task()).
        let expected = ["ENOTCONN", "ECONNABORTED", "ECANCELED", "EIO"];
        let allowed = if ended.kind == Kind::Read { 4 } else { 3 };
        let errno = ended.errno.as_deref().unwrap_or("nothing");
        if !expected[..allowed].contains(&errno) {
            return Err(format!("{:?} met {errno} during {}", ended.kind, ended.during));
        }
        if ended.kind == Kind::Write && ended.rounds > 0 {
            ended.synced_is_there(source)?;
            synced += ended.rounds;
        }
    }
    let dead = fs::metadata(mountpoint).map_err(|error| error.raw_os_error());
    if dead.err() != Some(Some(Errno::ENOTCONN as i32)) {
        return Err("the mount point of a dead daemon answers".to_owned());
    }
    served.umount(&[])?;
    served.is_gone()?;
    if !eventually(ENDS_WITHIN, || served.end().is_some()) {
        return Err(format!("it does not die\n{}", served.report()));
    }
    match served.end() {
        Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => Ok(synced),
        other => Err(format!("it ended otherwise: {other:?}")),
    }
}

/// A daemon that is killed while it tries its own mount, for the first time, waits for nobody: no process
/// is left, and the mount is a dead one as any other.
pub(crate) fn killed_before_it_is_ready(ground: &Ground) -> Result<(), String> {
    for transport in ["transport=auto", "transport=dev"] {
        let (source, mountpoint) = ground.pair();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusewire"));
        command.args(["mount", "-f", "--coherence", "exclusive", "-o", transport]);
        command.args([&source, &mountpoint]).stdin(Stdio::null()).stderr(Stdio::null());
        let [waits, goes_on] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let decide = {
            let (mountpoint, waits, goes_on) = (mountpoint.clone(), waits.clone(), goes_on.clone());
            move |_, _| {
                while mounted(&mountpoint).is_some() && !goes_on.load(SeqCst) {
                    waits.store(true, SeqCst);
                    thread::sleep(Duration::from_millis(5));
                }
                None
            }
        };
        // Whoever serves the question is kept from answering it.
        let warden = Warden::set(&mut command, &[libc::SYS_fstatfs], decide);
        let child = Mutex::new(spawn(&mut command).map_err(text)?);
        let asked = eventually(ENDS_WITHIN, || waits.load(SeqCst));
        let ended = || child.lock().is_ok_and(|mut child| matches!(child.try_wait(), Ok(Some(_))));
        child.lock().expect("no panic while locked").kill().map_err(text)?;
        let died = eventually(ENDS_WITHIN, ended);
        goes_on.store(true, SeqCst);
        // Else it could be this test that waits.
        let says = died.then(|| fs::metadata(&mountpoint).map_err(|error| error.raw_os_error()));
        // Which frees whoever waits.
        let _ = umount2(&mountpoint, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
        drop(warden);
        // A request that the end of the connection meets on its way is told ECONNABORTED.
        let is_dead = matches!(says, Some(Err(Some(libc::ENOTCONN | libc::ECONNABORTED))));
        if !asked || !died || !is_dead {
            let ended = eventually(ENDS_WITHIN, ended);
            return Err(format!(
                "{transport}: asked {asked}, died {died}, then {says:?}, after an abort {ended}"
            ));
        }
    }
    Ok(())
}

fn unharmed(ended: &Ended) -> Result<(), String> {
    match &ended.errno {
        Some(errno) => Err(format!("{:?} met {errno} during {}", ended.kind, ended.during)),
        None if ended.rounds == 0 => Err(format!("{:?} did nothing", ended.kind)),
        None => Ok(()),
    }
}

/// A daemon that pauses makes its clients wait, no more.
pub(crate) fn stopped_and_continued(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        clients::prepare(&source)?;
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let limit = Duration::from_secs(40);
        let clients = load(&mountpoint, 0, Duration::from_millis(3600), limit)?;
        thread::sleep(Duration::from_millis(300));
        served.signal(Signal::SIGSTOP)?;
        let stopped = Instant::now();
        // Whoever asks for figures meanwhile is told, not left waiting.
        let asked = fusewire().arg("stats").arg(&mountpoint).output()?;
        if asked.status.success() || stopped.elapsed() > Duration::from_secs(15) {
            return Err(format!(
                "stats of a stopped daemon: {asked:?} after {:?}",
                stopped.elapsed()
            ));
        }
        thread::sleep(Duration::from_secs(3).saturating_sub(stopped.elapsed()));
        served.signal(Signal::SIGCONT)?;
        for client in clients {
            let ended = client.finish()?;
            unharmed(&ended)?;
            if ended.kind == Kind::Write {
                ended.synced_is_there(&source)?;
            }
        }
        served.finish()?;
    }
    Ok(())
}

/// Who aborts the connection leaves neither a daemon nor a dead mount behind.
pub(crate) fn aborted(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        // Below a directory which is not there once the mount is gone.
        let (work, inside) = (source.join("work"), mountpoint.join("work"));
        fs::create_dir(&work).map_err(|error| error.to_string())?;
        clients::prepare(&work)?;
        let served = Launch::new(&source, &mountpoint, data).go()?;
        let limit = CLIENTS_END_WITHIN;
        let clients = load(&inside, 0, Duration::from_secs(30), limit)?;
        thread::sleep(Duration::from_millis(200));
        served.abort().map_err(|error| format!("abort: {error}"))?;
        for client in clients {
            if client.finish()?.errno.is_none() {
                return Err("a client worked on after the abort".to_owned());
            }
        }
        if !eventually(ENDS_WITHIN, || served.end().is_some()) {
            return Err(format!("the daemon of an aborted connection runs\n{}", served.report()));
        }
        served.is_gone().map_err(|_| {
            let says = fs::metadata(&mountpoint).map(drop);
            format!("the daemon ended ({:?}) and left a dead mount: {says:?}", served.end())
        })?;
    }
    Ok(())
}

/// Clients that are killed at any moment leave nothing open in the daemon.
pub(crate) fn killed_clients(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        clients::prepare(&source)?;
        let served = Launch::new(&source, &mountpoint, data).go()?;
        for round in 0..15 {
            let kinds = [Kind::Open, Kind::Open, Kind::Read, Kind::Names, Kind::Write];
            let time = Duration::from_secs(30);
            let start = |(number, kind)| {
                Client::start(kind, round * 10 + number, &mountpoint, time, CLIENTS_END_WITHIN)
            };
            let clients: Vec<_> =
                kinds.into_iter().enumerate().map(start).collect::<Result<_, _>>()?;
            thread::sleep(Duration::from_millis(40 + u64::try_from(round).unwrap_or(0) * 7));
            for client in &clients {
                kill(client.pid(), Signal::SIGKILL).map_err(|errno| errno.to_string())?;
            }
            for client in clients {
                // It died of the signal, so it has no tale to tell; but it must have died.
                if client.finish().is_ok() {
                    return Err("a client was over before it was killed".to_owned());
                }
            }
        }
        closed_in_the_end(&served)?;
        fs::read(mountpoint.join("data")).map_err(|error| error.to_string())?;
        served.finish()?;
    }
    Ok(())
}

fn closed_in_the_end(served: &Served) -> Result<(), String> {
    let closed =
        || served.stats().is_ok_and(|stats| stats.live.open_files + stats.live.open_dirs == 0);
    match eventually(Duration::from_secs(15), closed) {
        true => Ok(()),
        false => Err(format!("left open in the daemon: {:?}", served.stats()?.live)),
    }
}

/// A client that waits for a stopped daemon can be killed, or goes on when the daemon does; after
/// that everything works.
pub(crate) fn waiting_client_killed(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    clients::prepare(&source)?;
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    let time = Duration::from_secs(30);
    let client = Client::start(Kind::Names, 0, &mountpoint, time, CLIENTS_END_WITHIN)?;
    thread::sleep(Duration::from_millis(200));
    served.signal(Signal::SIGSTOP)?;
    thread::sleep(Duration::from_millis(200));
    kill(client.pid(), Signal::SIGKILL).map_err(|errno| errno.to_string())?;
    thread::sleep(Duration::from_millis(200));
    served.signal(Signal::SIGCONT)?;
    if client.finish().is_ok() {
        return Err("the client was over before it was killed".to_owned());
    }
    let used = || -> io::Result<()> {
        fs::write(mountpoint.join("after"), "text")?;
        fs::remove_file(mountpoint.join("after"))
    };
    used().map_err(|error| format!("after the client was killed: {error}"))?;
    closed_in_the_end(&served)?;
    served.finish()
}
