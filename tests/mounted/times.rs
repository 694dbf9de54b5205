//! Timestamps: which of them an operation moves, and setting them.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        setting_explicit_times,
        setting_with_omit_and_now,
        setting_times_of_a_symlink,
        setting_times_through_a_descriptor,
        setting_times_of_directories_and_devices,
        times_before_1970_and_after_2038,
        writing_moves_mtime_and_ctime,
        truncating_moves_mtime_and_ctime,
        changing_attributes_moves_ctime,
        links_move_ctime,
        names_move_the_directorys_times,
        renaming_moves_ctime,
        reading_moves_atime_once,
        reading_a_directory_moves_its_atime,
        following_a_symlink_moves_its_atime,
        noatime_open_leaves_atime,
        writing_nothing_moves_nothing,
        writing_through_a_mapping_moves_mtime,
        changing_xattrs_moves_ctime,
        changing_flags_moves_ctime,
        an_acl_changes_the_mode,
        fallocate_moves_times,
        copying_moves_times,
        birth_time_never_moves,
        write_times_are_visible_at_once_behind,
        mtime_set_after_write_stays_after_close,
    ];
}

/// Runs `line` and demands that exactly `expected` of atime, mtime and ctime of `name` moved on.
fn moves(t: &mut Trace, name: &str, line: &str, expected: &str) {
    let before = t.times(name);
    t.wait_ms(15);
    t.ok(line);
    moved(t, name, before, line, expected);
}

fn moved(t: &mut Trace, name: &str, before: crate::trace::Times, line: &str, expected: &str) {
    let after = t.times(name);
    let mut letters = String::new();
    for (letter, old, new) in [
        ('a', before.atime, after.atime),
        ('m', before.mtime, after.mtime),
        ('c', before.ctime, after.ctime),
    ] {
        match new.cmp(&old) {
            std::cmp::Ordering::Greater => letters.push(letter),
            std::cmp::Ordering::Less => letters.push('!'),
            std::cmp::Ordering::Equal => {}
        }
    }
    t.check(&format!("{line} moves `{expected}` of {name}, got `{letters}`"), letters == expected);
}

fn setting_explicit_times(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("utimens f 1000000000.123456789 1100000000.987654321");
    t.is("atime f", "1000000000.123456789");
    t.is("mtime f", "1100000000.987654321");
    t.ok("utimens f 5.000000001 6");
    t.is("atime f", "5.000000001");
    t.is("mtime f", "6.000000000");
    t.err("utimens missing 1 1", "ENOENT");
    t.same_behind("f");
}

fn setting_with_omit_and_now(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("utimens f 1000 2000");
    t.ok("utimens f omit 3000");
    t.is("atime f", "1000.000000000");
    t.is("mtime f", "3000.000000000");
    t.ok("utimens f 4000 omit");
    t.is("atime f", "4000.000000000");
    t.is("mtime f", "3000.000000000");
    let before = t.times("f");
    t.ok("utimens f omit omit");
    t.check("both omitted is no change", t.times("f") == before);
    t.ok("utimens f now omit");
    let now = t.times("f");
    t.check("now is now", now.atime > before.ctime && now.mtime == before.mtime);
    t.ok("utimens f now now");
    let now = t.times("f");
    t.check("both are now", now.atime == now.mtime && now.ctime >= now.mtime);
}

fn setting_times_of_a_symlink(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f link");
    t.ok("utimens f 10 20");
    t.ok("lutimens link 30 40");
    t.is("mtime link", "40.000000000");
    t.is("mtime f", "20.000000000");
    t.ok("utimens link 50 60");
    t.is("mtime f", "60.000000000");
    t.is("mtime link", "40.000000000");
}

fn setting_times_through_a_descriptor(t: &mut Trace) {
    t.ok("open r f r,creat 644");
    t.ok("futimens r 10.5 20.5");
    t.is("atime f", "10.500000000");
    t.is("mtime f", "20.500000000");
    t.ok("futimens r omit 30");
    t.is("atime f", "10.500000000");
    t.is("mtime f", "30.000000000");
}

