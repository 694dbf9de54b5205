//! A tree that nobody may touch: not even read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// The tree, and what it was like.
pub(crate) struct Canary {
    root: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    /// Makes below `root` each of `directories` with each of `files` in it.
    pub(crate) fn new(root: &Path, directories: &[&str], files: &[&str]) -> io::Result<Self> {
        for directory in directories {
            let directory = root.join(directory);
            fs::create_dir_all(&directory)?;
            for file in files {
                let path = directory.join(file);
                fs::write(&path, format!("a canary at {}", path.display()))?;
            }
        }
        let mut paths = Vec::new();
        walk(root, &mut paths)?;
        let contents = contents(&paths)?;
        // Older than the last change: whoever reads it makes this newer, under relatime too.
        for path in &paths {
            let (atime, mtime) = (TimeSpec::new(1_000_000_000, 0), TimeSpec::UTIME_OMIT);
            let at = nix::fcntl::AT_FDCWD;
            utimensat(at, path, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?;
        }
        let attributes = attributes(&paths)?;
        Ok(Canary { root: root.to_owned(), before: together(paths, attributes, contents) })
    }

    /// Fails if anything about it is different.
    pub(crate) fn is_untouched(&self) -> Result<(), String> {
        // The walk reads directories itself, so attributes come first.
        let text = |error: io::Error| format!("look at the canary: {error}");
        let known = self.before.keys().cloned().collect();
        let mut after =
            look(known).unwrap_or_else(|error| [(PathBuf::new(), error.to_string())].into());
        let mut paths = Vec::new();
        walk(&self.root, &mut paths).map_err(text)?;
        let new = paths.into_iter().filter(|path| !self.before.contains_key(path)).collect();
        after.extend(look(new).map_err(text)?);
        if after == self.before {
            return Ok(());
        }
        let changed = after.iter().filter(|(path, line)| self.before.get(*path) != Some(*line));
        let lines: Vec<_> = changed
            .map(|(path, line)| {
                format!("{}: {:?}, now {line}", path.display(), self.before.get(path))
            })
            .collect();
        Err(format!("something outside the source was touched:\n  {}", lines.join("\n  ")))
    }
}

fn walk(path: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    found.push(path.to_owned());
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), found)?;
        }
    }
    Ok(())
}

/// Attributes first: reading contents changes them.
fn look(paths: Vec<PathBuf>) -> io::Result<BTreeMap<PathBuf, String>> {
    let (attributes, contents) = (attributes(&paths)?, contents(&paths)?);
    Ok(together(paths, attributes, contents))
}

fn together(
    paths: Vec<PathBuf>,
    attributes: Vec<String>,
    contents: Vec<String>,
) -> BTreeMap<PathBuf, String> {
    let lines = attributes.into_iter().zip(contents).map(|(line, content)| line + &content);
    paths.into_iter().zip(lines).collect()
}

fn attributes(paths: &[PathBuf]) -> io::Result<Vec<String>> {
    let line = |path: &PathBuf| {
        let found = fs::symlink_metadata(path)?;
        let times = [
            (found.atime(), found.atime_nsec()),
            (found.mtime(), found.mtime_nsec()),
            (found.ctime(), found.ctime_nsec()),
        ];
        let (ino, mode, links, size) = (found.ino(), found.mode(), found.nlink(), found.size());
        let owner = (found.uid(), found.gid());
        Ok(format!("inode {ino} mode {mode:o} {owner:?} n{links} s{size} {times:?} "))
    };
    paths.iter().map(line).collect()
}

fn contents(paths: &[PathBuf]) -> io::Result<Vec<String>> {
    let content = |path: &PathBuf| match fs::symlink_metadata(path)?.is_file() {
        true => fs::read_to_string(path),
        false => Ok(String::new()),
    };
    paths.iter().map(content).collect()
}
