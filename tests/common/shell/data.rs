//! Operations that move data: read, write, mappings, copies inside the kernel.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag, SpliceFFlags};
use nix::sys::sendfile::sendfile;
use nix::sys::stat::Mode;
use nix::sys::uio;
use nix::unistd;

use super::{Args, Outcome, Shell, done, show};
use crate::common::raw::{self, Map};

/// Direct I/O wants memory and lengths aligned to this.
const ALIGNMENT: usize = 4096;

pub(super) fn call(shell: &mut Shell, args: &Args) -> Option<Outcome> {
    let fd = |at| shell.fd(args.text(at));
    let wrote = |result: Result<usize, Errno>| result.map(|count| count.to_string());
    Some(match args.text(0) {
        "put" => put(shell, args, OFlag::O_CREAT | OFlag::O_TRUNC),
        "append" => put(shell, args, OFlag::O_APPEND),
        "create" => create(shell, args),
        "get" => get(shell, args),
        "read" => read(args.size(2), |buffer| unistd::read(fd(1), buffer)),
        "pread" => read(args.size(3), |buffer| uio::pread(fd(1), buffer, args.number(2))),
        "write" => wrote(aligned(&args.data(2), |data| unistd::write(fd(1), data))),
        "pwrite" => wrote(aligned(&args.data(3), |data| uio::pwrite(fd(1), data, args.number(2)))),
        "pwritedsync" => {
            wrote(raw::pwrite_flags(fd(1), &args.data(3), args.number(2), libc::RWF_DSYNC))
        }
        "writev" | "pwritev" => writev(shell, args),
        "preadv" => preadv(shell, args),
        "copy" => {
            let (from, to) = (fd(1).as_fd(), fd(3).as_fd());
            wrote(raw::copy_file_range((from, args.number(2)), (to, args.number(4)), args.size(5)))
        }
        "sendfile" => {
            let mut offset = args.number(3);
            wrote(sendfile(fd(1), fd(2), Some(&mut offset), args.size(4)))
        }
        "splice" => splice(shell, args),
        "mmap" => mmap(shell, args),
        "munmap" => {
            shell.maps.remove(args.text(1));
            Ok(String::new())
        }
        "load" => Ok(show(&shell.map(args.text(1)).load(args.size(2), args.size(3)))),
        "store" => {
            shell.map(args.text(1)).store(args.size(2), &args.data(3));
            Ok(String::new())
        }
        "msync" => done(shell.map(args.text(1)).sync(libc::MS_SYNC)),
        _ => return None,
    })
}

fn open(shell: &Shell, args: &Args, flags: OFlag) -> Result<std::os::fd::OwnedFd, Errno> {
    let path = args.path(shell, 1);
    fcntl::openat(AT_FDCWD, &path, flags | OFlag::O_CLOEXEC, Mode::from_bits_retain(0o644))
}

fn write_all(fd: impl AsFd, mut data: &[u8]) -> Result<(), Errno> {
    while !data.is_empty() {
        data = &data[unistd::write(&fd, data)?..];
    }
    Ok(())
}

/// `put PATH DATA`, `append PATH DATA`
fn put(shell: &Shell, args: &Args, flags: OFlag) -> Outcome {
    let file = open(shell, args, flags | OFlag::O_WRONLY)?;
    write_all(&file, &args.data(2))?;
    done(unistd::close(file))
}

/// `create PATH MODE`: must not exist.
fn create(shell: &Shell, args: &Args) -> Outcome {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_retain(args.octal(2));
    let file = fcntl::openat(AT_FDCWD, &args.path(shell, 1), flags, mode)?;
    done(unistd::close(file))
}

