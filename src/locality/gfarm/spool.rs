//! The folder in which a storage node (gfsd) keeps what files contain.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::sys::libgfarm::Version;

/// A spool, which stays the folder that it was when the daemon started.
#[derive(Debug)]
pub(super) struct Spool {
    folder: OwnedFd,
    path: PathBuf,
}

impl Spool {
    /// ENOENT or ENOTDIR if there is no spool at `path`, and what keeps one from being read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let folder = OwnedFd::from(File::open(path)?);
        let spool = Spool { folder, path: path.to_owned() };
        // A storage node that was never given a file has only the spool itself; but then something else
        // would be taken for one as well.
        spool.open_beneath(Path::new("data"), OFlag::O_DIRECTORY | OFlag::O_RDONLY)?;
        Ok(spool)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A version of a file, open for reading. ENOENT if it is not here, ESTALE if what is here is not
    /// as long.
    pub(super) fn replica(&self, version: &Version) -> Result<File, Errno> {
        let file = self.open_beneath(
            &place(version),
            OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOATIME,
        )?;
        let stat = fstat(&file)?;
        let is_file = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        match is_file && u64::try_from(stat.st_size) == Ok(version.size) {
            true => Ok(file.into()),
            false => Err(Errno::ESTALE),
        }
    }

    fn open_beneath(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::empty());
        openat2(&self.folder, path, how.resolve(resolve))
    }
}

/// Where a version of a file lies below a spool (`gfsd_local_path2()` of gfsd).
fn place(version: &Version) -> PathBuf {
    let inode = format!("{:016X}", version.inode);
    let [top, a, b, c, d] =
        [&inode[..8], &inode[8..10], &inode[10..12], &inode[12..14], &inode[14..]];
    format!("data/{top}/{a}/{b}/{c}/{d}{:016X}", version.generation).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn version(inode: u64, generation: u64, size: u64) -> Version {
        Version { inode, generation, size, ctime: (0, 0) }
    }

    #[test]
    fn places_are_those_of_gfsd() {
        let long = version(0x0011_2233_4455_6677, 0x8899_AABB_CCDD_EEFF, 0);
        assert_eq!(place(&long), Path::new("data/00112233/44/55/66/778899AABBCCDDEEFF"));
        assert_eq!(
            place(&version(5, 1, 0)),
            Path::new("data/00000000/00/00/00/050000000000000001")
        );
    }

    #[test]
    fn only_the_whole_version_is_a_replica() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = Spool::open(folder.path()).expect_err("it is not a spool");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        let version = version(5, 1, 3);
        let file = folder.path().join(place(&version));
        fs::create_dir_all(file.parent().expect("it is in a folder")).expect("make folders");
        fs::write(&file, "abc").expect("write a file");
        let spool = Spool::open(folder.path()).expect("it is a spool");
        spool.replica(&version).expect("it is there");
        let errno = |version| spool.replica(&version).expect_err("it is not there");
        assert_eq!(errno(Version { generation: 2, ..version }), Errno::ENOENT);
        assert_eq!(errno(Version { size: 4, ..version }), Errno::ESTALE);
        let next = Version { generation: 2, ..version };
        symlink(&file, folder.path().join(place(&next))).expect("make a link");
        assert_eq!(errno(next), Errno::ELOOP);
    }
}
