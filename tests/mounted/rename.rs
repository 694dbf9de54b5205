//! Renaming, plain and with flags.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        renaming_keeps_the_file,
        renaming_over_a_file,
        renaming_directories,
        renaming_over_directories,
        renaming_into_itself,
        renaming_refusals,
        renaming_onto_a_link_of_itself,
        renaming_an_open_file,
        renaming_an_open_directory,
        renaming_over_an_open_file,
        renaming_symlinks,
        renaming_between_directories,
        noreplace,
        exchange_of_files,
        exchange_of_unlike_kinds,
        exchange_refusals,
        whiteout,
        invalid_flags,
        names_after_rename_are_at_once_true,
        listing_after_rename,
        swapping_names_many_times,
        concurrent_renames_keep_one_name,
    ];
}

fn renaming_keeps_the_file(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("chmod a 640");
    t.ok("setx a user.k v");
    let before = t.statx("a").stx_ino;
    t.ok("rename a b");
    t.check("the inode number is the same", t.statx("b").stx_ino == before);
    t.err("stat a", "ENOENT");
    t.is("stat b", "reg 640 0:0 n1 s5 b8");
    t.is("getx b user.k", "v");
    t.is("get b", "hello");
    t.ok("rename b b");
    t.is("get b", "hello");
}

fn renaming_over_a_file(t: &mut Trace) {
    t.ok("put a new");
    t.ok("put b old");
    t.ok("link b c");
    t.ok("rename a b");
    t.is("get b", "new");
    t.is("get c", "old");
    t.is("stat c", "reg 644 0:0 n1*");
    t.err("stat a", "ENOENT");
    t.ok("mknod p fifo 600");
    t.ok("rename p b");
    t.is("stat b", "fifo 600*");
}

fn renaming_directories(t: &mut Trace) {
    t.ok("mkdir a 755");
    t.ok("mkdir a/sub 755");
    t.ok("put a/sub/f hello");
    t.ok("rename a b");
    t.is("get b/sub/f", "hello");
    t.err("stat a", "ENOENT");
    t.ok("mkdir other 700");
    t.ok("rename b/sub other/sub");
    t.is("samefile other/sub/.. other", "same");
    t.is("stat b", "dir 755 0:0 n2*");
    t.is("stat other", "dir 700 0:0 n3*");
    t.is("get other/sub/f", "hello");
}

fn renaming_over_directories(t: &mut Trace) {
    t.ok("mkdir a 700");
    t.ok("mkdir empty 755");
    t.ok("mkdir full 755");
    t.ok("put full/f x");
    t.ok("put file x");
    t.err("rename a full", "ENOTEMPTY");
    t.err("rename a file", "ENOTDIR");
    t.err("rename file a", "EISDIR");
    t.ok("rename a empty");
    t.is("stat empty", "dir 700*");
    t.ok("rename full empty");
    t.is("get empty/f", "x");
    t.is("stat .", "dir*");
}

fn renaming_into_itself(t: &mut Trace) {
    t.ok("mkdir a 755");
    t.ok("mkdir a/b 755");
    t.ok("mkdir a/b/c 755");
    t.err("rename a a/x", "EINVAL");
    t.err("rename a a/b/c/x", "EINVAL");
    t.err("rename a/b a/b/c", "EINVAL");
    t.err("rename a/b/c a/b", "ENOTEMPTY");
    t.err("rename a/b/c a", "ENOTEMPTY");
    t.ok("stat a/b/c");
}

fn renaming_refusals(t: &mut Trace) {
    t.ok("put f x");
    t.ok("mkdir d 755");
    t.err("rename missing g", "ENOENT");
    t.err("rename f missing/g", "ENOENT");
    t.err("rename f f/g", "ENOTDIR");
    t.err("rename f/g h", "ENOTDIR");
    t.err("rename . d/x", "EBUSY");
    t.err("rename d/. e", "EBUSY");
    t.err("rename f d/..", "EBUSY");
    t.err("rename f/ g", "ENOTDIR");
    t.err("rename f g/", "ENOTDIR");
    t.ok("rename d/ e/");
    t.is("stat e", "dir*");
}

