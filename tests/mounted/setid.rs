//! Set-user-id and set-group-id bits: what takes them away. Who may write to a program must not
//! thereby run as its owner.

use crate::common::actor::{ALICE, BOB};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Users => [
        writing,
        writing_at_an_offset,
        appending,
        writing_vectors,
        writing_direct,
        writing_nothing,
        writing_through_a_mapping,
        truncating,
        truncating_to_the_same_size,
        truncating_a_descriptor,
        opening_with_truncation,
        opening_an_empty_file_with_truncation,
        allocating,
        punching,
        copying_into,
        sending_into,
        splicing_into,
        writing_twice_after_chmod,
        writing_by_a_member_of_the_group,
        changing_a_file_of_ones_group,
        writing_by_the_owner,
        writing_by_root,
        writing_by_root_to_what_became_setuid_while_open,
        changing_by_root_keeps_them,
        reading_keeps_them,
        changing_a_file_of_roots_group,
        capabilities_go_when_a_user_writes,
        empty_chown_takes_them,
        empty_chown_by_a_stranger,
    ];
}

/// For each of these modes, a file of root's that everyone may write; `line` is done by alice with
/// the file under the name `f` and the descriptor `f`.
fn after(t: &mut Trace, line: &str) {
    t.ok("put source pat:7:4096");
    t.user(ALICE).ok("open source source r");
    for mode in ["6777", "4777", "2777", "2767", "6767", "4666"] {
        t.ok("put f pat:1:8192");
        t.ok("chown f 0 2000");
        t.ok(&format!("chmod f {mode}"));
        t.user(ALICE).ok("open f f rw");
        t.user(ALICE).ok(line);
        t.ok("stat f");
        t.behind().ok("stat f");
        let after = t.ok("stat f");
        t.check(
            "setuid is gone",
            !after.starts_with(&format!("reg {mode}")) || mode.starts_with('2'),
        );
        t.user(ALICE).ok("close f");
        t.ok("unlink f");
    }
}

fn writing(t: &mut Trace) {
    after(t, "write f hello");
}

fn writing_at_an_offset(t: &mut Trace) {
    after(t, "pwrite f 100 hello");
}

fn appending(t: &mut Trace) {
    after(t, "append f hello");
}

fn writing_vectors(t: &mut Trace) {
    after(t, "pwritev f 0 one two");
}

fn writing_direct(t: &mut Trace) {
    t.ok("put f pat:1:8192");
    t.ok("chmod f 6777");
    t.user(ALICE).ok("open f f rw,direct");
    t.user(ALICE).ok("pwrite f 4096 pat:2:4096");
    t.is("stat f", "reg 777*");
    t.behind().is("stat f", "reg 777*");
}

fn writing_nothing(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 6777");
    t.user(ALICE).ok("open f f rw");
    t.user(ALICE).ok("write f -");
    t.ok("stat f");
}

fn writing_through_a_mapping(t: &mut Trace) {
    t.ok("put f {.*4096}");
    t.ok("chmod f 6777");
    t.user(ALICE).ok("open f f rw");
    t.user(ALICE).ok("mmap m f 0 4096 shared rw");
    t.user(ALICE).ok("store m 0 mapped");
    t.user(ALICE).ok("msync m");
    t.user(ALICE).ok("munmap m");
    t.user(ALICE).ok("close f");
    t.expire();
    t.ok("stat f");
}

fn truncating(t: &mut Trace) {
    after(t, "truncate f 100");
}

fn truncating_to_the_same_size(t: &mut Trace) {
    after(t, "truncate f 8192");
}

fn truncating_a_descriptor(t: &mut Trace) {
    after(t, "ftruncate f 100");
}

fn opening_with_truncation(t: &mut Trace) {
    after(t, "open again f w,trunc");
}

fn opening_an_empty_file_with_truncation(t: &mut Trace) {
    t.ok("create f 644");
    t.ok("chmod f 6777");
    t.user(ALICE).ok("open f f w,trunc");
    t.is("stat f", "reg 777*");
}

fn allocating(t: &mut Trace) {
    after(t, "fallocate f default 0 20000");
}

fn punching(t: &mut Trace) {
    after(t, "fallocate f punch,keep 0 4096");
}

fn copying_into(t: &mut Trace) {
    after(t, "copy source 0 f 0 4096");
}

fn sending_into(t: &mut Trace) {
    after(t, "sendfile f source 0 4096");
}

fn splicing_into(t: &mut Trace) {
    after(t, "splice source 0 f 0 4096");
}

fn writing_twice_after_chmod(t: &mut Trace) {
    t.ok("put f hello");
    t.user(ALICE).run("open f f r").ok();
    t.ok("chmod f 6777");
    t.user(ALICE).ok("open f f rw");
    for _ in 0..3 {
        t.user(ALICE).ok("pwrite f 0 x");
        t.is("stat f", "reg 777*");
        t.ok("chmod f 6777");
        t.is("stat f", "reg 6777*");
    }
    t.user(ALICE).ok("pwrite f 0 y");
    t.behind().is("stat f", "reg 777*");
}

fn writing_by_a_member_of_the_group(t: &mut Trace) {
    for mode in ["6775", "2775", "4775"] {
        t.ok("put f hello");
        t.ok("chown f 0 2000");
        t.ok(&format!("chmod f {mode}"));
        t.user(BOB).ok("append f more");
        t.is("stat f", "reg 775*");
        t.ok("chmod f 6775");
        t.user(BOB).ok("truncate f 2");
        t.is("stat f", "reg 775*");
        t.ok("unlink f");
    }
}

