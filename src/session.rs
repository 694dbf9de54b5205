//! The life of a mount: mount, INIT, workers, unmount, join.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tracing::{debug, error, info, warn};

use crate::abi::{self, InitFlags};
use crate::config::MountOptions;
use crate::fs::Filesystem;
use crate::keeper::{self, Duties, Watch};
use crate::metrics::Metrics;
use crate::metrics::snapshot;
use crate::mountinfo;
use crate::protocol::decode::{Dialect, Frame, Operation, decode};
use crate::protocol::init::{self, InitError, Negotiated, refusal};
use crate::sys::caller;
use crate::sys::fuse_dev::Kernel;
use crate::sys::mount::{self, FuseMount};
use crate::transport::buffers::Buffers;
use crate::transport::dev::{self, Channel, Received};
use crate::worker::Worker;

/// Where and how to mount.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the file system shows.
    pub mountpoint: PathBuf,
    /// The device name that `mount` and `df` show.
    pub fsname: String,
    /// Options of the mount itself.
    pub mount: MountOptions,
    /// Worker threads; `None` is one per CPU that this process may run on.
    pub workers: Option<NonZeroUsize>,
    /// Bind worker N to the Nth of those CPUs.
    pub pin: bool,
}

impl Options {
    /// The defaults for a mount at `mountpoint`.
    pub fn new(mountpoint: impl Into<PathBuf>) -> Self {
        Options {
            mountpoint: mountpoint.into(),
            fsname: "fusewire".to_owned(),
            mount: MountOptions::default(),
            workers: None,
            pin: false,
        }
    }
}

/// Major and minor number of `st_dev`: which mount it is, however often a path is mounted over.
pub type Device = (u32, u32);

/// Why a file system could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// /dev/fuse can not be opened.
    #[error("open /dev/fuse: {0}; {remedy}", remedy = device_remedy(.0))]
    Device(io::Error),
    /// The mount was refused.
    #[error("mount on {path}: {source}{hint}", path = .mountpoint.display())]
    Mount {
        /// Where.
        mountpoint: PathBuf,
        /// The kernel's or fusermount3's word.
        source: io::Error,
        /// What to do, from a `; ` on; may be empty.
        hint: &'static str,
    },
    /// The kernel hung up or sent something else first.
    #[error("the kernel did not begin with INIT: {0}")]
    Handshake(&'static str),
    /// No common protocol.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The file system refused what was negotiated.
    #[error("{0}")]
    Filesystem(io::Error),
    /// Anything else that the system refused.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn device_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "let users in with `chmod 666 /dev/fuse`, as udev does, or mount as root"
        }
        _ => "load the module with `modprobe fuse`, or pass the device into the container",
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> MountError {
    move |source| MountError::System { action, source }
}

/// A mounted file system that is being served. Dropping it unmounts and waits for the workers.
#[derive(Debug)]
pub struct Session {
    mount: Mount,
    threads: Threads,
    info: Arc<Info>,
}

/// The threads of a session.
#[derive(Debug)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    watch: Arc<Watch>,
}

impl Threads {
    /// Waits until the connection is over.
    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                error!("a worker panicked outside of a request");
            }
        }
        self.watch.stop();
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            error!("the keeper panicked");
        }
    }
}

/// What all workers of a session have in common.
#[derive(Debug)]
struct Crew<F: ?Sized> {
    metrics: Arc<Metrics>,
    dialect: Dialect,
    /// Bytes of the largest data.
    payload: usize,
    fs: Arc<F>,
}

impl<F: Filesystem + ?Sized> Crew<F> {
    fn worker(
        &self,
        index: usize,
        channel: Channel,
        watch: Option<Arc<Watch>>,
    ) -> io::Result<Worker<F>> {
        let buffers = Buffers::new(self.payload)?;
        let (metrics, fs, dialect) = (self.metrics.clone(), self.fs.clone(), self.dialect);
        Ok(Worker { index, channel, buffers, metrics, dialect, fs, watch })
    }
}

