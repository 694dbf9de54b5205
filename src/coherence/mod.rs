//! What the kernel may answer by itself, and who tells it of changes made behind the mount.
//!
//! With `watch` it may answer nearly everything: a thread reads the changes of the source's file
//! system ([`fanotify`](crate::sys::fanotify)) and tells it what it must no longer believe
//! ([`notify`](crate::protocol::notify)). Nothing here knows how a file system finds its objects;
//! it is asked through [`Known`].

mod answers;
mod batch;
mod closings;
mod helper;
mod later;
pub mod notifier;
mod task;
mod watcher;

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use nix::errno::Errno;
use tracing::info;

pub use answers::{Answer, Answers};

use crate::config::{Coherence, Config, DataMode};
use crate::fs::{Kernel, Negotiated, NodeId};
use crate::metrics::snapshot;
use crate::protocol::notify::{EPOCH_MINOR, Notification, PRUNE_MINOR};
use crate::sys::fanotify::Watch;
use crate::sys::handle::FileHandle;
use closings::Closings;
use helper::Helper;
use task::Task;
use watcher::Tools;

/// Longer than any mount lives, and short enough for every clock of the kernel.
const UNBOUNDED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// What a name or attributes are trusted for where nobody says otherwise.
const CLASSIC: Duration = Duration::from_secs(1);

/// How far the kernel may trust what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// How long it may trust a name.
    pub entry: Duration,
    /// How long it may trust attributes.
    pub attr: Duration,
    /// How long it may trust that a name does not exist.
    pub negative: Duration,
    /// Whether what it keeps of files and directories is good until it is told otherwise.
    pub caches: bool,
}

impl Trust {
    /// How long attributes of a file are good at most while it may be stored to through a mapping of the
    /// source's file, which moves times that the kernel does not know of.
    pub const WHILE_STORED: Duration = Duration::from_secs(1);

    /// What `config` asks for where `force` is in force. Timeouts that are given by themselves
    /// override those of the coherence.
    fn new(config: &Config, force: Force) -> Self {
        let (valid, negative, caches) = match force {
            Force::Watch | Force::Exclusive => (UNBOUNDED, UNBOUNDED, true),
            Force::Timeout(timeout) => (timeout, Duration::ZERO, false),
        };
        Trust {
            entry: config.entry_timeout.unwrap_or(valid),
            attr: config.attr_timeout.unwrap_or(valid),
            negative: config.negative_timeout.unwrap_or(negative),
            caches,
        }
    }
}

/// The coherence that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    Watch,
    Exclusive,
    Timeout(Duration),
}

/// What a file system has told the kernel of.
pub trait Known: Debug + Send + Sync {
    /// The nodeid of an object that the kernel knows, or will in a moment.
    fn find(&self, object: &FileHandle) -> Option<NodeId>;

    /// The data of an inode has changed: what the kernel keeps of it must not outlive the next open.
    /// Whether it may keep anything at the moment.
    fn data_changed(&self, nodeid: NodeId) -> bool;

    /// A file that may have been written to was closed, and the kernel is going to be told that the
    /// attributes of its inode have changed.
    fn writer_closed(&self, nodeid: NodeId);

    /// Whether the kernel may know an object as two inodes, so that what it changes of one by itself
    /// it has to be told of the other.
    fn is_known_twice(&self) -> bool;

    /// Every inode that the kernel knows.
    fn all(&self) -> Vec<NodeId>;

    /// Answers that the kernel will take at their word.
    fn answers(&self) -> &Answers;
}

/// Keeps what the kernel has cached true to the source, for the life of a mount.
#[derive(Debug)]
pub struct Upkeep {
    config: Config,
    /// A directory of the source to watch; else why it is not watched.
    source: Result<OwnedFd, String>,
    /// The same directory, where at least the closing of files can be watched and matters.
    written: Option<OwnedFd>,
    settled: OnceLock<Settled>,
    task: Mutex<Option<Task>>,
    /// The connection, which is another after one that was given up.
    kernel: RwLock<Option<Kernel>>,
    figures: Arc<Figures>,
    failure: Arc<Failure>,
}

