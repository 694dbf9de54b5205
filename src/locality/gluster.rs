//! GlusterFS: the file of a brick on this machine.
//!
//! A brick keeps each regular file under its name, and a second time by its gfid, a random number that
//! the mount tells: `.glusterfs/aa/bb/GFID`. Bricks are found by what the mount says of the source
//! (`glusterfs.pathinfo`), at the start and when files lie elsewhere, and only below them is anything
//! opened. Everything else is asked of the brick's file: its `trusted.*` attributes, which no user can set, must be known, and those that mark
//! it as a piece, a link, or in need of repair must not be there.
//!
//! A brick that has missed writes does not know it: the others do. So its file counts only while it has
//! size, modification and change as the mount shows them, which `trusted.glusterfs.mdata` repeats on
//! every replica.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::{Local, Locator, Miss, Replica, Stamp, attribute, attributes};

/// How often it is looked for bricks that were added, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// GlusterFS, with bricks on this machine.
#[derive(Debug)]
struct Gluster {
    source: File,
    bricks: RwLock<Arc<Vec<Brick>>>,
    /// When it was last asked where they are.
    asked: Mutex<Instant>,
}

#[derive(Debug)]
struct Brick {
    path: PathBuf,
    root: File,
}

/// A file's identity in its volume, as 32 hexadecimal digits and hyphens.
struct Gfid(String);

/// Whether the source is a mount of GlusterFS.
pub(super) fn is_behind(source: &File) -> bool {
    gfid(source).is_ok_and(|gfid| gfid.is_some())
}

/// A locator for the source if it has bricks on this machine.
pub(super) fn open(source: &File) -> Result<Arc<dyn Locator>, String> {
    let bricks = find_bricks(source)?;
    for brick in &bricks {
        tracing::info!("files of the brick {} are read there", brick.path.display());
    }
    let source = source.try_clone().map_err(|error| format!("duplicate a descriptor: {error}"))?;
    let (bricks, asked) = (RwLock::new(Arc::new(bricks)), Mutex::new(Instant::now()));
    Ok(Arc::new(Gluster { source, bricks, asked }))
}

/// Opens the bricks of the source that lie on this machine.
fn find_bricks(source: &File) -> Result<Vec<Brick>, String> {
    let asked = |errno| format!("ask the source where its bricks are: {errno}");
    let id = gfid(source).map_err(asked)?.ok_or("the source is no mount of GlusterFS")?;
    let info = match attribute(source, c"glusterfs.pathinfo") {
        // Of a dispersed volume GlusterFS has none to tell.
        Ok(None) | Err(Errno::ENOMEM) => Err(
            "the source does not tell its bricks (glusterfs.pathinfo), as no dispersed volume does",
        ),
        info => Ok(info.map_err(asked)?.unwrap_or_default()),
    }?;
    let info = String::from_utf8(info).map_err(|_| "the paths of its bricks are no text")?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.map_err(|error| format!("/proc/sys/kernel/hostname: {error}"))?;
    let host = host.trim_end();
    let (mut opened, mut reasons, mut volume) = (Vec::new(), Vec::new(), None);
    for (place, path) in bricks(&info) {
        if place != host {
            reasons.push(format!("{path} is on {place}"));
            continue;
        }
        match open_brick(&path, &id, &mut volume) {
            Ok(brick) => opened.push(brick),
            Err(reason) => reasons.push(format!("{path}: {reason}")),
        }
    }
    if reasons.is_empty() {
        reasons.push("it tells none of plain files".to_owned());
    }
    match opened.is_empty() {
        false => Ok(opened),
        true => Err(format!(
            "no brick of the source can be read on this host ({host}): {}",
            reasons.join("; ")
        )),
    }
}

