//! From a negotiated connection to the threads that serve it.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::unbounded;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::warn;

use super::crew::{Threads, Workers, allowed_cpus, possible_cpus, relieve};
use super::{MountError, Options, system};
use crate::config::{DevIo, Sched};
use crate::discipline::{Discipline, Home, Pulse, Seen, Sign};
use crate::fs::Filesystem;
use crate::keeper::{self, Duties, Watch};
use crate::metrics::{Metrics, snapshot};
use crate::offload::Pool;
use crate::protocol::decode::Dialect;
use crate::protocol::init::Negotiated;
use crate::transport::dev::{self, Channel};
use crate::transport::dev_ring::DevRing;
use crate::transport::line::{Calls, Line};
use crate::transport::splice::Splice;
use crate::transport::uring::Shape;
use crate::worker::{Server, dev as dev_worker, ring};

/// Bytes of a ring entry's payload where data is passed through.
pub(super) const RING_PAYLOAD: u32 = 128 << 10;
/// Bytes of the longest SETXATTR behind its header, in whole pages: XATTR_SIZE_MAX and XATTR_NAME_MAX.
const XATTR_ROOM: u32 = 68 << 10;
/// How often FORGETs are taken while there are some: waking a thread for each costs whoever caused it
/// as much as a request. An INTERRUPT waits no longer than this.
const FORGETS_EVERY: Duration = Duration::from_micros(500);
/// Entries of a queue. The kernel reuses the one that was committed last, so only as many are warm
/// as are needed at a time; the rest are for operations that take long.
const RING_DEPTH: u16 = 128;

/// What the threads of a session are made of.
#[derive(Debug)]
pub(super) struct Launch<F: ?Sized> {
    pub(super) device: Arc<OwnedFd>,
    pub(super) dialect: Dialect,
    pub(super) negotiated: Negotiated,
    pub(super) fs: Arc<F>,
}

/// The threads, started.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) threads: Threads,
    pub(super) metrics: Arc<Metrics>,
    pub(super) transport: snapshot::Transport,
}

impl<F: Filesystem + ?Sized> Launch<F> {
    /// Workers on /dev/fuse.
    pub(super) fn workers(
        self,
        options: &Options,
        mut reason: Option<String>,
    ) -> Result<Launched, MountError> {
        let cpus = allowed_cpus().map_err(system("read the CPU affinity"))?;
        let count = options.workers.map_or(cpus.len(), NonZeroUsize::get);
        let (channels, refused) = dev::channels(&self.device, count);
        let cloned = refused.is_none();
        if let Some(error) = refused {
            let refused = format!("clone /dev/fuse: {error}; all share one channel");
            warn!("{refused}");
            reason = Some(refused);
        }
        // The last shard is for relief workers.
        let server = self.server(count + 1);
        let watch = Arc::new(Watch::new(count));
        let mut workers = Workers::new();
        let mut signs = Vec::with_capacity(count);
        for (index, channel) in channels.iter().enumerate() {
            let worker = self.dev_worker(
                &server,
                index,
                channel,
                Some(&watch),
                (options.dev_io, options.splice),
            )?;
            let cpu = options.pin.then(|| cpus[index % cpus.len()]);
            let id = workers.start_dev(worker, cpu).map_err(system("start a worker"))?;
            // One worker for several CPUs belongs to none.
            let home = (count >= cpus.len() && !options.pin)
                .then(|| Home::new(cpus[index % cpus.len()], &cpus).ok())
                .flatten();
            signs.push((id, Seen::new(id).map(Sign::Seen), home));
        }
        let transport = snapshot::Transport {
            name: match options.dev_io {
                DevIo::Read => "dev",
                DevIo::Uring => "dev-uring",
            }
            .to_owned(),
            workers: count,
            channels: if cloned { count } else { 1 },
            pinned: options.pin,
            reason,
        };
        let (metrics, first, ended) = (server.metrics.clone(), channels[0].clone(), watch.clone());
        let (payload, splice) = (self.payload(), options.splice);
        let relief = move || {
            let line = Line::Calls(Calls::new(first.clone(), payload, splice)?);
            let server = server.clone();
            let worker =
                dev_worker::Worker { index: count, line, server, watch: None, pause: None };
            relieve(worker, ended.clone())
        };
        let signs = signs.into_iter().filter_map(|(id, sign, home)| Some((id, sign.ok()?, home)));
        let discipline = match options.sched {
            Sched::Auto => Discipline::new(signs),
            Sched::Normal => Discipline::new([]),
        };
        let threads = self.keep(workers, watch, relief, discipline)?;
        Ok(Launched { threads, metrics, transport })
    }

