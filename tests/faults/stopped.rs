//! Daemons that are stopped for a while.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::clients::{self, Client, Kind};
use crate::launch::Launch;
use crate::tool::{fusewire, tool};
use crate::{Ground, text};

const STOPPED_FOR: Duration = Duration::from_secs(10);
/// Who asks about a stopped daemon is told.
const TOLD_WITHIN: Duration = Duration::from_secs(8);

/// Requests come through rings, if they can be had.
pub(crate) fn with_rings(ground: &Ground) -> Result<(), String> {
    ten_seconds(ground, "auto", "transport=auto")
}

/// Requests wait in /dev/fuse, from where a signal takes them back.
pub(crate) fn with_dev(ground: &Ground) -> Result<(), String> {
    ten_seconds(ground, "copy", "transport=dev")
}

fn ten_seconds(ground: &Ground, data: &str, options: &str) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    clients::prepare(&source)?;
    let served = Launch::new(&source, &mountpoint, data).option(options).go()?;
    let kinds = [Kind::Write, Kind::Write, Kind::Read, Kind::Names];
    let (time, limit) = (STOPPED_FOR + Duration::from_secs(1), Duration::from_secs(60));
    let start = |(number, kind)| Client::start(kind, number, &mountpoint, time, limit);
    let clients: Vec<_> = kinds.into_iter().enumerate().map(start).collect::<Result<_, _>>()?;
    thread::sleep(Duration::from_millis(500));
    served.signal(Signal::SIGSTOP)?;
    let stopped = Instant::now();
    thread::sleep(Duration::from_millis(300));
    for command in ["stats", "umount"] {
        let began = Instant::now();
        let output = fusewire().arg(command).arg(&mountpoint).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = if command == "stats" { "no answer" } else { "busy" };
        if output.status.success() || !said.contains(expected) || began.elapsed() > TOLD_WITHIN {
            return Err(format!("{command} of a stopped daemon: {output:?}"));
        }
    }
    if options == "transport=dev" {
        let cat = tool("cat", "coreutils").arg(mountpoint.join("data"));
        let cat = cat.limit(Duration::from_secs(30)).start()?;
        thread::sleep(Duration::from_millis(300));
        // Not SIGINT, which a program that runs in the background may have been told to ignore.
        kill(cat.pid(), Signal::SIGTERM).map_err(text)?;
        let ended = cat.finish()?;
        if ended.status.signal() != Some(Signal::SIGTERM as i32) {
            return Err(format!("interrupted while it waited: {ended:?}"));
        }
    }
    thread::sleep(STOPPED_FOR.saturating_sub(stopped.elapsed()));
    served.signal(Signal::SIGCONT)?;
    for client in clients {
        let ended = client.finish()?;
        if ended.errno.is_some() || ended.rounds == 0 {
            let (kind, errno, during) = (ended.kind, ended.errno, ended.during);
            return Err(format!("{kind:?} met {errno:?} during {during}"));
        }
        if ended.kind == Kind::Write {
            ended.synced_is_there(&source)?;
        }
    }
    served.finish()
}
