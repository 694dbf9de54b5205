//! Names: their bytes, their lengths, symlinks and the ways through a tree.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        longest_names,
        names_that_are_too_long,
        names_that_are_not_utf8,
        names_that_look_strange,
        names_differ_in_case,
        paths_of_the_greatest_length,
        deep_directories,
        dots_in_paths,
        symlink_targets_of_any_kind,
        longest_symlink_target,
        symlink_refusals,
        symlink_loops,
        symlinks_along_a_path,
        absolute_symlinks,
        readlink_refusals,
        hard_links_are_one_file,
        link_refusals,
        link_to_a_symlink,
        many_links,
        link_and_unlink_while_open,
    ];
}

fn longest_names(t: &mut Trace) {
    t.ok("put {n*255} hello");
    t.ok("mkdir {d*255} 755");
    t.ok("put {d*255}/{e*255} inside");
    t.ok("symlink {n*255} {l*255}");
    t.ok("mknod {p*255} fifo 644");
    t.is("get {l*255}", "hello");
    t.ok("rename {n*255} {m*255}");
    t.ok("link {m*255} {k*255}");
    t.is("readlink {l*255}", &crate::common::shell::show("n".repeat(255).as_bytes()));
    t.ok("ls .");
    t.is("get {d*255}/{e*255}", "inside");
}

fn names_that_are_too_long(t: &mut Trace) {
    t.ok("put f hello");
    for line in [
        "stat {n*256}",
        "create {n*256} 644",
        "mkdir {n*256} 755",
        "unlink {n*256}",
        "rmdir {n*256}",
        "symlink f {n*256}",
        "link f {n*256}",
        "rename f {n*256}",
        "mknod {n*256} fifo 644",
        "readlink {n*256}",
        "truncate {n*300} 0",
        "chmod {n*1000} 644",
        "getx {n*256} user.a",
    ] {
        t.err(line, "ENAMETOOLONG");
    }
    t.is("ls .", "f/reg");
}

fn names_that_are_not_utf8(t: &mut Trace) {
    for name in ["%ff", "%c3%80", "%fe%fe%ff%ff", "a%80b", "%e4%f6%fc"] {
        t.ok(&format!("put {name} content-of-{name}"));
        t.ok(&format!("mkdir dir{name} 755"));
        t.ok(&format!("symlink {name} link{name}"));
        t.is(&format!("readlink link{name}"), name);
        t.ok(&format!("get link{name}"));
        t.ok(&format!("rename {name} dir{name}/{name}"));
        t.behind().ok(&format!("get dir{name}/{name}"));
    }
    t.ok("ls .");
}

fn names_that_look_strange(t: &mut Trace) {
    let names = [
        "%20",
        "%0a",
        "-",
        "--help",
        "...",
        "%5c",
        "%22",
        "*",
        "~",
        "%01",
        "a%20b",
        ".fuse_hidden0001",
        "%7f",
    ];
    for name in names {
        let name = if name == "-" { "%2d%2d" } else { name };
        t.ok(&format!("put {name} x"));
        t.ok(&format!("stat {name}"));
    }
    t.ok("ls .");
    t.ok("unlink %0a");
    t.err("stat %0a", "ENOENT");
    t.is("get a%20b", "x");
}

fn names_differ_in_case(t: &mut Trace) {
    t.ok("put name lower");
    t.ok("put Name upper");
    t.ok("put NAME loud");
    t.is("get name", "lower");
    t.is("get Name", "upper");
    t.err("get nAME", "ENOENT");
    t.ok("rename name nAME");
    t.err("get name", "ENOENT");
    t.is("get nAME", "lower");
}

fn paths_of_the_greatest_length(t: &mut Trace) {
    let second = crate::common::actor::SECOND;
    for _ in 0..20 {
        t.user(second).ok("mkdir {d*250} 755");
        t.user(second).ok("chdir {d*250}");
    }
    t.user(second).ok("put f deep");
    t.user(second).is("get f", "deep");
    t.user(second).is("stat ..", "dir 755 0:0 n3*");
    t.user(second).err(&format!("stat {}f", "d/".repeat(2048)), "ENAMETOOLONG");
    t.err(&format!("stat {}", "./".repeat(2048)), "ENAMETOOLONG");
    t.ok(&format!("stat {}", "./".repeat(1900)));
}

fn deep_directories(t: &mut Trace) {
    let mut path = String::from("d");
    for _ in 0..200 {
        t.ok(&format!("mkdir {path} 755"));
        path += "/d";
    }
    t.ok(&format!("put {path} bottom"));
    t.is(&format!("get {path}"), "bottom");
    t.is(&format!("samefile {} {}/..", &path[..path.len() - 4], &path[..path.len() - 2]), "same");
}

fn dots_in_paths(t: &mut Trace) {
    t.ok("mkdir a 755");
    t.ok("mkdir a/b 755");
    t.ok("put a/f hello");
    t.is("get a/b/../f", "hello");
    t.is("get ./a/./b/.././f", "hello");
    t.is("samefile a/b/.. a", "same");
    t.is("samefile a/. a", "same");
    t.err("get a/f/../f", "ENOTDIR");
    t.err("get missing/../a/f", "ENOENT");
    t.ok("rename a/b b");
    t.is("samefile b/.. .", "same");
    t.is("get a//f", "hello");
}

fn symlink_targets_of_any_kind(t: &mut Trace) {
    for (number, target) in
        ["x", "..", "/", "a/b/c", "%ff%fe", "%20", "{t*59}", "{t*60}", "{t*61}"].iter().enumerate()
    {
        t.ok(&format!("symlink {target} link{number}"));
        t.ok(&format!("readlink link{number}"));
        t.ok(&format!("lstat link{number}"));
    }
    t.is("readlink link4", "%ff%fe");
    t.is("lstat link6", "lnk 777 0:0 n1 s59 b0");
    t.is("lstat link7", "lnk 777 0:0 n1 s60 b8");
}

