//! The baseline that every reader knows: the same file system on the session loop of the crate
//! `fuser`, which receives, decodes, replies and schedules in its own way.
//!
//! What the crate can not carry is not to be had here: passthrough (data is copied), STATX, TMPFILE,
//! SYNCFS and COPY_FILE_RANGE_64 (the crate answers ENOSYS, uncounted, and the kernel falls back),
//! HANDLE_KILLPRIV_V2 (the kernel clears set-user-id by a SETATTR of its own), and inode numbers: `st_ino` is the nodeid.

mod adapter;
mod convert;
mod listing;
mod operations;
mod xattr;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, num::NonZeroUsize};

use tracing::{error, info, warn};

use crate::fs::Filesystem;
use crate::metrics::{Metrics, snapshot};
use crate::session::{Info, Mount, MountError, Options, Unmounter, allowed_cpus, attach, system};
use crate::sys::fuse_dev::{self, Kernel};
use crate::transport::splice::Splice;

use adapter::Adapter;

/// How often the file system is told the time.
const TICK: Duration = Duration::from_secs(1);

/// A file system that is mounted, and served by fuser. Dropping it unmounts and waits.
#[derive(Debug)]
pub struct Session {
    mounted: Mount,
    server: Option<JoinHandle<io::Result<()>>>,
    ticker: Option<Ticker>,
    info: Arc<Info>,
    /// What `info` asks whether the connection is over.
    _connection: Arc<OwnedFd>,
}

impl Session {
    /// Mounts `fs` and starts to serve it. When this returns, the mount works.
    pub fn mount<F: Filesystem + ?Sized>(
        fs: Arc<F>,
        options: &Options,
    ) -> Result<Session, MountError> {
        let device = attach(options)?;
        // From here on an error unmounts.
        let mounted = Mount::new(&options.mountpoint)?;
        let cpus = allowed_cpus().map_err(system("read the CPU affinity"))?;
        let count = options.workers.map_or(cpus.len(), NonZeroUsize::get);
        let refused = fuse_dev::clone(device.as_fd()).err().filter(|_| count > 1);
        let metrics = Arc::new(Metrics::new(count));
        let negotiated = Arc::new(OnceLock::new());
        let kernel = device.try_clone().map_err(system("duplicate /dev/fuse"))?;
        let kernel = Arc::new(kernel);
        let connection = Arc::downgrade(&kernel);
        let adapter = Adapter {
            fs: fs.clone(),
            metrics: metrics.clone(),
            threads: AtomicUsize::new(0),
            cpus: options.pin.then_some(cpus),
            max_write: options.max_write,
            kernel: Some(Kernel::new(kernel.clone(), mounted.device.1)),
            negotiated: negotiated.clone(),
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(count);
        config.clone_fd = count > 1 && refused.is_none();
        let channels = if config.clone_fd { count } else { 1 };
        // The kernel and the file system decide who may do what; fuser need not.
        let session = fuser::Session::from_fd(adapter, device, fuser::SessionACL::All, config)
            .map_err(MountError::Filesystem)?;
        let server = thread::Builder::new().name("fuser".to_owned()).spawn(|| session.run());
        let server = Some(server.map_err(system("start fuser"))?);
        let ticker = Some(Ticker::start(fs).map_err(system("start the ticker"))?);
        let transport = snapshot::Transport {
            name: "fuser".to_owned(),
            workers: count,
            channels,
            pinned: options.pin,
            reason: refused.map(|error| format!("clone /dev/fuse: {error}; all share one channel")),
        };
        let negotiated =
            *negotiated.get().ok_or(MountError::Handshake("fuser never asked for INIT"))?;
        let device = mounted.device;
        let (splice, started) = (Splice::Never, Instant::now());
        let info = Info { negotiated, transport, splice, metrics, started, device, connection };
        let info = Arc::new(info);
        let mut session = Session { mounted, server, ticker, info, _connection: kernel };
        session.mounted.probe().map_err(system("use the new mount"))?;
        info!(mountpoint = %options.mountpoint.display(), workers = count, "mounted on fuser");
        Ok(session)
    }

    /// What is known of the session.
    pub fn info(&self) -> &Arc<Info> {
        &self.info
    }

    /// Unmounts from another thread than the one that waits in [`join`](Self::join).
    pub fn unmounter(&self) -> Unmounter {
        self.mounted.unmounter()
    }

    /// Waits until the mount is gone and every request is answered, whoever unmounted it.
    pub fn join(mut self) {
        match self.wait() {
            true => self.mounted.settle(),
            false => self.mounted.detach(),
        }
    }

    /// Waits for fuser's threads. True if they saw the mount go; else it may still be there.
    fn wait(&mut self) -> bool {
        let Some(server) = self.server.take() else { return true };
        let ended = server.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        self.ticker = None;
        ended.inspect_err(|error| error!(%error, "fuser stopped serving")).is_ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.mounted.unmount_or_detach();
            self.wait();
        }
    }
}

/// Tells the file system the time until it is dropped.
#[derive(Debug)]
struct Ticker {
    thread: Option<JoinHandle<()>>,
    stopped: Arc<AtomicBool>,
}

impl Ticker {
    fn start<F: Filesystem + ?Sized>(fs: Arc<F>) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = stopped.clone();
        let tick = move || {
            while !seen.load(Relaxed) {
                thread::park_timeout(TICK);
                fs.tick();
            }
        };
        let thread = thread::Builder::new().name("ticker".to_owned()).spawn(tick)?;
        Ok(Ticker { thread: Some(thread), stopped })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stopped.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                warn!("the ticker panicked");
            }
        }
    }
}
