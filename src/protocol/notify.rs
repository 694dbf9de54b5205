//! Notifications to bytes: what a file system tells the kernel without being asked.

use zerocopy::IntoBytes;

use crate::abi::{NotifyInvalEntryOut, NotifyInvalInodeOut, NotifyPruneOut, OutHeader};
use crate::fs::NodeId;

/// Oldest minor protocol version that has [`Notification::Epoch`].
pub const EPOCH_MINOR: u32 = 44;
/// Oldest minor protocol version that has [`Notification::Prune`].
pub const PRUNE_MINOR: u32 = 45;

const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const INC_EPOCH: i32 = 8;
const PRUNE: i32 = 9;
/// What a name stands for stays what it is until the answer is another: it may be somebody's working
/// directory.
const EXPIRE_ONLY: u32 = 1;

/// Something that the kernel shall no longer believe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Notification {
    /// What `name` is in the directory `parent`: the kernel asks before it believes it again. It waits
    /// for the directory's lock, which whoever looks something up there holds until that is answered.
    Entry {
        /// The directory.
        parent: NodeId,
        /// The name, without a zero byte.
        name: Box<[u8]>,
    },
    /// The attributes and ACLs of an inode. Waits for nobody.
    Attributes(NodeId),
    /// Its attributes, and what is cached of its data or its listing. The kernel waits for the
    /// locks of its pages, which are held until a READ or READDIR is answered.
    Contents(NodeId),
    /// Every name. Waits for nobody.
    Epoch,
    /// An inode, which the kernel forgets unless somebody uses it: its names go with it, whatever they
    /// are by now. It waits for its pages, as for [`Contents`](Self::Contents).
    Prune(NodeId),
}

impl Notification {
    /// Whether the kernel may make the writer wait for somebody whom only the daemon can serve.
    pub fn may_wait(&self) -> bool {
        use Notification::{Attributes, Contents, Entry, Epoch, Prune};
        match self {
            Entry { .. } | Contents(_) | Prune(_) => true,
            Attributes(_) | Epoch => false,
        }
    }

    /// Appends its bytes, as they are written to /dev/fuse, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let inode = |nodeid: &NodeId, off| NotifyInvalInodeOut { ino: nodeid.0, off, len: 0 };
        match self {
            Notification::Entry { parent, name } => {
                let namelen = u32::try_from(name.len()).expect("names are at most 255 bytes");
                let flags = EXPIRE_ONLY;
                let entry = NotifyInvalEntryOut { parent: parent.0, namelen, flags };
                message(out, INVAL_ENTRY, &[entry.as_bytes(), name, &[0]]);
            }
            Notification::Attributes(nodeid) => {
                message(out, INVAL_INODE, &[inode(nodeid, -1).as_bytes()]);
            }
            Notification::Contents(nodeid) => {
                message(out, INVAL_INODE, &[inode(nodeid, 0).as_bytes()]);
            }
            Notification::Epoch => message(out, INC_EPOCH, &[]),
            Notification::Prune(nodeid) => {
                let inodes = NotifyPruneOut { count: 1, padding: 0, spare: 0 };
                message(out, PRUNE, &[inodes.as_bytes(), nodeid.0.as_bytes()]);
            }
        }
    }
}

/// A notification has the header of a reply to nobody, with its code in place of the error.
fn message(out: &mut Vec<u8>, code: i32, parts: &[&[u8]]) {
    let len = size_of::<OutHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
    let len = u32::try_from(len).expect("a structure and a name");
    out.extend_from_slice(OutHeader { len, error: code, unique: 0 }.as_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// The first of the notifications that `bytes` consist of, and the rest; `None` at their end, or if
/// they are something else.
pub fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?);
    let len = usize::try_from(len).ok().filter(|len| *len >= size_of::<OutHeader>())?;
    bytes.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_the_kernels() {
        let entry = Notification::Entry { parent: NodeId(7), name: (*b"ab").into() };
        let all = [
            (entry, true, &[&words32(&[35, 3, 0, 0, 7, 0, 2, 1])[..], b"ab\0"].concat()),
            (
                Notification::Attributes(NodeId(9)),
                false,
                &words32(&[40, 2, 0, 0, 9, 0, u32::MAX, u32::MAX, 0, 0]),
            ),
            (Notification::Contents(NodeId(9)), true, &words32(&[40, 2, 0, 0, 9, 0, 0, 0, 0, 0])),
            (Notification::Epoch, false, &words32(&[16, 8, 0, 0])),
            (Notification::Prune(NodeId(9)), true, &words32(&[40, 9, 0, 0, 1, 0, 0, 0, 9, 0])),
        ];
        let (mut stream, mut whole) = (Vec::new(), Vec::new());
        for (notification, waits, want) in &all {
            let mut bytes = Vec::new();
            notification.encode(&mut bytes);
            assert_eq!((&bytes, notification.may_wait()), (*want, *waits), "{notification:?}");
            notification.encode(&mut stream);
        }
        let mut rest = &stream[..];
        while let Some((first, tail)) = split_first(rest) {
            whole.push(first.to_vec());
            rest = tail;
        }
        assert!(rest.is_empty());
        assert_eq!(whole, all.map(|(_, _, want)| want.clone()));
    }

    #[test]
    fn what_is_no_notification_is_not_split() {
        for bytes in [&[][..], &[1, 2, 3], &words32(&[17, 8, 0, 0]), &words32(&[15, 0, 0, 0])] {
            assert_eq!(split_first(bytes), None, "{bytes:?}");
        }
    }

    fn words32(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}
