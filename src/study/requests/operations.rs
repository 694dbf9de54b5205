//! The operations whose requests are counted. Each has names of its own, so that it is cold where it
//! says so; what is around it is warm.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, copy_file_range};
use nix::sys::stat::UtimensatFlags::FollowSymlink;
use nix::sys::stat::{FileStat, fstat, lstat, utimensat};
use nix::sys::time::TimeSpec;

use super::super::process::run_tool;
use super::super::run::tree;
use crate::sys::objfd;

/// Files of the trees that programs work on, and of the directory that is listed.
pub(super) const FILES: u32 = 100;
const LISTED: u32 = 20;

/// One operation on a mounted directory that [`prepare`] has filled.
pub(super) struct Operation {
    /// What it is called.
    pub(super) name: &'static str,
    /// How many times it is done by the body.
    pub(super) times: u32,
    /// Whether it needs a mount that can be written to.
    pub(super) writes: bool,
    /// What is done before, uncounted.
    pub(super) before: Option<Body>,
    /// What is counted.
    pub(super) body: Body,
}

type Body = fn(&Path) -> io::Result<()>;

const fn once(name: &'static str, body: Body) -> Operation {
    Operation { name, times: 1, writes: false, before: None, body }
}

const fn after(before: Body, name: &'static str, body: Body) -> Operation {
    Operation { before: Some(before), ..once(name, body) }
}

const fn per_file(name: &'static str, body: Body) -> Operation {
    Operation { times: FILES, ..once(name, body) }
}

const fn writing(operation: Operation) -> Operation {
    Operation { writes: true, ..operation }
}

/// All of them, in the order in which they are done: what is "again" comes after the first time.
pub(super) const OPERATIONS: &[Operation] = &[
    after(|at| stat(at, ".").map(drop), "stat, cold", |at| stat(at, "stat").map(drop)),
    once("stat, warm", |at| stat(at, "stat").map(drop)),
    once("stat of a missing name", |at| missing(at, "none")),
    once("stat of a missing name, again", |at| missing(at, "none")),
    once("open + read + close, cold", |at| read(at, "read")),
    once("open + read + close, again", |at| read(at, "read")),
    once("cat (with fstat), cold", |at| cat(at, "cat")),
    once("cat (with fstat), again", |at| cat(at, "cat")),
    once("stat after reading", |at| stat(at, "cat").map(drop)),
    once("readlink, cold", |at| fs::read_link(at.join("link")).map(drop)),
    once("readlink, again", |at| fs::read_link(at.join("link")).map(drop)),
    after(
        |at| stat(at, "xattr").map(drop),
        "getxattr",
        |at| xattr(&at.join("xattr"), c"user.given"),
    ),
    once("getxattr of a missing name", |at| xattr(&at.join("xattr"), c"user.none")),
    once("getxattr of a missing name, again", |at| xattr(&at.join("xattr"), c"user.none")),
    once("readdir, cold", |at| list(at, "names").map(drop)),
    once("readdir, again", |at| list(at, "names").map(drop)),
    once("ls -l of 20, cold", |at| list_long(at, "long")),
    once("ls -l of 20, again", |at| list_long(at, "long")),
    per_file("grep -r, per file, cold", |at| tool(at, "grep", &["-rc", "e", "tree"])),
    per_file("grep -r, per file, again", |at| tool(at, "grep", &["-rc", "e", "tree"])),
    writing(once("create + write + close", |at| write(at, "new"))),
    writing(once("stat after writing", |at| stat(at, "new").map(drop))),
    writing(once("open + append + close, again", |at| append(at, "new"))),
    writing(after(
        |at| copy(at, "read", "copied"),
        "open + create + copy_file_range",
        |at| copy(at, "read", "copied-again"),
    )),
    writing(after(
        |at| stat(at, "doomed").map(drop),
        "unlink",
        |at| fs::remove_file(at.join("doomed")),
    )),
    writing(after(
        |at| stat(at, "old").map(drop),
        "rename",
        |at| fs::rename(at.join("old"), at.join("to")),
    )),
    writing(once("mkdir", |at| fs::create_dir(at.join("dir")))),
    writing(once("rmdir", |at| fs::remove_dir(at.join("dir")))),
    writing(once("symlink", |at| symlink("target", at.join("link-new")))),
    writing(once("chmod", |at| {
        fs::set_permissions(at.join("stat"), fs::Permissions::from_mode(0o640))
    })),
    writing(after(
        |at| stat(at, "times").map(drop),
        "utimensat",
        |at| Ok(utimensat(AT_FDCWD, &at.join("times"), &LONG_AGO, &LONG_AGO, FollowSymlink)?),
    )),
    writing(per_file("tar xf, per file", |at| {
        tool(at, "tar", &["xf", "tree.tar", "--one-top-level=tar"])
    })),
    writing(per_file("cp -r, per file", |at| tool(at, "cp", &["-r", "tree", "copy"]))),
    writing(per_file("git add, per file", |at| {
        tool(at, "git", &["init", "-q", "copy"])?;
        tool(at, "git", &["-C", "copy", "add", "."])
    })),
    writing(per_file("git status, per file", |at| {
        tool(at, "git", &["-C", "copy", "status", "-s"])
    })),
    writing(per_file("rm -rf, per file", |at| tool(at, "rm", &["-rf", "tar"]))),
];

