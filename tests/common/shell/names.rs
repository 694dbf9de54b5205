//! Operations on paths: making, removing, renaming, attributes, listing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{self, FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, AccessFlags, Gid, Uid, UnlinkatFlags};

use super::{Args, Outcome, Shell, done, show};
use crate::common::raw;

pub(super) fn call(shell: &mut Shell, args: &Args) -> Option<Outcome> {
    let path = |at| args.path(shell, at);
    Some(match args.text(0) {
        "mkdir" => done(stat::mkdirat(AT_FDCWD, &path(1), mode(args, 2))),
        "rmdir" => done(unistd::unlinkat(AT_FDCWD, &path(1), UnlinkatFlags::RemoveDir)),
        "unlink" => done(unistd::unlinkat(AT_FDCWD, &path(1), UnlinkatFlags::NoRemoveDir)),
        "symlink" => done(unistd::symlinkat(args.os(1), AT_FDCWD, &path(2))),
        "readlink" => fcntl::readlinkat(AT_FDCWD, &path(1)).map(|to| show(to.as_encoded_bytes())),
        "link" => link(&path(1), &path(2), AtFlags::empty()),
        "linkfollow" => link(&path(1), &path(2), AtFlags::AT_SYMLINK_FOLLOW),
        "linkfd" => done(unistd::linkat(
            shell.fd(args.text(1)),
            "",
            AT_FDCWD,
            &path(2),
            AtFlags::AT_EMPTY_PATH,
        )),
        "rename" => done(fcntl::renameat(AT_FDCWD, &path(1), AT_FDCWD, &path(2))),
        "rename2" => done(raw::rename_flags(&path(1), &path(2), rename_flags(args.text(3)))),
        "mknod" => mknod(&path(1), args),
        "chmod" => {
            done(stat::fchmodat(AT_FDCWD, &path(1), mode(args, 2), FchmodatFlags::FollowSymlink))
        }
        "chown" => chown(&path(1), args, AtFlags::empty()),
        "lchown" => chown(&path(1), args, AtFlags::AT_SYMLINK_NOFOLLOW),
        "truncate" => done(unistd::truncate(&path(1), args.number(2))),
        "utimens" => utimens(&path(1), args, UtimensatFlags::FollowSymlink),
        "lutimens" => utimens(&path(1), args, UtimensatFlags::NoFollowSymlink),
        "access" => access(&path(1), args.text(2), AtFlags::empty()),
        "eaccess" => access(&path(1), args.text(2), AtFlags::AT_EACCESS),
        "stat" => stat::stat(&path(1)).map(|found| describe(&found)),
        "lstat" => stat::lstat(&path(1)).map(|found| describe(&found)),
        "mtime" => {
            stat::lstat(&path(1)).map(|at| format!("{}.{:09}", at.st_mtime, at.st_mtime_nsec))
        }
        "atime" => {
            stat::lstat(&path(1)).map(|at| format!("{}.{:09}", at.st_atime, at.st_atime_nsec))
        }
        "samefile" => same_file(&path(1), &path(2)),
        "ls" => list(&path(1)),
        "statfs" => nix::sys::statfs::statfs(&path(1)).map(|_| String::new()),
        "chdir" => done(unistd::chdir(&path(1))),
        "getcwd" => unistd::getcwd().map(|at| show(at.as_os_str().as_encoded_bytes())),
        "umask" => {
            stat::umask(mode(args, 1));
            Ok(String::new())
        }
        "fsuid" => {
            let uid = u32::try_from(args.number(1)).expect("a user id is not negative");
            unistd::setfsuid(Uid::from_raw(uid));
            Ok(String::new())
        }
        "install" => install(&path(1), &args.rest(2)),
        "copyin" => copy_in(&path(1), args.text(2)),
        "exec" => exec(&path(1), args),
        _ => return None,
    })
}

fn mode(args: &Args, at: usize) -> Mode {
    Mode::from_bits_retain(args.octal(at))
}

fn link(from: &Path, to: &Path, flags: AtFlags) -> Outcome {
    done(unistd::linkat(AT_FDCWD, from, AT_FDCWD, to, flags))
}

fn rename_flags(words: &str) -> u32 {
    words.split(',').fold(0, |flags, word| {
        flags
            | match word {
                "noreplace" => libc::RENAME_NOREPLACE,
                "exchange" => libc::RENAME_EXCHANGE,
                "whiteout" => libc::RENAME_WHITEOUT,
                other => other.parse().expect("a rename flag, or its number"),
            }
    })
}

/// `mknod PATH KIND MODE [MAJOR MINOR]`
fn mknod(path: &Path, args: &Args) -> Outcome {
    let kind = match args.text(2) {
        "reg" => SFlag::S_IFREG,
        "fifo" => SFlag::S_IFIFO,
        "sock" => SFlag::S_IFSOCK,
        "chr" => SFlag::S_IFCHR,
        "blk" => SFlag::S_IFBLK,
        other => panic!("no such kind of node: {other}"),
    };
    let part = |at| u64::try_from(args.number(at)).expect("device numbers are not negative");
    let device = if args.has(5) { stat::makedev(part(4), part(5)) } else { 0 };
    done(stat::mknodat(AT_FDCWD, path, kind, mode(args, 3), device))
}

