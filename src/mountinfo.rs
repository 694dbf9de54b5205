//! The mount table of this process: /proc/self/mountinfo read, parsed and walked.
//!
//! It owns the answer to "what is mounted at this path", and gives it without ever touching the
//! path: a dead FUSE mount fails every access with ENOTCONN and a hung one blocks it for ever.
//! It must not know what anyone wants to do with a mount.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of the mount table. Names as in proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Unique while mounted.
    pub id: u64,
    /// The mount that this one is attached to.
    pub parent_id: u64,
    /// Major number of `st_dev` of everything on it.
    pub major: u32,
    /// Minor number of `st_dev` of everything on it.
    pub minor: u32,
    /// The directory of the file system that is shown.
    pub root: PathBuf,
    /// Where it is shown.
    pub mount_point: PathBuf,
    /// Options of this mount, as `rw,nosuid`.
    pub options: String,
    /// `ext4`, `fuse.fusewire`, ...
    pub fs_type: String,
    /// The device name, also called fsname.
    pub source: OsString,
    /// Options of the file system behind it.
    pub super_options: String,
}

impl Mount {
    /// The value of `key=value` among the file system's options.
    pub fn super_option(&self, key: &str) -> Option<&str> {
        self.super_options
            .split(',')
            .find_map(|option| option.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')))
    }

    /// Whether the type says that this is FUSE, whoever serves it.
    pub fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }
}

/// The mounts this process can see, in the kernel's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable(Vec<Mount>);

impl MountTable {
    /// Reads the table of this process.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    /// Parses the text of a mountinfo file; lines of an unknown shape are left out, because one
    /// odd mount must not hide the others.
    pub fn parse(text: &[u8]) -> Self {
        MountTable(text.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
    }

    /// All mounts.
    pub fn iter(&self) -> std::slice::Iter<'_, Mount> {
        self.0.iter()
    }

    /// The mount that a walk to `path` ends on. `path` is absolute and free of symbolic links.
    ///
    /// Walks as the kernel does, from the root, crossing into whatever covers each component:
    /// a mount that lies hidden under a later one is not found.
    pub fn covering(&self, path: &Path) -> Option<&Mount> {
        let mut current: Option<&Mount> = None;
        // Each step goes one mount deeper, so more steps than mounts would be a loop.
        for _ in 0..self.0.len() {
            let next = self
                .0
                .iter()
                .filter(|mount| match current {
                    Some(current) => mount.parent_id == current.id && mount.id != current.id,
                    None => !self.0.iter().any(|m| m.id == mount.parent_id && m.id != mount.id),
                })
                .filter(|mount| path.starts_with(&mount.mount_point))
                .min_by_key(|mount| mount.mount_point.components().count());
            match next {
                Some(mount) => current = Some(mount),
                None => break,
            }
        }
        current
    }

    /// The mount on top at exactly `path`, if `path` is a mount point.
    pub fn top_at(&self, path: &Path) -> Option<&Mount> {
        self.covering(path).filter(|mount| mount.mount_point == path)
    }

    /// Mounts strictly below `path`, which keep it busy.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Mount> {
        self.0
            .iter()
            .filter(move |mount| mount.mount_point != path && mount.mount_point.starts_with(path))
    }
}

