//! The load generator: threads that do operations and record what each took. Knows no mount and no
//! study; what it is given is a directory.

pub(crate) mod consumed;
pub(crate) mod latency;
pub(crate) mod operation;
pub(crate) mod personality;
mod poisson;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use self::consumed::Reading;
use self::latency::Recorder;
use self::operation::Share;
use self::poisson::Arrivals;
use super::record::{Consumption, Measurement};
use super::sample::count;
use super::supervise::Cancel;
use super::work::{GIVE_UP, Operations};

/// What one thread does, one operation after the other.
pub(crate) trait Worker: Send {
    /// Works until done; calls [`Clock::lap`] after each operation. The error is the whole story.
    fn work(&mut self, clock: &mut Clock<'_>) -> Result<(), String>;

    /// Brings what it will meet into the caches, before the timing.
    fn warm(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The time of one thread's operations.
#[derive(Debug)]
pub(crate) struct Clock<'a> {
    begin: Instant,
    last: Instant,
    recorder: Recorder,
    bytes: u64,
    cancel: &'a Cancel,
}

impl Clock<'_> {
    /// An operation is over; the next begins. One reading of the clock serves both.
    pub(crate) fn lap(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.record(now - self.last);
        self.last = now;
        self.check()
    }

    /// Adds to the bytes that were read or written.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    fn record(&mut self, elapsed: Duration) {
        self.recorder.add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    fn check(&self) -> Result<(), String> {
        if self.cancel.is_set() { Err("stopped".to_owned()) } else { Ok(()) }
    }

    fn elapsed(&self) -> Duration {
        self.last - self.begin
    }
}

/// Lets all workers begin at once and adds up what they did.
pub(crate) fn run(workers: &mut [Box<dyn Worker>], cancel: &Cancel) -> Result<Measurement, String> {
    let barrier = Barrier::new(workers.len());
    let done: Vec<Result<Done, String>> = std::thread::scope(|scope| {
        let barrier = &barrier;
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| scope.spawn(move || time(worker.as_mut(), barrier, cancel)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Err("the load generator panicked".into()))
            })
            .collect()
    });
    let done: Vec<Done> = done.into_iter().collect::<Result<_, _>>()?;
    let begin = done.iter().map(|done| done.begin).min().ok_or("no threads")?;
    let end = done.iter().map(|done| done.end).max().ok_or("no threads")?;
    let mut recorder = Recorder::new();
    done.iter().for_each(|done| recorder.merge(&done.recorder));
    let consumed: Vec<Consumption> = done.iter().map(|done| done.consumed).collect();
    Ok(Measurement {
        operations: recorder.count(),
        bytes: done.iter().map(|done| done.bytes).sum(),
        seconds: (end - begin).as_secs_f64(),
        latency: recorder.latency(),
        client: consumed::sum(&consumed),
        ..Measurement::default()
    })
}

/// What a thread did.
struct Done {
    begin: Instant,
    end: Instant,
    recorder: Recorder,
    bytes: u64,
    consumed: Consumption,
}

fn time(worker: &mut dyn Worker, barrier: &Barrier, cancel: &Cancel) -> Result<Done, String> {
    let recorder = Recorder::new();
    barrier.wait();
    let before = Reading::of_thread();
    let begin = Instant::now();
    let mut clock = Clock { begin, last: begin, recorder, bytes: 0, cancel };
    worker.work(&mut clock)?;
    let end = clock.last;
    let consumed = Reading::of_thread().since(before);
    let Clock { recorder, bytes, .. } = clock;
    Ok(Done { begin, end, recorder, bytes, consumed })
}

/// A thread that does one operation again and again.
#[derive(Debug)]
pub(crate) struct Repeater {
    share: Share,
    seconds: Duration,
    passes: Option<usize>,
    at_most: u64,
    arrivals: Option<Arrivals>,
}

impl Repeater {
    /// `seed` decides when the operations of an open loop arrive.
    pub(crate) fn new(share: Share, work: &Operations, seed: u64) -> Self {
        let passes = if work.operation.is_consuming() { Some(1) } else { work.passes };
        let threads = count(work.threads as u64);
        let arrivals = work.rate_per_second.map(|rate| Arrivals::new(rate / threads, seed));
        let seconds = Duration::from_secs_f64(work.seconds);
        let at_most = work.at_most.unwrap_or(u64::MAX);
        Repeater { share, seconds, passes, at_most, arrivals }
    }

    fn operate(&mut self, pass: usize, index: usize) -> Result<(), String> {
        let share = &mut self.share;
        share
            .operate(pass, index)
            .map_err(|errno| format!("failed on {}: {}", share.object(index), errno.desc()))
    }
}

impl Worker for Repeater {
    fn work(&mut self, clock: &mut Clock<'_>) -> Result<(), String> {
        if let Some(arrivals) = self.arrivals.take() {
            return self.work_open(arrivals, clock);
        }
        let per_pass = self.share.per_pass();
        for pass in 0.. {
            for index in 0..per_pass {
                self.operate(pass, index)?;
                clock.lap()?;
                let is_over = self.passes.is_none() && clock.elapsed() >= self.seconds;
                if is_over || clock.recorder.count() >= self.at_most {
                    return Ok(());
                }
            }
            if self.passes.is_some_and(|passes| pass + 1 >= passes) {
                break;
            }
        }
        Ok(())
    }

    fn warm(&mut self) -> Result<(), String> {
        self.share.look_up().map_err(|errno| format!("prepare: {}", errno.desc()))
    }
}

