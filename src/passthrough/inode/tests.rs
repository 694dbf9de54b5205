//! Inode accounting on a directory of this machine, by handle and by number.

mod names;
mod parts;
mod races;

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tempfile::TempDir;

use super::*;
use crate::fs::Name;
use crate::sys::caller;

/// How the table of a test tells inodes apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::passthrough) enum By {
    Handle,
    Name,
}

/// A directory with a table over it.
pub(in crate::passthrough) struct Source {
    dir: TempDir,
    pub(in crate::passthrough) table: InodeTable,
}

impl Source {
    /// Fails where handles can not be opened: the tests run as root, on a file system of a disk.
    pub(in crate::passthrough) fn new(by: By, fd_capacity: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = path_fd(dir.path());
        let access = match by {
            By::Handle => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let mount = open(dir.path(), flags, Mode::empty()).expect("open the directory");
                FileHandle::of(root.as_fd())
                    .and_then(|handle| handle.open(mount.as_fd(), libc::O_PATH))
                    .expect("open by handle: run as root, with TMPDIR on ext4, xfs or tmpfs");
                Access::Handles(mount)
            }
            By::Name => Access::Names { keeps_birth: true },
        };
        let table = InodeTable::new(root, access, fd_capacity).expect("a table");
        Source { dir, table }
    }

    pub(in crate::passthrough) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a file with its own name in it.
    pub(in crate::passthrough) fn make(&self, name: &str) {
        fs::write(self.path(name), name).expect("make a file");
    }

    fn found(&self, name: &str) -> Found {
        Found::new(Part::MAIN, path_fd(&self.path(name))).expect("stat it")
    }

    /// Runs `body` with the place of `name` in the directory.
    fn at<T>(&self, name: &str, body: impl FnOnce(&Place<'_>) -> T) -> T {
        let root = self.table.fd(NodeId::ROOT).expect("the root is always there");
        let name = CString::new(name).expect("no zero byte");
        let name = Name::new(&name).expect("a name");
        body(&Place { parent: NodeId::ROOT, dir: root.as_fd(), name })
    }

    /// Counts a lookup of `found` under `name`.
    fn acquire(&self, found: Found, name: &str, keep: Keep) -> NodeId {
        self.at(name, |place| self.table.acquire(found, Some(place), keep)).expect("acquire")
    }

    /// Counts a lookup of `name`.
    pub(in crate::passthrough) fn lookup(&self, name: &str, keep: Keep) -> Arc<Inode> {
        let nodeid = self.acquire(self.found(name), name, keep);
        self.table.get(nodeid).expect("known")
    }

    /// Looks `name` up without a reference that stays.
    fn nodeid(&self, name: &str) -> NodeId {
        self.acquire(self.found(name), name, Keep::Fd)
    }

    /// Finds `name` as LOOKUP does.
    fn find(&self, name: &str) -> Result<Found> {
        self.at(name, |place| self.table.find(place))
    }

    /// Removes a file or an empty directory as UNLINK and RMDIR do; tells whether it was known.
    pub(in crate::passthrough) fn remove(&self, name: &str) -> bool {
        self.at(name, |place| {
            let doomed = self.table.doomed(place);
            let path = self.path(name);
            match path.is_dir() {
                true => fs::remove_dir(path).expect("rmdir"),
                false => fs::remove_file(path).expect("unlink"),
            }
            doomed.map(|doomed| self.table.pin_if_unlinked(doomed, place)).is_some()
        })
    }

    /// Renames as RENAME does.
    fn rename(&self, old: &str, new: &str) {
        fs::rename(self.path(old), self.path(new)).expect("rename");
        self.at(new, |place| self.table.moved(place));
    }

    /// Inodes known besides the root.
    fn known(&self) -> u64 {
        let live: usize = self.table.shards.all().map(|shard| shard.live.len()).sum();
        assert!(live as u64 <= self.table.len(), "what is live is known");
        self.table.len() - 1
    }

    /// What the file behind a nodeid holds.
    fn content(&self, nodeid: NodeId) -> Result<String> {
        let fd = self.table.fd(nodeid)?;
        Ok(fs::read_to_string(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("read it"))
    }
}

fn path_fd(path: &Path) -> OwnedFd {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).expect("open the object")
}

