//! The steps of a ladder and the layers of a request, as figures for every view.

use std::collections::BTreeMap;

use super::agreement;
use super::digest::Digest;
use crate::report::statistics::Interval;
use crate::study::record::{Kind, NATIVE, Unit};

/// What each cell takes on each step of a ladder.
#[derive(Debug)]
pub(super) struct Ladder {
    /// Titles of the steps.
    pub(super) titles: Vec<String>,
    /// The cells that were measured on the first and on the last step.
    pub(super) cells: Vec<Steps>,
}

/// One cell.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) title: String,
    /// Time of one operation natively, microseconds.
    pub(super) native: Interval,
    /// The same on each step.
    pub(super) times: Times,
}

/// A time for each step, of which the first and the last are known.
#[derive(Debug)]
pub(super) struct Times(pub(super) Vec<Option<Interval>>);

/// What makes up the first step's time.
#[derive(Debug, PartialEq)]
pub(super) struct Parts {
    /// Native's time.
    pub(super) native: f64,
    /// What the last step still adds to it.
    pub(super) stays: f64,
    /// What each step but the first took away.
    pub(super) taken: Vec<f64>,
}

impl Times {
    pub(super) fn first(&self) -> f64 {
        self.0.first().copied().flatten().map_or(0.0, |time| time.median)
    }

    pub(super) fn last(&self) -> f64 {
        self.0.last().copied().flatten().map_or(0.0, |time| time.median)
    }
}

impl Steps {
    /// The parts of its bar. A step counts whose interval lies outside of that of the last one that
    /// counted; what it adds, it takes from those before it. One that does not count leaves its part to
    /// the next.
    pub(super) fn parts(&self) -> Parts {
        let mut times = self.times.0.iter().copied();
        let mut level = times.next().flatten().unwrap_or(self.native);
        let mut taken: Vec<f64> = Vec::new();
        for time in times {
            let counts = time.filter(|time| time.high < level.low || time.low > level.high);
            let Some(time) = counts else {
                taken.push(0.0);
                continue;
            };
            let mut added = time.median - level.median;
            for earlier in taken.iter_mut().rev() {
                let back = earlier.min(added.max(0.0));
                *earlier -= back;
                added -= back;
            }
            taken.push((-added).max(0.0));
            level = time;
        }
        // What differs from native by noise alone adds nothing to it.
        let is_native = level.low <= self.native.high;
        let native = if is_native { level.median } else { self.native.median };
        Parts { native, stays: level.median - native, taken }
    }
}

impl Ladder {
    /// The steps of a study that is a ladder.
    pub(super) fn of(digest: &Digest) -> Option<Self> {
        if !digest.is_ladder() {
            return None;
        }
        let steps: Vec<_> =
            digest.systems.iter().filter(|found| found.system.kind == Kind::Fusewire).collect();
        let cells: Vec<Steps> = digest
            .cells
            .iter()
            // Of a load that is the same for all, the time says nothing.
            .filter(|cell| cell.cell.unit != Unit::MicrosecondsP99)
            .filter_map(|cell| {
                let wall = |system: &str| Some(agreement::wall(cell.figures(system)?));
                let times: Vec<Option<Interval>> =
                    steps.iter().map(|step| wall(&step.system.id)).collect();
                (times.first()?.is_some() && times.last()?.is_some()).then_some(())?;
                let (title, native) = (cell.cell.title.clone(), wall(NATIVE)?);
                Some(Steps { title, native, times: Times(times) })
            })
            .collect();
        let titles = steps.iter().map(|step| step.system.title.clone()).collect();
        (!cells.is_empty()).then_some(Ladder { titles, cells })
    }
}

/// The layers of a request in the order in which it passes them: name in the samples, name for
/// readers, meaning.
const LAYERS: [(&str, &str, &str); 7] = [
    (
        "client",
        "client",
        "the system call until its request is queued, and from its answer to its end",
    ),
    ("wake_up", "wake-up", "from the queue until the daemon runs"),
    ("receive", "receive", "the daemon's way out of the kernel with the request"),
    ("daemon", "daemon", "the daemon's own code: decoding, dispatch, encoding"),
    ("source", "source", "the operation on the source: the daemon's own system calls"),
    ("reply", "reply", "the daemon's way into the kernel with the answer"),
    ("client_wake_up", "client's wake-up", "from the answer until the client runs again"),
];

