//! Operations on descriptors that move no data: opening, attributes, locks, allocation, flags.

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, FcntlArg, OFlag, PosixFadviseAdvice};
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, Whence};

use super::names::{describe, ids, time};
use super::{Args, Outcome, Shell, done};
use crate::common::raw;

const FIEMAP: u64 = 0xc020_660b;
/// A `struct fiemap` from 0 for 4096 bytes, with room for no extent: it only counts them.
const WHOLE_FILE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0];

pub(super) fn call(shell: &mut Shell, args: &Args) -> Option<Outcome> {
    let fd = |at| shell.fd(args.text(at));
    Some(match args.text(0) {
        "open" => open(shell, args),
        "close" => match shell.fds.remove(args.text(1)) {
            Some(fd) => done(unistd::close(fd)),
            None => panic!("no descriptor is called {}", args.text(1)),
        },
        "dup" => {
            let copy = fd(1).try_clone().expect("descriptors are not used up");
            shell.fds.insert(args.text(2).to_owned(), copy);
            Ok(String::new())
        }
        "fstat" => stat::fstat(fd(1)).map(|found| describe(&found)),
        "fchmod" => done(stat::fchmod(fd(1), Mode::from_bits_retain(args.octal(2)))),
        "fchown" => done(unistd::fchown(fd(1), ids(args).0, ids(args).1)),
        "futimens" => done(stat::futimens(fd(1), &time(args.text(2)), &time(args.text(3)))),
        "ftruncate" => done(unistd::ftruncate(fd(1), args.number(2))),
        "fsync" => done(unistd::fsync(fd(1))),
        "fdatasync" => done(unistd::fdatasync(fd(1))),
        "sync" => {
            unistd::sync();
            Ok(String::new())
        }
        "syncfs" => done(unistd::syncfs(fd(1))),
        "syncrange" => done(raw::sync_file_range(fd(1), args.number(2), args.number(3))),
        "fstatfs" => done(nix::sys::statfs::fstatfs(fd(1))),
        "seek" => seek(shell, args),
        "fallocate" => done(raw::fallocate(
            fd(1),
            fallocate_mode(args.text(2)),
            args.number(3),
            args.number(4),
        )),
        "fadvise" => done(fcntl::posix_fadvise(
            fd(1),
            args.number(2),
            args.number(3),
            match args.text(4) {
                "willneed" => PosixFadviseAdvice::POSIX_FADV_WILLNEED,
                "dontneed" => PosixFadviseAdvice::POSIX_FADV_DONTNEED,
                "random" => PosixFadviseAdvice::POSIX_FADV_RANDOM,
                other => panic!("no such advice: {other}"),
            },
        )),
        "readahead" => done(raw::readahead(fd(1), args.number(2), args.size(3))),
        "flock" => done(raw::flock(fd(1), flock_mode(args.text(2)))),
        "getflags" => raw::get_flags(fd(1)).map(flag_names),
        "setflags" => set_flags(shell, args),
        "ficlone" => {
            let source = std::os::fd::AsRawFd::as_raw_fd(fd(2));
            done(raw::ioctl_value(fd(1), libc::FICLONE, source))
        }
        "fiemap" => done(raw::ioctl_buffer(fd(1), FIEMAP, &WHOLE_FILE)),
        "unknown_ioctl" => done(raw::ioctl_buffer(fd(1), 0x8008_6677, &[])),
        "setfl" => done(fcntl::fcntl(
            fd(1),
            FcntlArg::F_SETFL(OFlag::from_bits_retain(flags(args.text(2)))),
        )),
        // For a process that has one thread, which is the one that waits.
        "interrupted" => raw::interrupt(true).and_then(|()| {
            let answer = shell.run(&args.rest(1));
            raw::interrupt(false).and(answer)
        }),
        "setlk" | "setlkw" | "getlk" | "ofdlk" | "ofdlkw" | "ofdgetlk" => lock(shell, args),
        _ => return None,
    })
}

/// `open FD PATH FLAGS [MODE]`
fn open(shell: &mut Shell, args: &Args) -> Outcome {
    let mode = if args.has(4) { args.octal(4) } else { 0 };
    let flags = OFlag::from_bits_retain(flags(args.text(3))) | OFlag::O_CLOEXEC;
    let path = args.path(shell, 2);
    let fd = fcntl::openat(AT_FDCWD, &path, flags, Mode::from_bits_retain(mode))?;
    shell.fds.insert(args.text(1).to_owned(), fd);
    Ok(String::new())
}