/// What is known of a session from its start to its end.
#[derive(Debug)]
pub struct Info {
    /// What INIT agreed on.
    pub negotiated: Negotiated,
    /// How requests arrive.
    pub transport: snapshot::Transport,
    /// Counters of the workers.
    pub metrics: Arc<Metrics>,
    /// When the mount became ready.
    pub started: Instant,
    /// The mount's device number, as in /proc/self/mountinfo.
    pub device: Device,
}

impl Session {
    /// Mounts `fs` and starts to serve it. When this returns, the mount works.
    pub fn mount<F: Filesystem + ?Sized>(
        fs: Arc<F>,
        options: &Options,
    ) -> Result<Session, MountError> {
        let device = Arc::new(attach(options)?);
        // From here on an error unmounts.
        let mount = Mount::new(&options.mountpoint)?;
        let negotiated = handshake(&device, &*fs)?;
        fs.init(&negotiated, Kernel::new(device.clone())).map_err(MountError::Filesystem)?;
        let cpus = allowed_cpus().map_err(system("read the CPU affinity"))?;
        let count = options.workers.map_or(cpus.len(), NonZeroUsize::get);
        let (channels, refused) = dev::channels(&device, count);
        let reason =
            refused.map(|error| format!("clone /dev/fuse: {error}; all share one channel"));
        if let Some(reason) = &reason {
            warn!("{reason}");
        }
        // The last shard is for relief workers.
        let metrics = Arc::new(Metrics::new(count + 1));
        let transport = snapshot::Transport {
            name: "dev".to_owned(),
            workers: count,
            channels: if reason.is_some() { 1 } else { count },
            pinned: options.pin,
            reason,
        };
        let payload = usize::try_from(negotiated.max_write).unwrap_or(usize::MAX);
        let watch = Arc::new(Watch::new(count));
        let crew = Crew {
            metrics: metrics.clone(),
            dialect: Dialect { setxattr_ext: negotiated.flags.contains(InitFlags::SETXATTR_EXT) },
            payload,
            fs,
        };
        let mut workers = Vec::with_capacity(count);
        for (index, channel) in channels.iter().enumerate() {
            let watch = Some(watch.clone());
            let worker = crew.worker(index, channel.clone(), watch);
            let worker = worker.map_err(system("map a worker's buffers"))?;
            let cpu = options.pin.then(|| cpus[index % cpus.len()]);
            workers.push(start(worker, cpu).map_err(system("start a worker"))?);
        }
        let tick = {
            let fs = crew.fs.clone();
            move || fs.tick()
        };
        let (first, ended) = (channels[0].clone(), watch.clone());
        let relieve = move || relieve(crew.worker(count, first.clone(), None)?, ended.clone());
        let keeper =
            keeper::start(&watch, Duties { relieve, tick }).map_err(system("start the keeper"))?;
        let threads = Threads { workers, keeper: Some(keeper), watch };
        let device = mount.device;
        let info = Info { negotiated, transport, metrics, started: Instant::now(), device };
        let session = Session { mount, threads, info: Arc::new(info) };
        session.mount.probe().map_err(system("use the new mount"))?;
        info!(mountpoint = %options.mountpoint.display(), workers = count, "mounted");
        Ok(session)
    }

    /// What is known of the session.
    pub fn info(&self) -> &Arc<Info> {
        &self.info
    }

    /// Unmounts from another thread than the one that waits in [`join`](Self::join).
    pub fn unmounter(&self) -> Unmounter {
        self.mount.unmounter()
    }

    /// Waits until the mount is gone and every request is answered, whoever unmounted it.
    pub fn join(mut self) {
        self.threads.join();
        // Nobody serves it any more: after an abort it would only answer ENOTCONN.
        self.mount.detach();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.threads.workers.is_empty() {
            self.mount.unmount_or_detach();
            self.threads.join();
        }
    }
}