/// Host and path of each brick of a pathinfo: `<POSIX(/brick):host:/brick/name>`. A name may look like
/// the whole of it; what is made of that is no brick, or an own one twice.
fn bricks(info: &str) -> Vec<(String, String)> {
    let mut bricks = Vec::new();
    for part in info.split("<POSIX(").skip(1) {
        let Some((path, rest)) = part.split_once("):") else { continue };
        let Some((host, file)) = rest.split_once(':') else { continue };
        let brick = (host.to_owned(), path.to_owned());
        if file.starts_with(path) && !bricks.contains(&brick) {
            bricks.push(brick);
        }
    }
    bricks
}

/// Opens a brick, of the same `volume` as those before, in which the source itself is.
fn open_brick(path: &str, source: &Gfid, volume: &mut Option<Vec<u8>>) -> Result<Brick, String> {
    let text = |errno: Errno| errno.to_string();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let root = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).map_err(text)?;
    let root = File::from(root);
    let own = attribute(&root, c"trusted.glusterfs.volume-id").map_err(text)?;
    let own = own.ok_or("not the root of a brick (trusted.glusterfs.volume-id)")?;
    if volume.get_or_insert_with(|| own.clone()) != &own {
        return Err("of another volume".to_owned());
    }
    let (path, brick) = (PathBuf::from(path), Brick { path: path.into(), root });
    // A directory's is a link.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    brick.open(source, flags).map_err(|errno| match errno {
        Errno::ENOENT => format!("it does not have the source, whose gfid is {}", source.0),
        errno => format!("{}: {errno}", path.join(source.place()).display()),
    })?;
    Ok(brick)
}

impl Brick {
    fn open(&self, gfid: &Gfid, flags: OFlag) -> Result<File, Errno> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
        openat2(&self.root, gfid.place().as_str(), how).map(File::from)
    }
}

impl Gfid {
    /// `None` for what is none.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_end_matches('\0');
        let groups: Vec<_> = text.split('-').map(str::len).collect();
        let digit = |c: char| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c);
        (groups == [8, 4, 4, 4, 12] && text.chars().all(digit)).then(|| Gfid(text.to_owned()))
    }

    /// Where a brick has it.
    fn place(&self) -> String {
        format!(".glusterfs/{}/{}/{}", &self.0[..2], &self.0[2..4], self.0)
    }

    /// Whether an attribute `trusted.gfid` names it.
    fn is(&self, attribute: &[u8]) -> bool {
        let digits: String = attribute.iter().map(|byte| format!("{byte:02x}")).collect();
        digits == self.0.replace('-', "")
    }
}

/// What the mount says that a file is.
fn gfid(file: &File) -> Result<Option<Gfid>, Errno> {
    Ok(attribute(file, c"glusterfs.gfid.string")?.and_then(|text| Gfid::parse(&text)))
}

impl Gluster {
    fn bricks(&self) -> Arc<Vec<Brick>> {
        self.bricks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for bricks that have been added, if that was not done a moment ago.
    fn look_again(&self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.elapsed() < LOOK_AGAIN {
            return;
        }
        *asked = Instant::now();
        drop(asked);
        if let Ok(bricks) = find_bricks(&self.source) {
            *self.bricks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(bricks);
        }
    }
}

impl Locator for Gluster {
    fn name(&self) -> &'static str {
        "gluster"
    }

    fn writes_in_place(&self) -> bool {
        true
    }

    fn find(&self, opened: &File, _inode: u64) -> Result<Replica, Miss> {
        let failed = |_| Miss::Failed;
        let gfid = gfid(opened).map_err(failed)?.ok_or(Miss::Elsewhere)?;
        // O_NONBLOCK: nothing but a regular file is expected there, and none is waited for.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOATIME;
        let mut miss = Miss::Elsewhere;
        for brick in self.bricks().iter() {
            let file = match brick.open(&gfid, flags) {
                Ok(file) => file,
                Err(Errno::ENOENT) => continue,
                Err(_) => {
                    miss = Miss::Failed;
                    continue;
                }
            };
            match check(file, &gfid, opened) {
                Ok(replica) => return Ok(replica),
                Err(reason) => miss = reason,
            }
        }
        if miss == Miss::Elsewhere {
            self.look_again();
        }
        Err(miss)
    }
}