fn flags(words: &str) -> i32 {
    words.split(',').fold(0, |flags, word| {
        flags
            | match word {
                "r" => libc::O_RDONLY,
                "w" => libc::O_WRONLY,
                "rw" => libc::O_RDWR,
                "creat" => libc::O_CREAT,
                "excl" => libc::O_EXCL,
                "trunc" => libc::O_TRUNC,
                "append" => libc::O_APPEND,
                "dir" => libc::O_DIRECTORY,
                "nofollow" => libc::O_NOFOLLOW,
                "path" => libc::O_PATH,
                "noatime" => libc::O_NOATIME,
                "sync" => libc::O_SYNC,
                "dsync" => libc::O_DSYNC,
                "direct" => libc::O_DIRECT,
                "tmpfile" => libc::O_TMPFILE,
                "nonblock" => libc::O_NONBLOCK,
                other => panic!("no such open flag: {other}"),
            }
    })
}

/// `seek FD OFFSET set|cur|end|data|hole`
fn seek(shell: &Shell, args: &Args) -> Outcome {
    let whence = match args.text(3) {
        "set" => Whence::SeekSet,
        "cur" => Whence::SeekCur,
        "end" => Whence::SeekEnd,
        "data" => Whence::SeekData,
        "hole" => Whence::SeekHole,
        other => panic!("no such whence: {other}"),
    };
    unistd::lseek(shell.fd(args.text(1)), args.number(2), whence).map(|at| at.to_string())
}

fn fallocate_mode(words: &str) -> i32 {
    words.split(',').fold(0, |mode, word| {
        mode | match word {
            "default" => 0,
            "keep" => libc::FALLOC_FL_KEEP_SIZE,
            "punch" => libc::FALLOC_FL_PUNCH_HOLE,
            "collapse" => libc::FALLOC_FL_COLLAPSE_RANGE,
            "zero" => libc::FALLOC_FL_ZERO_RANGE,
            "insert" => libc::FALLOC_FL_INSERT_RANGE,
            "unshare" => libc::FALLOC_FL_UNSHARE_RANGE,
            other => other.parse().expect("a fallocate mode, or its number"),
        }
    })
}

fn flock_mode(words: &str) -> i32 {
    words.split(',').fold(0, |mode, word| {
        mode | match word {
            "sh" => libc::LOCK_SH,
            "ex" => libc::LOCK_EX,
            "un" => libc::LOCK_UN,
            "nb" => libc::LOCK_NB,
            other => panic!("no such flock: {other}"),
        }
    })
}

const INODE_FLAGS: [(libc::c_long, &str); 5] =
    [(0x10, "immutable"), (0x20, "append"), (0x40, "nodump"), (0x80, "noatime"), (0x8, "sync")];

fn flag_names(flags: libc::c_long) -> String {
    let names = INODE_FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
    names.collect::<Vec<_>>().join(",")
}

/// `setflags FD NAMES|-`: exactly these of the flags we know; the rest stay as they are.
fn set_flags(shell: &Shell, args: &Args) -> Outcome {
    let fd = shell.fd(args.text(1));
    let wanted: Vec<&str> = args.text(2).split(',').collect();
    let flags = INODE_FLAGS.iter().fold(raw::get_flags(fd)?, |flags, (bit, name)| {
        if wanted.contains(name) { flags | bit } else { flags & !bit }
    });
    done(raw::set_flags(fd, flags))
}

/// `setlk FD rd|wr|un START LEN`, and getlk and the OFD forms alike. getlk answers the conflict.
fn lock(shell: &Shell, args: &Args) -> Outcome {
    let kind = match args.text(2) {
        "rd" => libc::F_RDLCK,
        "wr" => libc::F_WRLCK,
        "un" => libc::F_UNLCK,
        other => panic!("no such lock: {other}"),
    };
    let mut wanted = libc::flock {
        l_type: i16::try_from(kind).expect("lock types are small"),
        l_whence: 0,
        l_start: args.number(3),
        l_len: args.number(4),
        l_pid: 0,
    };
    let fd = shell.fd(args.text(1));
    let ask = match args.text(0) {
        "setlk" => FcntlArg::F_SETLK(&wanted),
        "setlkw" => FcntlArg::F_SETLKW(&wanted),
        "ofdlk" => FcntlArg::F_OFD_SETLK(&wanted),
        "ofdlkw" => FcntlArg::F_OFD_SETLKW(&wanted),
        "getlk" => FcntlArg::F_GETLK(&mut wanted),
        _ => FcntlArg::F_OFD_GETLK(&mut wanted),
    };
    fcntl::fcntl(fd, ask)?;
    if !args.text(0).ends_with("getlk") {
        return Ok(String::new());
    }
    let kind = match i32::from(wanted.l_type) {
        libc::F_RDLCK => "rd",
        libc::F_WRLCK => "wr",
        libc::F_UNLCK => return Ok("free".to_owned()),
        _ => return Err(Errno::EBADMSG),
    };
    Ok(format!("{kind} {} {}", wanted.l_start, wanted.l_len))
}
