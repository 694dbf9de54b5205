//! What the daemon has to know of a file system beyond what requests ask of it.

use crate::config::MountOptions;
use crate::fs::Filesystem;
use crate::metrics::snapshot::{Coherence, Data, Live, Locality};
use crate::null::Null;
use crate::passthrough::Local;

/// A file system that the daemon can serve, and tell about.
pub(super) trait Shown: Filesystem {
    /// `options`, tightened by what lies below.
    fn tighten(&self, options: &MountOptions) -> MountOptions {
        options.clone()
    }

    /// What is alive in it now.
    fn live(&self) -> Live;

    /// Who moves the bytes of its files.
    fn data(&self) -> Data;

    /// What keeps the kernel's caches true.
    fn coherence(&self) -> Coherence;

    /// Where the bytes of a distributed file system's files are read.
    fn locality(&self) -> Locality {
        Locality::default()
    }

    /// The mount is gone.
    fn end(&self) {}

    /// Makes what was written survive whatever comes next.
    fn sync(&self) {}
}

impl Shown for Local {
    fn tighten(&self, options: &MountOptions) -> MountOptions {
        options.inheriting(self.inherited())
    }

    fn live(&self) -> Live {
        Local::live(self)
    }

    fn data(&self) -> Data {
        Local::data(self)
    }

    fn coherence(&self) -> Coherence {
        Local::coherence(self)
    }

    fn locality(&self) -> Locality {
        Local::locality(self)
    }

    fn end(&self) {
        Local::end(self);
    }

    fn sync(&self) {
        Local::sync(self);
    }
}

impl Shown for Null {
    fn live(&self) -> Live {
        Live::default()
    }

    fn data(&self) -> Data {
        let reason = Some("there is no storage: reads are zeros, writes are dropped".to_owned());
        Data { mode: "none".to_owned(), requested: "none".to_owned(), reason }
    }

    fn coherence(&self) -> Coherence {
        let reason = Some("there is no source that could change".to_owned());
        let none = || "none".to_owned();
        Coherence { mode: none(), requested: none(), reason, ..Coherence::default() }
    }
}