/// `-1` keeps the id.
pub(super) fn ids(args: &Args) -> (Option<Uid>, Option<Gid>) {
    let id = |at| u32::try_from(args.number(at)).ok();
    (id(2).map(Uid::from_raw), id(3).map(Gid::from_raw))
}

fn chown(path: &Path, args: &Args, flags: AtFlags) -> Outcome {
    let (uid, gid) = ids(args);
    done(unistd::fchownat(AT_FDCWD, path, uid, gid, flags))
}

/// `now`, `omit`, or seconds with up to nine decimals.
pub(super) fn time(word: &str) -> TimeSpec {
    match word {
        "now" => TimeSpec::UTIME_NOW,
        "omit" => TimeSpec::UTIME_OMIT,
        _ => {
            let (seconds, decimals) = word.split_once('.').unwrap_or((word, "0"));
            let nanos = format!("{decimals:0<9}").parse().expect("decimals of a second");
            TimeSpec::new(seconds.parse().expect("seconds"), nanos)
        }
    }
}

/// `utimens PATH ATIME MTIME`
fn utimens(path: &Path, args: &Args, flags: UtimensatFlags) -> Outcome {
    done(stat::utimensat(AT_FDCWD, path, &time(args.text(2)), &time(args.text(3)), flags))
}

fn access(path: &Path, wanted: &str, flags: AtFlags) -> Outcome {
    let mode = wanted.chars().fold(AccessFlags::F_OK, |mode, letter| {
        mode | match letter {
            'r' => AccessFlags::R_OK,
            'w' => AccessFlags::W_OK,
            'x' => AccessFlags::X_OK,
            _ => AccessFlags::F_OK,
        }
    });
    done(unistd::faccessat(AT_FDCWD, path, mode, flags))
}

/// Kind, mode, owner, links, and size and blocks or the device.
pub(super) fn describe(found: &FileStat) -> String {
    let kind = kind_of(found.st_mode);
    let tail = if matches!(kind, "chr" | "blk") {
        format!("r{}:{}", stat::major(found.st_rdev), stat::minor(found.st_rdev))
    } else {
        format!("s{} b{}", found.st_size, found.st_blocks)
    };
    let (mode, uid, gid) = (found.st_mode & 0o7777, found.st_uid, found.st_gid);
    format!("{kind} {mode:o} {uid}:{gid} n{} {tail}", found.st_nlink)
}

/// The kind in a `st_mode`.
pub(crate) fn kind_of(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "reg",
        libc::S_IFDIR => "dir",
        libc::S_IFLNK => "lnk",
        libc::S_IFIFO => "fifo",
        libc::S_IFSOCK => "sock",
        libc::S_IFCHR => "chr",
        libc::S_IFBLK => "blk",
        _ => "?",
    }
}

fn same_file(one: &Path, other: &Path) -> Outcome {
    let (one, other) = (stat::lstat(one)?, stat::lstat(other)?);
    let same = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
    Ok(if same { "same" } else { "different" }.to_owned())
}

/// `name/kind` of every entry but `.` and `..`, in the order of the directory.
fn list(path: &Path) -> Outcome {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = fcntl::open(path, flags, Mode::empty())?;
    let mut words = Vec::new();
    loop {
        let entries = raw::getdents(&directory, 32 << 10)?;
        if entries.is_empty() {
            return Ok(words.join(" "));
        }
        for entry in entries.iter().filter(|entry| !matches!(&entry.name[..], b"." | b"..")) {
            words.push(format!("{}/{}", show(&entry.name), kind_of(u32::from(entry.kind) << 12)));
        }
    }
}

/// `install PATH TEXT...`: an executable script of that text.
fn install(path: &Path, text: &str) -> Outcome {
    let script = format!("#!/bin/sh\n{text}\n");
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    std::fs::write(path, script).map_err(errno)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(errno)?;
    Ok(String::new())
}

/// `copyin PATH PROGRAM`: a copy of a program of the system.
fn copy_in(path: &Path, program: &str) -> Outcome {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let bytes = std::fs::read(program).map_err(errno)?;
    std::fs::write(path, bytes).map_err(errno)?;
    done(stat::fchmodat(
        AT_FDCWD,
        path,
        Mode::from_bits_retain(0o755),
        FchmodatFlags::FollowSymlink,
    ))
}

/// `exec PATH ARGS...`: its standard output and exit code.
fn exec(path: &Path, args: &Args) -> Outcome {
    let words = args.words[2..].iter().map(|word| String::from_utf8_lossy(word).into_owned());
    match std::process::Command::new(path).args(words).output() {
        Ok(output) => Ok(format!("{} {}", show(&output.stdout), output.status)),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}