fn longest_symlink_target(t: &mut Trace) {
    let target = "t".repeat(4095);
    t.ok("symlink {t*4095} link");
    t.is("readlink link", &crate::common::shell::show(target.as_bytes()));
    t.is("lstat link", "lnk 777 0:0 n1 s4095 b8");
    t.err("stat link", "ENAMETOOLONG");
    t.err("symlink {t*4096} longer", "ENAMETOOLONG");
    t.err("lstat longer", "ENOENT");
}

fn symlink_refusals(t: &mut Trace) {
    t.ok("put f x");
    t.err("symlink - link", "ENOENT");
    t.err("symlink x f", "EEXIST");
    t.err("symlink x f/link", "ENOTDIR");
    t.err("symlink x missing/link", "ENOENT");
    t.err("symlink x new/", "ENOENT");
    t.is("ls .", "f/reg");
}

fn symlink_loops(t: &mut Trace) {
    t.ok("symlink self self");
    t.ok("symlink b a");
    t.ok("symlink a b");
    t.err("stat self", "ELOOP");
    t.err("get a", "ELOOP");
    t.err("create a/x 644", "ELOOP");
    t.ok("put end x");
    t.ok("symlink end l0");
    for number in 1..50 {
        t.ok(&format!("symlink l{} l{number}", number - 1));
    }
    // The limit is 40; a walk that has to start anew, because a name has expired, goes on counting.
    t.is("get l15", "x");
    t.err("get l40", "ELOOP");
}

fn symlinks_along_a_path(t: &mut Trace) {
    t.ok("mkdir a 755");
    t.ok("mkdir a/b 755");
    t.ok("put a/b/f hello");
    t.ok("symlink a/b short");
    t.ok("symlink ../b a/again");
    t.ok("symlink ../a/b/f a/up");
    t.is("get short/f", "hello");
    t.is("get a/up", "hello");
    t.err("get a/again/f", "ENOENT");
    t.is("stat short/", "dir 755*");
    t.is("lstat short", "lnk 777*");
    t.is("lstat short/", "dir 755*");
    t.ok("rename a c");
    t.err("get short/f", "ENOENT");
}

fn absolute_symlinks(t: &mut Trace) {
    let target = t.path("f");
    t.ok("put f hello");
    std::os::unix::fs::symlink(&target, t.path("absolute")).expect("make a symlink");
    t.is("get absolute", "hello");
    t.ok("symlink /etc/hostname out");
    let same = std::fs::read(t.path("out")).ok() == std::fs::read("/etc/hostname").ok();
    t.check("a symlink leads out of the mount", same);
    t.ok("unlink absolute");
}

fn readlink_refusals(t: &mut Trace) {
    t.ok("put f x");
    t.ok("mkdir d 755");
    t.err("readlink f", "EINVAL");
    t.err("readlink d", "EINVAL");
    t.err("readlink missing", "ENOENT");
    t.err("readlink f/x", "ENOTDIR");
}

fn hard_links_are_one_file(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("mkdir d 755");
    t.ok("link a d/b");
    t.is("samefile a d/b", "same");
    t.is("stat a", "reg 644 0:0 n2 s5 b8");
    t.ok("append d/b -more");
    t.is("get a", "hello-more");
    t.ok("chmod a 600");
    t.is("stat d/b", "reg 600 0:0 n2 s10 b8");
    t.ok("unlink a");
    t.is("stat d/b", "reg 600 0:0 n1 s10 b8");
    t.ok("link d/b a");
    t.is("stat a", "reg 600 0:0 n2 s10 b8");
    t.same_behind("a");
    t.same_behind("d/b");
}

fn link_refusals(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("put b other");
    t.ok("mkdir d 755");
    t.err("link a b", "EEXIST");
    t.err("link a a", "EEXIST");
    t.err("link a d", "EEXIST");
    t.err("link d e", "EPERM");
    t.err("link missing e", "ENOENT");
    t.err("link a missing/e", "ENOENT");
    t.err("link a b/e", "ENOTDIR");
    t.is("get b", "other");
    t.is("stat a", "reg 644 0:0 n1*");
}

fn link_to_a_symlink(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f link");
    t.ok("link link same");
    t.is("lstat same", "lnk 777 0:0 n2*");
    t.is("readlink same", "f");
    t.ok("linkfollow link followed");
    t.is("stat f", "reg 644 0:0 n2*");
    t.is("samefile f followed", "same");
    t.ok("mknod p fifo 644");
    t.ok("link p q");
    t.is("stat q", "fifo 644 0:0 n2*");
}

fn many_links(t: &mut Trace) {
    t.ok("put f hello");
    for number in 0..300 {
        t.ok(&format!("link f l{number}"));
    }
    t.is("stat l299", "reg 644 0:0 n301*");
    for number in 0..300 {
        t.ok(&format!("unlink l{number}"));
    }
    t.is("stat f", "reg 644 0:0 n1*");
}

fn link_and_unlink_while_open(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("open f a rw");
    t.ok("link a b");
    t.ok("unlink a");
    t.ok("pwrite f 0 J");
    t.is("get b", "Jello");
    t.is("fstat f", "reg 644 0:0 n1*");
    t.ok("rename b c");
    t.ok("open g c r");
    t.is("pread g 0 9", "Jello");
    t.ok("unlink c");
    t.is("fstat f", "reg 644 0:0 n0*");
    t.is("fstat g", "reg 644 0:0 n0*");
    t.ok("pwrite f 0 H");
    t.is("pread g 0 9", "Hello");
}
