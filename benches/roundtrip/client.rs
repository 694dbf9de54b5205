//! Who makes the round trips: one thread for each client, each call timed.

use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Failure;
use crate::report::Slice;
use crate::trace::CLIENT;
use crate::usage::Usage;

/// Something that goes there and back.
pub(crate) trait Trip: Send {
    fn once(&mut self) -> io::Result<()>;
}

/// How clients run.
#[derive(Debug)]
pub(crate) struct Clients<'a> {
    /// The CPU of each, if it has to stay on one.
    pub(crate) pins: Vec<Option<usize>>,
    /// Stops them early.
    pub(crate) stop: &'a AtomicBool,
}

impl Clients<'_> {
    /// Makes `trips`, one a client, over and over for this long.
    pub(crate) fn run(
        &self,
        trips: Vec<Box<dyn Trip>>,
        duration: Duration,
    ) -> Result<Slice, Failure> {
        let barrier = Barrier::new(trips.len());
        let client = |mut trip: Box<dyn Trip>, cpu: Option<usize>| {
            let pinned = cpu.map_or(Ok(()), pin);
            barrier.wait();
            pinned?;
            let mut samples = Vec::with_capacity(1 << 20);
            let before = Usage::of_thread();
            let start = Instant::now();
            let mut last = start;
            while last.duration_since(start) < duration && !self.stop.load(Relaxed) {
                trip.once()?;
                let now = Instant::now();
                let nanoseconds = now.duration_since(last).as_nanos();
                samples.push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
                last = now;
            }
            Ok::<_, io::Error>((samples, Usage::of_thread().since(&before)))
        };
        let mut slice = Slice::default();
        slice.client.migrations = Some(0);
        std::thread::scope(|scope| {
            let threads = trips
                .into_iter()
                .zip(&self.pins)
                .map(|(trip, cpu)| {
                    let named = std::thread::Builder::new().name(CLIENT.to_owned());
                    named.spawn_scoped(scope, || client(trip, *cpu))
                })
                .collect::<io::Result<Vec<_>>>()?;
            for thread in threads {
                let (samples, usage) = thread.join().map_err(|_| "a client panicked")??;
                slice.samples.extend(samples);
                slice.client.add(&usage);
            }
            Ok(slice)
        })
    }
}

pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// CPUs that this process may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}
