//! READs that are answered, and WRITEs that are received, through a pipe.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread;
use std::time::{Duration, Instant};

use super::with_mount;

const LEN: usize = (3 << 20) + 123;

fn content() -> Vec<u8> {
    (0..LEN).map(|n| u8::try_from(n / 5 % 251).expect("small")).collect()
}

#[test]
fn what_is_read_through_a_pipe_is_what_the_file_holds() {
    with_mount("Y", "data=splice", |source, mountpoint, daemon| {
        fs::write(source.join("long"), content()).expect("write");
        assert!(fs::read(mountpoint.join("long")).expect("read") == content(), "other bytes");
        let totals = daemon.settled().expect("stats").totals;
        // More if a notice of the write above makes the kernel ask again.
        assert!(totals.read_bytes >= LEN as u64, "{totals:?}");
        // All but the last READ, which asks for more than there is.
        assert!(totals.spliced_bytes > (2 << 20), "{totals:?}");
        assert_eq!(totals.errors, 0, "{totals:?}");
    });
}

#[test]
fn a_read_that_no_pipe_holds_is_copied() {
    with_mount("Y", "data=splice,max_write=1048576", |source, mountpoint, daemon| {
        fs::write(source.join("long"), content()).expect("write");
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_DIRECT);
        let content = content();
        let file = options.open(mountpoint.join("long")).expect("open");
        let mut memory = memmap2::MmapMut::map_anon(4 << 20).expect("map");
        for len in [4 << 20, 1 << 20, 64 << 10, 4096] {
            let count = file.read_at(&mut memory[..len], 0).expect("read");
            assert_eq!(count, len.min(LEN));
            assert!(memory[..count] == content[..count], "other bytes of {len}");
        }
        let totals = daemon.settled().expect("stats").totals;
        assert!(totals.spliced_bytes >= 68 << 10, "{totals:?}");
    });
}

/// A file that shrinks and grows while it is read: every answer is one that the file has given.
#[test]
fn a_file_that_is_truncated_meanwhile_is_read_without_errors() {
    with_mount("Y", "data=splice,attr_timeout=0", |source, mountpoint, daemon| {
        fs::write(source.join("long"), content()).expect("write");
        let content = content();
        let changed = File::options().write(true).open(source.join("long")).expect("open");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200_u64 {
                    changed.set_len(round * 12_345 % (1 << 20)).expect("truncate");
                    changed.write_all_at(&content[..1 << 19], 0).expect("write");
                }
            });
            for _ in 0..100 {
                let mut got = Vec::new();
                let mut file = File::open(mountpoint.join("long")).expect("open");
                file.read_to_end(&mut got).expect("read");
                let wrong =
                    got.iter().zip(&content).filter(|(got, real)| **got != 0 && got != real);
                assert_eq!(wrong.count(), 0, "bytes that the file never held");
            }
        });
        assert_eq!(daemon.settled().expect("stats").totals.errors, 0);
    });
}

/// What was written through a pipe is in the source's file, and what could not go that way, too.
#[test]
fn what_is_written_through_a_pipe_is_in_the_file() {
    with_mount("Y", "data=splice,workers=1", |source, mountpoint, daemon| {
        let content = content();
        for (name, append, from) in [("plain", false, 0), ("odd", false, 777), ("log", true, 0)] {
            let mut options = File::options();
            options.create(true).write(true).append(append);
            let file = options.open(mountpoint.join(name)).expect("create");
            // Small ones in between come as they always do.
            for (n, part) in content.chunks(400_000).enumerate() {
                let at = (from + n * 400_000) as u64;
                let (head, rest) = part.split_at(if n % 2 == 0 { 100 } else { 0 });
                match append {
                    true => (&file).write_all(part).expect("append"),
                    false => {
                        file.write_all_at(head, at).expect("write");
                        file.write_all_at(rest, at + head.len() as u64).expect("write");
                    }
                }
            }
            drop(file);
            let got = fs::read(source.join(name)).expect("read");
            assert!(got[from..] == content, "other bytes in {name}");
        }
        let totals = daemon.stats().expect("stats").totals;
        assert!(totals.spliced_bytes > (2 << 20), "{totals:?}");
        assert_eq!(totals.written_bytes, 3 * LEN as u64, "{totals:?}");
    });
}

/// A disk that is full in the middle of what is in the pipe: nothing of that comes out with what is
/// written next.
#[test]
fn a_disk_that_is_full_leaves_nothing_in_the_pipe() {
    with_mount("Y", "data=splice,workers=1", |source, mountpoint, daemon| {
        let filled = File::create(mountpoint.join("filled")).expect("create");
        let block = vec![b'x'; 1 << 20];
        let mut at = 0;
        let error = loop {
            match filled.write_at(&block, at) {
                Ok(count) => at += count as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        assert!(daemon.stats().expect("stats").totals.spliced_bytes > (2 << 20));
        drop(filled);
        fs::remove_file(mountpoint.join("filled")).expect("unlink");
        let content = content();
        // The first comes through the pipe that was given up, if any does.
        for name in ["next", "after"] {
            let began = Instant::now();
            // Nobody is told when the blocks are free: the daemon closes the file a moment later.
            while let Err(error) = fs::write(mountpoint.join(name), &content) {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
                assert!(began.elapsed() < Duration::from_secs(20), "{error}");
                thread::sleep(Duration::from_millis(10));
            }
            assert!(fs::read(source.join(name)).expect("read") == content, "other bytes");
        }
    });
}
