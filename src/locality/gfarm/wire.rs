//! What a daemon and the process that asks Gfarm for it say to each other: packets, in turns.

use crate::sys::libgfarm::Version;

/// Bytes of a packet at most: a path and a URL around it.
pub(super) const PACKET_MAX: usize = 8192;

/// A question about a file, by its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question<'a> {
    /// Which version it is, and whether the storage node has all of it.
    Version(&'a [u8]),
    /// Which file of this machine the storage node opens for it.
    Opened(&'a [u8]),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The process can be asked.
    Ready,
    Version {
        version: Version,
        held: bool,
    },
    /// Device and inode number; none if the node hands out no file of this machine.
    Opened(Option<(u64, u64)>),
    /// What Gfarm says is wrong.
    Error(String),
}

impl Question<'_> {
    /// `None` if it is longer than a packet.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let (tag, url) = match self {
            Question::Version(url) => (b'v', url),
            Question::Opened(url) => (b'o', url),
        };
        let packet = [&[tag], *url].concat();
        (packet.len() <= PACKET_MAX).then_some(packet)
    }

    pub(super) fn decode(packet: &[u8]) -> Option<Question<'_>> {
        match packet.split_first()? {
            (b'v', url) => Some(Question::Version(url)),
            (b'o', url) => Some(Question::Opened(url)),
            _ => None,
        }
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = |tag: u8, numbers: &[u64]| {
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            std::iter::once(tag).chain(bytes).collect()
        };
        match self {
            Answer::Ready => vec![b'r'],
            Answer::Version { version, held } => {
                let Version { inode, generation, size, ctime } = *version;
                let (seconds, nanoseconds) = (ctime.0.cast_unsigned(), ctime.1.cast_unsigned());
                let held = u64::from(*held);
                numbers(b'v', &[inode, generation, size, seconds, nanoseconds, held])
            }
            Answer::Opened(None) => vec![b'n'],
            Answer::Opened(Some((device, inode))) => numbers(b'o', &[*device, *inode]),
            Answer::Error(text) => {
                let text = text.as_bytes();
                [b"e", &text[..text.len().min(PACKET_MAX - 1)]].concat()
            }
        }
    }

    pub(super) fn decode(packet: &[u8]) -> Option<Answer> {
        let (tag, rest) = packet.split_first()?;
        let (numbers, odd) = rest.as_chunks::<8>();
        let numbers: Vec<_> = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        match (tag, &numbers[..], odd) {
            (b'r', [], []) => Some(Answer::Ready),
            (b'n', [], []) => Some(Answer::Opened(None)),
            (b'v', &[inode, generation, size, seconds, nanoseconds, held @ (0 | 1)], []) => {
                let ctime = (seconds.cast_signed(), nanoseconds.cast_signed());
                let version = Version { inode, generation, size, ctime };
                Some(Answer::Version { version, held: held == 1 })
            }
            (b'o', &[device, inode], []) => Some(Answer::Opened(Some((device, inode)))),
            (b'e', ..) => Some(Answer::Error(String::from_utf8_lossy(rest).into_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        for question in [Question::Version(b"gfarm://a:1/b\nc"), Question::Opened(b"")] {
            let packet = question.encode().expect("it is short");
            assert_eq!(Question::decode(&packet), Some(question));
        }
        let ctime = (-1, 999_999_999);
        let version = Version { inode: 3, generation: u64::MAX, size: 0, ctime };
        for answer in [
            Answer::Ready,
            Answer::Version { version, held: true },
            Answer::Version { version, held: false },
            Answer::Opened(None),
            Answer::Opened(Some((7, 8))),
            Answer::Error("no such file".to_owned()),
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let held_twice = [b"v".as_slice(), &[0; 40], &2_u64.to_le_bytes()].concat();
        for packet in [b"".as_slice(), b"x", b"v", b"rr", b"o1234567", &held_twice] {
            assert_eq!(Answer::decode(packet), None, "{packet:?}");
        }
        assert_eq!(Question::decode(b""), None);
        assert_eq!(Question::decode(b"x/"), None);
        assert_eq!(Question::Version(&[b'a'; PACKET_MAX]).encode(), None);
    }
}
