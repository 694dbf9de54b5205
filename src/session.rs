//! The life of a mount: mount, INIT, workers, unmount, join.

mod crew;
mod handshake;
mod launch;
mod mount;

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::{info, warn};

use crate::abi::{self, InitFlags};
use crate::config::{DevIo, MountOptions, Sched, Transport};
use crate::fs::Filesystem;
use crate::metrics::Metrics;
use crate::metrics::snapshot;
use crate::protocol::decode::Dialect;
use crate::protocol::init::{InitError, Negotiated, refusal};
use crate::sys::fuse_dev::{self, Kernel};
use crate::transport::splice::{self, Splice};
use crate::transport::uring;

use crew::{Over, Threads};
use handshake::handshake;
use launch::{Launch, Launched, RING_PAYLOAD};

pub(crate) use crew::allowed_cpus;
pub(crate) use handshake::attach;
pub(crate) use mount::Mount;
pub use mount::Unmounter;

/// Where and how to mount.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the file system shows.
    pub mountpoint: PathBuf,
    /// The device name that `mount` and `df` show.
    pub fsname: String,
    /// Options of the mount itself.
    pub mount: MountOptions,
    /// How requests come.
    pub transport: Transport,
    /// Worker threads; `None` is one per CPU that this process may run on. Only /dev/fuse has a choice: see [`Transport::Auto`].
    pub workers: Option<NonZeroUsize>,
    /// How /dev/fuse is read and written: [`DevIo::Uring`] chooses it.
    pub dev_io: DevIo,
    /// How the threads that serve are scheduled.
    pub sched: Sched,
    /// Bind worker N to the Nth of those CPUs, for good.
    pub pin: bool,
    /// Largest READ and WRITE, bytes, a multiple of the page size; `None` is what the file system
    /// wants, or less on io_uring, where each entry of a queue holds so much.
    pub max_write: Option<u32>,
    /// Which READs are answered by splice. Only /dev/fuse can: [`Splice::Always`] chooses it.
    pub splice: Splice,
}