/// `get PATH`: all bytes.
fn get(shell: &Shell, args: &Args) -> Outcome {
    let file = open(shell, args, OFlag::O_RDONLY)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match unistd::read(&file, &mut buffer)? {
            0 => return Ok(show(&bytes)),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Reads into memory that direct I/O accepts.
fn read(len: usize, call: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> Outcome {
    let mut memory = vec![0; len + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let buffer = &mut memory[start..start + len];
    let count = call(buffer)?;
    Ok(show(&buffer[..count]))
}

/// Writes from memory that direct I/O accepts.
fn aligned<T>(data: &[u8], call: impl FnOnce(&[u8]) -> T) -> T {
    let mut memory = vec![0; data.len() + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    memory[start..start + data.len()].copy_from_slice(data);
    call(&memory[start..start + data.len()])
}

/// `writev FD DATA...`, `pwritev FD OFFSET DATA...`: each part from memory that direct I/O accepts.
fn writev(shell: &Shell, args: &Args) -> Outcome {
    let first = if args.text(0) == "writev" { 2 } else { 3 };
    let mut memory = Vec::new();
    for data in (first..args.words.len()).map(|at| args.data(at)) {
        let mut part = vec![0; data.len() + ALIGNMENT];
        let start = part.as_ptr().align_offset(ALIGNMENT);
        part[start..start + data.len()].copy_from_slice(&data);
        memory.push((part, start..start + data.len()));
    }
    let slices: Vec<IoSlice<'_>> =
        memory.iter().map(|(part, range)| IoSlice::new(&part[range.clone()])).collect();
    let fd = shell.fd(args.text(1));
    let count = match first {
        2 => uio::writev(fd, &slices),
        _ => uio::pwritev(fd, &slices, args.number(2)),
    };
    count.map(|count| count.to_string())
}

/// `preadv FD OFFSET LEN...`: each part into memory that direct I/O accepts.
fn preadv(shell: &Shell, args: &Args) -> Outcome {
    let mut memory = Vec::new();
    for len in (3..args.words.len()).map(|at| args.size(at)) {
        let part = vec![b'.'; len + ALIGNMENT];
        let start = part.as_ptr().align_offset(ALIGNMENT);
        memory.push((part, start..start + len));
    }
    let mut slices: Vec<_> =
        memory.iter_mut().map(|(part, range)| IoSliceMut::new(&mut part[range.clone()])).collect();
    let count = uio::preadv(shell.fd(args.text(1)), &mut slices, args.number(2))?;
    // What lies behind the bytes that were read nobody promises.
    let mut left = count;
    let texts: Vec<String> = memory
        .iter()
        .map(|(part, range)| {
            let read = range.len().min(left);
            left -= read;
            show(&part[range.start..range.start + read])
        })
        .collect();
    Ok(format!("{count} {}", texts.join("|")))
}

/// `splice FROM OFFSET TO OFFSET LEN`, through a pipe.
fn splice(shell: &Shell, args: &Args) -> Outcome {
    let (reader, writer) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (mut from, mut to) = (args.number(2), args.number(4));
    let none = SpliceFFlags::empty();
    let (source, target) = (shell.fd(args.text(1)), shell.fd(args.text(3)));
    let filled = fcntl::splice(source, Some(&mut from), &writer, None, args.size(5), none)?;
    let drained = fcntl::splice(&reader, None, target, Some(&mut to), filled, none)?;
    Ok(format!("{filled} {drained}"))
}

/// `mmap MAP FD OFFSET LEN shared|private r|rw`
fn mmap(shell: &mut Shell, args: &Args) -> Outcome {
    let flags = match args.text(5) {
        "shared" => libc::MAP_SHARED,
        "private" => libc::MAP_PRIVATE,
        other => panic!("no such mapping: {other}"),
    };
    let prot = match args.text(6) {
        "r" => libc::PROT_READ,
        _ => libc::PROT_READ | libc::PROT_WRITE,
    };
    let fd = shell.fd(args.text(2));
    let map = Map::new(fd, args.number(3), args.size(4), prot, flags)?;
    shell.maps.insert(args.text(1).to_owned(), map);
    Ok(String::new())
}