/// What the figures of layers are.
pub(super) const LAYERS_SAY: &str = "One operation, µs, as the kernel traced client and daemon in runs \
    of their own; shown is the one that took the median time. Tracing costs a little in each layer, and \
    each run is one choice of the scheduler where both run: the parts tell the shares, the untraced \
    median the time.";

/// The layers that were traced, in their order; unknown ones last.
pub(super) fn layer_names<'a>(
    traced: impl Iterator<Item = &'a BTreeMap<String, f64>>,
) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        traced.flat_map(|layers| layers.keys().map(String::as_str)).collect();
    let place =
        |name: &str| LAYERS.iter().position(|(known, ..)| *known == name).unwrap_or(LAYERS.len());
    names.sort_by_key(|name| (place(name), *name));
    names.dedup();
    names
}

/// A layer's name for readers, and its meaning.
pub(super) fn layer_words(name: &str) -> (&str, &str) {
    let known = LAYERS.iter().find(|(known, ..)| *known == name);
    known.map_or((name, ""), |(_, label, meaning)| (label, meaning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;

    fn parts(native: f64, times: &[Option<f64>]) -> Parts {
        // Each known to a tenth.
        let around = |median: f64| Interval { low: median / 1.1, median, high: median * 1.1 };
        let times = Times(times.iter().map(|time| time.map(around)).collect());
        Steps { title: String::new(), native: around(native), times }.parts()
    }

    #[test]
    fn a_step_takes_what_the_one_before_left() {
        let found = parts(4.0, &[Some(40.0), Some(30.0), None, Some(12.0)]);
        assert_eq!(found, Parts { native: 4.0, stays: 8.0, taken: vec![10.0, 0.0, 18.0] });
    }

    #[test]
    fn noise_is_no_step() {
        let found = parts(4.0, &[Some(40.0), Some(36.0), Some(41.0), Some(31.0)]);
        assert_eq!(
            found.taken,
            [0.0, 0.0, 9.0],
            "two do not count, the third does against the first"
        );
        let found = parts(10.0, &[Some(20.0), Some(10.5)]);
        assert_eq!((found.native, found.stays), (10.5, 0.0), "it is native's time");
    }

    #[test]
    fn what_a_step_adds_it_takes_from_those_before() {
        let found = parts(4.0, &[Some(40.0), Some(30.0), Some(20.0), Some(32.0)]);
        assert_eq!(found, Parts { native: 4.0, stays: 28.0, taken: vec![8.0, 0.0, 0.0] });
        let found = parts(4.0, &[Some(10.0), Some(20.0)]);
        assert_eq!(found, Parts { native: 4.0, stays: 16.0, taken: vec![0.0] });
    }

    #[test]
    fn cells_that_lack_an_end_of_the_ladder_are_left_out() {
        let ladder = Ladder::of(&fixture::digest()).expect("is one");
        let titles: Vec<&str> = ladder.cells.iter().map(|cell| cell.title.as_str()).collect();
        let wanted = ["seq read 1M, buffered", "open + close, 1 thread", "open + close, 2 threads"];
        assert_eq!(titles, wanted);
        let mut digest = fixture::digest();
        digest.study = "metadata".into();
        assert!(Ladder::of(&digest).is_none());
    }

    #[test]
    fn layers_are_in_the_order_of_a_request() {
        let layers: BTreeMap<String, f64> =
            ["zzz", "source", "client", "wake_up"].map(|name| (name.to_owned(), 1.0)).into();
        assert_eq!(
            layer_names([&layers, &layers].into_iter()),
            ["client", "wake_up", "source", "zzz"]
        );
        assert_eq!(layer_words("client_wake_up").0, "client's wake-up");
    }
}