impl Repeater {
    /// Open loop: an operation's latency counts from when it should have begun, so that one which
    /// stalls shows in all that had to wait behind it. What can not keep up is given up some time after
    /// the last arrival: how long it took tells so
    /// ([`Cell::times_of_arrival`](crate::study::record::Cell::times_of_arrival)).
    fn work_open(&mut self, mut arrivals: Arrivals, clock: &mut Clock<'_>) -> Result<(), String> {
        let per_pass = self.share.per_pass();
        let give_up = self.seconds.mul_f64(GIVE_UP);
        let mut served = 0;
        while let Some(due) = arrivals.next_within(self.seconds) {
            if clock.elapsed() >= give_up {
                break;
            }
            let due = clock.begin + due;
            poisson::wait_until(due);
            self.operate(served / per_pass, served % per_pass)?;
            clock.last = Instant::now();
            clock.record(clock.last.saturating_duration_since(due));
            clock.check()?;
            served += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::operation::Layout;
    use super::*;
    use crate::study::work::Operation;

    const ALL: [Operation; 16] = [
        Operation::Stat,
        Operation::StatNegative,
        Operation::StatForced,
        Operation::OpenClose,
        Operation::OpenReadClose,
        Operation::Create,
        Operation::Readdir,
        Operation::ReaddirPlus,
        Operation::Rename,
        Operation::Unlink,
        Operation::MkdirRmdir,
        Operation::Symlink,
        Operation::Readlink,
        Operation::Getxattr,
        Operation::GetxattrMissing,
        Operation::Setxattr,
    ];

    fn work(operation: Operation, threads: usize, is_shared: bool) -> Operations {
        Operations {
            operation,
            files: 20,
            threads,
            is_shared,
            seconds: 0.01,
            passes: None,
            at_most: None,
            load_percent: None,
            rate_per_second: None,
        }
    }

    fn workers(work: &Operations, dir: &Path, name: &str) -> Vec<Box<dyn Worker>> {
        let layouts: Vec<Layout> = (0..work.threads)
            .map(|thread| {
                let place = (thread, work.threads, work.is_shared);
                Layout::new(work.operation, Path::new(name), work.files, place)
            })
            .collect();
        layouts.iter().for_each(|layout| layout.make(dir).expect("can be made"));
        layouts
            .iter()
            .map(|layout| {
                let share = layout.enter(dir, 1).expect("can be entered");
                share.look_up().expect("can be looked up");
                Box::new(Repeater::new(share, work, 1)) as Box<dyn Worker>
            })
            .collect()
    }

    #[test]
    fn every_operation_works_alone_and_with_others_in_one_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for operation in ALL {
            for (threads, is_shared) in [(1, false), (3, false), (3, true)] {
                let work = work(operation, threads, is_shared);
                let name = format!("{operation:?}-{threads}-{is_shared}");
                let mut workers = workers(&work, dir.path(), &name);
                let run = run(&mut workers, &Cancel::default()).expect(&name);
                match operation.is_consuming() {
                    true => assert_eq!(run.operations, 20 * threads as u64, "{name}"),
                    false => assert!(run.seconds >= 0.01, "{name}"),
                }
                assert!(run.latency.p50 > 0 && run.latency.p50 <= run.latency.p999, "{name}");
            }
        }
    }

    #[test]
    fn so_many_operations_are_enough_however_long_is_left() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let least = Operations {
            at_most: Some(33),
            seconds: 600.0,
            ..work(Operation::OpenClose, 2, false)
        };
        let run = run(&mut workers(&least, dir.path(), "d"), &Cancel::default()).expect("works");
        assert_eq!(run.operations, 66, "of each thread, beyond the end of a pass");
    }

    #[test]
    fn fixed_work_is_so_many_passes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let work = Operations { passes: Some(3), ..work(Operation::Rename, 2, false) };
        let run = run(&mut workers(&work, dir.path(), "d"), &Cancel::default()).expect("works");
        assert_eq!(run.operations, 2 * 3 * 20);
    }

    #[test]
    fn a_listing_that_lost_a_name_fails_and_says_where() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let work = work(Operation::Readdir, 1, false);
        let mut workers = workers(&work, dir.path(), "d");
        std::fs::remove_file(dir.path().join("d/t0/f0-000003")).expect("exists");
        let error = run(&mut workers, &Cancel::default()).expect_err("a name is missing");
        assert!(error.contains("Not a data message"), "{error}");
    }

    #[test]
    fn an_open_loop_serves_what_arrives_until_it_is_given_up() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let open = |rate| Operations {
            rate_per_second: Some(rate),
            seconds: 0.5,
            ..work(Operation::Stat, 1, false)
        };
        let slow = run(&mut workers(&open(200.0), dir.path(), "a"), &Cancel::default());
        let slow = slow.expect("works");
        assert!((50..200).contains(&slow.operations), "{slow:?}");
        assert!(slow.seconds < 0.5 * GIVE_UP, "{slow:?}");
        let fast = run(&mut workers(&open(5e7), dir.path(), "b"), &Cancel::default());
        let fast = fast.expect("works");
        assert!((0.5 * GIVE_UP..30.0).contains(&fast.seconds), "{} s", fast.seconds);
        assert!(fast.operations < 25_000_000, "all of what arrived, in this time?");
        assert!(fast.latency.p50 > slow.latency.p50, "waiting in line counts");
    }
}