/// What came of it, once the kernel was asked.
#[derive(Debug)]
struct Settled {
    force: Force,
    trust: Trust,
    /// The same for what is not watched: what lies on other file systems, and everything while the
    /// watching fails.
    elsewhere: Trust,
    /// Why the source is not watched, though it was asked for.
    reason: Option<String>,
}

/// What the watching has done (relaxed: figures).
#[derive(Debug, Default)]
struct Figures {
    events: Count,
    notifications: Count,
    overflows: Count,
    expirations: Count,
}

/// What the watching fails with at the moment, 0 if it does not.
#[derive(Debug, Default)]
struct Failure(AtomicI32);

impl Failure {
    /// Takes note of it; tells what it was before.
    fn set(&self, errno: Option<Errno>) -> Option<Errno> {
        // SeqCst: an answer that counts as one from afterwards trusts accordingly.
        of_raw(self.0.swap(errno.map_or(0, |errno| errno as i32), SeqCst))
    }

    fn get(&self) -> Option<Errno> {
        of_raw(self.0.load(SeqCst))
    }
}

fn of_raw(errno: i32) -> Option<Errno> {
    (errno != 0).then(|| Errno::from_raw(errno))
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What can be known of a source before it is mounted.
#[derive(Debug)]
pub struct Prospect<'a> {
    /// A directory of it, not opened with O_PATH.
    pub directory: &'a OwnedFd,
    /// Whether it lies on a mount of its own.
    pub private: bool,
    /// Whether its objects are known by their handles.
    pub handles: bool,
}

impl Upkeep {
    /// Looks whether the source can be watched, if that is asked for.
    ///
    /// # Errors
    /// Why not, if it is asked for by name.
    pub fn new(config: &Config, prospect: &Prospect<'_>) -> Result<Self, String> {
        let source = match config.coherence {
            Coherence::Watch | Coherence::Auto => prospect.source(config),
            Coherence::Exclusive | Coherence::Timeout(_) => Err(String::new()),
        };
        match &source {
            Err(reason) if config.coherence == Coherence::Watch => return Err(refused(reason)),
            _ => {}
        }
        let (config, written) = (config.clone(), prospect.written(config));
        let (settled, task, kernel, figures, failure) = Default::default();
        Ok(Upkeep { config, source, written, settled, task, kernel, figures, failure })
    }

    /// Begins to keep the caches of a new mount true; before it gets its first request.
    ///
    /// # Errors
    /// Why it can not be watched, if that is asked for by name.
    pub fn begin(
        &self,
        negotiated: &Negotiated,
        kernel: Kernel,
        known: Arc<dyn Known>,
    ) -> io::Result<()> {
        *self.kernel.write().unwrap_or_else(PoisonError::into_inner) = Some(kernel.clone());
        let (force, reason) = match (self.config.coherence, &self.source) {
            (Coherence::Exclusive, _) => (Force::Exclusive, None),
            (Coherence::Timeout(timeout), _) => (Force::Timeout(timeout), None),
            (Coherence::Auto | Coherence::Watch, Err(reason)) => {
                (Force::Timeout(CLASSIC), Some(reason.clone()))
            }
            (Coherence::Auto | Coherence::Watch, Ok(source)) => {
                match self.watch(source, negotiated, kernel.clone(), known.clone()) {
                    Ok(task) => {
                        *self.task() = Some(task);
                        (Force::Watch, None)
                    }
                    Err(reason) if self.config.coherence == Coherence::Watch => {
                        return Err(io::Error::other(refused(&reason)));
                    }
                    Err(reason) => (Force::Timeout(CLASSIC), Some(reason)),
                }
            }
        };
        match &reason {
            Some(reason) => info!("what is changed behind the mount shows after 1 s: {reason}"),
            None => info!(coherence = force.name(), "what the kernel may cache is settled"),
        }
        let trust = Trust::new(&self.config, force);
        if force != Force::Watch && trust.attr > Trust::WHILE_STORED {
            *self.task() = self.watch_closings(kernel, known);
        }
        let elsewhere = match force {
            Force::Watch => Trust::new(&self.config, Force::Timeout(CLASSIC)),
            _ => trust,
        };
        // A second connection, after one that was given up, is to the same kernel.
        let _ = self.settled.set(Settled { force, trust, elsewhere, reason });
        Ok(())
    }

