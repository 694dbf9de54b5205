//! Changes made behind the mount, in the source: seen a moment later, as the source is watched.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        new_names_are_found_at_once,
        removed_names,
        content_of_a_closed_file,
        content_of_an_open_file,
        growth_of_an_open_file,
        truncation_of_an_open_file,
        modes_and_owners,
        timestamps,
        renamed_files,
        renamed_directories,
        replaced_files,
        replaced_kinds,
        replaced_symlinks,
        inode_numbers_used_again,
        listings,
        links,
        a_file_removed_while_open,
        a_directory_removed_while_open,
        creating_over_what_appeared,
        removing_what_is_gone,
        moving_the_parent_away,
    ];
}

fn new_names_are_found_at_once(t: &mut Trace) {
    t.err("stat f", "ENOENT");
    t.behind().ok("put f hello");
    t.is("get f", "hello");
    t.behind().ok("mkdir d 755");
    t.behind().ok("put d/g deep");
    t.is("get d/g", "deep");
    t.behind().ok("put d/h later");
    t.is("get d/h", "later");
}

fn removed_names(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("stat d");
    t.behind().ok("unlink f");
    t.behind().ok("rmdir d");
    t.err("stat f", "ENOENT");
    t.err("ls d", "ENOENT");
    t.is("ls .", "");
    t.ok("mkdir f 755");
    t.ok("put d x");
}

fn content_of_a_closed_file(t: &mut Trace) {
    t.ok("put f hello");
    t.is("get f", "hello");
    t.behind().ok("put f HELLO");
    t.is("get f", "HELLO");
    t.behind().ok("put f something-longer");
    t.is("get f", "something-longer");
    t.is("stat f", "reg 644 0:0 n1 s16*");
}

fn content_of_an_open_file(t: &mut Trace) {
    t.ok("put f {.*8192}");
    t.ok("open f f rw");
    t.ok("pread f 0 8192");
    t.behind().ok("open w f rw");
    t.behind().ok("pwrite w 4000 written-behind");
    t.ok("fstat f");
    t.is("pread f 4000 14", "written-behind");
    t.ok("pwrite f 0 here");
    t.behind().is("pread w 0 5", "here.");
}

fn growth_of_an_open_file(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f rw,append");
    t.ok("fstat f");
    t.behind().ok("append f -behind");
    t.is("fstat f", "reg 644 0:0 n1 s12*");
    t.is("pread f 0 20", "hello-behind");
    t.behind().ok("append f -more");
    t.ok("write f -here");
    t.behind().is("get f", "hello-behind-more-here");
    t.is("get f", "hello-behind-more-here");
}

fn truncation_of_an_open_file(t: &mut Trace) {
    t.ok("put f pat:1:50000");
    t.ok("open f f r");
    t.ok("pread f 0 50000");
    t.behind().ok("truncate f 100");
    t.is("fstat f", "reg 644 0:0 n1 s100*");
    t.is("pread f 100 1000", "");
    t.ok("pread f 0 1000");
    t.behind().ok("truncate f 1000");
    t.ok("fstat f");
    t.is("pread f 100 5000", "zeros:900");
}

fn modes_and_owners(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("stat f");
    t.behind().ok("chmod f 600");
    t.behind().ok("chown f 12 34");
    t.behind().ok("chmod d 1777");
    t.is("stat f", "reg 600 12:34*");
    t.is("stat d", "dir 1777*");
    t.same_behind("f");
}

fn timestamps(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("stat f");
    t.behind().ok("utimens f 1000 2000");
    t.is("mtime f", "2000.000000000");
    t.is("atime f", "1000.000000000");
    t.behind().ok("append f x");
    t.same_behind("f");
}

fn renamed_files(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("open f a rw");
    t.behind().ok("rename a b");
    t.err("stat a", "ENOENT");
    t.is("get b", "hello");
    t.ok("pwrite f 0 J");
    t.is("get b", "Jello");
    t.ok("ftruncate f 2");
    t.ok("fchmod f 600");
    t.is("fstat f", "reg 600 0:0 n1 s2*");
    t.behind().ok("put a new");
    t.is("get a", "new");
}

fn renamed_directories(t: &mut Trace) {
    t.ok("mkdir a 755");
    t.ok("mkdir a/sub 755");
    t.ok("put a/sub/f hello");
    t.ok("open d a/sub r,dir");
    t.behind().ok("rename a b");
    t.err("stat a/sub/f", "ENOENT");
    t.is("get b/sub/f", "hello");
    t.ok("fstat d");
    t.ok("put b/sub/g x");
    t.ok("ls b/sub");
}

