//! A session of either kind: our own, or the baseline's.

use std::sync::Arc;

use crate::baseline;
use crate::config::Transport;
use crate::fs::Filesystem;
use crate::session::{Info, MountError, Options, Session, Unmounter};

/// A mounted file system that is being served.
#[derive(Debug)]
pub(super) enum Served {
    Own(Session),
    Fuser(baseline::Session),
}

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

    pub(super) fn unmounter(&self) -> Unmounter {
        match self {
            Served::Own(session) => session.unmounter(),
            Served::Fuser(session) => session.unmounter(),
        }
    }

    pub(super) fn join(self) -> Result<(), MountError> {
        match self {
            Served::Own(session) => session.join(),
            Served::Fuser(session) => {
                session.join();
                Ok(())
            }
        }
    }
}
