//! Replies whose data goes from a file to /dev/fuse through a pipe: the pages of the source's page
//! cache are referenced, not copied into this process.
//!
//! The kernel takes a reply in one piece, its header in front, and the header tells the length: so
//! the header goes into the pipe first, for as much as was asked for, and if the file has less the
//! pipe is emptied again and the reply is copied.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::uio::readv;
use nix::unistd::{pipe2, read, write};
use zerocopy::IntoBytes;

use crate::abi::OutHeader;

const PAGE: usize = 4096;
const HEADER: usize = size_of::<OutHeader>();
/// Data of the largest reply that fits into a pipe, as large as fs.pipe-max-size lets everybody make
/// one, in a round figure: one large READ is better asked for in two than copied.
pub const PAYLOAD_MAX: u32 = 512 << 10;
/// From so many bytes on splice is faster than a copy (see perf-results, the runs named `data`).
pub const LARGE: usize = 32 << 10;

/// Which READs are answered by splice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Splice {
    /// None: all data is copied.
    Never,
    /// Those of [`LARGE`] bytes or more.
    #[default]
    Large,
    /// All that a pipe can hold.
    Always,
}

impl Splice {
    /// Whether a READ of `len` bytes is meant.
    pub fn covers(self, len: usize) -> bool {
        match self {
            Splice::Never => false,
            Splice::Large => len >= LARGE,
            Splice::Always => true,
        }
    }
}

/// A pipe, empty between two replies.
#[derive(Debug)]
pub struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    /// Pages, or parts of pages, that it holds.
    slots: usize,
}

/// What a file gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Filled {
    /// All that was asked for: the reply is in the pipe.
    Whole,
    /// So many bytes, which are in the caller's buffer now.
    Part(usize),
}

impl Pipe {
    /// A pipe for replies of up to `payload` bytes of data, or as near to it as this process may:
    /// more than fs.pipe-max-size needs CAP_SYS_RESOURCE.
    pub fn new(payload: usize) -> io::Result<Self> {
        let (output, input) = pipe2(OFlag::O_CLOEXEC)?;
        // Data that does not begin with a page takes one page more, the header another.
        let wanted = i32::try_from((payload / PAGE + 2) * PAGE).unwrap_or(i32::MAX);
        let default = fcntl(&input, FcntlArg::F_GETPIPE_SZ)?;
        let mut size = default;
        let limit = std::fs::read_to_string("/proc/sys/fs/pipe-max-size");
        let limit = limit.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(default);
        for size_wanted in [wanted, wanted.min(limit)] {
            if size < size_wanted
                && let Ok(granted) = fcntl(&input, FcntlArg::F_SETPIPE_SZ(size_wanted))
            {
                size = granted;
                break;
            }
        }
        Ok(Pipe { output, input, slots: usize::try_from(size).unwrap_or(0) / PAGE })
    }

    /// Whether a reply with `len` bytes from `offset` fits.
    pub fn holds(&self, offset: u64, len: usize) -> bool {
        let into_page = usize::try_from(offset % PAGE as u64).unwrap_or(0);
        (into_page + len).div_ceil(PAGE) < self.slots
    }

    /// Puts `header`, that of a reply with `len` bytes of data, and the data into the pipe. What is
    /// less than that goes to `buffer`, and the pipe is empty again. An error is the file's, or the
    /// pipe's, which is then not to be used any more.
    pub fn fill(
        &mut self,
        header: &OutHeader,
        (file, offset): (&File, u64),
        len: usize,
        buffer: &mut [u8],
    ) -> Result<Filled, Errno> {
        // Only for the pipe's sake, which has room: the file is waited for all the same.
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        let mut position = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        write(&self.input, header.as_bytes())?;
        let mut filled = 0;
        let result = loop {
            match splice(file, Some(&mut position), &self.input, None, len - filled, flags) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(Errno::EINTR) => {}
                Err(errno) => break Err(errno),
            }
            if filled == len {
                return Ok(Filled::Whole);
            }
        };
        self.empty(filled, buffer)?;
        // An error behind bytes that could be read is an error: see `read_range`.
        result.map(|()| Filled::Part(filled))
    }

    /// Takes the header and `filled` bytes behind it out again.
    fn empty(&self, filled: usize, buffer: &mut [u8]) -> Result<(), Errno> {
        let data = buffer.get_mut(..filled).ok_or(Errno::EIO)?;
        let mut header = [0; HEADER];
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(data)];
        match readv(&self.output, &mut parts)? {
            count if count == HEADER + filled => Ok(()),
            _ => Err(Errno::EIO),
        }
    }

    /// Whether every request with up to `payload` bytes of data fits: its headers take a page, and data
    /// that does not begin with a page one more.
    pub fn receives(&self, payload: usize) -> bool {
        payload.div_ceil(PAGE) + 2 <= self.slots
    }

    /// Receives a request of up to `max` bytes from `device`.
    pub fn draw(&mut self, device: impl AsFd, max: usize) -> Result<usize, Errno> {
        splice(device, None, &self.input, None, max, SpliceFFlags::empty())
    }

    /// Takes as many bytes out as `buffer` has. It must hold so many.
    pub fn take(&mut self, buffer: &mut [u8]) {
        let mut filled = 0;
        while filled < buffer.len() {
            match read(&self.output, &mut buffer[filled..]) {
                Err(Errno::EINTR) => {}
                // A request that is lost leaves its caller waiting: better the mount ends.
                count => match count.expect("a pipe gives back what was put into it") {
                    0 => unreachable!("its other end is here"),
                    count => filled += count,
                },
            }
        }
    }

    /// Sends a reply with `len` bytes of data, all of it, to `device`.
    pub fn send(&mut self, device: impl AsFd, len: usize) -> Result<(), Errno> {
        let total = HEADER + len;
        splice(&self.output, None, device, None, total, SpliceFFlags::empty()).map(drop)
    }
}