/// Runs a body on a table of either kind.
fn both(body: impl Fn(Source)) {
    for by in [By::Handle, By::Name] {
        body(Source::new(by, 100));
    }
}

#[test]
fn an_inode_is_known_until_every_lookup_is_forgotten() {
    both(|source| {
        source.make("file");
        let nodeid = source.nodeid("file");
        assert_eq!(source.nodeid("file"), nodeid);
        assert_eq!(source.nodeid("file"), nodeid);
        assert_eq!(source.known(), 1);
        source.table.forget(nodeid, 1);
        assert_eq!(source.known(), 1);
        assert_eq!(source.content(nodeid).as_deref(), Ok("file"));
        source.table.forget(nodeid, 2);
        assert_eq!(source.known(), 0);
        assert_eq!(source.content(nodeid), Err(Errno::ESTALE));
    });
}

#[test]
fn an_inode_that_comes_back_is_known_again() {
    both(|source| {
        source.make("file");
        let first = source.nodeid("file");
        source.table.forget(first, 1);
        assert_eq!(source.table.get(first).map(drop), Err(Errno::ESTALE));
        let second = source.nodeid("file");
        assert_eq!(source.content(second).as_deref(), Ok("file"));
        source.table.forget(second, 1);
        assert_eq!(source.known(), 0);
    });
}

#[test]
fn different_files_have_different_nodeids_none_of_them_the_roots() {
    both(|source| {
        let mut seen = vec![NodeId(0), NodeId::ROOT];
        for n in 0..200 {
            let name = n.to_string();
            source.make(&name);
            let nodeid = source.nodeid(&name);
            assert!(!seen.contains(&nodeid), "{nodeid:?} twice");
            seen.push(nodeid);
        }
        assert_eq!(source.known(), 200);
        for (n, nodeid) in seen[2..].iter().enumerate() {
            assert_eq!(source.content(*nodeid), Ok(n.to_string()));
        }
    });
}

#[test]
fn the_root_is_found_as_itself_and_is_never_forgotten() {
    both(|source| {
        let found = || source.table.acquire(source.found("."), None, Keep::Fd);
        assert_eq!(found(), Ok(NodeId::ROOT));
        for count in [1, 2, u64::MAX] {
            source.table.forget(NodeId::ROOT, count);
        }
        assert_eq!((source.table.len(), found()), (1, Ok(NodeId::ROOT)));
        source.table.fd(NodeId::ROOT).expect("the root is always there");
    });
}

#[test]
fn forgetting_what_was_never_known_changes_nothing() {
    both(|source| {
        source.make("file");
        let nodeid = source.nodeid("file");
        for wrong in [0, 2_000, u64::MAX] {
            source.table.forget(NodeId(wrong), 1);
        }
        source.table.forget(nodeid, 0);
        assert_eq!(source.content(nodeid).as_deref(), Ok("file"));
        source.table.forget(nodeid, u64::MAX);
        assert_eq!(source.known(), 0, "more than were given forgets all of them");
        source.table.forget(nodeid, 1);
        assert_eq!(source.known(), 0);
    });
}

#[test]
fn hard_links_share_an_inode() {
    both(|source| {
        source.make("one");
        fs::hard_link(source.path("one"), source.path("two")).expect("link");
        let nodeid = source.nodeid("one");
        assert_eq!(source.nodeid("two"), nodeid);
        assert_eq!(source.known(), 1);
        source.table.forget(nodeid, 1);
        fs::remove_file(source.path("one")).expect("unlink");
        assert_eq!(source.content(nodeid).as_deref(), Ok("one"));
        source.table.forget(nodeid, 1);
        assert_eq!(source.known(), 0);
    });
}

