//! Other users: whose is what they make, and who may change what belongs to whom.

use crate::common::actor::{ALICE, BOB, CAROL};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Users => [
        owner_of_what_users_make,
        unnamed_files_belong_to_their_maker,
        modes_under_each_users_umask,
        setgid_directories_give_their_group,
        setgid_directories_and_setgid_files,
        default_acls_for_users,
        default_acl_and_umask_of_users,
        quota_and_ownership_of_grown_files,
        symlinks_of_users,
        chmod_is_for_the_owner,
        chmod_setgid_by_a_stranger_to_the_group,
        chown_rules,
        times_by_those_who_are_not_owner,
        noatime_is_for_the_owner,
        devices_are_for_root,
        inode_flags_are_for_root,
    ];
}

fn owner_of_what_users_make(t: &mut Trace) {
    t.open_to_all();
    for who in [ALICE, BOB, CAROL] {
        let (name, ids) = (who.name, format!("{}:{}", who.uid, who.gid));
        t.user(who).ok(&format!("create {name}-f 644"));
        t.user(who).ok(&format!("mkdir {name}-d 755"));
        t.user(who).ok(&format!("symlink x {name}-l"));
        t.user(who).ok(&format!("mknod {name}-p fifo 644"));
        t.user(who).ok(&format!("mknod {name}-s sock 644"));
        t.user(who).ok(&format!("mknod {name}-r reg 644"));
        for (kind, text) in [
            ("f", "reg 644"),
            ("d", "dir 755"),
            ("l", "lnk 777"),
            ("p", "fifo 644"),
            ("s", "sock 644"),
        ] {
            t.is(&format!("lstat {name}-{kind}"), &format!("{text} {ids}*"));
            t.behind().is(&format!("lstat {name}-{kind}"), &format!("{text} {ids}*"));
        }
        t.is(&format!("stat {name}-r"), &format!("reg 644 {ids}*"));
    }
    t.ok("create of-root 644");
    t.is("stat of-root", "reg 644 0:0*");
}

fn unnamed_files_belong_to_their_maker(t: &mut Trace) {
    t.open_to_all();
    t.user(ALICE).ok("open t . rw,tmpfile 640");
    t.user(ALICE).is("fstat t", "reg 640 1001:1001*");
    t.ok("mkdir g 777");
    t.ok("chown g 0 2000");
    t.ok("chmod g 2777");
    t.user(ALICE).ok("open u g rw,tmpfile 640");
    t.user(ALICE).is("fstat u", "reg 640 1001:2000*");
    t.user(BOB).ok("open u g rw,tmpfile 2770");
    t.user(BOB).ok("fstat u");
}

fn modes_under_each_users_umask(t: &mut Trace) {
    t.open_to_all();
    for (who, mask) in [(ALICE, "27"), (BOB, "0"), (CAROL, "77")] {
        t.user(who).ok(&format!("umask {mask}"));
        t.user(who).ok(&format!("create {}-f 666", who.name));
        t.user(who).ok(&format!("mkdir {}-d 777", who.name));
        t.user(who).ok(&format!("mknod {}-p fifo 666", who.name));
    }
    t.is("stat alice-f", "reg 640*");
    t.is("stat bob-d", "dir 777*");
    t.is("stat carol-p", "fifo 600*");
}

fn setgid_directories_give_their_group(t: &mut Trace) {
    t.ok("mkdir g 777");
    t.ok("chown g 0 2000");
    t.ok("chmod g 2777");
    for who in [ALICE, BOB] {
        let (name, uid) = (who.name, who.uid);
        t.user(who).ok(&format!("create g/{name}-f 644"));
        t.user(who).ok(&format!("mkdir g/{name}-d 755"));
        t.user(who).ok(&format!("symlink x g/{name}-l"));
        t.user(who).ok(&format!("mknod g/{name}-p fifo 644"));
        t.is(&format!("stat g/{name}-f"), &format!("reg 644 {uid}:2000*"));
        t.is(&format!("stat g/{name}-d"), &format!("dir 2755 {uid}:2000*"));
        t.is(&format!("lstat g/{name}-l"), &format!("lnk 777 {uid}:2000*"));
        t.is(&format!("stat g/{name}-p"), &format!("fifo 644 {uid}:2000*"));
        t.user(who).ok(&format!("create g/{name}-d/below 644"));
        t.is(&format!("stat g/{name}-d/below"), &format!("reg 644 {uid}:2000*"));
    }
}