fn renaming_onto_a_link_of_itself(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("link a b");
    t.ok("rename a b");
    t.is("stat a", "reg 644 0:0 n2*");
    t.is("stat b", "reg 644 0:0 n2*");
    t.is("get a", "hello");
}

fn renaming_an_open_file(t: &mut Trace) {
    t.ok("open f a rw,creat 644");
    t.ok("write f one");
    t.ok("mkdir d 755");
    t.ok("rename a d/b");
    t.ok("write f two");
    t.is("get d/b", "onetwo");
    t.ok("fchmod f 600");
    t.is("stat d/b", "reg 600 0:0 n1 s6*");
    t.ok("ftruncate f 1");
    t.is("stat d/b", "reg 600 0:0 n1 s1*");
}

fn renaming_an_open_directory(t: &mut Trace) {
    let second = crate::common::actor::SECOND;
    t.ok("mkdir a 755");
    t.ok("mkdir b 755");
    t.ok("put a/f hello");
    t.user(second).ok("chdir a");
    t.ok("rename a b/c");
    t.user(second).is("get f", "hello");
    t.user(second).ok("put g made");
    t.is("get b/c/g", "made");
    t.user(second).is("samefile .. ../../b", "same");
    t.user(second).is("ls ..", "c/dir");
}

fn renaming_over_an_open_file(t: &mut Trace) {
    t.ok("put a new");
    t.ok("put b old");
    t.ok("open f b rw");
    t.ok("rename a b");
    t.is("fstat f", "reg 644 0:0 n0 s3*");
    t.is("pread f 0 9", "old");
    t.ok("pwrite f 0 OLD-and-more");
    t.is("pread f 0 20", "OLD-and-more");
    t.is("get b", "new");
}

fn renaming_symlinks(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f link");
    t.ok("mkdir d 755");
    t.ok("rename link d/link");
    t.is("readlink d/link", "f");
    t.err("get d/link", "ENOENT");
    t.ok("rename d/link f");
    t.is("readlink f", "f");
    t.err("get f", "ELOOP");
}

fn renaming_between_directories(t: &mut Trace) {
    t.ok("mkdir a 755");
    t.ok("mkdir b 755");
    for number in 0..100 {
        t.ok(&format!("put a/f{number} content{number}"));
    }
    for number in 0..100 {
        t.ok(&format!("rename a/f{number} b/g{number}"));
    }
    t.is("ls a", "");
    t.is("get b/g77", "content77");
    t.ok("ls b");
    t.ok("rmdir a");
}

fn noreplace(t: &mut Trace) {
    t.ok("put a one");
    t.ok("put b two");
    t.ok("mkdir d 755");
    t.err("rename2 a b noreplace", "EEXIST");
    t.err("rename2 a d noreplace", "EEXIST");
    t.err("rename2 a a noreplace", "EEXIST");
    t.err("rename2 missing x noreplace", "ENOENT");
    t.ok("symlink missing dangling");
    t.err("rename2 a dangling noreplace", "EEXIST");
    t.ok("rename2 a c noreplace");
    t.ok("rename2 d e noreplace");
    t.is("get b", "two");
    t.is("get c", "one");
}

fn exchange_of_files(t: &mut Trace) {
    t.ok("put a one");
    t.ok("mkdir d 755");
    t.ok("put d/b two");
    let (a, b) = (t.statx("a").stx_ino, t.statx("d/b").stx_ino);
    t.ok("open f a rw");
    t.ok("rename2 a d/b exchange");
    t.is("get a", "two");
    t.is("get d/b", "one");
    t.check("inodes change places", (t.statx("d/b").stx_ino, t.statx("a").stx_ino) == (a, b));
    t.ok("pwrite f 0 ONE");
    t.is("get d/b", "ONE");
    t.ok("rename2 a d/b exchange");
    t.is("get a", "ONE");
}

