//! SIGINT, SIGTERM and SIGHUP become a flag that is looked at between and during the cells, so
//! that every guard's `drop` runs. Knows nothing of what is being stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::error::StudyError;

/// The signals of this process, caught for as long as this value lives. `default()` catches none
/// and is never set: for tests, which share one process.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    /// The last signal's number, 0 for none.
    signal: Arc<AtomicUsize>,
    registered: Vec<SigId>,
}

impl Interrupt {
    /// Starts to catch the signals. Nothing else needs to be ordered with the flag: Relaxed.
    pub(crate) fn catch() -> Result<Self, StudyError> {
        let signal = Arc::new(AtomicUsize::new(0));
        let mut registered = Vec::new();
        for (number, value) in [(SIGINT, 2), (SIGTERM, 15), (SIGHUP, 1)] {
            let id = signal_hook::flag::register_usize(number, Arc::clone(&signal), value)
                .map_err(|source| StudyError::Io { action: "catch signals".into(), source })?;
            registered.push(id);
        }
        Ok(Interrupt { signal, registered })
    }

    /// An error once a signal has come.
    pub(crate) fn check(&self) -> Result<(), StudyError> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(StudyError::Interrupted { signal: i32::try_from(signal).unwrap_or(0) }),
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_remembered() {
        let interrupt = Interrupt::catch().expect("signals can be caught");
        assert!(interrupt.check().is_ok());
        signal_hook::low_level::raise(SIGHUP).expect("a process may signal itself");
        assert!(matches!(interrupt.check(), Err(StudyError::Interrupted { signal: 1 })));
    }
}
