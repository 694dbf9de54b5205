//! Directories: listing, positions, changes while they are read.

use std::collections::{BTreeSet, HashMap};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek};

use crate::common::raw::{Dirent, getdents};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        listing_in_order_with_kinds,
        dot_and_dotdot,
        entry_inode_numbers_are_the_files,
        five_thousand_entries,
        small_buffers_give_every_entry_once,
        a_buffer_that_is_too_small,
        every_position_can_be_returned_to,
        rewinding_sees_what_is_new,
        two_descriptors_read_on_their_own,
        removing_while_reading,
        creating_while_reading,
        a_removed_directory_is_empty,
        a_removed_working_directory,
        fsync_of_a_directory,
        listing_then_stat_of_each,
        listing_sees_changes_at_once,
        removing_a_whole_tree,
        walking_two_thousand_files,
        long_names_fill_the_buffer,
    ];
}

fn directory(t: &Trace, name: &str) -> std::os::fd::OwnedFd {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(&t.path(name), flags, Mode::empty()).expect("the behaviour has made this directory")
}

/// All that is left to read, by calls of `room` bytes.
fn rest(fd: &std::os::fd::OwnedFd, room: usize) -> Vec<Dirent> {
    let mut all = Vec::new();
    loop {
        let part = getdents(fd, room).expect("getdents");
        if part.is_empty() {
            return all;
        }
        all.extend(part);
    }
}

