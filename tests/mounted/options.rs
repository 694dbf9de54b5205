//! Mounts of their own: options of the mount, a disk that is full, and what a daemon keeps.

use crate::common::actor::{ALICE, SECOND};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Options("ro") => [
        read_only_refuses_every_change,
        read_only_reads,
    ];
    Needs::Options("noexec") => [no_execution];
    Needs::Options("nodev") => [no_devices];
    Needs::Options("allow_other,nosuid") => [no_setuid];
    Needs::Options("noatime") => [no_access_times];
    Needs::Options("allow_other,ro") => [read_only_for_users];
    Needs::Options("default_permissions") => [default_permissions_for_root];
    Needs::Options("") => [
        nothing_is_kept_after_use,
        data_goes_the_way_that_was_asked_for,
        nothing_is_malformed,
    ];
    Needs::SmallDisk => [
        writing_until_full,
        allocating_more_than_there_is,
        creating_until_full,
        appending_when_full,
        directories_when_full,
        full_disk_under_a_mapping,
        full_disk_under_a_mapped_hole,
    ];
}

fn read_only_refuses_every_change(t: &mut Trace) {
    t.behind().ok("put f hello");
    t.behind().ok("mkdir d 755");
    t.behind().ok("symlink f l");
    for line in [
        "create new 644",
        "mkdir new 755",
        "symlink x new",
        "mknod new fifo 644",
        "link f new",
        "unlink f",
        "rmdir d",
        "rename f new",
        "rename2 f d exchange",
        "chmod f 600",
        "chown f 1 1",
        "lchown l 1 1",
        "truncate f 0",
        "utimens f 1 1",
        "setx f user.a 1",
        "rmx f user.a",
        "setacl f access u::rw,g::r,o::r",
        "open w f w",
        "open w f rw",
        "open w f r,trunc",
        "open w new rw,creat 644",
        "open t . rw,tmpfile 644",
        "access f w",
    ] {
        t.err(line, "EROFS");
    }
    t.err("mkdir d 755", "EEXIST");
    t.err("unlink missing", "EROFS");
    t.err("stat missing", "ENOENT");
    t.behind().is("get f", "hello");
}

fn read_only_reads(t: &mut Trace) {
    t.behind().ok("put f hello");
    t.behind().ok("setx f user.a 1");
    t.behind().ok("mkdir d 755");
    t.behind().ok("put d/g pat:1:100000");
    t.behind().ok("utimens f 1000 2000");
    t.is("get f", "hello");
    t.is("getx f user.a", "1");
    t.ok("get d/g");
    t.ok("ls d");
    t.ok("statfs .");
    t.ok("open f f r,creat 644");
    t.ok("fsync f");
    t.ok("flock f ex,nb");
    t.ok("mmap m f 0 4096 shared r");
    t.is("load m 0 5", "hello");
    t.behind().is("atime f", "1000.000000000");
    t.is("atime f", "1000.000000000");
}

fn no_execution(t: &mut Trace) {
    t.user(SECOND).ok("install script echo hello");
    t.err("exec script", "EACCES");
    t.err("access script x", "EACCES");
    t.ok("access script r");
    t.is("stat script", "reg 755*");
    t.ok("mkdir d 755");
    t.ok("access d x");
}

fn no_devices(t: &mut Trace) {
    t.ok("mknod null chr 666 1 3");
    t.is("stat null", "chr 644 0:0 n1 r1:3");
    t.err("open n null rw", "EACCES");
    t.ok("mknod p fifo 666");
    t.ok("open p p rw");
}

fn no_setuid(t: &mut Trace) {
    t.user(SECOND).ok("copyin id /usr/bin/id");
    t.ok("chmod id 6755");
    t.is("stat id", "reg 6755*");
    t.user(ALICE).is("exec ./id -u", "1001%0a exit status: 0");
    t.user(ALICE).is("exec ./id -g", "1001%0a exit status: 0");
    t.ok("unlink id");
}

fn no_access_times(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("create d/g 644");
    t.ok("symlink f l");
    t.ok("utimens f 1000 2000");
    t.ok("utimens d 1000 2000");
    t.ok("lutimens l 1000 2000");
    t.ok("get f");
    t.ok("ls d");
    t.ok("readlink l");
    t.ok("get l");
    for name in ["f", "d", "l"] {
        t.is(&format!("atime {name}"), "1000.000000000");
        t.behind().is(&format!("atime {name}"), "1000.000000000");
    }
}

