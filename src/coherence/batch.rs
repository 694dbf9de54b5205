//! From changes of the source to what the kernel is to be told, each thing once. Pure but for what it
//! asks of [`Known`].

use rustc_hash::FxHashSet;

use super::Known;
use crate::fs::NodeId;
use crate::protocol::notify::Notification;
use crate::sys::fanotify::Event;
use crate::sys::handle::FileHandle;

/// What one look at the stream of changes has brought.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changed: Changed,
    /// Objects whose data has changed.
    data: FxHashSet<FileHandle>,
    /// Objects that somebody has closed who could write to them.
    closed: FxHashSet<FileHandle>,
    /// Objects that have lost a name, in the order in which they did.
    removed: Vec<FileHandle>,
}

/// What has changed, whether or not the kernel knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Objects.
    pub(super) objects: FxHashSet<FileHandle>,
    /// Names, each with its directory.
    pub(super) names: FxHashSet<(FileHandle, Box<[u8]>)>,
    /// Anything at all.
    pub(super) everything: bool,
}

impl Changed {
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.names.is_empty() && !self.everything
    }

    pub(super) fn append(&mut self, other: &Changed) {
        self.objects.extend(&other.objects);
        self.names.extend(other.names.iter().cloned());
        self.everything |= other.everything;
    }
}

impl Batch {
    /// That anything may have changed.
    pub(super) fn all() -> Self {
        Batch { changed: Changed { everything: true, ..Changed::default() }, ..Batch::default() }
    }

    /// Takes up an event, unless `own` made it: the kernel knows what it asked for itself.
    pub(super) fn add(&mut self, event: &Event<'_>, own: Option<i32>) {
        self.changed.everything |= event.is_overflow();
        if Some(event.pid) == own {
            return;
        }
        if let Some(object) = event.object {
            self.changed.objects.insert(object);
            if event.is_data() {
                self.data.insert(object);
            }
            if event.is_close() {
                self.closed.insert(object);
            }
            if event.is_removal() {
                self.removed.push(object);
            }
        }
        if let Some((directory, name)) = event.entry {
            self.changed.objects.insert(directory);
            self.changed.names.insert((directory, name.into()));
        }
    }

    /// What the kernel had better forget: it would keep what was removed until it needs the memory, or
    /// the name is asked for again. A directory comes after what was in it.
    pub(super) fn removed(&self, known: &dyn Known) -> impl Iterator<Item = Notification> {
        self.removed.iter().filter_map(|object| known.find(object)).map(Notification::Prune)
    }

    /// What the kernel has to be told. What it does not know it is not told of: most of what changes
    /// elsewhere on the file system ends here.
    pub(super) fn notifications(&self, known: &dyn Known) -> Vec<Notification> {
        let mut told = Vec::new();
        let mut listings = FxHashSet::default();
        for (directory, name) in &self.changed.names {
            if let Some(parent) = known.find(directory) {
                told.push(Notification::Entry { parent, name: name.clone() });
                listings.insert(parent);
            }
        }
        for object in &self.changed.objects {
            if let Some(nodeid) = known.find(object) {
                if self.closed.contains(object) {
                    known.writer_closed(nodeid);
                }
                told.push(Notification::Attributes(nodeid));
                let data = self.data.contains(object) && known.data_changed(nodeid);
                if data || listings.contains(&nodeid) {
                    told.push(Notification::Contents(nodeid));
                }
            }
        }
        told
    }
}

/// That the kernel has to forget the attributes of all that it knows; with
/// [`Notification::Epoch`] it then trusts nothing.
pub(super) fn everything(known: &dyn Known) -> impl Iterator<Item = Notification> {
    let told = |nodeid: NodeId| {
        known.data_changed(nodeid);
        Notification::Attributes(nodeid)
    };
    known.all().into_iter().map(told)
}