fn setgid_directories_and_setgid_files(t: &mut Trace) {
    t.ok("mkdir g 777");
    t.ok("chown g 0 2000");
    t.ok("chmod g 2777");
    for who in [ALICE, BOB] {
        t.user(who).ok("umask 0");
        for mode in ["2755", "2745", "6755", "4755"] {
            t.user(who).ok(&format!("create g/{}-{mode} {mode}", who.name));
            t.ok(&format!("stat g/{}-{mode}", who.name));
        }
        t.user(who).ok(&format!("mknod g/{}-r reg 2775", who.name));
        t.ok(&format!("stat g/{}-r", who.name));
    }
    // Who is not in the group cannot make a program that runs under it.
    t.is("stat g/alice-2755", "reg 755 1001:2000*");
    t.is("stat g/bob-2755", "reg 2755 1002:2000*");
}

fn default_acls_for_users(t: &mut Trace) {
    t.ok("mkdir d 777");
    t.ok("chmod d 777");
    t.ok("setacl d default u::rwx,u:1002:rw,g::rx,m::rwx,o::-");
    t.user(ALICE).ok("create d/f 666");
    t.user(ALICE).ok("mkdir d/sub 777");
    t.is("stat d/f", "reg 660 1001:1001*");
    t.is("getacl d/f access", "u::rw-,u:1002:rw-,g::r-x,m::rw-,o::---");
    t.is("getacl d/sub default", "u::rwx,u:1002:rw-,g::r-x,m::rwx,o::---");
    t.user(BOB).ok("open f d/f rw");
    t.user(CAROL).err("open f d/f r", "EACCES");
}

fn default_acl_and_umask_of_users(t: &mut Trace) {
    t.ok("mkdir d 777");
    t.ok("chmod d 777");
    t.ok("setacl d default u::rwx,g::rwx,o::rwx");
    t.user(ALICE).ok("umask 77");
    t.user(ALICE).ok("create d/f 666");
    t.user(ALICE).ok("mkdir d/sub 770");
    t.is("stat d/f", "reg 666 1001:1001*");
    t.is("stat d/sub", "dir 770 1001:1001*");
}

fn quota_and_ownership_of_grown_files(t: &mut Trace) {
    t.open_to_all();
    t.ok("create f 666");
    t.ok("chmod f 666");
    t.user(ALICE).ok("put f pat:1:100000");
    t.user(ALICE).ok("put g pat:2:100000");
    t.is("stat f", "reg 666 0:0 n1 s100000 b200");
    t.is("stat g", "reg 644 1001:1001 n1 s100000 b200");
    t.user(BOB).ok("append f more");
    t.is("stat f", "reg 666 0:0 n1 s100004 b200");
}

fn symlinks_of_users(t: &mut Trace) {
    t.ok("mkdir tmp 777");
    t.ok("chmod tmp 1777");
    t.ok("put secret hidden");
    t.ok("chmod secret 600");
    t.user(ALICE).ok("symlink ../secret tmp/link");
    t.user(ALICE).err("get tmp/link", "EACCES");
    t.is("lstat tmp/link", "lnk 777 1001:1001*");
    t.user(BOB).is("readlink tmp/link", "../secret");
    t.user(BOB).err("unlink tmp/link", "EPERM");
    t.run("get tmp/link").ok();
}

fn chmod_is_for_the_owner(t: &mut Trace) {
    t.open_to_all();
    t.ok("put f hello");
    t.ok("chmod f 666");
    t.user(ALICE).ok("put g hello");
    t.user(ALICE).err("chmod f 644", "EPERM");
    t.user(BOB).err("chmod g 666", "EPERM");
    t.user(ALICE).ok("chmod g 4711");
    t.is("stat g", "reg 4711 1001:1001*");
    t.user(ALICE).ok("open g g r");
    t.user(ALICE).ok("fchmod g 600");
    t.user(BOB).ok("open f f rw");
    t.user(BOB).err("fchmod f 600", "EPERM");
    t.user(ALICE).err("chmod . 755", "EPERM");
}