fn read_only_for_users(t: &mut Trace) {
    t.behind().ok("chmod . 777");
    t.behind().ok("put f hello");
    t.behind().ok("chmod f 666");
    t.behind().ok("put closed hello");
    t.behind().ok("chmod closed 600");
    t.user(ALICE).is("get f", "hello");
    t.user(ALICE).err("get closed", "EACCES");
    t.user(ALICE).err("open f f rw", "EROFS");
    t.user(ALICE).err("create g 644", "EROFS");
    t.user(ALICE).err("unlink f", "EROFS");
}

fn default_permissions_for_root(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 0");
    t.is("get f", "hello");
    t.ok("append f more");
    t.ok("mkdir d 0");
    t.ok("put d/g x");
    t.err("access f x", "EACCES");
    t.ok("setacl f access u::-,u:1001:rw,g::-,m::rw,o::-");
    t.is("getacl f access", "u::---,u:1001:rw-,g::---,m::rw-,o::---");
}

fn nothing_is_kept_after_use(t: &mut Trace) {
    for number in 0..300 {
        t.ok(&format!("put f{number} content"));
        t.ok(&format!("get f{number}"));
    }
    t.ok("open a f1 rw");
    t.ok("open d . r,dir");
    t.ok("mmap m a 0 4096 shared r");
    for number in 0..300 {
        t.ok(&format!("unlink f{number}"));
    }
    t.ok("munmap m");
    t.ok("close a");
    t.ok("close d");
    std::fs::write("/proc/sys/vm/drop_caches", "2\n").expect("root may drop dentries");
    t.wait_ms(300);
    let live = t.daemon().map(|daemon| daemon.stats().expect("fusewire stats").live);
    let live = live.unwrap_or_default();
    t.check("no file is open", live.open_files == 0);
    t.check("no directory is open", live.open_dirs == 0);
    t.check("few inodes are known", live.inodes < 10);
    t.check("few backing ids are registered", live.backing_ids < 10);
    t.check("few descriptors are kept", live.fds < 100);
}

fn data_goes_the_way_that_was_asked_for(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f pat:1:1000000");
    t.ok("pread f 0 1000000");
    t.ok("close f");
    std::fs::write("/proc/sys/vm/drop_caches", "3\n").expect("root may drop caches");
    t.ok("get f");
    let stats = t.daemon().map(|daemon| daemon.stats().expect("fusewire stats"));
    let right = stats.is_none_or(|stats| {
        let count = |name: &str| stats.requests.get(name).map_or(0, |opcode| opcode.count);
        let data = count("READ") + count("WRITE");
        stats.data.mode == stats.data.requested
            && match stats.data.mode.as_str() {
                "passthrough" => data == 0,
                _ => data > 0 && stats.totals.written_bytes == 1_000_000,
            }
    });
    t.check("passthrough sends no READ and no WRITE, copy sends both", right);
}

fn nothing_is_malformed(t: &mut Trace) {
    for line in ["put f hello", "get f", "rename f g", "link g h", "unlink g", "ls .", "statfs ."] {
        t.ok(line);
    }
    t.err("stat missing", "ENOENT");
    let totals = t.daemon().map(|daemon| daemon.stats().expect("fusewire stats").totals);
    let native = totals.is_none();
    let totals = totals.unwrap_or_default();
    t.check("no request lied", totals.malformed == 0);
    t.check("requests and errors are counted", native || totals.requests > totals.errors);
    // ENODATA of a name without an ACL, ENOSYS of a first OPENDIR: some error there always is.
    t.check("errors are counted", native || totals.errors > 0);
}

/// Writes blocks until there is no room; the number of whole blocks.
fn fill(t: &mut Trace, slot: &str) -> usize {
    for number in 0.. {
        match t.run_quietly(&format!("pwrite {slot} {} pat:{number}:65536", number * 65536)) {
            Ok(count) if count == "65536" => {}
            Ok(_) => {}
            Err(errno) => {
                t.note("the error at the end", errno);
                return number;
            }
        }
        assert!(number < 100_000, "the disk is small");
    }
    0
}