fn exchange_of_unlike_kinds(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("put d/x inside");
    t.ok("symlink somewhere l");
    t.ok("rename2 f d exchange");
    t.is("get d", "hello");
    t.is("get f/x", "inside");
    t.ok("mkdir e 755");
    t.ok("rename2 f e exchange");
    t.is("ls e", "x/reg");
    t.is("ls f", "");
    t.ok("mkdir p 755");
    t.ok("rename2 l p exchange");
    t.is("readlink p", "somewhere");
    t.is("stat l", "dir 755 0:0 n2*");
    t.ok("mkdir l/child 755");
    t.ok("rename2 l/child d exchange");
    t.is("stat l", "dir 755 0:0 n2*");
}

fn exchange_refusals(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("mkdir d/e 755");
    t.err("rename2 f missing exchange", "ENOENT");
    t.err("rename2 missing f exchange", "ENOENT");
    t.err("rename2 d d/e exchange", "EINVAL");
    t.err("rename2 d/e d exchange", "EINVAL");
    t.ok("rename2 f f exchange");
    t.is("get f", "hello");
}

fn whiteout(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("rename2 f g whiteout");
    t.is("get g", "hello");
    t.is("stat f", "chr 0 0:0 n1 r0:0");
    t.ok("put h other");
    t.ok("rename2 h g whiteout");
    t.is("get g", "other");
    t.ok("mkdir d 755");
    t.ok("rename2 d e noreplace,whiteout");
    t.is("stat d", "chr 0 0:0 n1 r0:0");
    t.is("stat e", "dir 755*");
}

fn invalid_flags(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("put g other");
    for flags in ["noreplace,exchange", "exchange,whiteout", "8", "16", "2147483648", "15"] {
        t.err(&format!("rename2 f g {flags}"), "EINVAL");
    }
    t.is("get f", "hello");
    t.is("get g", "other");
}

fn names_after_rename_are_at_once_true(t: &mut Trace) {
    t.ok("mkdir d 755");
    for round in 0..30 {
        t.ok(&format!("put a round{round}"));
        t.err("stat b", "ENOENT");
        t.ok("rename a b");
        t.err("stat a", "ENOENT");
        t.is("get b", &format!("round{round}"));
        t.ok("rename b d/a");
        t.err("stat b", "ENOENT");
        t.ok("stat d/a");
    }
}

fn listing_after_rename(t: &mut Trace) {
    t.ok("mkdir d 755");
    for name in ["a", "b", "c"] {
        t.ok(&format!("put d/{name} x"));
    }
    t.ok("ls d");
    t.ok("rename d/b d/renamed");
    t.ok("ls d");
    t.ok("rename d/a outside");
    t.ok("ls d");
    t.ok("rename outside d/back");
    t.ok("ls d");
    t.ok("rename d e");
    t.ok("ls e");
    t.err("ls d", "ENOENT");
}

fn swapping_names_many_times(t: &mut Trace) {
    t.ok("put a one");
    t.ok("put b two");
    for _ in 0..101 {
        t.ok("rename2 a b exchange");
    }
    t.is("get a", "two");
    for _ in 0..51 {
        t.ok("rename a c");
        t.ok("rename b a");
        t.ok("rename c b");
    }
    t.is("get a", "one");
}

fn concurrent_renames_keep_one_name(t: &mut Trace) {
    t.ok("put n0 hello");
    let dir = t.path(".");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let dir = &dir;
            scope.spawn(move || {
                for step in 0..200 {
                    let (from, to) = ((step + worker) % 5, (step * 3 + worker) % 5);
                    let _ =
                        std::fs::rename(dir.join(format!("n{from}")), dir.join(format!("n{to}")));
                }
            });
        }
    });
    let names: Vec<_> = std::fs::read_dir(&dir).expect("list").flatten().collect();
    t.check("there is one name", names.len() == 1);
    let content = names.first().map(|name| std::fs::read(name.path()).unwrap_or_default());
    t.check("with the content", content.as_deref() == Some(b"hello"));
    for name in names {
        std::fs::remove_file(name.path()).expect("remove it");
    }
}