    fn watch(
        &self,
        source: &OwnedFd,
        negotiated: &Negotiated,
        kernel: Kernel,
        known: Arc<dyn Known>,
    ) -> Result<Task, String> {
        if negotiated.minor < EPOCH_MINOR {
            return Err("this kernel can not be told that all names expire (Linux 6.16)".to_owned());
        }
        let program = self.config.notifier.as_ref().ok_or(NO_NOTIFIER)?;
        let watch = Watch::new(source.as_fd()).map_err(cause)?;
        let helper = Helper::start(program, kernel.as_fd(), kernel.connection())
            .map_err(|error| format!("start `{} notify`: {error}", program.display()))?;
        let (figures, failure) = (self.figures.clone(), self.failure.clone());
        failure.set(None);
        let prunes = negotiated.minor >= PRUNE_MINOR;
        let tools = Tools { watch, kernel, helper, known, figures, failure, prunes };
        Task::start("watcher", move |stop| watcher::run(tools, stop))
            .map_err(|error| format!("start a thread: {error}"))
    }

    /// Has attributes of written files trusted for longer than a second once they are closed, if that can
    /// be had.
    fn watch_closings(&self, kernel: Kernel, known: Arc<dyn Known>) -> Option<Task> {
        let watch = Watch::closings(self.written.as_ref()?.as_fd()).map_err(cause);
        let figures = self.figures.clone();
        let started = watch.and_then(|watch| {
            let closings = Closings { watch, kernel, known, figures };
            Task::start("closings", move |stop| closings.run(&stop))
                .map_err(|error| format!("start a thread: {error}"))
        });
        let said =
            |reason| info!("attributes of files that were written are trusted for 1 s: {reason}");
        started.map_err(said).ok()
    }

    /// Ends it: the mount is gone.
    pub fn end(&self) {
        *self.task() = None;
    }

    /// The attributes of an inode are going to change without that the kernel knows.
    pub fn attributes_change(&self, nodeid: NodeId) {
        if self.trust().caches {
            self.attributes_changed(nodeid);
        }
    }

    /// A request has changed attributes of an inode that the kernel takes to be what they were: of the
    /// daemon's own changes nobody else tells.
    pub fn attributes_changed(&self, nodeid: NodeId) {
        let mut bytes = Vec::new();
        Notification::Attributes(nodeid).encode(&mut bytes);
        let kernel = self.kernel.read().unwrap_or_else(PoisonError::into_inner);
        // ENOENT: it was told nothing yet.
        let _ = kernel.as_ref().map(|kernel| kernel.notify(&bytes));
    }

    /// How far the kernel may trust what it is told.
    pub fn trust(&self) -> Trust {
        match self.settled.get() {
            Some(settled) if self.failure.get().is_some() => settled.elsewhere,
            Some(settled) => settled.trust,
            None => Trust::new(&self.config, Force::Timeout(Duration::ZERO)),
        }
    }

    /// Whether the kernel may decide by itself to keep something until it is told otherwise, for as long
    /// as the mount lives: while the watching fails it is told so all the time.
    pub fn tells(&self) -> bool {
        self.settled.get().is_some_and(|settled| settled.trust.caches)
    }

    /// How far the kernel may trust what it is told of file systems that are mounted inside the source.
    pub fn trust_elsewhere(&self) -> Trust {
        self.settled.get().map_or_else(|| self.trust(), |settled| settled.elsewhere)
    }