#[test]
fn a_renamed_file_stays_the_same_inode() {
    both(|source| {
        source.make("old");
        let nodeid = source.nodeid("old");
        fs::rename(source.path("old"), source.path("new")).expect("rename");
        assert_eq!(source.nodeid("new"), nodeid);
    });
}

#[test]
fn symbolic_links_and_directories_are_inodes_like_any_other() {
    both(|source| {
        source.make("file");
        std::os::unix::fs::symlink("file", source.path("link")).expect("symlink");
        fs::create_dir(source.path("dir")).expect("mkdir");
        let ids = ["file", "link", "dir"].map(|name| source.nodeid(name));
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
        let stat = fstat(&*source.table.fd(ids[1]).expect("known")).expect("fstat");
        assert_eq!(kind(&stat), SFlag::S_IFLNK, "the link, not what it names");
    });
}

/// A number that the file system gives out again while the kernel still knows the old inode.
#[test]
fn a_reused_inode_number_is_a_new_nodeid() {
    let source = Source::new(By::Handle, 100);
    source.make("old");
    let old = source.lookup("old", Keep::Nothing);
    let number = fs::metadata(source.path("old")).expect("stat").ino();
    fs::remove_file(source.path("old")).expect("unlink");
    source.make("new");
    let mut found = source.found("new");
    // ext4 has given the same number; elsewhere it is made so, which is all that stat can tell.
    found.stat.st_ino = number;
    let new = source.acquire(found, "new", Keep::Fd);
    assert_ne!(new, old.nodeid);
    assert_eq!(source.known(), 2);
    assert_eq!(source.content(new).as_deref(), Ok("new"));
    assert_eq!(source.content(old.nodeid), Err(Errno::ESTALE), "never the new file's content");
}

/// Generation 0, as programs that make images leave it, opens whatever has the number.
#[test]
fn a_handle_that_opens_another_inode_is_stale() {
    let source = Source::new(By::Handle, 100);
    if source.table.scheme != Scheme::Number {
        eprintln!("skipped: the handles in TMPDIR hold no generation of 32 bits");
        return;
    }
    source.make("new");
    let handle = FileHandle::of(path_fd(&source.path("new")).as_fd()).expect("a handle");
    let (ino, generation) = handle.ino32().expect("a number");
    assert_ne!(generation, 0, "the kernel chooses another");
    let stat = source.found("new").stat;
    let object = Object::Handle(FileHandle::from_ino32(ino, 0));
    let vague = Found { part: Part::MAIN, object, stat };
    let old = source.acquire(vague, "new", Keep::Fd);
    assert_eq!(source.content(old), Err(Errno::ESTALE));
    let inode = source.table.get(old).expect("known");
    let opened = source.table.open(&inode, OFlag::O_WRONLY | OFlag::O_TRUNC);
    assert_eq!(opened.map(drop), Err(Errno::ESTALE));
    assert_eq!(source.content(source.nodeid("new")).as_deref(), Ok("new"), "nobody has touched it");
}

#[test]
fn the_cache_is_bounded_however_many_files_are_known() {
    let source = Source::new(By::Handle, 64);
    let inodes: Vec<_> = (0..1000)
        .map(|n| {
            let name = n.to_string();
            source.make(&name);
            let inode = source.lookup(&name, Keep::Fd);
            assert!(source.table.cached_fds() <= 64);
            inode
        })
        .collect();
    let open = || inodes.iter().filter(|inode| inode.has_fd()).count();
    assert_eq!((source.known(), source.table.cached_fds(), open()), (1000, 64, 64));
    assert!(inodes[999].has_fd(), "the newest is the last to go");
    for (n, inode) in inodes.iter().enumerate() {
        assert_eq!(source.content(inode.nodeid), Ok(n.to_string()), "reopened by its handle");
    }
    assert_eq!((source.table.cached_fds(), open()), (64, 64));
}