impl AsFd for Pipe {
    /// Its end for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::encode;
    use std::io::{Read, Write};

    /// The byte at a position of the test's file.
    fn byte(at: usize) -> u8 {
        u8::try_from(at / 7 % 251).expect("small")
    }

    fn file(len: usize) -> File {
        let mut file = tempfile::tempfile().expect("a temporary file");
        let content: Vec<u8> = (0..len).map(byte).collect();
        file.write_all(&content).expect("write");
        file
    }

    #[test]
    fn a_whole_range_comes_out_behind_its_header() {
        let (file, mut pipe) = (file(200_000), Pipe::new(1 << 17).expect("a pipe"));
        for (offset, len) in [(0, 4096), (4096, 1 << 17), (5, 70_000), (199_999, 1)] {
            assert!(pipe.holds(offset, len), "{offset} {len}");
            let header = encode::header(7, Ok(len));
            let filled = pipe.fill(&header, (&file, offset), len, &mut []).expect("splice");
            assert_eq!(filled, Filled::Whole);
            let sink = tempfile::NamedTempFile::new().expect("a temporary file");
            pipe.send(sink.as_file().as_fd(), len).expect("send");
            let mut content = Vec::new();
            sink.reopen().expect("open").read_to_end(&mut content).expect("read");
            assert_eq!(content[..HEADER], *header.as_bytes());
            let at = usize::try_from(offset).expect("small");
            let expected: Vec<u8> = (at..at + len).map(byte).collect();
            assert_eq!(content[HEADER..], expected, "{offset} {len}");
        }
    }

    #[test]
    fn what_a_file_does_not_have_is_taken_out_again() {
        let (file, mut pipe) = (file(10_000), Pipe::new(1 << 17).expect("a pipe"));
        for (offset, expected) in [(0, 10_000), (9_000, 1000), (10_000, 0), (1 << 40, 0)] {
            let (header, mut buffer) = (encode::header(7, Ok(1 << 16)), vec![0; 1 << 16]);
            let filled = pipe.fill(&header, (&file, offset), 1 << 16, &mut buffer);
            assert_eq!(filled, Ok(Filled::Part(expected)), "at {offset}");
            let at = usize::try_from(offset).expect("small");
            assert!((at..).map(byte).zip(&buffer[..expected]).all(|(real, got)| real == *got));
        }
        let write_only = tempfile::NamedTempFile::new().expect("a temporary file");
        let write_only = File::options().write(true).open(write_only.path()).expect("open");
        let filled = pipe.fill(&encode::header(7, Ok(8)), (&write_only, 0), 8, &mut [0; 8]);
        assert_eq!(filled, Err(Errno::EBADF));
        let filled = pipe.fill(&encode::header(7, Ok(8)), (&file, 0), 8, &mut [0; 8]);
        assert_eq!(filled, Ok(Filled::Whole), "the pipe is as good as new");
    }

    #[test]
    fn what_does_not_fit_is_known_beforehand() {
        let pipe = Pipe::new(1 << 17).expect("a pipe");
        assert!(pipe.holds(0, 1 << 17) && pipe.holds(100, 1 << 17));
        let slots = pipe.slots;
        assert!(pipe.holds(0, (slots - 1) * PAGE) && !pipe.holds(1, (slots - 1) * PAGE));
        assert!(!pipe.holds(0, slots * PAGE));
    }
}
