//! Gfarm: which file of a storage node's spool holds what a file of a gfarm2fs mount contains.
//!
//! A file has a generation, which its close after writing counts up; a spool keeps each file under
//! its inode number and generation. So the metadata server is asked, at each open, which generation
//! is the file's now, and whether the storage node of this machine has all of it. Nothing less would
//! do: size and times of two generations may be the same, and an old one may stay in a spool.
//!
//! A file that is being written to keeps its generation until it is closed, on the one storage node that
//! the writer uses; readers of other nodes, of gfarm2fs as of fusewire, see what it was before.

mod helper;
mod metadata;
mod proof;
mod spool;
mod turn;
mod wire;

use std::ffi::{CStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::{Local, Locator, Miss, Replica, Stamp};
use crate::config::Config;
use crate::sys::libgfarm::Version;
use crate::sys::objfd;
use metadata::{Call, Metadata, Unanswered};
use proof::{Proof, Verdict};
use spool::Spool;
use wire::{Answer, Question};

pub use helper::run;

const URL: &CStr = c"gfarm2fs.url";

/// The storage node of this machine, and the server that knows what it keeps.
#[derive(Debug)]
struct Gfarm {
    spool: Spool,
    metadata: Metadata,
    /// The metadata server of the source: the spool is of no other's files.
    server: Vec<u8>,
    proof: Proof,
}

/// Whether the source is a mount of Gfarm.
pub(super) fn is_behind(source: &File) -> bool {
    url(source).is_ok()
}

/// Opens the spool that the configuration names, and asks Gfarm of it. May take as long as Gfarm tries
/// to reach a server that is not there, half a minute.
pub(super) fn open(source: &File, config: &Config) -> Result<Arc<dyn Locator>, String> {
    let root = url(source).map_err(|errno| {
        format!("the source is no mount of Gfarm, which has an attribute gfarm2fs.url: {errno}")
    })?;
    let storage = config.gfarm.clone();
    let path = storage.spool.ok_or(
        "where this machine's storage node (gfsd) has its spool is not known: add gfarm_spool=PATH",
    )?;
    let spool = Spool::open(&path).map_err(|error| {
        format!(
            "gfarm_spool={} is not the spool of a storage node, a folder with a folder data in it: {error}",
            path.display()
        )
    })?;
    let host = match storage.host {
        Some(host) => host,
        None => fs::read_to_string("/proc/sys/kernel/hostname")
            .map_err(|error| format!("the name of this machine: {error}; add gfarm_host=NAME"))?
            .trim()
            .to_owned(),
    };
    let server = server(&root).to_owned();
    let call = Call {
        program: config.notifier.clone().ok_or("there is no program to ask Gfarm with")?,
        root: OsString::from_vec(root),
        host: host.clone(),
        configuration: storage.configuration,
    };
    let metadata = Metadata::start(call)
        .map_err(|error| format!("ask Gfarm what its storage node {host} has: {error}"))?;
    tracing::info!("files of the spool {} are read there, as those of {host}", path.display());
    Ok(Arc::new(Gfarm { spool, metadata, server, proof: Proof::default() }))
}

impl Gfarm {
    /// What the file is now, if the storage node of this machine has all of it.
    fn version(&self, url: &[u8]) -> Result<Version, Miss> {
        match self.metadata.ask(Question::Version(url)) {
            Ok(Answer::Version { version, held: true }) => Ok(version),
            Ok(Answer::Version { held: false, .. }) => Err(Miss::Elsewhere),
            _ => Err(Miss::Failed),
        }
    }

    /// Whether the spool is what the storage node reads, of which the first file that was found is to be
    /// the proof.
    fn prove(&self, url: &[u8], version: &Version, found: &File) -> Result<(), Miss> {
        match self.proof.verdict() {
            Verdict::Proven => return Ok(()),
            Verdict::Distrusted => return Err(Miss::Failed),
            Verdict::Open => {}
        }
        let missing = |reason: &str| {
            if self.proof.is_missing(reason) {
                tracing::warn!(
                    "nothing shows that {} is the spool of this machine's storage node, so all files are \
                     read through the source for now: {reason}",
                    self.spool.path().display()
                );
            }
            Err(Miss::Failed)
        };
        let opened = match self.metadata.ask(Question::Opened(url)) {
            Ok(Answer::Opened(Some(opened))) => opened,
            Ok(Answer::Opened(None)) => {
                return missing(
                    "it hands out no file of this machine; it must be registered (gfhost) with an address of \
                     this machine, not of loopback's own, and have its socket below /tmp",
                );
            }
            Err(Unanswered::Refused(reason)) => return missing(&reason),
            _ => return Err(Miss::Failed),
        };
        let found = fstat(found).map_err(|_| Miss::Failed)?;
        if opened == (found.st_dev, found.st_ino) {
            self.proof.is_given();
            return Ok(());
        }
        // What it has opened may have been a newer one.
        if self.version(url)? == *version && self.proof.is_refuted() {
            tracing::error!(
                "{} is not the spool of this machine's storage node, which reads other files: all are \
                 read through the source; mount again with the right gfarm_spool=PATH or gfarm_host=NAME",
                self.spool.path().display()
            );
        }
        Err(Miss::Failed)
    }
}

impl Locator for Gfarm {
    fn name(&self) -> &'static str {
        "gfarm"
    }

    fn writes_in_place(&self) -> bool {
        false
    }

    fn trouble(&self) -> Option<String> {
        self.proof.trouble()
    }

    fn find(&self, opened: &File, inode: u64) -> Result<Replica, Miss> {
        if self.proof.verdict() == Verdict::Distrusted {
            return Err(Miss::Failed);
        }
        let failed = |_| Miss::Failed;
        let url = url(opened).map_err(failed)?;
        // gfarm2fs leads to other servers as well (`.gfarm/HOST:PORT/`).
        if server(&url) != self.server {
            return Err(Miss::Elsewhere);
        }
        // First: what is found afterwards is not older.
        let stamp = Stamp::ask(opened).map_err(failed)?;
        let version = self.version(&url)?;
        // gfarm2fs knows files by their names, and this one may lead to another file by now. It shows
        // the time of modification that one replica has; that of change is the server's, and is the
        // same unless the file is being changed, or what gfarm2fs remembers is out of date.
        if version.inode != inode || (version.size, version.ctime) != (stamp.size, stamp.ctime) {
            return Err(Miss::Differs);
        }
        let file = self.spool.replica(&version).map_err(|errno| match errno {
            Errno::ENOENT => Miss::Elsewhere,
            Errno::ESTALE => Miss::Differs,
            _ => Miss::Failed,
        })?;
        let local = Local::of(&file).map_err(failed)?;
        self.prove(&url, &version, &file)?;
        Ok(Replica { file, stamp, local })
    }
}

/// What a URL begins with before the path: `gfarm://HOST:PORT`.
fn server(url: &[u8]) -> &[u8] {
    let slashes = url.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at).nth(2).map_or(url, |end| &url[..end])
}

/// The URL of something in a gfarm2fs mount, which names the metadata server as well.
fn url(object: &File) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; wire::PACKET_MAX];
    let len = objfd::fgetxattr(object, URL, &mut value)?;
    value.truncate(len);
    if value.last() == Some(&0) {
        value.pop();
    }
    match value.starts_with(b"gfarm:") {
        true => Ok(value),
        false => Err(Errno::ENODATA),
    }
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn a_url_begins_with_its_server() {
        assert_eq!(server(b"gfarm://host:601/a/b"), b"gfarm://host:601");
        assert_eq!(server(b"gfarm://host:601"), b"gfarm://host:601");
        assert_eq!(server(b"gfarm:///a"), b"gfarm://");
    }
}