fn replaced_files(t: &mut Trace) {
    t.ok("put f old");
    t.ok("open o f r");
    t.behind().ok("put new fresh");
    t.behind().ok("rename new f");
    t.is("get f", "fresh");
    t.is("pread o 0 9", "old");
    t.is("fstat o", "reg 644 0:0 n0*");
    t.same_behind("f");
}

fn replaced_kinds(t: &mut Trace) {
    t.ok("put f old");
    t.ok("mkdir d 755");
    t.ok("stat f");
    t.ok("stat d");
    t.behind().ok("unlink f");
    t.behind().ok("mkdir f 700");
    t.behind().ok("rmdir d");
    t.behind().ok("symlink f d");
    t.is("stat f", "dir 700*");
    t.is("lstat d", "lnk 777*");
    t.ok("put d/inside x");
    t.is("ls f", "inside/reg");
}

fn replaced_symlinks(t: &mut Trace) {
    t.ok("put a one");
    t.ok("put b two");
    t.ok("symlink a l");
    t.is("get l", "one");
    t.behind().ok("unlink l");
    t.behind().ok("symlink b l");
    t.is("readlink l", "b");
    t.is("get l", "two");
}

fn inode_numbers_used_again(t: &mut Trace) {
    for round in 0..3 {
        t.ok(&format!("put f round-{round}"));
        t.is("get f", &format!("round-{round}"));
        t.ok("setx f user.k v");
        t.behind().ok("unlink f");
        t.behind().ok("mkdir g 755");
        t.is("stat g", "dir 755*");
        t.behind().ok("rmdir g");
        t.behind().ok("create h 600");
        t.is("stat h", "reg 600 0:0 n1 s0 b0");
        t.is("listx h", "");
        t.ok("unlink h");
    }
}

fn listings(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/a x");
    t.ok("ls d");
    t.behind().ok("put d/b x");
    t.behind().ok("mkdir d/c 755");
    t.behind().ok("unlink d/a");
    t.ok("ls d");
    t.err("stat d/a", "ENOENT");
    t.ok("stat d/b");
    t.ok("rmdir d/c");
}

fn links(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("stat a");
    t.behind().ok("link a b");
    t.is("stat a", "reg 644 0:0 n2*");
    t.is("samefile a b", "same");
    t.behind().ok("unlink a");
    t.is("stat b", "reg 644 0:0 n1*");
    t.is("get b", "hello");
}

fn a_file_removed_while_open(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f hello");
    t.behind().ok("unlink f");
    t.is("pread f 0 9", "hello");
    t.ok("pwrite f 5 -more");
    t.is("pread f 0 20", "hello-more");
    t.is("fstat f", "reg 644 0:0 n0 s10*");
    t.ok("ftruncate f 3");
    t.ok("fchmod f 600");
    t.ok("fsync f");
    t.is("fstat f", "reg 600 0:0 n0 s3*");
}

fn a_directory_removed_while_open(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.behind().ok("rmdir d");
    // A directory that the kernel opens by itself is held by nobody in the source.
    let shown = t.run_quietly("fstat d");
    let gone = shown.as_ref().is_err_and(|errno| errno == "ESTALE");
    t.check("it has no name any more", gone || shown.is_ok_and(|shown| shown.contains(" n0 ")));
    t.err("create d/f 644", "ENOENT");
    t.ok("mkdir d 700");
    t.ok("create d/f 644");
}

fn creating_over_what_appeared(t: &mut Trace) {
    t.err("stat f", "ENOENT");
    t.behind().ok("put f theirs");
    t.err("create f 644", "EEXIST");
    t.behind().ok("mkdir d 755");
    t.err("mkdir d 755", "EEXIST");
    t.ok("put g mine");
    t.behind().ok("put h theirs");
    t.err("rename2 g h noreplace", "EEXIST");
    t.ok("rename g h");
    t.is("get h", "mine");
    t.ok("open f f rw,creat 644");
    t.is("pread f 0 9", "theirs");
}

fn removing_what_is_gone(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("put g hello");
    t.behind().ok("unlink f");
    t.behind().ok("rmdir d");
    t.behind().ok("rename g h");
    t.err("unlink f", "ENOENT");
    t.err("rmdir d", "ENOENT");
    t.err("rename g i", "ENOENT");
    t.is("get h", "hello");
}

fn moving_the_parent_away(t: &mut Trace) {
    t.ok("mkdir a 755");
    t.ok("mkdir a/b 755");
    t.ok("open f a/b/f rw,creat 644");
    t.ok("write f hello");
    t.behind().ok("rename a/b c");
    t.behind().ok("rmdir a");
    t.ok("write f -more");
    t.is("pread f 0 20", "hello-more");
    t.is("get c/f", "hello-more");
    t.err("stat a", "ENOENT");
    t.is("samefile c/.. .", "same");
}