#[test]
fn what_was_used_is_kept_over_what_was_not() {
    let source = Source::new(By::Handle, 8);
    source.make("busy");
    let busy = source.lookup("busy", Keep::Fd);
    for n in 0..100 {
        let name = n.to_string();
        source.make(&name);
        source.table.fd_of(&busy).expect("known");
        source.lookup(&name, Keep::Fd);
        assert!(busy.has_fd(), "closed after {n}");
    }
}

#[test]
fn an_entry_of_a_listing_costs_no_descriptor_until_it_is_used() {
    let source = Source::new(By::Handle, 8);
    source.make("file");
    let inode = source.lookup("file", Keep::Nothing);
    assert!(!inode.has_fd());
    assert_eq!(source.table.cached_fds(), 0);
    let again = source.lookup("file", Keep::Fd);
    assert!(Arc::ptr_eq(&inode, &again) && inode.has_fd(), "a walk has one to give");
    source.table.forget(inode.nodeid, 2);
    drop(again);

    let inode = source.lookup("file", Keep::Nothing);
    source.table.fd_of(&inode).expect("reopened");
    assert!(inode.has_fd());
}

#[test]
fn a_descriptor_in_use_survives_its_eviction() {
    let source = Source::new(By::Handle, 1);
    source.make("a");
    source.make("b");
    let a = source.lookup("a", Keep::Fd);
    let held = source.table.fd_of(&a).expect("known");
    a.take_used();
    source.lookup("b", Keep::Fd);
    assert!(!a.has_fd());
    let stat = fstat(&*held).expect("still open here");
    assert_eq!(stat.st_ino, fs::metadata(source.path("a")).expect("stat").ino());
}

#[test]
fn a_descriptor_that_the_table_reopens_is_path_only_and_closed_on_exec() {
    let source = Source::new(By::Handle, 8);
    source.make("file");
    let inode = source.lookup("file", Keep::Nothing);
    let fd = source.table.fd_of(&inode).expect("reopened");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("fdinfo");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
    let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
    assert_eq!(flags & (libc::O_PATH | libc::O_CLOEXEC), libc::O_PATH | libc::O_CLOEXEC);
}

#[test]
fn an_unlinked_inode_stays_reachable_once_it_is_pinned() {
    let source = Source::new(By::Handle, 1);
    for name in ["gone", "other"] {
        source.make(name);
    }
    let gone = source.lookup("gone", Keep::Nothing);
    source.remove("gone");
    // Neither the cache's bound nor a lack of descriptors takes it away.
    source.lookup("other", Keep::Fd);
    let mut fail = true;
    let failing_once = || if std::mem::take(&mut fail) { Err(Errno::EMFILE) } else { Ok(()) };
    source.table.make_room(failing_once).expect("room was made");
    assert_eq!(source.content(gone.nodeid).as_deref(), Ok("gone"));
    source.table.forget(gone.nodeid, 1);
    assert_eq!(source.content(gone.nodeid), Err(Errno::ESTALE));
}

#[test]
fn a_removed_directory_stays_reachable_once_it_is_pinned() {
    let source = Source::new(By::Handle, 1);
    fs::create_dir(source.path("dir")).expect("mkdir");
    let dir = source.lookup("dir", Keep::Nothing);
    source.remove("dir");
    let stat = fstat(&*source.table.fd(dir.nodeid).expect("reachable")).expect("fstat");
    assert_eq!(stat.st_nlink, 0);
}

#[test]
fn a_file_with_another_name_is_not_pinned() {
    let source = Source::new(By::Handle, 8);
    source.make("one");
    fs::hard_link(source.path("one"), source.path("two")).expect("link");
    let inode = source.lookup("one", Keep::Nothing);
    source.remove("one");
    assert!(!inode.has_fd(), "its handle still opens it");
    assert_eq!(source.content(inode.nodeid).as_deref(), Ok("one"));
}