fn chmod_setgid_by_a_stranger_to_the_group(t: &mut Trace) {
    for (who, name) in [(ALICE, "a"), (BOB, "b")] {
        t.ok(&format!("put {name} hello"));
        t.ok(&format!("chown {name} {} 2000", who.uid));
        t.user(who).ok(&format!("chmod {name} 2755"));
        t.user(who).ok(&format!("stat {name}"));
        t.user(who).ok(&format!("chmod {name} 6711"));
        t.user(who).ok(&format!("stat {name}"));
        t.ok(&format!("mkdir d{name} 755"));
        t.ok(&format!("chown d{name} {} 2000", who.uid));
        t.user(who).ok(&format!("chmod d{name} 2755"));
    }
    t.is("stat a", "reg 4711 1001:2000*");
    t.is("stat b", "reg 6711 1002:2000*");
    t.is("stat da", "dir 755 1001:2000*");
    t.is("stat db", "dir 2755 1002:2000*");
}

fn chown_rules(t: &mut Trace) {
    t.open_to_all();
    for who in [ALICE, BOB] {
        t.user(who).ok(&format!("put {} hello", who.name));
    }
    t.user(ALICE).err("chown alice 1002 -1", "EPERM");
    t.user(ALICE).err("chown alice -1 2000", "EPERM");
    t.user(ALICE).ok("chown alice 1001 1001");
    t.user(ALICE).err("chown bob 1001 -1", "EPERM");
    t.user(BOB).ok("chown bob -1 2000");
    t.is("stat bob", "reg 644 1002:2000*");
    t.user(BOB).ok("chmod bob 6755");
    t.user(BOB).ok("chown bob -1 1002");
    t.is("stat bob", "reg 755 1002:1002*");
    t.user(BOB).ok("chmod bob 4755");
    t.user(BOB).ok("chown bob -1 -1");
    t.ok("stat bob");
    t.user(ALICE).ok("symlink x l");
    t.user(ALICE).err("lchown l 1002 -1", "EPERM");
    t.user(BOB).err("lchown l -1 1002", "EPERM");
}

fn times_by_those_who_are_not_owner(t: &mut Trace) {
    t.ok("put w hello");
    t.ok("chmod w 666");
    t.ok("put r hello");
    t.user(ALICE).ok("utimens w now now");
    t.user(ALICE).err("utimens w 1 1", "EPERM");
    t.user(ALICE).err("utimens w now omit", "EPERM");
    t.user(ALICE).err("utimens w omit 5", "EPERM");
    t.user(ALICE).ok("utimens r omit omit");
    t.user(ALICE).err("utimens r now now", "EACCES");
    t.user(ALICE).err("utimens r 1 1", "EPERM");
    t.ok("chown r 1001 -1");
    t.ok("chmod r 0");
    t.user(ALICE).ok("utimens r 5 6");
    t.user(ALICE).ok("utimens r now now");
    t.user(ALICE).ok("utimens r now 7");
    t.is("mtime r", "7.000000000");
}

fn noatime_is_for_the_owner(t: &mut Trace) {
    t.open_to_all();
    t.ok("put f hello");
    t.user(ALICE).ok("put g hello");
    t.user(ALICE).err("open f f r,noatime", "EPERM");
    t.user(ALICE).ok("open g g r,noatime");
    t.ok("open h g r,noatime");
}

fn devices_are_for_root(t: &mut Trace) {
    t.open_to_all();
    t.user(ALICE).err("mknod n chr 666 1 3", "EPERM");
    t.user(ALICE).err("mknod b blk 666 7 0", "EPERM");
    t.user(ALICE).ok("mknod whiteout chr 666 0 0");
    t.user(ALICE).ok("put f hello");
    t.user(ALICE).run("rename2 f g whiteout").ok();
    t.ok("ls .");
    t.ok("mknod n chr 666 1 3");
    t.ok("chmod n 666");
    t.user(ALICE).ok("open n n rw");
    t.user(ALICE).is("write n into-nothing", "12");
}

fn inode_flags_are_for_root(t: &mut Trace) {
    t.open_to_all();
    t.user(ALICE).ok("put f hello");
    t.user(ALICE).ok("open f f r");
    t.user(ALICE).err("setflags f immutable", "EPERM");
    t.user(ALICE).err("setflags f append", "EPERM");
    t.user(ALICE).ok("setflags f nodump");
    t.user(ALICE).is("getflags f", "nodump");
    t.user(BOB).ok("open f f r");
    t.user(BOB).is("getflags f", "nodump");
    t.user(BOB).run("setflags f -").ok();
    t.user(ALICE).is("getflags f", "nodump");
}
