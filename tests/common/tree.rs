//! Everything about a tree that two trees can be compared by, one line an object.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::raw::{self, On};
use super::shell::{hash, kind_of, show};

/// Path below `root` -> kind, mode, owner, links, and by kind: size and hash, target, device; then the
/// extended attributes. Timestamps and sizes of directories are left out.
pub(crate) fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    walk(root, root, &mut lines);
    lines
}

fn walk(root: &Path, path: &Path, lines: &mut BTreeMap<String, String>) {
    let name = path.strip_prefix(root).expect("the walk stays below its root");
    let name = format!("/{}", show_path(name));
    let line = object(path).unwrap_or_else(|error| format!("unreadable: {error}"));
    let is_directory = line.starts_with("dir");
    lines.insert(name, line);
    if is_directory {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(root, &entry.path(), lines);
        }
    }
}

fn show_path(path: &Path) -> String {
    let parts = path.components().map(|part| show(part.as_os_str().as_bytes()));
    parts.collect::<Vec<_>>().join("/")
}

fn object(path: &Path) -> std::io::Result<String> {
    let found = fs::symlink_metadata(path)?;
    let kind = kind_of(found.mode());
    let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
    let mut line = format!("{kind} {mode:o} {uid}:{gid} n{}", found.nlink());
    match kind {
        "reg" if found.blocks() * 512 + (64 << 20) < found.size() => {
            line += &format!(" s{} sparse", found.size());
        }
        "reg" => line += &format!(" s{} {:016x}", found.size(), hash(&fs::read(path)?)),
        "lnk" => line += &format!(" -> {}", show(fs::read_link(path)?.as_os_str().as_bytes())),
        "chr" | "blk" => line += &format!(" r{:x}", found.rdev()),
        _ => {}
    }
    Ok(line + &xattrs(path))
}

fn xattrs(path: &Path) -> String {
    let Ok(path) = raw::c_path(path) else { return String::new() };
    let Ok((_, names)) = raw::list_xattr(On::Link(&path), 64 << 10) else { return String::new() };
    let mut values: Vec<String> = names
        .split_inclusive(|&byte| byte == 0)
        .filter_map(|name| std::ffi::CStr::from_bytes_with_nul(name).ok())
        .map(|name| {
            let value =
                raw::get_xattr(On::Link(&path), name, 64 << 10).map(|(_, value)| show(&value));
            format!(
                " {}={}",
                show(name.to_bytes()),
                value.unwrap_or_else(|errno| errno.to_string())
            )
        })
        .collect();
    values.sort();
    values.concat()
}

/// The differences of two descriptions, `-` only in the first, `+` only in the second.
pub(crate) fn differences(
    first: &BTreeMap<String, String>,
    second: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, line) in first.iter().filter(|(name, line)| second.get(*name) != Some(line)) {
        lines.push(format!("- {name}: {line}"));
    }
    for (name, line) in second.iter().filter(|(name, line)| first.get(*name) != Some(line)) {
        lines.push(format!("+ {name}: {line}"));
    }
    lines
}
