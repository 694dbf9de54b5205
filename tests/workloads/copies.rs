//! What people do who move trees: rsync and tar, there and back.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::common::shell::pattern;
use crate::common::tree;
use crate::generate;
use crate::tool::{shell, tool};
use crate::world::Place;

/// Everything that a backup must keep.
fn precious(root: &Path) -> Result<(), String> {
    generate::project(root, 12)?;
    objects(root).map_err(|error| format!("make {}: {error}", root.display()))?;
    let set = "setfacl -m u:1001:rwx,g:2000:r,m::rwx folder-0
        setfacl -d -m u:1002:rwx,g:2001:rx folder-0
        setfacl -m u:1003:r binary";
    tool("bash", "bash").args(["-ec", set]).within(root).run().map_err(|reason| {
        let missing = reason.contains("not found");
        if missing { "setfacl is not installed; apt-get install acl".to_owned() } else { reason }
    })?;
    let set = "setfattr -n user.short -v value binary
        setfattr -n user.long -v \"$(head -c 2000 /dev/zero | tr '\\0' x)\" run.sh
        setfattr -n trusted.root -v only folder-1
        setfattr -h -n trusted.link -v link folder-0/part-0/first";
    tool("bash", "bash").args(["-ec", set]).within(root).run().map_err(|reason| {
        let missing = reason.contains("not found");
        if missing { "setfattr is not installed; apt-get install attr".to_owned() } else { reason }
    })?;
    Ok(())
}

fn objects(root: &Path) -> io::Result<()> {
    let at = |name: &str| root.join(name);
    // Hard links, three names in two directories.
    fs::hard_link(at("binary"), at("binary too"))?;
    fs::hard_link(at("binary"), at("folder-0/binary"))?;
    // Sparse: a hole before, between and behind the data.
    let sparse = File::create(at("sparse"))?;
    sparse.write_all_at(&pattern(2, 8192), 4 << 20)?;
    sparse.write_all_at(&pattern(3, 100), 30 << 20)?;
    sparse.set_len(64 << 20)?;
    symlink("nowhere/at/all", at("dangling"))?;
    symlink("x".repeat(1000), at("long link"))?;
    let (node, mode) = (|name: &str| at(name), Mode::from_bits_truncate(0o640));
    mknod(&node("pipe"), SFlag::S_IFIFO, mode, 0)?;
    mknod(&node("socket"), SFlag::S_IFSOCK, mode, 0)?;
    mknod(&node("null"), SFlag::S_IFCHR, mode, nix::sys::stat::makedev(1, 3))?;
    mknod(&node("block"), SFlag::S_IFBLK, mode, nix::sys::stat::makedev(7, 200))?;
    let odd: [&[u8]; 9] = [
        b" blanks ",
        b"new\nline",
        b"-rf",
        b"quote\"'`",
        b"back\\slash",
        b"not \xff utf-8",
        "f\u{fc}r \u{1f980}".as_bytes(),
        &[b'n'; 255],
        b"*",
    ];
    fs::create_dir(at("odd"))?;
    for (number, name) in odd.iter().enumerate() {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(at("odd").join(name), generate::text(number))?;
    }
    fs::create_dir_all(at("empty/nested"))?;
    for (name, mode) in
        [("run.sh", 0o4755), ("empty", 0o1777), ("empty/nested", 0o2750), ("sparse", 0)]
    {
        fs::set_permissions(at(name), PermissionsExt::from_mode(mode))?;
    }
    chown(at("folder-0/part-0/file-1.txt"), Some(1001), Some(2000))?;
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let before = SystemTime::UNIX_EPOCH - Duration::new(86400, 0);
    let times = FileTimes::new().set_modified(old).set_accessed(before);
    File::open(at("folder-0/part-0/file-2.txt"))?.set_times(times)
}

/// Fails unless rsync finds both trees the same, by checksum, in both directions.
fn same(one: &Path, other: &Path) -> Result<(), String> {
    for (from, to) in [(one, other), (other, one)] {
        let differences = tool("rsync", "rsync").arg("-aHAXnci").arg("--delete");
        let differences = differences.args([slash(from), to.to_owned()]).run()?;
        if !differences.is_empty() {
            let (from, to) = (from.display(), to.display());
            return Err(format!("rsync -aHAXnci --delete {from}/ {to}:\n{differences}"));
        }
    }
    let lines = tree::differences(&tree::describe(one), &tree::describe(other));
    if lines.is_empty() { Ok(()) } else { Err(format!("the trees differ:\n{}", lines.join("\n"))) }
}

fn slash(path: &Path) -> PathBuf {
    path.join("")
}

/// To the mount and back, again after changes, and a second time with nothing left to do.
pub(crate) fn rsync(place: &Place) -> Result<Vec<String>, String> {
    let original = place.scratch.join("original");
    precious(&original)?;
    let (there, back) = (place.dir.join("there"), place.scratch.join("back"));
    let copy = |from: &Path, to: &Path, more: &[&str]| {
        let rsync = tool("rsync", "rsync").arg("-aHAXS").args(more).arg("--numeric-ids");
        rsync.args([slash(from), to.to_owned()]).run()
    };
    copy(&original, &there, &[])?;
    same(&original, &there)?;
    copy(&there, &back, &[])?;
    same(&original, &back)?;
    let change = "rm -r folder-3 'binary too' && mv folder-4 moved && echo more >> run.sh &&
        ln -sfn elsewhere dangling && truncate -s 1M sparse && chmod 600 folder-0/binary";
    shell(change).within(&original).run()?;
    let first = copy(&original, &there, &["--delete", "--itemize-changes"])?;
    same(&original, &there)?;
    let again = copy(&original, &there, &["--delete", "--itemize-changes"])?;
    let blocks = tool("du", "coreutils").args(["-s", "--block-size=1M"]).arg(&there).run()?;
    // In the mount, from one directory of it to another.
    copy(&there, &place.dir.join("inside"), &["--inplace"])?;
    same(&original, &place.dir.join("inside"))?;
    Ok(vec![first, again, blocks])
}

/// Out of one tree into another, through a pipe, in both directions.
pub(crate) fn tar(place: &Place) -> Result<Vec<String>, String> {
    let original = place.scratch.join("original");
    precious(&original)?;
    // tar knows no sockets.
    fs::remove_file(original.join("socket")).map_err(|error| error.to_string())?;
    let (there, back) = (place.dir.join("there"), place.scratch.join("back"));
    let options = "--xattrs --xattrs-include='*' --acls --sparse --numeric-owner";
    for (from, to) in [(&original, &there), (&there, &back)] {
        fs::create_dir(to).map_err(|error| format!("make {}: {error}", to.display()))?;
        let pipe = format!("tar c {options} -C \"$FROM\" . | tar xp {options} -C \"$TO\"");
        shell(&pipe).env("FROM", from).env("TO", to).run()?;
        same(&original, to)?;
    }
    let listed =
        shell("tar c --sort=name --mtime=@0 -C \"$FROM\" . | sha256sum").env("FROM", &there);
    Ok(vec![listed.run()?])
}
