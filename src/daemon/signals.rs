//! What the daemon does on a signal: unmount on SIGTERM, SIGINT and SIGHUP, log more on SIGUSR1 and
//! as configured on SIGUSR2.

use std::io;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use super::log;
use crate::session::Unmounter;

/// How long files may stay open behind a mount that was asked to end while it was busy.
const GRACE: Duration = Duration::from_secs(10);

/// Signals that are registered for, and wait until [`listen`](Self::listen) attends to them.
pub(super) struct Pending(Signals);

impl Pending {
    pub(super) fn new() -> io::Result<Self> {
        Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2]).map(Pending)
    }

    /// Starts the thread that attends to signals, those that have come already first.
    pub(super) fn listen(self, unmounter: Unmounter, log: log::Handle) -> io::Result<()> {
        let Pending(mut signals) = self;
        let attend = move || {
            let mut ending = false;
            for signal in &mut signals {
                match signal {
                    SIGUSR1 => log.set_debug(true),
                    SIGUSR2 => log.set_debug(false),
                    _ if ending => {
                        warn!("asked again to end: requests that are under way fail");
                        std::process::exit(0);
                    }
                    _ => ending = end(&unmounter),
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(attend).map(drop)
    }
}

/// Unmounts; tells whether the end has begun. A busy mount is detached: nobody new gets in, and
/// whoever has a file open, or the mount itself in a namespace of its own, may finish within the
/// grace period.
fn end(unmounter: &Unmounter) -> bool {
    let unmounted = match unmounter.unmount(false) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            info!("the mount is in use: detached, waiting up to {GRACE:?} for its users");
            unmounter.unmount(true)
        }
        result => result,
    };
    if let Err(error) = unmounted {
        error!(%error, "could not unmount; still serving");
        return false;
    }
    let expire = || {
        thread::sleep(GRACE);
        warn!("still in use: requests that are under way fail");
        std::process::exit(0);
    };
    thread::Builder::new().name("grace".to_owned()).spawn(expire).is_ok()
}