/// Takes a session's mount away.
#[derive(Debug, Clone)]
pub struct Unmounter {
    mountpoint: PathBuf,
    device: Device,
}

impl Unmounter {
    /// Unmounts; EBUSY while it is in use, unless `lazy`. Nothing is touched if another file
    /// system was mounted over it.
    pub fn unmount(&self, lazy: bool) -> io::Result<()> {
        match mountinfo::find_top(&self.mountpoint)?.1 {
            None => Ok(()),
            Some(top) if (top.major, top.minor) != self.device => Err(io::Error::other(format!(
                "another file system ({}) is mounted over {}; unmount that first",
                top.fs_type,
                self.mountpoint.display()
            ))),
            Some(_) => mount::unmount(&self.mountpoint, lazy),
        }
    }
}

/// The mount itself, taken away on drop unless it is gone already.
#[derive(Debug)]
struct Mount {
    mountpoint: PathBuf,
    device: Device,
    gone: bool,
}

impl Mount {
    fn new(mountpoint: &Path) -> Result<Self, MountError> {
        let found = mountinfo::find_top(mountpoint).map_err(system("read /proc/self/mountinfo"))?;
        let device = found.1.map(|mount| (mount.major, mount.minor)).unwrap_or_default();
        Ok(Mount { mountpoint: found.0, device, gone: false })
    }

    /// One round trip through the mount, so that "mounted" means "works".
    fn probe(&self) -> io::Result<()> {
        nix::sys::statfs::statfs(&self.mountpoint)?;
        Ok(())
    }

    fn unmounter(&self) -> Unmounter {
        Unmounter { mountpoint: self.mountpoint.clone(), device: self.device }
    }

    fn unmount_or_detach(&mut self) {
        if !self.gone && self.unmounter().unmount(false).is_err() {
            self.detach();
        }
        self.gone = true;
    }

    fn detach(&mut self) {
        if !self.gone
            && let Err(error) = self.unmounter().unmount(true)
        {
            warn!(%error, mountpoint = %self.mountpoint.display(), "could not unmount");
        }
        self.gone = true;
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount_or_detach();
    }
}

/// Mounts by mount(2), or through fusermount3 where that is not allowed.
fn attach(options: &Options) -> Result<OwnedFd, MountError> {
    let subtype = options.mount.subtype.as_deref().unwrap_or("fusewire");
    let mountpoint = options.mountpoint.as_path();
    let fuse = FuseMount { mountpoint, fsname: &options.fsname, subtype, options: &options.mount };
    if let Err(error) = crate::sys::fuse_dev::open() {
        return Err(MountError::Device(error));
    }
    let refused = match mount::direct(&fuse) {
        Ok(device) => return Ok(device),
        Err(error) => error,
    };
    let failed =
        |source, hint| MountError::Mount { mountpoint: mountpoint.to_owned(), source, hint };
    if refused.raw_os_error() != Some(Errno::EPERM as i32) {
        return Err(failed(refused, ""));
    }
    debug!("mount(2) is not permitted, trying fusermount3");
    mount::via_fusermount(&fuse).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed(
            refused,
            "; run as root, or install fusermount3 (apt-get install fuse3) to mount as an ordinary user, \
             which works without kernel passthrough",
        ),
        _ if error.to_string().contains("not permitted") => failed(
            error,
            "; this process lacks CAP_SYS_ADMIN and fusermount3 gained no rights either: run as root, \
             in a container with --cap-add SYS_ADMIN; `fusewire doctor` says what still works here",
        ),
        _ => failed(error, ""),
    })
}