/// Whether `file` of a brick is, whole and as it is now, what is open through the mount.
fn check(file: File, gfid: &Gfid, opened: &File) -> Result<Replica, Miss> {
    let failed = |_| Miss::Failed;
    // First, so that whatever happens to it from here on shows.
    let local = Local::of(&file).map_err(failed)?;
    let stat = fstat(&file).map_err(failed)?;
    let names = attributes(file.as_fd()).map_err(failed)?;
    looks_whole(&stat)?;
    let mut stamp = Stamp::of(&stat);
    let mut named = false;
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = std::ffi::CStr::from_bytes_with_nul(name) else { continue };
        let value = || attribute(&file, name).map_err(failed)?.ok_or(Miss::Differs);
        match meaning(&name.to_string_lossy()) {
            Meaning::Identity if gfid.is(&value()?) => named = true,
            Meaning::Identity => return Err(Miss::Failed),
            Meaning::Times => stamp = times(&value()?, stamp).ok_or(Miss::Marked)?,
            Meaning::Pending if value()?.iter().any(|byte| *byte != 0) => {
                return Err(Miss::Unhealed);
            }
            Meaning::Pending | Meaning::Nothing => {}
            Meaning::Not(miss) => return Err(miss),
        }
    }
    if !named {
        return Err(Miss::Failed);
    }
    if Stamp::ask(opened).map_err(failed)? != stamp {
        return Err(Miss::Differs);
    }
    Ok(Replica { file, stamp, local })
}

/// What a file must be like: DHT marks one that it moves by set-group-id and sticky, and leaves an empty
/// one with nothing but sticky behind as a link.
fn looks_whole(stat: &FileStat) -> Result<(), Miss> {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let moving = libc::S_ISVTX | libc::S_ISGID;
    match stat.st_mode & 0o7777 {
        _ if kind != SFlag::S_IFREG => Err(Miss::Failed),
        // The name by its gfid alone: removed, and open to somebody yet.
        _ if stat.st_nlink < 2 => Err(Miss::Moved),
        0o1000 => Err(Miss::Moved),
        mode if mode & moving == moving => Err(Miss::Moved),
        _ => Ok(()),
    }
}

/// What an attribute of a brick's file means for its bytes.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// Which file it is.
    Identity,
    /// Its times, the same on all replicas.
    Times,
    /// Writes that a replica has missed, or may have.
    Pending,
    /// They are not the file's.
    Not(Miss),
    /// Nothing.
    Nothing,
}

fn meaning(name: &str) -> Meaning {
    let Some(name) = name.strip_prefix("trusted.") else { return Meaning::Nothing };
    // Names of parents, usage, checksums, marks of geo-replication.
    let harmless =
        ["gfid2path.", "pgfid.", "glusterfs.quota.", "bit-rot.version", "bit-rot.signature"];
    match name {
        "gfid" => Meaning::Identity,
        "glusterfs.mdata" => Meaning::Times,
        _ if name.starts_with("afr.") => Meaning::Pending,
        _ if name.starts_with("glusterfs.shard.") || name.starts_with("ec.") => {
            Meaning::Not(Miss::Encoded)
        }
        _ if name.starts_with("glusterfs.dht.") => Meaning::Not(Miss::Moved),
        _ if harmless.iter().any(|known| name.starts_with(known)) => Meaning::Nothing,
        _ if name.starts_with("glusterfs.") && name.ends_with(".xtime") => Meaning::Nothing,
        _ => Meaning::Not(Miss::Marked),
    }
}

