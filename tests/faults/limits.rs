//! Too few descriptors, threads and bytes for a daemon.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::common::daemon::Daemon;
use crate::common::shell::pattern;
use crate::common::warden::Warden;
use crate::launch::{Launch, eventually, mounted};
use crate::tool::exclusively;
use crate::{Ground, text};

/// One daemon after the other with few descriptors: it says that they are too few and leaves nothing
/// mounted, or it works.
pub(crate) fn very_few_descriptors(ground: &Ground) -> Result<(), String> {
    let (mut refused, mut served) = (0, 0);
    // Each queue and worker takes some.
    let enough =
        48 + 8 * u32::try_from(available_parallelism().map_err(text)?.get()).map_err(text)?;
    for nofile in [4, 8, 12, 16, 24, 32, 48, 63, 64, 80, 128] {
        for transport in ["transport=dev", "transport=auto", "transport=dev,dev_io=uring"] {
            let (source, mountpoint) = ground.pair();
            fs::write(source.join("file"), "text").map_err(text)?;
            let launch = Launch::new(&source, &mountpoint, "auto").option(transport);
            match (Launch { nofile: Some(nofile), ..launch }).go() {
                Ok(daemon) => {
                    served += 1;
                    work(&mountpoint).map_err(|error| format!("{nofile}, {transport}: {error}"))?;
                    daemon.finish()?;
                }
                Err(reason) => {
                    refused += 1;
                    let said = ["RLIMIT_NOFILE", "ulimit -n", "Too many open files"];
                    if !said.iter().any(|said| reason.contains(said)) || nofile >= enough.max(64) {
                        return Err(format!("{nofile}, {transport}: {reason}"));
                    }
                    if let Some(kind) = mounted(&mountpoint) {
                        return Err(format!("{nofile}, {transport}: left mounted: {kind}"));
                    }
                }
            }
        }
    }
    match refused > 0 && served > 0 {
        true => Ok(()),
        false => Err(format!("{refused} refused, {served} served")),
    }
}

/// A little of everything.
fn work(at: &Path) -> io::Result<()> {
    fs::create_dir(at.join("folder"))?;
    for number in 0..200 {
        fs::write(at.join(format!("folder/{number}")), number.to_string())?;
    }
    for number in 0..200 {
        let read = fs::read_to_string(at.join(format!("folder/{number}")))?;
        if read != number.to_string() {
            return Err(io::Error::other(format!("file {number} reads {read:?}")));
        }
    }
    let listed = fs::read_dir(at.join("folder"))?.count();
    fs::File::open(at.join("file"))?.sync_all()?;
    fs::rename(at.join("folder"), at.join("moved"))?;
    fs::remove_dir_all(at.join("moved"))?;
    match listed {
        200 => Ok(()),
        _ => Err(io::Error::other(format!("{listed} names of 200"))),
    }
}

/// System calls that start a thread.
const THREADS: [libc::c_long; 2] = [libc::SYS_clone, libc::SYS_clone3];

/// A daemon that may start no more threads than so many, and from then on none: it ends and says so,
/// or it serves with what it has.
pub(crate) fn few_threads(ground: &Ground) -> Result<(), String> {
    for transport in ["transport=auto", "transport=dev"] {
        let (mut refused, mut served) = (0, 0);
        for granted in 0..40 {
            let (source, mountpoint) = ground.pair();
            fs::write(source.join("file"), "text").map_err(text)?;
            let mut warden = None;
            let prepare = |command: &mut Command| {
                let decide = move |_, before| (before >= granted).then_some(Errno::EAGAIN);
                warden = Some(Warden::set(command, &THREADS, decide));
            };
            let begun = exclusively(|| {
                Daemon::start_prepared(&[], &source, &mountpoint, "auto", transport, prepare)
            });
            match begun {
                Ok(daemon) => match outlives(&daemon)
                    .map_err(|reason| format!("{granted}, {transport}: {reason}"))?
                {
                    false => refused += 1,
                    true => served += 1,
                },
                Err(reason) if reason.contains("os error 11") => refused += 1,
                Err(reason) => return Err(format!("{granted}, {transport}: {reason}")),
            }
            if let Some(kind) = mounted(&mountpoint) {
                return Err(format!("{granted}, {transport}: left mounted: {kind}"));
            }
            if warden.is_some_and(|warden| warden.asked() <= granted) {
                break;
            }
        }
        eprintln!("few threads, {transport}: {refused} refused, {served} served");
        if refused == 0 || served == 0 {
            return Err(format!("{transport}: {refused} refused, {served} served"));
        }
    }
    Ok(())
}

/// Uses a mount, then ends it; false if its daemon has given up, as it is allowed to, because it
/// needs a thread.
fn outlives(daemon: &Daemon) -> Result<bool, String> {
    let ends = || eventually(Duration::from_secs(20), || daemon.exit_status().is_some());
    if let Err(error) = work(&daemon.mountpoint).and_then(|()| copy_and_sync(&daemon.mountpoint)) {
        return match ends() && daemon.report().contains("os error 11") {
            true => Ok(false),
            false => Err(format!("{error}\n{}", daemon.report())),
        };
    }
    daemon.signal(Signal::SIGTERM).map_err(text)?;
    match ends() {
        true => Ok(true),
        false => Err(format!("outlives SIGTERM\n{}", daemon.report())),
    }
}

/// What is handed to other threads where there are some.
fn copy_and_sync(at: &Path) -> io::Result<()> {
    let content = pattern(5, 8 << 20);
    fs::write(at.join("one"), &content)?;
    fs::copy(at.join("one"), at.join("other"))?;
    File::open(at.join("other"))?.sync_all()?;
    nix::unistd::syncfs(File::open(at)?)?;
    let same = fs::read(at.join("other"))? == content;
    fs::remove_file(at.join("one"))?;
    fs::remove_file(at.join("other"))?;
    match same {
        true => Ok(()),
        false => Err(io::Error::other("the copy is not the same")),
    }
}