impl Options {
    /// The defaults for a mount at `mountpoint`.
    pub fn new(mountpoint: impl Into<PathBuf>) -> Self {
        Options {
            mountpoint: mountpoint.into(),
            fsname: "fusewire".to_owned(),
            mount: MountOptions::default(),
            transport: Transport::Auto,
            workers: None,
            dev_io: DevIo::Read,
            sched: Sched::Auto,
            pin: false,
            max_write: None,
            splice: Splice::default(),
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
    /// FUSE over io_uring can not be had.
    #[error("--transport uring can not be had: {reason}; --transport auto takes /dev/fuse")]
    Transport {
        /// Why not.
        reason: String,
    },
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

/// Tells what the system refused.
pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> MountError {
    move |source| MountError::System { action, source }
}

/// A mounted file system that is being served. Dropping it unmounts and waits for the workers.
#[derive(Debug)]
pub struct Session {
    mount: Mount,
    threads: Threads,
    info: Arc<Info>,
}

/// What is known of a session from its start to its end.
#[derive(Debug)]
pub struct Info {
    /// What INIT agreed on.
    pub negotiated: Negotiated,
    /// How requests arrive.
    pub transport: snapshot::Transport,
    /// Which READs are answered by splice.
    pub splice: Splice,
    /// Counters of the workers.
    pub metrics: Arc<Metrics>,
    /// When the mount became ready.
    pub started: Instant,
    /// The mount's device number, as in /proc/self/mountinfo.
    pub device: Device,
    /// A descriptor of /dev/fuse, for as long as anybody serves.
    pub(crate) connection: Weak<OwnedFd>,
}

impl Info {
    /// Whether the kernel has ended the connection, though requests may be under way: the device number
    /// may be another mount's.
    pub fn is_over(&self) -> bool {
        let Some(connection) = self.connection.upgrade() else { return true };
        let mut fds = [PollFd::new(connection.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        polled.is_ok() && fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLERR))
    }
}

impl Session {
    /// Mounts `fs` and starts to serve it. When this returns, the mount works.
    pub fn mount<F: Filesystem + ?Sized>(
        fs: Arc<F>,
        options: &Options,
    ) -> Result<Session, MountError> {
        let no_rings = |reason| MountError::Transport { reason };
        let rings = match options.transport {
            // The baseline has a session of its own.
            Transport::Dev | Transport::Fuser => None,
            Transport::Auto if options.workers.is_some() || options.pin => {
                Some(Err("--workers and --pin are for its workers".to_owned()))
            }
            Transport::Auto | Transport::Uring if options.dev_io == DevIo::Uring => {
                Some(Err("--dev-io uring is for it".to_owned()))
            }
            Transport::Auto | Transport::Uring if options.splice == Splice::Always => {
                Some(Err("splice is for it: no ring takes the pages of a pipe".to_owned()))
            }
            Transport::Auto | Transport::Uring => Some(rings_to_be_had()),
        };
        match (rings, options.transport) {
            (None, _) => Session::attempt(fs, options, Plan::Dev { reason: None }),
            (Some(Err(reason)), Transport::Uring) => Err(no_rings(reason)),
            (Some(Err(reason)), _) => {
                info!("requests come through /dev/fuse: {reason}");
                Session::attempt(fs, options, Plan::Dev { reason: Some(reason) })
            }
            (Some(Ok(())), transport) => {
                match Session::attempt(fs.clone(), options, Plan::Rings) {
                    // The kernel counts on queues that can not be made: only a new mount undoes it.
                    Err(MountError::Transport { reason }) if transport == Transport::Auto => {
                        warn!("requests come through /dev/fuse: {reason}");
                        Session::attempt(fs, options, Plan::Dev { reason: Some(reason) })
                    }
                    result => result,
                }
            }
        }
    }

    fn attempt<F: Filesystem + ?Sized>(
        fs: Arc<F>,
        options: &Options,
        plan: Plan,
    ) -> Result<Session, MountError> {
        // To be sure of one once it is mounted: what can not be looked at can not be unmounted.
        let spare = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| system("make a descriptor to spare")(errno.into()))?;
        let device = Arc::new(attach(options)?);
        drop(spare);
        // From here on an error unmounts.
        let mount = Mount::new(&options.mountpoint)?;
        let mut wanted = fs.wanted();
        if plan == Plan::Rings {
            wanted.flags |= InitFlags::OVER_IO_URING;
            if wanted.flags.contains(InitFlags::PASSTHROUGH) {
                // Little data comes this way, and what a queue may hold is a multiple of this (see
                // perf-results, the runs named `data`).
                wanted.max_write = wanted.max_write.min(RING_PAYLOAD);
            }
        }
        if plan != Plan::Rings && options.splice != Splice::Never {
            wanted.max_write = wanted.max_write.min(splice::PAYLOAD_MAX);
        }
        wanted.max_write = options.max_write.unwrap_or(wanted.max_write);
        let negotiated = handshake(&device, &wanted)?;
        fs.init(&negotiated, Kernel::new(device.clone(), mount.device.1))
            .map_err(MountError::Filesystem)?;
        let setxattr_ext = negotiated.flags.contains(InitFlags::SETXATTR_EXT);
        let connection = Arc::downgrade(&device);
        let launch = Launch { device, fs, dialect: Dialect { setxattr_ext }, negotiated };
        let rings = plan == Plan::Rings;
        let launched = match plan {
            Plan::Dev { reason } => launch.workers(options, reason),
            Plan::Rings => launch.rings(options),
        };
        let Launched { threads, metrics, transport } = launched?;
        let device = mount.device;
        let splice = match rings || options.dev_io == DevIo::Uring {
            true => Splice::Never,
            false => options.splice,
        };
        let started = Instant::now();
        let info = Info { negotiated, transport, splice, metrics, started, device, connection };
        let mut session = Session { mount, threads, info: Arc::new(info) };
        session.mount.probe().map_err(system("use the new mount"))?;
        info!(
            mountpoint = %options.mountpoint.display(),
            transport = session.info.transport.name,
            workers = session.info.transport.workers,
            "mounted"
        );
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
    ///
    /// # Errors
    /// A worker could not go on, and the mount was taken away from its users.
    pub fn join(mut self) -> Result<(), MountError> {
        match self.threads.join() {
            Over::Unmounted => self.mount.settle(),
            Over::Aborted => self.mount.detach(),
            Over::Broken => {
                self.mount.abort();
                let source = io::Error::other("a worker could not go on, as the log tells");
                return Err(system("serve the mount")(source));
            }
        }
        Ok(())
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

/// How requests are going to come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Dev {
        /// Why not through rings, if they were asked for.
        reason: Option<String>,
    },
    Rings,
}

/// Whether FUSE over io_uring can be had, as far as can be told before INIT; else why not.
fn rings_to_be_had() -> Result<(), String> {
    const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";
    // Opening it loads the module that the parameter is one of. What is wrong with it the mount tells.
    drop(fuse_dev::open());
    match std::fs::read_to_string(PARAMETER).as_deref().map(str::trim) {
        Ok("Y") => {}
        Ok(_) => {
            return Err(format!("FUSE over io_uring is off; `echo Y > {PARAMETER}` turns it on"));
        }
        Err(_) => return Err("this kernel has no FUSE over io_uring (Linux 6.14)".to_owned()),
    }
    uring::probe().map_err(|error| {
        format!("io_uring is refused to this process ({error}); see kernel.io_uring_disabled")
    })
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