#[test]
fn an_unlinked_file_that_nobody_knows_is_not_kept() {
    let source = Source::new(By::Handle, 8);
    source.make("gone");
    assert!(!source.remove("gone"));
    assert_eq!((source.known(), source.table.cached_fds()), (0, 0));
    source.make("forgotten");
    let nodeid = source.nodeid("forgotten");
    source.table.forget(nodeid, 1);
    assert!(!source.remove("forgotten"));
}

#[test]
fn a_name_is_found_as_the_object_that_it_is() {
    both(|source| {
        source.make("file");
        fs::create_dir(source.path("dir")).expect("mkdir");
        std::os::unix::fs::symlink("file", source.path("link")).expect("symlink");
        for name in ["file", "dir", "link"] {
            let found = source.find(name).expect("it is there");
            let stat = fs::symlink_metadata(source.path(name)).expect("stat");
            assert_eq!((found.stat.st_ino, found.stat.st_mode), (stat.ino(), stat.mode()));
            let nodeid = source.acquire(found, name, Keep::Fd);
            assert_eq!(source.nodeid(name), nodeid, "the same as by descriptor");
        }
        assert_eq!(source.known(), 3);
        assert_eq!(source.find("none").map(drop), Err(Errno::ENOENT));
        assert_eq!(source.find(&"x".repeat(256)).map(drop), Err(Errno::ENAMETOOLONG));
    });
}

/// Where the source's handles hold the inode number, which all but the very young depend on.
#[test]
fn a_name_is_found_without_a_descriptor_unless_the_object_is_young() {
    let source = Source::new(By::Handle, 100);
    if source.table.scheme != Scheme::Number {
        eprintln!("skipped: the handles in TMPDIR hold no inode number");
        return;
    }
    source.make("file");
    std::thread::sleep(std::time::Duration::from_millis(50));
    let found = source.find("file").expect("it is there");
    assert!(matches!(found.object, Object::Handle(_)), "old enough: {found:?}");
    let nodeid = source.acquire(found, "file", Keep::Fd);
    assert_eq!(source.table.cached_fds(), 0, "and so it costs no descriptor");
    assert_eq!(source.content(nodeid).as_deref(), Ok("file"));

    // What was changed within the clock's tick could be another that has its number.
    let young = (0..100).any(|n| {
        let name = n.to_string();
        source.make(&name);
        matches!(source.find(&name).expect("it is there").object, Object::Fd(_))
    });
    assert!(young, "not one of a hundred was too young");
}

/// Names that change hands all the time, behind the table.
#[test]
fn attributes_and_identity_are_of_one_object_whatever_happens_to_the_name() {
    let source = Source::new(By::Handle, 100);
    let (stop, root) = (AtomicBool::new(false), source.dir.path());
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let stop = &stop;
            scope.spawn(move || {
                // Each file is as long as its number, which tells which one attributes are of.
                for n in 1.. {
                    let new = root.join(format!("new-{name}"));
                    fs::write(&new, vec![0; n % 4096]).expect("write");
                    fs::rename(&new, root.join("file")).expect("rename");
                    if n % 3 == 0 {
                        let _ = fs::remove_file(root.join("file"));
                    }
                    if stop.load(Relaxed) {
                        break;
                    }
                }
            });
        }
        let (mut found, began) = (0, std::time::Instant::now());
        while found < 2000 && began.elapsed().as_secs() < 20 {
            let Ok(at) = source.find("file") else { continue };
            found += 1;
            let (ino, size) = (at.stat.st_ino, at.stat.st_size);
            let nodeid = source.acquire(at, "file", Keep::Fd);
            // Deleted since: nothing to compare with.
            if let Ok(fd) = source.table.fd(nodeid) {
                let stat = fstat(&*fd).expect("fstat");
                assert_eq!((ino, size), (stat.st_ino, stat.st_size));
            }
            source.table.forget(nodeid, 1);
        }
        stop.store(true, Relaxed);
        assert!(found > 100, "{found}");
    });
}