const LONG_AGO: TimeSpec = TimeSpec::new(1, 0);

/// Fills the new directory `source` with what the operations need.
pub(super) fn prepare(source: &Path) -> io::Result<()> {
    fs::create_dir(source)?;
    for name in ["stat", "read", "cat", "doomed", "old", "xattr", "times"] {
        fs::write(source.join(name), "hello")?;
    }
    symlink("target", source.join("link"))?;
    let file = File::open(source.join("xattr"))?;
    objfd::setxattr(file.as_fd(), c"user.given", b"value", 0)?;
    for dir in ["names", "long"] {
        fs::create_dir(source.join(dir))?;
        for number in 0..LISTED {
            fs::write(source.join(dir).join(number.to_string()), "hello")?;
        }
    }
    tree::write(&source.join("tree"), FILES as usize, 1)?;
    tool(source, "tar", &["cf", "tree.tar", "tree"])
}

fn tool(at: &Path, program: &str, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new(program);
    // Nobody's settings decide what git does.
    command.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(arguments).current_dir(at);
    run_tool(&format!("run {program}"), &mut command).map(drop).map_err(io::Error::other)
}

/// Not that of the standard library, which asks for the time of birth as well.
fn stat(at: &Path, name: &str) -> io::Result<FileStat> {
    Ok(lstat(&at.join(name))?)
}

fn missing(at: &Path, name: &str) -> io::Result<()> {
    match stat(at, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => Err(io::Error::other(format!("{name} is not missing: {found:?}"))),
    }
}

fn read(at: &Path, name: &str) -> io::Result<()> {
    File::open(at.join(name))?.read(&mut [0; 64]).map(drop)
}

fn cat(at: &Path, name: &str) -> io::Result<()> {
    let mut file = File::open(at.join(name))?;
    fstat(&file)?;
    while file.read(&mut [0; 64])? > 0 {}
    Ok(())
}

fn write(at: &Path, name: &str) -> io::Result<()> {
    File::create_new(at.join(name))?.write_all(b"hello")
}

fn copy(at: &Path, from: &str, to: &str) -> io::Result<()> {
    let (from, to) = (File::open(at.join(from))?, File::create_new(at.join(to))?);
    match copy_file_range(&from, None, &to, None, 64)? {
        0 => Err(io::Error::other("nothing was copied")),
        _ => Ok(()),
    }
}

fn append(at: &Path, name: &str) -> io::Result<()> {
    File::options().append(true).open(at.join(name))?.write_all(b"more")
}

/// There may be no such attribute, or none at all.
fn xattr(at: &Path, name: &CStr) -> io::Result<()> {
    let file = File::options().read(true).custom_flags(libc::O_PATH).open(at)?;
    match objfd::getxattr(file.as_fd(), name, &mut [0; 64]) {
        Ok(_) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn list(at: &Path, name: &str) -> io::Result<Vec<fs::DirEntry>> {
    let entries: Vec<_> = fs::read_dir(at.join(name))?.collect::<Result<_, _>>()?;
    match entries.len() == LISTED as usize {
        true => Ok(entries),
        false => Err(io::Error::other(format!("{name} has {} entries", entries.len()))),
    }
}

/// As ls does: the attributes of each, and whether it has an ACL.
fn list_long(at: &Path, name: &str) -> io::Result<()> {
    for entry in list(at, name)? {
        lstat(&entry.path())?;
        xattr(&entry.path(), c"system.posix_acl_access")?;
    }
    Ok(())
}