fn setting_times_of_directories_and_devices(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("mknod p fifo 644");
    t.ok("mknod n chr 644 1 3");
    for name in ["d", "p", "n"] {
        t.ok(&format!("utimens {name} 70 80.000000007"));
        t.is(&format!("atime {name}"), "70.000000000");
        t.is(&format!("mtime {name}"), "80.000000007");
    }
    t.ok("create d/f 644");
    t.check("creating moves the directory's mtime", t.times("d").mtime > 80_000_000_007);
}

fn times_before_1970_and_after_2038(t: &mut Trace) {
    t.ok("create f 644");
    for time in ["-1", "-2147483648", "2147483648", "4294967296", "15032385535", "99999999999"] {
        t.ok(&format!("utimens f {time} {time}"));
        t.ok("mtime f");
        t.ok("atime f");
    }
    t.same_behind("f");
}

fn writing_moves_mtime_and_ctime(t: &mut Trace) {
    t.ok("put f hello");
    moves(t, "f", "append f more", "mc");
    t.ok("open w f rw");
    moves(t, "f", "pwrite w 0 J", "mc");
    moves(t, "f", "pwrite w 100000 far", "mc");
    moves(t, "f", "put f anew", "mc");
    t.same_behind("f");
}

fn truncating_moves_mtime_and_ctime(t: &mut Trace) {
    t.ok("put f hello");
    moves(t, "f", "truncate f 3", "mc");
    moves(t, "f", "truncate f 3", "mc");
    moves(t, "f", "truncate f 9", "mc");
    t.ok("open w f rw");
    moves(t, "f", "ftruncate w 9", "mc");
    moves(t, "f", "ftruncate w 1", "mc");
    moves(t, "f", "open x f rw,trunc", "mc");
    moves(t, "f", "open y f rw,trunc", "mc");
}

fn changing_attributes_moves_ctime(t: &mut Trace) {
    t.ok("put f hello");
    moves(t, "f", "chmod f 600", "c");
    moves(t, "f", "chmod f 600", "c");
    moves(t, "f", "chown f 5 5", "c");
    moves(t, "f", "chown f -1 -1", "c");
    moves(t, "f", "utimens f omit now", "mc");
    moves(t, "f", "utimens f now omit", "ac");
}

fn links_move_ctime(t: &mut Trace) {
    t.ok("put f hello");
    moves(t, "f", "link f g", "c");
    moves(t, "f", "unlink g", "c");
    t.ok("put h other");
    t.ok("link f i");
    moves(t, "f", "rename h i", "c");
}

fn names_move_the_directorys_times(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put outside x");
    for line in [
        "create d/f 644",
        "mkdir d/sub 755",
        "symlink f d/link",
        "mknod d/fifo fifo 644",
        "link outside d/hard",
        "rename d/f d/g",
        "rename outside d/in",
        "rename d/in outside",
        "unlink d/g",
        "rmdir d/sub",
    ] {
        moves(t, "d", line, "mc");
    }
    moves(t, "d", "append d/hard x", "");
    moves(t, "d", "chmod d/hard 600", "");
}

fn renaming_moves_ctime(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("mkdir e 755");
    let before = t.times("f");
    t.wait_ms(15);
    t.ok("rename f g");
    moved(t, "g", before, "rename f g", "c");
    let before = t.times("d");
    t.wait_ms(15);
    t.ok("rename d e/d");
    // Its ".." has changed, but that is no change of the directory's contents to ext4.
    let after = t.times("e/d");
    t.check("the directory's ctime moved", after.ctime > before.ctime);
    t.note("its mtime moved", after.mtime > before.mtime);
}

fn reading_moves_atime_once(t: &mut Trace) {
    t.ok("put f hello");
    moves(t, "f", "get f", "a");
    moves(t, "f", "get f", "");
    moves(t, "f", "append f x", "mc");
    moves(t, "f", "get f", "a");
    t.ok("utimens f 1000 now");
    moves(t, "f", "get f", "a");
    t.same_behind("f");
}

fn reading_a_directory_moves_its_atime(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("create d/f 644");
    t.ok("utimens d 1000 now");
    moves(t, "d", "ls d", "a");
    moves(t, "d", "ls d", "");
    moves(t, "d", "stat d/f", "");
}

