//! Waiting that counts only the time in which this process ran: not while a machine slept, or somebody
//! had stopped it and the daemon together.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What goes by between two looks at the clock counts as this long at most.
const PIECE: Duration = Duration::from_secs(1);

/// Time that is left to wait.
#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
    seen: Instant,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Patience { left: limit, seen: Instant::now() }
    }

    /// Whether there is none left. To be asked more often than every [`PIECE`].
    pub(crate) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let gone = now.duration_since(std::mem::replace(&mut self.seen, now));
        self.left = self.left.saturating_sub(gone.min(PIECE));
        self.left.is_zero()
    }

    /// Has what has gone by since the last look not count.
    fn forgive(&mut self) {
        self.seen = Instant::now();
    }

    pub(crate) fn pause(&self) {
        thread::sleep(Duration::from_millis(2));
    }
}

/// [`Receiver::recv_timeout`] with patience.
pub(crate) fn receive<T>(from: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
    receive_while(from, limit, || true)
}

/// The same with a limit to the time in which it `counts`.
pub(crate) fn receive_while<T>(
    from: &Receiver<T>,
    limit: Duration,
    counts: impl Fn() -> bool,
) -> Result<T, RecvTimeoutError> {
    let mut patience = Patience::new(limit);
    loop {
        match from.recv_timeout(PIECE.min(patience.left) / 2) {
            Err(RecvTimeoutError::Timeout) if !counts() => patience.forgive(),
            Err(RecvTimeoutError::Timeout) if !patience.is_over() => {}
            received => return received,
        }
    }
}