    /// One queue per CPU, and one worker on /dev/fuse for what never comes through a ring: FORGET
    /// and INTERRUPT.
    pub(super) fn rings(self, options: &Options) -> Result<Launched, MountError> {
        let refused = |reason: String| MountError::Transport { reason };
        let queues = possible_cpus().map_err(system("count the CPUs"))?;
        let server = self.server(queues + 1);
        let watch = Arc::new(Watch::new(queues + 1));
        let pool = Pool::default();
        let shape = Shape { depth: RING_DEPTH, payload: self.payload() };
        let mut workers = Workers::new();
        let mut pulses = Vec::with_capacity(queues);
        for index in 0..queues {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
                .map_err(|errno| system("make an event descriptor")(errno.into()))?;
            let worker = ring::Worker {
                index,
                server: server.clone(),
                watch: watch.clone(),
                pool: pool.clone(),
                pulse: Arc::new(Pulse::new(Arc::new(event))),
                done: unbounded(),
                aside: ring::Worker::<F>::aside(),
                spare: ring::Spare::default(),
            };
            let pulse = worker.pulse.clone();
            let started = workers.start_ring(worker, self.device.clone(), shape);
            let id = started
                .map_err(|error| refused(format!("register the queue of CPU {index}: {error}")))?;
            pulses.push((id, Sign::Pulse(pulse), None));
        }
        let channel = Channel::new(self.device.clone());
        let mut worker =
            self.dev_worker(&server, queues, &channel, Some(&watch), (DevIo::Read, Splice::Never))?;
        worker.pause = Some(FORGETS_EVERY);
        workers.start_dev(worker, None).map_err(system("start a worker"))?;
        let transport = snapshot::Transport {
            name: "uring".to_owned(),
            workers: queues,
            channels: 1,
            pinned: true,
            reason: None,
        };
        let metrics = server.metrics.clone();
        let ended = watch.clone();
        // Whatever takes long is with the pool already.
        let relief = move || {
            ended.relief_ended();
            Ok(())
        };
        let discipline = match options.sched {
            Sched::Auto => Discipline::new(pulses),
            Sched::Normal => Discipline::new([]),
        };
        let threads = self.keep(workers, watch, relief, discipline)?;
        Ok(Launched { threads, metrics, transport })
    }

    fn server(&self, shards: usize) -> Server<F> {
        let metrics = Arc::new(Metrics::new(shards));
        Server { metrics, dialect: self.dialect, fs: self.fs.clone() }
    }

    /// Bytes of the largest data, and of the largest extended attribute with its name.
    fn payload(&self) -> usize {
        usize::try_from(self.negotiated.max_write.max(XATTR_ROOM)).unwrap_or(usize::MAX)
    }

    fn dev_worker(
        &self,
        server: &Server<F>,
        index: usize,
        channel: &Channel,
        watch: Option<&Arc<Watch>>,
        (dev_io, splice): (DevIo, Splice),
    ) -> Result<dev_worker::Worker<F>, MountError> {
        let line = match dev_io {
            DevIo::Read => Calls::new(channel.clone(), self.payload(), splice).map(Line::Calls),
            DevIo::Uring => {
                DevRing::new(channel.clone(), self.payload()).map(|ring| Line::Ring(Box::new(ring)))
            }
        };
        let line = line.map_err(system(match dev_io {
            DevIo::Read => "make a worker's buffers and pipe",
            DevIo::Uring => "make a worker's ring, which --dev-io uring asks for",
        }))?;
        let (server, watch) = (server.clone(), watch.cloned());
        Ok(dev_worker::Worker { index, line, server, watch, pause: None })
    }

    fn keep(
        &self,
        workers: Workers,
        watch: Arc<Watch>,
        relieve: impl Fn() -> std::io::Result<()> + Send + 'static,
        discipline: Discipline,
    ) -> Result<Threads, MountError> {
        let fs = self.fs.clone();
        let duties = Duties { relieve, tick: move || fs.tick(), discipline };
        let keeper = keeper::start(&watch, duties).map_err(system("start the keeper"))?;
        Ok(Threads { workers, keeper: Some(keeper), watch })
    }
}
