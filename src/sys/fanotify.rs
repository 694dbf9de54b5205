//! fanotify(7), as far as watching a file system for changes takes it.
//!
//! Events name objects by file handle and entries by the handle of their directory and a name, so
//! that no descriptor is opened for any of them.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::handle::FileHandle;

/// Changes of names, with the directory of each.
const NAMES: u64 = libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
/// Changes of data. A store through a mapping is told when the file is closed.
const DATA: u64 = libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE;

const METADATA_SIZE: usize = 24;
const INFO_FID: u8 = 1;
const INFO_DFID_NAME: u8 = 2;
const INFO_DFID: u8 = 3;
/// Header, file-system id, and the two words in front of a handle's bytes.
const HANDLE_AT: usize = 4 + 8 + 8;

/// A stream of the changes of one file system.
#[derive(Debug)]
pub struct Watch {
    group: Fanotify,
}

/// A change, or several of the same object that were made one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    mask: u64,
    /// The process that made it; 0 if it is not one of this pid namespace.
    pub pid: i32,
    /// The object.
    pub object: Option<FileHandle>,
    /// For a change of names: the directory and the name in it.
    pub entry: Option<(FileHandle, &'a [u8])>,
}

impl Event<'_> {
    /// Events were lost: anything may have changed.
    pub fn is_overflow(&self) -> bool {
        self.mask & libc::FAN_Q_OVERFLOW != 0
    }

    /// A file that was open for writing was closed, and is not mapped.
    pub fn is_close(&self) -> bool {
        self.mask & libc::FAN_CLOSE_WRITE != 0
    }

    /// A name was removed.
    pub fn is_removal(&self) -> bool {
        self.mask & libc::FAN_DELETE != 0
    }

    /// Data was written, or may have been.
    pub fn is_data(&self) -> bool {
        self.mask & DATA != 0
    }
}

impl Watch {
    /// Watches the file system of `directory`, except for data that is written through the mount which
    /// `directory` lies on. That a file which was open for writing is closed is told for any mount.
    ///
    /// EPERM without CAP_SYS_ADMIN in the initial user namespace; EINVAL before Linux 5.17; ENODEV,
    /// EOPNOTSUPP and EXDEV for file systems that can not be watched (without handles or an id, or
    /// with several).
    pub fn new(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let report =
            libc::FAN_REPORT_DFID_NAME | libc::FAN_REPORT_FID | libc::FAN_REPORT_TARGET_FID;
        let watch = Watch::nothing(report)?;
        let watched = NAMES | DATA | libc::FAN_ATTRIB | libc::FAN_ONDIR;
        watch.add(directory, MarkFlags::FAN_MARK_FILESYSTEM, watched)?;
        let ignored = MarkFlags::FAN_MARK_MOUNT | MarkFlags::FAN_MARK_IGNORE_SURV;
        watch.add(directory, ignored, libc::FAN_MODIFY)?;
        Ok(watch)
    }

    /// Watches for files that are closed after they were open for writing on the mount which `directory`
    /// lies on, and for nothing else. Errors as for [`new`](Self::new).
    pub fn closings(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let watch = Watch::nothing(libc::FAN_REPORT_FID)?;
        watch.add(directory, MarkFlags::FAN_MARK_MOUNT, libc::FAN_CLOSE_WRITE)?;
        Ok(watch)
    }

    fn nothing(report: libc::c_uint) -> Result<Self, Errno> {
        let flags =
            InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::from_bits_retain(report);
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
        Ok(Watch { group })
    }

    fn add(&self, directory: BorrowedFd<'_>, flags: MarkFlags, mask: u64) -> Result<(), Errno> {
        let flags = MarkFlags::FAN_MARK_ADD | flags;
        self.group.mark(flags, MaskFlags::from_bits_retain(mask), directory, Some(c"."))
    }

