//! `fusewire mount` and `fusewire null`: from a configuration to a mount that is served until
//! somebody unmounts it.
//!
//! It owns what surrounds a session: checks of what the user named, going to the background, what
//! the process may do, signals, the control socket, the log.

mod log;
mod privileges;
mod served;
mod shown;
mod signals;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::cli;
use crate::config::{Coherence, Config, DataMode, Profile, Transport};
use crate::control::{client, server};
use crate::metrics::process;
use crate::metrics::snapshot::Snapshot;
use crate::mountinfo::{self, Mount};
use crate::passthrough::{Local, SourceError};
use crate::remount::{self, RemountError};
use crate::session::{self, Info, MountError};
use crate::sys::process::{
    Readiness, Side, background, lift_file_size_limit, raise_nofile, reserve_descriptors,
};
use crate::transport::splice::Splice;
use served::Served;
use shown::Shown;

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The source is missing or is not a directory.
    #[error("open the source {path}: {error}", path = .path.display())]
    Source {
        /// As the user named it.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The mount point is missing or is not a directory.
    #[error("open the mount point {path}: {error}", path = .path.display())]
    Mountpoint {
        /// As the user named it.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It would be mounted over itself.
    #[error(
        "{path} is a fusewire mount already, of {source_name}; `fusewire umount {path}` first",
        path = .path.display()
    )]
    AlreadyMounted {
        /// The mount point.
        path: PathBuf,
        /// What it shows.
        source_name: String,
    },
    /// The source can not be shown.
    #[error(transparent)]
    Local(#[from] SourceError),
    /// The mount can not be made.
    #[error(transparent)]
    Session(#[from] MountError),
    /// The mount that is there can not be changed.
    #[error(transparent)]
    Remount(#[from] RemountError),
    /// It may have too few descriptors for itself.
    #[error(
        "RLIMIT_NOFILE is {limit}, of which nothing would be left for files: the least is \
         {DESCRIPTORS_MIN}; raise the hard limit with `ulimit -n 65536` as root, or with LimitNOFILE= \
         in a unit of systemd"
    )]
    Descriptors {
        /// The limit that is in force.
        limit: u64,
    },
    /// The log has no file.
    #[error("open the log file {path}: {error}; --log-file names another", path = .path.display())]
    LogFile {
        /// As the user named it, but absolute.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// What to log can not be understood.
    #[error("FUSEWIRE_LOG={text}: {reason}; write it as a level, as `debug`, or leave it away")]
    LogFilter {
        /// As the user wrote it.
        text: String,
        /// Why not.
        reason: String,
    },
    /// Anything else that the system refused.
    #[error("{action}: {error}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// What the background process said before it ended.
    #[error("{0}")]
    Background(String),
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |error| DaemonError::System { action, error }
}

/// Mounts a directory of this machine and serves it. Returns when the mount is gone, or, in the
/// background, when it is ready.
pub fn run(mut request: cli::Mount) -> Result<(), DaemonError> {
    if request.remount {
        return Ok(remount::run(&request)?);
    }
    check_source(&mut request.config)?;
    check_mountpoint(&mut request.config)?;
    around(&request, |config| {
        let config = Config { notifier: Some(THIS_PROGRAM.into()), ..feasible(config) };
        Ok(Local::new(&config, descriptors()?)?)
    })
}

/// How many descriptors the daemon may have.
fn descriptors() -> Result<u64, DaemonError> {
    match raise_nofile() {
        limit if limit < DESCRIPTORS_MIN => Err(DaemonError::Descriptors { limit }),
        limit => {
            reserve_descriptors(limit);
            Ok(limit)
        }
    }
}

/// With fewer the daemon could not start its workers, or not serve anybody afterwards.
const DESCRIPTORS_MIN: u64 = 64;

/// Even if its file was replaced since.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// `config` as its transport can have it. The baseline is for comparisons, and watches nothing.
fn feasible(config: &Config) -> Config {
    match (config.transport, config.coherence) {
        (Transport::Fuser, Coherence::Auto) => {
            let coherence = Coherence::Timeout(Duration::from_secs(1));
            Config { data: DataMode::Copy, coherence, ..config.clone() }
        }
        (Transport::Fuser, _) => Config { data: DataMode::Copy, ..config.clone() },
        _ => config.clone(),
    }
}

/// The same with the file system that has no storage.
pub fn run_null(mut request: cli::Null) -> Result<(), DaemonError> {
    if request.mount.remount {
        return Ok(remount::run(&request.mount)?);
    }
    check_mountpoint(&mut request.mount.config)?;
    around(&request.mount, |_| Ok(request.fs))
}

/// Goes to the background if asked to, and serves there what `open` makes.
fn around<F: Shown>(
    request: &cli::Mount,
    open: impl FnOnce(&Config) -> Result<F, DaemonError>,
) -> Result<(), DaemonError> {
    if request.foreground {
        return serve(request, open, None).map_err(|(error, _)| error);
    }
    match background().map_err(system("go to the background"))? {
        Side::Foreground(result) => result.map_err(DaemonError::Background),
        Side::Background(readiness) => match serve(request, open, Some(readiness)) {
            Ok(()) => std::process::exit(0),
            Err((error, readiness)) => {
                if let Some(readiness) = readiness {
                    readiness.failed(&error.to_string());
                }
                std::process::exit(1);
            }
        },
    }
}

/// Looks at the source, before anything is made; resolves its path.
fn check_source(config: &mut Config) -> Result<(), DaemonError> {
    let source = |error| DaemonError::Source { path: config.source.clone(), error };
    let resolved = std::fs::canonicalize(&config.source).map_err(source)?;
    let metadata = std::fs::metadata(&resolved).map_err(source)?;
    if !metadata.is_dir() {
        return Err(source(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    config.source = resolved;
    Ok(())
}

/// Looks at the mount point, before anything is made; resolves its path.
fn check_mountpoint(config: &mut Config) -> Result<(), DaemonError> {
    let mountpoint = |error| DaemonError::Mountpoint { path: config.mountpoint.clone(), error };
    let (path, top) = mountinfo::find_top(&config.mountpoint).map_err(mountpoint)?;
    // A daemon that answers is ours whatever its mount is called.
    let ours = |top: &Mount| top.fs_type == "fuse.fusewire" || client::find(&path).is_ok();
    if let Some(top) = top.filter(ours) {
        let source_name = top.source.to_string_lossy().into_owned();
        return Err(DaemonError::AlreadyMounted { path, source_name });
    }
    if Path::new("/proc").starts_with(&path) {
        let reason = "the daemon needs /proc, and would wait for itself there";
        return Err(mountpoint(io::Error::other(reason)));
    }
    let metadata = std::fs::metadata(&path).map_err(mountpoint)?;
    if !metadata.is_dir() {
        return Err(mountpoint(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    config.mountpoint = path;
    Ok(())
}

type Failure = (DaemonError, Option<Readiness>);

fn serve<F: Shown>(
    request: &cli::Mount,
    open: impl FnOnce(&Config) -> Result<F, DaemonError>,
    mut readiness: Option<Readiness>,
) -> Result<(), Failure> {
    let (fs, session) = match mount(request, open) {
        Ok(mounted) => mounted,
        Err(error) => return Err((error, readiness)),
    };
    control(&request.config, &fs, session.info());
    if let Some(readiness) = readiness.take()
        && let Err(error) = readiness.ready()
    {
        warn!(%error, "could not tell the foreground that the mount is ready");
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "could not tell systemd that the mount is ready");
    }
    let ended = session.join();
    fs.end();
    // What was written through the mount survives whatever comes next.
    fs.sync();
    ended.map_err(|error| (error.into(), None))?;
    info!("unmounted");
    Ok(())
}

fn mount<F: Shown>(
    request: &cli::Mount,
    open: impl FnOnce(&Config) -> Result<F, DaemonError>,
) -> Result<(Arc<F>, Served), DaemonError> {
    let log = log::start(request)?;
    privileges::reduce().map_err(system("give up what the daemon does not need"))?;
    // Before the mount shows: a signal from now on is answered by an unmount.
    let signals = signals::Pending::new().map_err(system("register for signals"))?;
    lift_file_size_limit();
    let fs = Arc::new(open(&request.config)?);
    let options = options(&request.config, &*fs);
    let session = Served::mount(fs.clone(), request.config.transport, &options)?;
    signals.listen(session.unmounter(), log).map_err(system("listen for signals"))?;
    Ok((fs, session))
}

fn options(config: &Config, fs: &impl Shown) -> session::Options {
    let fsname = match &config.mount.fsname {
        Some(name) => name.clone(),
        None => config.source.to_string_lossy().into_owned(),
    };
    session::Options {
        mountpoint: config.mountpoint.clone(),
        fsname,
        mount: fs.tighten(&config.mount),
        transport: config.transport,
        dev_io: config.dev_io,
        sched: config.sched,
        workers: config.workers,
        pin: config.pin,
        max_write: config.max_write,
        splice: match config.data {
            DataMode::Auto | DataMode::Passthrough => Splice::Large,
            DataMode::Splice => Splice::Always,
            DataMode::Copy => Splice::Never,
        },
    }
}

/// Starts the control socket. A mount without it works, but can not be asked for figures.
fn control(config: &Config, fs: &Arc<impl Shown>, info: &Arc<Info>) {
    let (config, fs, session) = (config.clone(), fs.clone(), info.clone());
    let is_over = move || session.is_over();
    let (device, info) = (info.device, info.clone());
    if let Err(error) = server::start(device, is_over, move || snapshot(&config, &*fs, &info)) {
        warn!(%error, "no control socket yet: until its name is free, `fusewire stats` does not work");
    }
}

/// Who may enter, and what the mount is for.
fn profile(config: &Config) -> String {
    let who = if config.mount.allow_other { "shared" } else { "owner" };
    match config.profile {
        Profile::General => who.to_owned(),
        Profile::ReadMostly => format!("{who}, read-mostly"),
    }
}

/// A picture of the live mount.
fn snapshot(config: &Config, fs: &impl Shown, info: &Info) -> Snapshot {
    let (requests, totals) = info.metrics.requests();
    let mut live = fs.live();
    live.fds = process::open_descriptors();
    live.rss_bytes = process::resident_bytes();
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut data = fs.data();
    if data.mode == "copy" && info.splice != Splice::Never {
        data.mode = "splice".to_owned();
    }
    // What `feasible` has changed.
    if config.transport == Transport::Fuser && config.data != DataMode::Copy && data.mode == "copy"
    {
        data.requested = "auto".to_owned();
        data.reason = Some("the transport fuser copies all data".to_owned());
    }
    Snapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: info.started.elapsed().as_secs_f64(),
        source: path(&config.source),
        mountpoint: path(&config.mountpoint),
        profile: profile(config),
        options: fs.tighten(&config.mount).names().map(str::to_owned).collect(),
        transport: info.transport.clone(),
        data,
        coherence: fs.coherence(),
        locality: fs.locality(),
        negotiated: session::describe(&info.negotiated),
        requests,
        totals,
        live,
        process: process::consumed(),
        privileges: privileges::in_force(),
    }
}