/// `stamp` with the times of a `trusted.glusterfs.mdata`: a version, flags, and seconds and nanoseconds of
/// change, modification and access, in network order.
fn times(mdata: &[u8], stamp: Stamp) -> Option<Stamp> {
    let (version, rest) = mdata.split_first()?;
    let words: Vec<i64> = rest
        .chunks_exact(8)
        .map(|word| i64::from_be_bytes(word.try_into().expect("eight")))
        .collect();
    match (version, words.as_slice()) {
        (1, [_, ctime, ctime_nsec, mtime, mtime_nsec, _, _]) => {
            Some(Stamp { mtime: (*mtime, *mtime_nsec), ctime: (*ctime, *ctime_nsec), ..stamp })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bricks_are_told_from_names_that_look_like_them() {
        let one = "(<DISTRIBUTE:v-dht> <POSIX(/b/1):a:/b/1/x>)";
        assert_eq!(bricks(one), [("a".to_owned(), "/b/1".to_owned())]);
        let two = "(<REPLICATE:v> <POSIX(/b/1):a:/b/1/> <POSIX(/b/1):b:/b/1/>)";
        assert_eq!(bricks(two).len(), 2);
        let forged = "(<DISTRIBUTE:v> <POSIX(/b):a:/b/x> <POSIX(/e\nvil):a:/elsewhere>)";
        assert_eq!(bricks(forged), [("a".to_owned(), "/b".to_owned())]);
        for nothing in ["", "<POSIX(", "<POSIX(/b)", "<POSIX(/b):", "<POSIX(/b):a", "((("] {
            assert!(bricks(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_gfid_is_a_gfid() {
        let gfid = Gfid::parse(b"a786784d-ede9-4be9-9507-a454aec43ffd").expect("it is one");
        assert_eq!(gfid.place(), ".glusterfs/a7/86/a786784d-ede9-4be9-9507-a454aec43ffd");
        let bytes = 0xa786_784d_ede9_4be9_9507_a454_aec4_3ffd_u128.to_be_bytes();
        assert!(gfid.is(&bytes) && !gfid.is(&[0; 16]) && !gfid.is(&[]));
        for none in [
            "",
            "a786784d",
            "../../../../etc/passwd-------------------",
            "A786784D-EDE9-4BE9-9507-A454AEC43FFD",
            "é786784d-ede9-4be9-9507-a454aec43ff",
        ] {
            assert!(Gfid::parse(none.as_bytes()).is_none(), "{none}");
        }
    }

    #[test]
    fn only_what_is_known_to_be_harmless_is_passed_over() {
        for (name, expected) in [
            ("trusted.gfid", Meaning::Identity),
            ("trusted.gfid2path.5a60200abdac90d9", Meaning::Nothing),
            ("trusted.glusterfs.mdata", Meaning::Times),
            ("trusted.afr.dirty", Meaning::Pending),
            ("trusted.afr.v-client-1", Meaning::Pending),
            ("trusted.glusterfs.shard.file-size", Meaning::Not(Miss::Encoded)),
            ("trusted.ec.config", Meaning::Not(Miss::Encoded)),
            ("trusted.glusterfs.dht.linkto", Meaning::Not(Miss::Moved)),
            ("trusted.bit-rot.bad-file", Meaning::Not(Miss::Marked)),
            ("trusted.glusterfs.cs.remote", Meaning::Not(Miss::Marked)),
            ("user.trusted.ec.config", Meaning::Nothing),
            ("security.selinux", Meaning::Nothing),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
    }

    #[test]
    fn times_are_those_of_the_volume() {
        let mut mdata = vec![1];
        for word in [0_u64, 11, 12, 21, 22, 31, 32] {
            mdata.extend(word.to_be_bytes());
        }
        let stamp = Stamp { size: 5, mtime: (0, 0), ctime: (0, 0) };
        let expected = Stamp { size: 5, mtime: (21, 22), ctime: (11, 12) };
        assert_eq!(times(&mdata, stamp), Some(expected));
        assert_eq!(times(&mdata[..40], stamp), None);
        mdata[0] = 2;
        assert_eq!(times(&mdata, stamp), None);
    }
}