fn changing_a_file_of_ones_group(t: &mut Trace) {
    for line in ["append f more", "truncate f 2", "open x f w,trunc"] {
        t.ok("put f hello");
        t.ok("chown f 0 2000");
        t.ok("chmod f 2765");
        t.user(BOB).ok(line);
        t.known("setgid-of-a-member", "stat f");
        t.ok("unlink f");
    }
}

fn writing_by_the_owner(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chown f 1001 1001");
    t.user(ALICE).ok("chmod f 6755");
    t.user(ALICE).ok("append f more");
    t.is("stat f", "reg 755 1001:1001*");
    t.user(ALICE).ok("chmod f 6755");
    t.user(ALICE).ok("truncate f 0");
    t.is("stat f", "reg 755 1001:1001*");
}

fn writing_by_root(t: &mut Trace) {
    for line in ["pwrite f 0 hello", "append f more", "pwritev f 100 one two"] {
        t.ok("put f pat:1:8192");
        t.ok("chown f 1001 2000");
        t.ok("chmod f 6755");
        t.ok("open f f rw");
        t.ok(line);
        t.is("stat f", "reg 6755*");
        t.behind().is("stat f", "reg 6755*");
        t.ok("unlink f");
    }
}

fn writing_by_root_to_what_became_setuid_while_open(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f hello");
    t.ok("chown f 1001 2000");
    t.ok("chmod f 6755");
    t.ok("pwrite f 0 J");
    t.known("setuid-under-roots-writes", "stat f");
    t.ok("chmod f 644");
}

fn changing_by_root_keeps_them(t: &mut Trace) {
    t.ok("put f pat:1:8192");
    t.ok("chown f 1001 2000");
    t.ok("chmod f 6755");
    t.ok("open f f rw");
    for line in ["ftruncate f 9000", "truncate f 4000", "open g f w,trunc"] {
        t.ok(line);
        t.is("stat f", "reg 6755*");
        t.behind().is("stat f", "reg 6755*");
    }
    t.ok("fallocate f default 0 20000");
    t.is("stat f", "reg 6755*");
}

fn reading_keeps_them(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 6777");
    t.user(ALICE).ok("open f f rw");
    t.user(ALICE).is("read f 9", "hello");
    t.user(ALICE).ok("fsync f");
    t.user(ALICE).ok("setx f user.a 1");
    t.user(ALICE).ok("utimens f now now");
    t.user(ALICE).err("chmod f 777", "EPERM");
    t.is("stat f", "reg 6777*");
}

/// Who is not in the group loses even a setgid bit that no execution bit stands beside. The daemon
/// is in root's group: what it does for others must not count as done by a member.
fn changing_a_file_of_roots_group(t: &mut Trace) {
    t.ok("put source pat:7:4096");
    t.user(ALICE).ok("open source source r");
    for line in [
        "write f hello",
        "append f hello",
        "ftruncate f 100",
        "truncate f 100",
        "open again f w,trunc",
        "fallocate f default 0 20000",
        "copy source 0 f 0 4096",
    ] {
        t.ok("put f pat:1:8192");
        t.ok("chmod f 2767");
        t.user(ALICE).ok("open f f rw");
        t.user(ALICE).ok(line);
        t.is("stat f", "reg 767*");
        t.ok("unlink f");
    }
}

fn capabilities_go_when_a_user_writes(t: &mut Trace) {
    let value = "%01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00";
    for line in ["append f more", "truncate f 2", "open x f w,trunc"] {
        t.ok("put f hello");
        t.ok("chmod f 777");
        t.ok(&format!("setx f security.capability {value}"));
        t.user(ALICE).ok(line);
        t.err("getx f security.capability", "ENODATA");
    }
}

fn empty_chown_takes_them(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chown f 1001 1001");
    t.ok("chmod f 6755");
    t.ok("chown f -1 -1");
    t.is("stat f", "reg 755 1001:1001*");
    t.ok("chmod f 6755");
    t.user(ALICE).ok("chown f -1 -1");
    t.is("stat f", "reg 755 1001:1001*");
}

/// Who owns nothing of it takes nothing away.
fn empty_chown_by_a_stranger(t: &mut Trace) {
    t.ok("put f hello");
    for mode in ["6755", "4711", "2755", "4666"] {
        t.ok(&format!("chmod f {mode}"));
        t.user(ALICE).err("chown f -1 -1", "EPERM");
        t.is("stat f", &format!("reg {mode}*"));
        t.behind().is("stat f", &format!("reg {mode}*"));
    }
    for mode in ["755", "1777", "0"] {
        t.ok(&format!("chmod f {mode}"));
        t.user(ALICE).ok("chown f -1 -1");
        t.is("stat f", &format!("reg {mode}*"));
    }
    t.ok("mkdir d 755");
    t.ok("chmod d 2775");
    t.user(ALICE).ok("chown d -1 -1");
    t.is("stat d", "dir 2775*");
    // A file of the group of which bob is.
    t.ok("chown f 0 2000");
    t.ok("chmod f 2745");
    t.user(BOB).ok("chown f -1 -1");
    t.is("stat f", "reg 2745*");
    // Somebody has it open to write: it may be their write.
    t.ok("chmod f 4755");
    t.ok("open f f w");
    t.user(ALICE).known("chown-of-nothing", "chown f -1 -1");
    t.ok("chmod f 755");
}