fn writing_until_full(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    let blocks = fill(t, "f");
    t.check("much was written first", blocks > 50);
    t.ok("fsync f");
    for number in [0, 1, blocks / 2, blocks - 2] {
        let expected = crate::common::shell::pattern(number as u64, 65536);
        let shown = crate::common::shell::show(&expected);
        let got = t.run_quietly(&format!("pread f {} 65536", number * 65536));
        t.check("what was written is there", got.as_deref() == Ok(&shown));
    }
    t.ok("ftruncate f 65536");
    t.ok("put g there-is-room-again");
    t.is("get g", "there-is-room-again");
}

fn allocating_more_than_there_is(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.err("fallocate f default 0 1G", "ENOSPC");
    t.run_quietly("fstat f").expect("fstat");
    t.ok("ftruncate f 0");
    t.ok("fallocate f default 0 1M");
    t.ok("put src pat:1:100000");
    t.ok("open s src r");
    fill(t, "f");
    t.ok("open c copy rw,creat 644");
    let copied = t.run_quietly("copy s 0 c 0 100000");
    t.check("a copy fails or is short", copied.as_deref() != Ok("100000"));
    t.ok("ftruncate f 0");
    t.is("copy s 0 c 0 100000", "100000");
}

fn creating_until_full(t: &mut Trace) {
    let mut made = 0;
    let errno = loop {
        match t.run_quietly(&format!("create f{made} 644")) {
            Ok(_) => made += 1,
            Err(errno) => break errno,
        }
        assert!(made < 100_000, "the disk has few inodes");
    };
    t.note("the error at the end", &errno);
    t.check("it is ENOSPC", errno == "ENOSPC");
    t.check("many were made first", made > 1000);
    for line in ["mkdir d 755", "symlink x l", "mknod p fifo 644", "open t . rw,tmpfile 644"] {
        t.err(line, "ENOSPC");
    }
    t.ok("append f0 there-is-still-room-for-data");
    t.ok("unlink f1");
    // The inode is freed by FORGET, for which unlink(2) does not wait.
    t.wait_ms(50);
    t.ok("mkdir d 755");
}

fn appending_when_full(t: &mut Trace) {
    t.ok("put log first");
    t.ok("open f f rw,creat 644");
    fill(t, "f");
    t.ok("fsync f");
    let mut written = 5;
    while let Ok(_count) = t.run_quietly("append log {x*1000}") {
        written += 1000;
        assert!(written < 1_000_000, "the disk is full");
    }
    t.err("append log {x*70000}", "ENOSPC");
    t.err("setx log user.a pat:1:4000", "ENOSPC");
    t.ok("ftruncate f 0");
    t.ok("append log at-last");
}

fn directories_when_full(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("open f f rw,creat 644");
    fill(t, "f");
    // A directory needs a block of its own, a short symlink needs none.
    let mut made = 0;
    while made < 1000 && t.run_quietly(&format!("mkdir d/{made} 755")).is_ok() {
        made += 1;
    }
    t.err("mkdir d/last 755", "ENOSPC");
    t.ok("symlink short d/link");
    t.err("symlink {x*1000} d/long", "ENOSPC");
    t.ok("rename d/link renamed");
    t.ok("unlink f");
    t.ok("close f");
    // Its blocks are freed by RELEASE and FORGET, for which close(2) does not wait.
    t.wait_ms(50);
    t.ok("mkdir d/last 755");
}

fn full_disk_under_a_mapping(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("put m {.*8192}");
    fill(t, "f");
    t.ok("open m m rw");
    t.ok("mmap m m 0 8192 shared rw");
    t.ok("store m 0 over-what-is-allocated");
    t.ok("msync m");
    t.is("pread m 0 22", "over-what-is-allocated");
    t.ok("ftruncate f 0");
}

fn full_disk_under_a_mapped_hole(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("open s s rw,creat 666");
    t.ok("ftruncate s 8192");
    fill(t, "f");
    t.ok("fsync f");
    t.ok("open g g rw,creat 644");
    // The last blocks as well, which may be less than was asked for at a time.
    let last = |number: usize| format!("pwrite g {} pat:{number}:1024", number * 4096);
    (0..10_000).find(|number| t.run_quietly(&last(*number)).is_err());
    t.ok("fsync g");
    t.open_to_all();
    t.user(SECOND).ok("open s s rw");
    t.user(SECOND).ok("mmap m s 0 8192 shared rw");
    t.user(SECOND).known("mapped-full", "store m 4096 nowhere");
    t.dismiss(SECOND);
    t.run_quietly("fsync s").ok();
    t.ok("ftruncate f 0");
    t.ok("fsync f");
    t.behind().is("get s", "zeros:8192");
}