/// A mount point as the user named it, made absolute without touching it, and the mount on top.
pub fn find_top(path: &Path) -> io::Result<(PathBuf, Option<Mount>)> {
    // As many links as the kernel follows in one walk (MAXSYMLINKS).
    const MAX_LINKS: usize = 40;
    let table = MountTable::read()?;
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        let absolute = resolve_all_but_last(&path)?;
        if let Some(mount) = table.top_at(&absolute) {
            return Ok((absolute, Some(mount.clone())));
        }
        // Nothing is mounted here, so looking at it can not reach into a dead mount.
        match std::fs::symlink_metadata(&absolute) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = std::fs::read_link(&absolute)?;
                path = absolute.parent().unwrap_or(Path::new("/")).join(target);
            }
            Ok(_) => return Ok((absolute, None)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Absolute, without symbolic links in any component but the last, which is not looked at.
fn resolve_all_but_last(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(std::fs::canonicalize(parent)?.join(name)),
        // `/`, or a name that ends in `..`: there is no last name to leave alone.
        _ => std::fs::canonicalize(&absolute),
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue`:
/// any number of optional fields before the lone dash.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent_id = number(fields.next()?)?;
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let root = unescape(fields.next()?).into();
    let mount_point = unescape(fields.next()?).into();
    let options = text(fields.next()?);
    fields.by_ref().find(|field| *field == b"-")?;
    Some(Mount {
        id,
        parent_id,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root,
        mount_point,
        options,
        fs_type: text(fields.next()?),
        source: unescape(fields.next()?),
        super_options: fields.next().map(text).unwrap_or_default(),
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    unescape(field).to_string_lossy().into_owned()
}

/// The kernel writes space, tab, newline, backslash (and `#`) as `\ooo` (mangle() in seq_file).
fn unescape(field: &[u8]) -> OsString {
    if !field.contains(&b'\\') {
        return OsStr::from_bytes(field).to_os_string();
    }
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:40 / /a rw - tmpfs first rw
31 30 0:41 / /a/b rw,nosuid shared:7 master:2 propagate_from:3 - fuse.fusewire /src rw,user_id=1000,group_id=5
32 27 0:42 /sub /with\\040space\\011tab\\134slash rw - tmpfs odd\\040name rw
33 32 0:43 / /with\\040space\\011tab\\134slash rw - fuse hello rw
40 27 0:44 / /h/i rw - tmpfs hidden rw
41 27 0:45 / /h rw - tmpfs hider rw
";

    fn table() -> MountTable {
        MountTable::parse(TABLE)
    }

    fn top(path: &str) -> Option<u64> {
        table().top_at(Path::new(path)).map(|mount| mount.id)
    }

    #[test]
    fn fields_are_read_past_any_number_of_optional_ones() {
        let table = table();
        let mount = table.top_at(Path::new("/a/b")).expect("it is in the table");
        assert_eq!((mount.major, mount.minor), (0, 41));
        assert_eq!(mount.fs_type, "fuse.fusewire");
        assert_eq!(mount.source, "/src");
        assert_eq!(mount.options, "rw,nosuid");
        assert_eq!(mount.super_option("user_id"), Some("1000"));
        assert_eq!(mount.super_option("user"), None);
        assert!(mount.is_fuse());
    }

    #[test]
    fn octal_escapes_are_undone() {
        let path = Path::new("/with space\ttab\\slash");
        let table = table();
        let mount = table.top_at(path).expect("escaped path is found by its real name");
        assert_eq!(mount.id, 33, "the upper of two stacked mounts");
        assert_eq!(
            table.iter().find(|m| m.id == 32).map(|m| m.source.clone()),
            Some("odd name".into())
        );
        assert_eq!(unescape(b"a\\04"), "a\\04", "not an escape");
    }

    #[test]
    fn the_walk_ends_on_what_the_kernel_would_reach() {
        for (path, id) in [("/", Some(27)), ("/a", Some(30)), ("/a/b", Some(31)), ("/h", Some(41))]
        {
            assert_eq!(top(path), id, "{path}");
        }
        assert_eq!(top("/h/i"), None, "hidden under /h");
        assert_eq!(top("/ab"), None, "a prefix of bytes is no prefix of a path");
        let table = table();
        let covering = |path: &str| table.covering(Path::new(path)).map(|mount| mount.id);
        assert_eq!(covering("/a/b/c/d"), Some(31));
        assert_eq!(covering("/a/x"), Some(30));
        assert_eq!(covering("/etc"), Some(27));
        assert_eq!(covering("/h/i/j"), Some(41));
    }

    #[test]
    fn below_names_what_keeps_a_mount_busy() {
        let table = table();
        let below: Vec<u64> = table.below(Path::new("/a")).map(|mount| mount.id).collect();
        assert_eq!(below, [31]);
    }

    #[test]
    fn odd_lines_hide_nothing() {
        let table =
            MountTable::parse(b"\nnonsense\n1 2 x:y / / rw - a b c\n7 1 0:9 / /x rw - t s\n");
        assert_eq!(table.iter().map(|mount| mount.id).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_mount_point_is_found_by_other_spellings_of_it() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).expect("symlink");
        for path in [Path::new("/proc"), Path::new("/proc/"), Path::new("/proc/."), &link] {
            let (absolute, mount) = find_top(path).expect("lookup");
            assert_eq!(absolute, Path::new("/proc"), "{}", path.display());
            assert_eq!(mount.expect("mounted").fs_type, "proc");
        }
        let (_, mount) = find_top(folder.path()).expect("lookup");
        assert_eq!(mount, None);
        let error = find_top(&folder.path().join("gone")).expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