    /// What is in force, and why.
    pub fn describe(&self) -> snapshot::Coherence {
        let (mode, reason) = match (self.settled.get(), self.failure.get()) {
            (Some(_), Some(errno)) => {
                (Force::Timeout(CLASSIC).name(), Some(format!("the watching fails: {errno}")))
            }
            (Some(Settled { force, reason, .. }), None) => (force.name(), reason.clone()),
            (None, _) => Default::default(),
        };
        snapshot::Coherence {
            mode,
            requested: self.config.coherence.to_string(),
            reason,
            events: self.figures.events.get(),
            notifications: self.figures.notifications.get(),
            overflows: self.figures.overflows.get(),
            expirations: self.figures.expirations.get(),
        }
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prospect<'_> {
    /// A descriptor to watch the closing of files with, where the kernel may write them by itself, and who
    /// does can be found.
    fn written(&self, config: &Config) -> Option<OwnedFd> {
        let by_daemon = matches!(config.data, DataMode::Copy | DataMode::Splice);
        let written = self.private && self.handles && !config.mount.ro && !by_daemon;
        written.then(|| self.directory.try_clone().ok()).flatten()
    }

    /// A descriptor to watch; else why it can not be watched.
    fn source(&self, config: &Config) -> Result<OwnedFd, String> {
        if config.notifier.is_none() {
            return Err(NO_NOTIFIER.to_owned());
        }
        if !self.private {
            return Err(
                "watching needs CAP_SYS_ADMIN in the initial user namespace: mount as root"
                    .to_owned(),
            );
        }
        if !self.handles {
            return Err(
                "the source's file system has no file handles to tell its objects by".to_owned()
            );
        }
        Watch::new(self.directory.as_fd()).map_err(cause)?;
        self.directory.try_clone().map_err(|error| format!("duplicate a descriptor: {error}"))
    }
}

const NO_NOTIFIER: &str = "only `fusewire mount` brings the process that watching needs";

/// Why a file system can not be watched.
pub(crate) fn cause(errno: Errno) -> String {
    match errno {
        Errno::EPERM => "watching needs CAP_SYS_ADMIN in the initial user namespace: mount as root",
        Errno::EINVAL | Errno::ENOSYS => "this kernel does not tell enough of changes (Linux 5.17)",
        Errno::ENODEV | Errno::EOPNOTSUPP => "changes of the source's file system are not told of",
        Errno::EXDEV => {
            "the source is one of several parts of its file system (a subvolume), which can not be \
             watched by itself"
        }
        errno => return format!("watch the source's file system: {errno}"),
    }
    .to_owned()
}

fn refused(reason: &str) -> String {
    format!(
        "--coherence watch can not be had: {reason}; --coherence timeout=1 asks again every second"
    )
}

impl Force {
    fn name(self) -> String {
        match self {
            Force::Watch => "watch".to_owned(),
            Force::Exclusive => Coherence::Exclusive.to_string(),
            Force::Timeout(timeout) => Coherence::Timeout(timeout).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_that_is_given_overrides_the_coherence() {
        let mut config = Config::new("/s", "/m");
        let seconds = Duration::from_secs;
        let trust = |entry, attr, negative, caches| Trust { entry, attr, negative, caches };
        let unbounded = trust(UNBOUNDED, UNBOUNDED, UNBOUNDED, true);
        assert_eq!(Trust::new(&config, Force::Exclusive), unbounded);
        assert_eq!(Trust::new(&config, Force::Watch), unbounded);
        let five = Force::Timeout(seconds(5));
        assert_eq!(Trust::new(&config, five), trust(seconds(5), seconds(5), seconds(0), false));
        config.attr_timeout = Some(seconds(7));
        config.negative_timeout = Some(seconds(2));
        assert_eq!(Trust::new(&config, five), trust(seconds(5), seconds(7), seconds(2), false));
        config.entry_timeout = Some(seconds(0));
        let watched = Trust::new(&config, Force::Watch);
        assert_eq!(watched, trust(seconds(0), seconds(7), seconds(2), true));
    }
}
