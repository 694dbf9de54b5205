//! A session of either kind: our own, or the baseline's.

use std::io;
use std::sync::Arc;

use crate::baseline;
use crate::config::Transport;
use crate::fs::Filesystem;
use crate::session::{Info, MountError, Options, Session};

/// A mounted file system that is being served.
#[derive(Debug)]
pub(super) enum Served {
    Own(Session),
    Fuser(baseline::Session),
}

/// Takes the mount away: at once, or lazily.
pub(super) type Unmount = Box<dyn Fn(bool) -> io::Result<()> + Send>;

impl Served {
    pub(super) fn mount<F: Filesystem + ?Sized>(
        fs: Arc<F>,
        transport: Transport,
        options: &Options,
    ) -> Result<Self, MountError> {
        match transport {
            Transport::Auto | Transport::Dev | Transport::Uring => {
                Session::mount(fs, options).map(Served::Own)
            }
            Transport::Fuser => baseline::Session::mount(fs, options).map(Served::Fuser),
        }
    }

    pub(super) fn info(&self) -> &Arc<Info> {
        match self {
            Served::Own(session) => session.info(),
            Served::Fuser(session) => session.info(),
        }
    }

    pub(super) fn unmounter(&self) -> Unmount {
        match self {
            Served::Own(session) => {
                let unmounter = session.unmounter();
                Box::new(move |lazy| unmounter.unmount(lazy))
            }
            Served::Fuser(session) => {
                let unmounter = session.unmounter();
                Box::new(move |lazy| unmounter.unmount(lazy))
            }
        }
    }

    pub(super) fn join(self) {
        match self {
            Served::Own(session) => session.join(),
            Served::Fuser(session) => session.join(),
        }
    }
}