    /// Reads as many events as there are and fit into `buffer`; their length in bytes. EAGAIN if there
    /// are none.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        nix::unistd::read(&self.group, buffer)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// The events of what [`Watch::read`] gave. Bytes that make no sense end them.
pub fn events(mut bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    std::iter::from_fn(move || {
        let len = word32(bytes, 0)?;
        let (event, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
        bytes = rest;
        parse(event)
    })
}

fn parse(event: &[u8]) -> Option<Event<'_>> {
    let mask = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    let pid = word32(event, 20)?.cast_signed();
    let mut parsed = Event { mask, pid, object: None, entry: None };
    let mut directory = None;
    let mut infos = event.get(METADATA_SIZE..)?;
    while let Some(&[kind, _, a, b]) = infos.first_chunk() {
        let len = usize::from(u16::from_ne_bytes([a, b])).max(1);
        let (info, rest) = infos.split_at_checked(len)?;
        infos = rest;
        match kind {
            INFO_FID => parsed.object = handle_and_name(info).map(|(handle, _)| handle),
            INFO_DFID | INFO_DFID_NAME => directory = handle_and_name(info),
            _ => {}
        }
    }
    match directory {
        Some(entry) if mask & NAMES != 0 => parsed.entry = Some(entry),
        // A directory of which it is told by its own ".".
        Some((handle, b"." | b"")) if parsed.object.is_none() => parsed.object = Some(handle),
        _ => {}
    }
    Some(parsed)
}

/// `None` for a handle that is too long to be known here.
fn handle_and_name(info: &[u8]) -> Option<(FileHandle, &[u8])> {
    let (len, kind) = (word32(info, 12)?, word32(info, 16)?);
    let (bytes, name) = info.get(HANDLE_AT..)?.split_at_checked(usize::try_from(len).ok()?)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some((FileHandle::new(kind.cast_signed(), bytes)?, name))
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs::{self, File};
    use std::io::Write;

    use nix::fcntl::AT_FDCWD;

    use super::*;

    /// What happens below a temporary directory, by its own handles.
    fn changes(make: impl FnOnce(&std::path::Path)) -> Vec<(u64, Option<FileHandle>, String)> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let opened = File::open(dir.path()).expect("open it");
        let here = FileHandle::of(opened.as_fd()).expect("its handle");
        let watch = Watch::new(opened.as_fd()).expect("watch: run the tests as root, on a disk");
        make(dir.path());
        let mut buffer = vec![0; 1 << 16];
        let mut seen = Vec::new();
        while let Ok(len) = watch.read(&mut buffer) {
            for event in events(&buffer[..len]) {
                assert!(!event.is_overflow());
                match event.entry {
                    // Others work on the same file system.
                    Some((directory, name)) if directory == here => {
                        let name = String::from_utf8_lossy(name).into_owned();
                        seen.push((event.mask, event.object, name));
                    }
                    Some(_) => {}
                    None => seen.push((event.mask, event.object, String::new())),
                }
            }
        }
        seen
    }

    fn handle(path: &std::path::Path) -> FileHandle {
        let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero byte");
        FileHandle::at(AT_FDCWD, &path).expect("its handle")
    }

    #[test]
    fn names_and_attributes_are_told_with_their_objects() {
        let mut file = None;
        let seen = changes(|dir| {
            fs::write(dir.join("a"), "text").expect("write");
            file = Some(handle(&dir.join("a")));
            fs::rename(dir.join("a"), dir.join("b")).expect("rename");
            fs::create_dir(dir.join("c")).expect("mkdir");
            fs::remove_file(dir.join("b")).expect("unlink");
        });
        let has = |bit, name: &str| {
            let of_name = seen.iter().filter(|(mask, _, n)| mask & bit != 0 && n == name);
            of_name.map(|(_, object, _)| *object).next()
        };
        assert_eq!(has(libc::FAN_CREATE, "a"), Some(file), "{seen:?}");
        assert_eq!(has(libc::FAN_MOVED_FROM, "a"), Some(file), "{seen:?}");
        assert_eq!(has(libc::FAN_MOVED_TO, "b"), Some(file), "{seen:?}");
        assert_eq!(has(libc::FAN_DELETE, "b"), Some(file), "{seen:?}");
        assert!(has(libc::FAN_CREATE, "c").is_some(), "{seen:?}");
    }

    #[test]
    fn data_that_is_written_through_the_watched_mount_is_not_told() {
        let mut file = None;
        let seen = changes(|dir| {
            let mut opened = File::create(dir.join("a")).expect("create");
            opened.write_all(b"text").expect("write");
            file = Some(handle(&dir.join("a")));
            drop(opened);
            fs::set_permissions(dir.join("a"), fs::metadata(dir).expect("stat").permissions())
                .expect("chmod");
        });
        let of_file: Vec<u64> =
            seen.iter().filter(|(_, object, _)| *object == file).map(|(mask, ..)| *mask).collect();
        assert!(of_file.iter().all(|mask| mask & libc::FAN_MODIFY == 0), "{of_file:x?}");
        assert!(of_file.iter().any(|mask| mask & libc::FAN_CLOSE_WRITE != 0), "{of_file:x?}");
        assert!(of_file.iter().any(|mask| mask & libc::FAN_ATTRIB != 0), "{of_file:x?}");
    }

    #[test]
    fn bytes_that_make_no_sense_end_the_events() {
        let mut bytes = vec![0; 64];
        assert_eq!(events(&bytes).count(), 0, "an event of no length");
        bytes[0] = 64;
        let nothing = events(&bytes).next().expect("an event");
        assert_eq!((nothing.object, nothing.entry), (None, None), "infos of no length");
        bytes[26..28].copy_from_slice(&41_u16.to_ne_bytes());
        assert_eq!(events(&bytes).count(), 0, "an info beyond the event");
        assert_eq!(events(&[24, 0, 0, 0]).count(), 0);
    }
}