/// Reads INIT, settles it with what `fs` wants, and answers.
fn handshake<F: Filesystem + ?Sized>(
    device: &Arc<OwnedFd>,
    fs: &F,
) -> Result<Negotiated, MountError> {
    let channel = Channel::new(device.clone());
    let mut buffers = Buffers::new(abi::MIN_READ_BUFFER).map_err(system("map a buffer"))?;
    let wanted = fs.wanted();
    loop {
        let size = match channel.receive(&mut buffers.request) {
            Ok(Received::Request(size)) => size,
            Ok(Received::Closed) => return Err(MountError::Handshake("it hung up")),
            Err(errno) => return Err(system("read INIT")(errno.into())),
        };
        let frame = Frame::from_contiguous(&buffers.request[..size]);
        let request = frame.and_then(|frame| decode(frame, Dialect::default()));
        let Ok(request) = request else {
            return Err(MountError::Handshake("its first request was malformed"));
        };
        let Operation::Init { args, flags2 } = request.operation else {
            return Err(MountError::Handshake("another request came first"));
        };
        let unique = request.header.unique;
        let answer = |out: &abi::InitOut| {
            let bytes = zerocopy::IntoBytes::as_bytes(out);
            channel.reply(unique, [bytes, &[]]).map_err(|errno| system("answer INIT")(errno.into()))
        };
        match init::negotiate(args, flags2, &wanted) {
            Ok((negotiated, out)) => {
                answer(&out)?;
                debug!(?negotiated, "INIT");
                return Ok(negotiated);
            }
            Err(InitError::Major(major)) if major > abi::VERSION => {
                // The kernel takes our version from this and asks again.
                let ours =
                    abi::InitOut { major: abi::VERSION, minor: abi::MINOR, ..Default::default() };
                answer(&ours)?;
            }
            Err(error) => {
                let _ = channel.reply_error(unique, Errno::EPROTO);
                return Err(error.into());
            }
        }
    }
}

/// Starts a worker, and returns once it is ready to serve.
fn start<F: Filesystem + ?Sized>(
    worker: Worker<F>,
    cpu: Option<usize>,
) -> io::Result<JoinHandle<()>> {
    let index = worker.index;
    let (ready, wait) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Some(cpu) = cpu
            && let Err(errno) = pin(cpu)
        {
            warn!(%errno, worker = index, cpu, "could not pin");
        }
        let entered = caller::enter_worker();
        let failed = entered.is_err();
        // The session waits for this, or is gone and the mount with it.
        let _ = ready.send(entered);
        if failed {
            return;
        }
        if let Err(error) = worker.run() {
            error!(%error, worker = index, "stopped serving");
        }
    })?;
    wait.recv().map_err(|_| io::Error::other("it died at once"))??;
    Ok(thread)
}

/// Starts a worker that serves until there is nothing to do.
fn relieve<F: Filesystem + ?Sized>(worker: Worker<F>, watch: Arc<Watch>) -> io::Result<()> {
    debug!("every worker is stuck in an operation of the source: one more serves meanwhile");
    let serve = move || {
        if let Err(error) = caller::enter_worker().and_then(|()| worker.relieve()) {
            error!(%error, "a relief worker stopped serving");
        }
        watch.relief_ended();
    };
    thread::Builder::new().name("relief".to_owned()).spawn(serve).map(drop)
}

fn pin(cpu: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// CPUs that this process may run on.
fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// `negotiated` as `stats` tells it.
pub fn describe(negotiated: &Negotiated) -> snapshot::Negotiated {
    let names = |flags: InitFlags| flags.iter_names().collect::<Vec<_>>();
    let refused = negotiated.offered - negotiated.flags;
    snapshot::Negotiated {
        protocol: format!("{}.{}", abi::VERSION, negotiated.minor),
        flags: names(negotiated.flags).into_iter().map(|(name, _)| name.to_owned()).collect(),
        refused: names(refused)
            .into_iter()
            .map(|(name, flag)| (name.to_owned(), refusal(flag).to_owned()))
            .collect(),
        max_write_bytes: negotiated.max_write,
        max_readahead_bytes: negotiated.max_readahead,
        max_background: negotiated.max_background,
        max_stack_depth: negotiated.max_stack_depth,
    }
}