fn following_a_symlink_moves_its_atime(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f link");
    t.ok("lutimens link 1000 now");
    moves(t, "link", "readlink link", "a");
    moves(t, "link", "readlink link", "");
}

fn noatime_open_leaves_atime(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("utimens f 1000 now");
    t.ok("open n f r,noatime");
    moves(t, "f", "pread n 0 10", "");
    t.is("atime f", "1000.000000000");
    moves(t, "f", "get f", "a");
}

fn writing_nothing_moves_nothing(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open w f rw");
    moves(t, "f", "pwrite w 2 -", "");
    moves(t, "f", "fsync w", "");
    moves(t, "f", "close w", "");
    moves(t, "f", "access f rw", "");
    moves(t, "f", "listx f", "");
}

fn writing_through_a_mapping_moves_mtime(t: &mut Trace) {
    t.ok("put f {x*4096}");
    t.ok("open w f rw");
    t.ok("mmap m w 0 4096 shared rw");
    let before = t.times("f");
    t.wait_ms(15);
    t.ok("store m 10 mapped");
    t.ok("msync m");
    t.expire();
    let after = t.times("f");
    t.check("mtime and ctime moved", after.mtime > before.mtime && after.ctime > before.ctime);
    t.ok("munmap m");
    t.ok("close w");
    t.same_behind("f");
}

fn changing_flags_moves_ctime(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    for (name, flags) in [("f", "r"), ("d", "r,dir")] {
        t.ok(&format!("open x {name} {flags}"));
        moves(t, name, "setflags x nodump", "c");
        moves(t, name, "setflags x -", "c");
    }
}

fn an_acl_changes_the_mode(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 644");
    for acl in ["u::rwx,g::r,o::-", "u::rw,u:1:rwx,g::r,m::rwx,o::r"] {
        t.run("stat f").ok();
        moves(t, "f", &format!("setacl f access {acl}"), "c");
        t.run("stat f").ok();
    }
    moves(t, "f", "rmx f system.posix_acl_access", "c");
    t.run("stat f").ok();
}

fn changing_xattrs_moves_ctime(t: &mut Trace) {
    t.ok("put f hello");
    moves(t, "f", "setx f user.a 1", "c");
    moves(t, "f", "setx f user.a 22", "c");
    moves(t, "f", "getx f user.a", "");
    moves(t, "f", "rmx f user.a", "c");
}

fn fallocate_moves_times(t: &mut Trace) {
    t.ok("put f pat:1:20000");
    t.ok("open w f rw");
    moves(t, "f", "fallocate w default 0 40000", "mc");
    moves(t, "f", "fallocate w keep 40000 40000", "mc");
    moves(t, "f", "fallocate w punch,keep 0 4096", "mc");
    moves(t, "f", "fallocate w zero 4096 4096", "mc");
}

fn copying_moves_times(t: &mut Trace) {
    t.ok("put f pat:1:20000");
    t.ok("put g x");
    t.ok("open f f r");
    t.ok("open g g rw");
    moves(t, "g", "copy f 0 g 0 10000", "mc");
    moves(t, "g", "sendfile g f 0 100", "mc");
    moves(t, "g", "splice f 0 g 0 4096", "mc");
    t.same_behind("g");
}

fn birth_time_never_moves(t: &mut Trace) {
    t.ok("put f hello");
    let born = t.times("f").btime;
    t.wait_ms(15);
    for line in ["append f x", "chmod f 600", "utimens f 1 1", "truncate f 0", "link f g"] {
        t.ok(line);
        t.check(&format!("the same birth after {line}"), t.times("f").btime == born);
    }
    t.ok("rename f h");
    t.check("the same birth under another name", t.times("h").btime == born);
}

fn write_times_are_visible_at_once_behind(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open w f rw");
    for _ in 0..3 {
        t.wait_ms(15);
        t.ok("write w more");
        t.same_behind("f");
    }
}

fn mtime_set_after_write_stays_after_close(t: &mut Trace) {
    t.ok("open w f rw,creat 644");
    t.ok("write w hello");
    t.ok("futimens w 1000 2000");
    t.ok("close w");
    t.is("mtime f", "2000.000000000");
    t.expire();
    t.is("mtime f", "2000.000000000");
    t.is("atime f", "1000.000000000");
}
