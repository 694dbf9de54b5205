//! What this file system has told the kernel of, for whoever notifies it.

use std::sync::Arc;

use super::inode::InodeTable;
use crate::coherence::{Answers, Known};
use crate::fs::NodeId;
use crate::sys::handle::FileHandle;

/// The inodes, and the answers that may add to them.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) inodes: Arc<InodeTable>,
    pub(super) answers: Arc<Answers>,
    /// The kernel opens files by itself, and keeps what it has read of any.
    pub(super) opens_by_itself: bool,
}

impl Known for Shown {
    fn find(&self, object: &FileHandle) -> Option<NodeId> {
        self.inodes.nodeid_of(object)
    }

    fn data_changed(&self, nodeid: NodeId) -> bool {
        let kept = self.inodes.live(nodeid).is_some_and(|inode| inode.data_changed());
        kept || self.opens_by_itself
    }

    fn writer_closed(&self, nodeid: NodeId) {
        if let Some(inode) = self.inodes.live(nodeid) {
            inode.writer_closed();
            self.inodes.settle(&inode);
        }
    }

    fn is_known_twice(&self) -> bool {
        self.inodes.has_twins()
    }

    fn all(&self) -> Vec<NodeId> {
        self.inodes.all()
    }

    fn answers(&self) -> &Answers {
        &self.answers
    }
}