fn names(entries: &[Dirent]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

fn fill(t: &mut Trace, count: usize) {
    for number in 0..count {
        std::fs::write(t.path(&format!("d/file-{number:05}")), []).expect("create a file");
    }
    t.note("made", count);
}

fn listing_in_order_with_kinds(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.is("ls d", "");
    t.ok("put d/reg x");
    t.is("ls d", "reg/reg");
    t.ok("mkdir d/dir 755");
    t.ok("symlink x d/lnk");
    for kind in ["fifo", "sock"] {
        t.ok(&format!("mknod d/{kind} {kind} 644"));
    }
    t.ok("mknod d/chr chr 644 1 3");
    t.ok("mknod d/blk blk 644 7 99");
    let listed = t.ok("ls d");
    let sorted: BTreeSet<&str> = listed.split(' ').collect();
    let expected = "blk/blk chr/chr dir/dir fifo/fifo lnk/lnk reg/reg sock/sock";
    t.check("every kind is told", sorted.into_iter().collect::<Vec<_>>().join(" ") == expected);
}

fn dot_and_dotdot(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("mkdir d/e 755");
    let entries = rest(&directory(t, "d/e"), 4096);
    let numbers: HashMap<Vec<u8>, u64> =
        entries.iter().map(|entry| (entry.name.clone(), entry.ino)).collect();
    t.note("entries", names(&entries).join(" "));
    t.check("`.` is itself", numbers.get(&b"."[..]) == Some(&t.statx("d/e").stx_ino));
    t.check("`..` is the parent", numbers.get(&b".."[..]) == Some(&t.statx("d").stx_ino));
    t.check("nothing else", entries.len() == 2);
}

fn entry_inode_numbers_are_the_files(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f x");
    t.ok("mkdir d/sub 755");
    t.ok("symlink f d/link");
    t.ok("link d/f d/hard");
    for entry in rest(&directory(t, "d"), 4096) {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let same = t.statx(&format!("d/{name}")).stx_ino == entry.ino;
        t.check(&format!("{name} has the inode number of its entry"), same);
    }
}

fn five_thousand_entries(t: &mut Trace) {
    t.ok("mkdir d 755");
    fill(t, 5000);
    let listed = names(&rest(&directory(t, "d"), 32 << 10));
    let distinct: BTreeSet<&String> = listed.iter().collect();
    t.check("every entry is there", listed.len() == 5002);
    t.check("and once", distinct.len() == 5002);
    t.note("in the order of the backing", crate::common::shell::hash(listed.concat().as_bytes()));
    t.ok("lstat d/file-04999");
    std::fs::remove_dir_all(t.path("d")).expect("remove all of it");
}

fn small_buffers_give_every_entry_once(t: &mut Trace) {
    t.ok("mkdir d 755");
    fill(t, 300);
    let whole = names(&rest(&directory(t, "d"), 64 << 10));
    for room in [64, 100, 512, 1000, 4096] {
        let parts = names(&rest(&directory(t, "d"), room));
        t.check(&format!("the same by pieces of {room} bytes"), parts == whole);
    }
}

fn a_buffer_that_is_too_small(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/{n*200} x");
    let fd = directory(t, "d");
    for room in [0, 8, 23] {
        let answer = getdents(&fd, room).map(|entries| entries.len());
        t.note(&format!("{room} bytes"), format!("{answer:?}"));
    }
    t.check("the descriptor is still good", rest(&fd, 4096).len() == 3);
}

fn every_position_can_be_returned_to(t: &mut Trace) {
    t.ok("mkdir d 755");
    fill(t, 400);
    let fd = directory(t, "d");
    let whole = rest(&fd, 8192);
    for (index, entry) in whole.iter().enumerate().step_by(7) {
        lseek(&fd, entry.next, Whence::SeekSet).expect("seek to a position that was told");
        let next = getdents(&fd, 4096).expect("getdents");
        let expected = whole.get(index + 1).map(|entry| &entry.name);
        if next.first().map(|entry| &entry.name) != expected {
            t.check(&format!("position after entry {index} leads to the next"), false);
        }
    }
    lseek(&fd, 0, Whence::SeekSet).expect("rewind");
    t.check("rewound, it is the whole again", names(&rest(&fd, 8192)) == names(&whole));
}

fn rewinding_sees_what_is_new(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/old x");
    let fd = directory(t, "d");
    t.check("one", rest(&fd, 4096).len() == 3);
    t.ok("put d/new x");
    t.ok("unlink d/old");
    t.ok("mkdir d/more 755");
    lseek(&fd, 0, Whence::SeekSet).expect("rewind");
    t.note("after rewinding", names(&rest(&fd, 4096)).join(" "));
    t.behind().ok("put d/behind x");
    lseek(&fd, 0, Whence::SeekSet).expect("rewind");
    t.expire();
    t.note("made behind", names(&rest(&fd, 4096)).join(" "));
}

fn two_descriptors_read_on_their_own(t: &mut Trace) {
    t.ok("mkdir d 755");
    fill(t, 50);
    let (one, two) = (directory(t, "d"), directory(t, "d"));
    let first = getdents(&one, 512).expect("getdents");
    let whole = names(&rest(&two, 4096));
    let both = [names(&first), names(&rest(&one, 4096))].concat();
    t.check("each reads the whole", both == whole && whole.len() == 52);
    let copy = one.try_clone().expect("duplicate");
    t.check("a duplicate is at the end too", rest(&copy, 4096).is_empty());
}

fn removing_while_reading(t: &mut Trace) {
    t.ok("mkdir d 755");
    fill(t, 1000);
    let fd = directory(t, "d");
    let mut removed = BTreeSet::new();
    loop {
        let part = getdents(&fd, 1024).expect("getdents");
        if part.is_empty() {
            break;
        }
        for name in names(&part).into_iter().filter(|name| name.starts_with("file")) {
            let gone = std::fs::remove_file(t.path(&format!("d/{name}"))).is_ok();
            t.check(&format!("{name} was there"), gone && removed.insert(name.clone()));
        }
    }
    t.check("all were met", removed.len() == 1000);
    t.is("ls d", "");
    t.ok("rmdir d");
}

fn creating_while_reading(t: &mut Trace) {
    t.ok("mkdir d 755");
    fill(t, 500);
    let fd = directory(t, "d");
    let mut seen = Vec::new();
    for round in 0.. {
        let part = getdents(&fd, 2048).expect("getdents");
        if part.is_empty() {
            break;
        }
        seen.extend(names(&part).into_iter().filter(|name| name.starts_with("file")));
        if round < 5 {
            std::fs::write(t.path(&format!("d/new-{round}")), []).expect("create a file");
        }
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    t.check("all old files are met", distinct.len() == 500);
    t.check("and once", seen.len() == 500);
}

fn a_removed_directory_is_empty(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    let fd = directory(t, "d");
    t.ok("rmdir d");
    t.is("fstat d", "dir 755 0:0 n0*");
    let answer = getdents(&fd, 4096).map(|entries| names(&entries).join(" "));
    t.note("reading it", format!("{answer:?}"));
    t.ok("mkdir d 700");
    t.is("fstat d", "dir 755 0:0 n0*");
    t.is("stat d", "dir 700 0:0 n2*");
}

fn a_removed_working_directory(t: &mut Trace) {
    let second = crate::common::actor::SECOND;
    t.ok("mkdir d 755");
    t.user(second).ok("chdir d");
    t.user(second).ok("put f x");
    t.ok("unlink d/f");
    t.ok("rmdir d");
    t.user(second).err("put f x", "ENOENT");
    t.user(second).err("mkdir e 755", "ENOENT");
    t.user(second).err("getcwd", "ENOENT");
    t.user(second).is("stat .", "dir 755 0:0 n0*");
    t.user(second).ok("chdir ..");
    t.user(second).is("ls .", "");
}

fn fsync_of_a_directory(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.ok("put d/f x");
    t.ok("fsync d");
    t.ok("fdatasync d");
    t.ok("syncfs d");
    t.ok("unlink d/f");
    t.ok("rmdir d");
    t.ok("fsync d");
}

fn listing_then_stat_of_each(t: &mut Trace) {
    t.ok("mkdir d 755");
    for number in 0..50 {
        t.ok(&format!("put d/f{number} {{x*{number}}}y"));
    }
    for name in names(&rest(&directory(t, "d"), 1024)) {
        t.ok(&format!("lstat d/{name}"));
    }
    t.ok("append d/f7 more");
    t.ok("ls d");
    t.is("stat d/f7", "reg 644 0:0 n1 s12*");
}

fn listing_sees_changes_at_once(t: &mut Trace) {
    t.ok("mkdir d 755");
    for round in 0..20 {
        t.ok(&format!("put d/f{round} x"));
        let count = t.ok("ls d").split(' ').count();
        t.check("the new one is listed", count == round + 1);
    }
    for round in 0..20 {
        t.ok(&format!("unlink d/f{round}"));
        t.ok("ls d");
    }
    t.is("ls d", "");
}

fn removing_a_whole_tree(t: &mut Trace) {
    for outer in 0..10 {
        t.ok(&format!("mkdir -tree{outer} 755"));
        for inner in 0..10 {
            t.ok(&format!("mkdir -tree{outer}/d{inner} 755"));
            t.ok(&format!("put -tree{outer}/d{inner}/f x"));
            t.ok(&format!("symlink f -tree{outer}/d{inner}/l"));
        }
    }
    for outer in 0..10 {
        let removed = std::fs::remove_dir_all(t.path(&format!("-tree{outer}")));
        t.check("the whole tree is removed", removed.is_ok());
    }
    t.is("ls .", "");
}

fn walking_two_thousand_files(t: &mut Trace) {
    for number in 0..20 {
        std::fs::create_dir(t.path(&format!("d{number}"))).expect("make a directory");
        for file in 0..100 {
            let path = t.path(&format!("d{number}/f{file}"));
            std::fs::write(path, format!("{number}/{file}")).expect("create a file");
        }
    }
    std::fs::write("/proc/sys/vm/drop_caches", "2\n").expect("root may drop dentries");
    let root = t.path(".");
    let lines = crate::common::tree::describe(&root);
    t.check("all are there", lines.len() == 2021);
    let text: String = lines.values().map(String::as_str).collect();
    t.note("and as they were made", crate::common::shell::hash(text.as_bytes()));
}

fn long_names_fill_the_buffer(t: &mut Trace) {
    t.ok("mkdir d 755");
    for number in 0..200 {
        let name = format!("d/{number:03}{}", "n".repeat(252));
        std::fs::write(t.path(&name), []).expect("create a file");
    }
    let whole = names(&rest(&directory(t, "d"), 64 << 10));
    t.check("all are there", whole.len() == 202);
    t.check("also by single entries", names(&rest(&directory(t, "d"), 300)) == whole);
}
