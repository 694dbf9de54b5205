//! Other users: what they may reach, read, write and remove.

use crate::common::actor::{ALICE, BOB, CAROL, SECOND, Who};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Users => [
        supplementary_groups_open_doors,
        each_of_many_groups_counts,
        owner_class_comes_first,
        directories_with_search_only,
        directories_with_read_only,
        closed_directories,
        files_nobody_may_read,
        opening_against_the_mode,
        creating_where_one_may_not,
        sticky_directories,
        sticky_directories_and_renames,
        renaming_directories_of_others,
        linking_to_files_of_others,
        truncating_needs_write,
        access_answers_as_open_does,
        root_and_execution,
        acl_grants_and_masks,
        acl_set_by_users,
        xattrs_of_users,
        trusted_names_are_hidden,
        trusted_names_are_shown_by_capability,
        security_names_are_shown,
        open_descriptors_outlive_chmod,
        users_see_each_others_writes,
        executing_as_a_user,
        setuid_programs_change_the_user,
    ];
}

fn supplementary_groups_open_doors(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chown f 0 2000");
    t.ok("chmod f 660");
    t.ok("mkdir d 755");
    t.ok("chown d 0 2000");
    t.ok("chmod d 770");
    t.user(ALICE).err("get f", "EACCES");
    t.user(ALICE).err("ls d", "EACCES");
    for who in [BOB, CAROL] {
        t.user(who).is("get f", "hello");
        t.user(who).ok("open f f rw");
        t.user(who).ok(&format!("create d/{} 644", who.name));
        t.user(who).ok("ls d");
    }
    t.is("stat d/bob", "reg 644 1002:1002*");
}

fn each_of_many_groups_counts(t: &mut Trace) {
    for group in [2000, 2001, 2002, 2003, 2004, 2005] {
        t.ok(&format!("mkdir d{group} 755"));
        t.ok(&format!("chown d{group} 0 {group}"));
        t.ok(&format!("chmod d{group} 2770"));
    }
    for group in CAROL.groups {
        t.user(CAROL).ok(&format!("create d{group}/f 664"));
        t.is(&format!("stat d{group}/f"), &format!("reg 644 1003:{group}*"));
        t.user(CAROL).ok(&format!("chown d{group}/f -1 2001"));
    }
    t.user(CAROL).err("create d2005/f 644", "EACCES");
}

fn owner_class_comes_first(t: &mut Trace) {
    for (name, mode) in [("f", "077"), ("g", "707"), ("h", "770")] {
        t.ok(&format!("put {name} hello"));
        t.ok(&format!("chown {name} 1001 2000"));
        t.ok(&format!("chmod {name} {mode}"));
    }
    t.user(ALICE).err("get f", "EACCES");
    t.user(BOB).is("get f", "hello");
    t.user(BOB).err("get g", "EACCES");
    t.user(ALICE).is("get g", "hello");
    t.ok("chown h 1001 1001");
    t.user(BOB).err("get h", "EACCES");
}

fn directories_with_search_only(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f hello");
    t.ok("mkdir d/e 755");
    t.ok("put d/e/g deep");
    t.ok("chmod d 711");
    t.user(ALICE).is("get d/f", "hello");
    t.user(ALICE).is("get d/e/g", "deep");
    t.user(ALICE).err("ls d", "EACCES");
    t.user(ALICE).ok("ls d/e");
    t.user(ALICE).err("create d/new 644", "EACCES");
}

fn directories_with_read_only(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f hello");
    t.ok("chmod d 744");
    t.user(ALICE).is("ls d", "f/reg");
    t.user(ALICE).err("stat d/f", "EACCES");
    t.user(ALICE).err("get d/f", "EACCES");
    t.user(ALICE).err("stat d/missing", "EACCES");
}

fn closed_directories(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("mkdir d/e 777");
    t.ok("put d/e/f hello");
    t.user(ALICE).ok("get d/e/f");
    t.ok("chmod d 700");
    for line in ["get d/e/f", "stat d/e", "ls d", "create d/e/new 644", "chdir d", "unlink d/e/f"] {
        t.user(ALICE).err(line, "EACCES");
    }
    t.is("get d/e/f", "hello");
    t.ok("chmod d 755");
    t.user(ALICE).is("get d/e/f", "hello");
}

fn files_nobody_may_read(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 0");
    t.user(ALICE).err("get f", "EACCES");
    t.user(ALICE).ok("stat f");
    t.is("get f", "hello");
    t.open_to_all();
    t.user(ALICE).ok("open o own rw,creat 0");
    t.user(ALICE).ok("write o still-writes");
    t.user(ALICE).is("pread o 0 20", "still-writes");
    t.user(ALICE).err("open p own r", "EACCES");
}

fn opening_against_the_mode(t: &mut Trace) {
    for mode in ["444", "222", "666", "400", "604"] {
        t.ok(&format!("put f{mode} hello"));
        t.ok(&format!("chmod f{mode} {mode}"));
        for flags in ["r", "w", "rw", "w,append", "w,trunc", "r,trunc", "path", "r,noatime"] {
            t.user(ALICE).run(&format!("open x f{mode} {flags}")).ok();
        }
    }
    t.user(ALICE).err("open x f444 w", "EACCES");
    t.user(ALICE).err("open x f222 r", "EACCES");
    t.is("get f444", "hello");
}

fn creating_where_one_may_not(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f hello");
    t.ok("mkdir d/e 755");
    for line in [
        "create d/x 644",
        "mkdir d/x 755",
        "symlink y d/x",
        "mknod d/x fifo 644",
        "open t d rw,tmpfile 644",
        "unlink d/f",
        "rmdir d/e",
        "rename d/f d/g",
        "rename d/f outside",
        "open x d/new rw,creat 644",
    ] {
        t.user(ALICE).err(line, "EACCES");
    }
    t.user(ALICE).err("mkdir d/e 755", "EEXIST");
    t.user(ALICE).err("open x d/f rw,creat,excl 644", "EEXIST");
    t.user(ALICE).ok("open x d/f r,creat 644");
}

fn sticky_directories(t: &mut Trace) {
    t.ok("mkdir tmp 777");
    t.ok("chmod tmp 1777");
    t.user(ALICE).ok("put tmp/f hello");
    t.user(ALICE).ok("mkdir tmp/d 777");
    t.ok("chmod tmp/f 666");
    t.user(BOB).err("unlink tmp/f", "EPERM");
    t.user(BOB).err("rmdir tmp/d", "EPERM");
    t.user(BOB).ok("append tmp/f more");
    t.user(BOB).ok("put tmp/own x");
    t.user(BOB).ok("unlink tmp/own");
    t.user(ALICE).ok("rmdir tmp/d");
    t.user(ALICE).ok("put tmp/g x");
    t.ok("chown tmp 1002 1002");
    t.user(BOB).ok("unlink tmp/g");
    t.ok("unlink tmp/f");
}

fn sticky_directories_and_renames(t: &mut Trace) {
    t.ok("mkdir tmp 777");
    t.ok("chmod tmp 1777");
    t.ok("mkdir free 777");
    t.ok("chmod free 777");
    t.user(ALICE).ok("put tmp/f hello");
    t.user(BOB).ok("put tmp/b own");
    t.user(BOB).err("rename tmp/f tmp/g", "EPERM");
    t.user(BOB).err("rename tmp/f free/g", "EPERM");
    t.user(BOB).err("rename tmp/b tmp/f", "EPERM");
    t.user(BOB).err("rename2 tmp/b tmp/f exchange", "EPERM");
    t.user(BOB).ok("rename tmp/b free/b");
    t.user(ALICE).ok("rename free/b free/taken");
    t.is("stat free/taken", "reg 644 1002:1002*");
}

fn renaming_directories_of_others(t: &mut Trace) {
    t.open_to_all();
    t.user(ALICE).ok("mkdir hers 755");
    t.user(BOB).ok("mkdir his 755");
    t.user(BOB).ok("rename hers still-hers");
    // A new ".." is a write to the directory itself.
    t.user(BOB).err("rename still-hers his/hers", "EACCES");
    t.user(ALICE).ok("put still-hers/f x");
    t.user(BOB).err("rename still-hers/f f", "EACCES");
    t.user(BOB).err("rename his still-hers", "ENOTEMPTY");
    t.user(BOB).err("rmdir still-hers", "ENOTEMPTY");
}

fn linking_to_files_of_others(t: &mut Trace) {
    t.open_to_all();
    t.ok("put of-root hello");
    t.ok("chmod of-root 644");
    t.user(ALICE).ok("put hers hello");
    // fs.protected_hardlinks, where it is on, refuses what cannot be written.
    t.user(ALICE).run("link of-root link").ok();
    t.user(ALICE).ok("link hers hers-too");
    t.user(BOB).run("link hers his").ok();
    t.is("stat hers", "reg 644 1001:1001*");
    t.user(ALICE).err("link missing x", "ENOENT");
}

fn truncating_needs_write(t: &mut Trace) {
    t.ok("put r hello");
    t.ok("put w hello");
    t.ok("chmod w 666");
    t.user(ALICE).err("truncate r 0", "EACCES");
    t.user(ALICE).err("open r r r,trunc", "EACCES");
    t.user(ALICE).ok("truncate w 2");
    t.user(ALICE).ok("open w w rw");
    t.ok("chmod w 600");
    t.user(ALICE).ok("ftruncate w 1");
    t.user(ALICE).err("truncate w 0", "EACCES");
    t.is("get w", "h");
    t.is("get r", "hello");
}

fn access_answers_as_open_does(t: &mut Trace) {
    t.ok("mkdir d 750");
    t.ok("chown d 0 2000");
    for mode in ["0", "400", "644", "640", "711", "070", "007", "755"] {
        t.ok(&format!("put f{mode} x"));
        t.ok(&format!("chown f{mode} 1001 2000"));
        t.ok(&format!("chmod f{mode} {mode}"));
        for who in [ALICE, BOB] {
            for wanted in ["f", "r", "w", "x", "rw", "rwx"] {
                t.user(who).run(&format!("access f{mode} {wanted}")).ok();
                t.user(who).run(&format!("eaccess f{mode} {wanted}")).ok();
            }
        }
    }
    t.user(ALICE).err("access d rx", "EACCES");
    t.user(BOB).ok("access d rx");
    t.user(BOB).err("access d w", "EACCES");
    t.user(ALICE).err("access missing f", "ENOENT");
}

fn root_and_execution(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 0");
    t.ok("access f rw");
    t.err("access f x", "EACCES");
    t.ok("chmod f 1");
    t.ok("access f x");
    t.ok("mkdir d 0");
    t.ok("access d rwx");
    t.ok("put d/f x");
    t.ok("ls d");
}

fn acl_grants_and_masks(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setacl f access u::rw,u:1001:rw,g::-,g:2000:r,m::rw,o::-");
    t.user(ALICE).ok("open f f rw");
    t.user(BOB).is("get f", "hello");
    t.user(BOB).err("open f f rw", "EACCES");
    t.user(ALICE).ok("access f rw");
    t.user(BOB).err("access f w", "EACCES");
    t.ok("chmod f 640");
    t.user(ALICE).err("open g f rw", "EACCES");
    t.user(ALICE).ok("open g f r");
    t.ok("setacl f access u::rw,u:1001:-,g::r,m::r,o::r");
    t.user(ALICE).err("get f", "EACCES");
    t.user(BOB).is("get f", "hello");
    t.ok("mkdir d 700");
    t.ok("setacl d access u::rwx,u:1001:rwx,g::-,m::rwx,o::-");
    t.user(ALICE).ok("create d/f 644");
    t.user(BOB).err("ls d", "EACCES");
}

fn acl_set_by_users(t: &mut Trace) {
    t.open_to_all();
    t.user(ALICE).ok("put f hello");
    t.user(ALICE).ok("setacl f access u::rw,u:1002:rw,g::-,m::rw,o::-");
    t.user(BOB).is("getacl f access", "u::rw-,u:1002:rw-,g::---,m::rw-,o::---");
    t.user(BOB).err("setacl f access u::rw,g::rw,o::rw", "EPERM");
    t.user(BOB).err("rmx f system.posix_acl_access", "EPERM");
    t.user(BOB).ok("append f more");
    t.user(ALICE).ok("mkdir d 700");
    t.user(ALICE).ok("setacl d default u::rwx,u:1002:rx,g::-,m::rx,o::-");
    t.user(ALICE).ok("rmx f system.posix_acl_access");
    t.user(BOB).err("get f", "EACCES");
    // Setting an ACL takes setgid from a file whose group one is not in.
    t.ok("put s hello");
    t.ok("chown s 1001 2000");
    t.ok("chmod s 2755");
    t.user(ALICE).ok("setacl s access u::rwx,u:1002:rx,g::rx,m::rx,o::rx");
    t.ok("stat s");
}

fn xattrs_of_users(t: &mut Trace) {
    t.open_to_all();
    t.ok("put r hello");
    t.ok("setx r user.a 1");
    t.ok("put w hello");
    t.ok("chmod w 666");
    t.ok("put closed hello");
    t.ok("setx closed user.a 1");
    t.ok("chmod closed 600");
    t.user(ALICE).is("getx r user.a", "1");
    t.user(ALICE).err("setx r user.a 2", "EACCES");
    t.user(ALICE).err("rmx r user.a", "EACCES");
    t.user(ALICE).ok("setx w user.a 2");
    t.user(ALICE).err("getx closed user.a", "EACCES");
    t.user(ALICE).is("listx closed", "user.a");
    t.user(ALICE).err("setx w security.a 1", "EPERM");
    t.user(ALICE).err("rmx w security.a", "EPERM");
    t.ok("chmod . 1777");
    t.user(ALICE).err("setx . user.a 1", "EPERM");
    t.user(ALICE).ok("mknod p fifo 666");
    t.user(ALICE).err("setx p user.a 1", "EPERM");
    t.user(ALICE).run("getx p user.a").ok();
}

fn trusted_names_are_hidden(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 666");
    t.ok("setx f trusted.secret 1");
    t.ok("setx f user.open 2");
    t.user(ALICE).is("listx f", "user.open");
    t.user(ALICE).is("listx f 0", "size 10");
    t.user(ALICE).is("listx f 10", "user.open");
    t.user(ALICE).err("getx f trusted.secret", "ENODATA");
    t.user(ALICE).err("setx f trusted.secret 2", "EPERM");
    t.user(ALICE).err("rmx f trusted.secret", "EPERM");
    t.is("listx f", "trusted.secret user.open");
    t.ok("rmx f user.open");
    t.user(ALICE).is("listx f", "");
}

fn trusted_names_are_shown_by_capability(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 666");
    t.ok("setx f trusted.secret 1");
    t.ok("setx f user.open 2");
    let mut names_for = |who: &str, expected: &str| {
        let line = format!("exec /usr/bin/setpriv {who} getfattr -m - f");
        let answer = format!("#%20file:%20f%0a{expected}user.open%0a%0a exit status: 0");
        t.user(SECOND).is(&line, &answer);
    };
    names_for("--no-new-privs", "trusted.secret%0a");
    names_for("--bounding-set -sys_admin", "");
    let alice = "--reuid 1001 --regid 1001 --clear-groups";
    names_for(&format!("{alice} --inh-caps +sys_admin"), "");
    names_for(
        &format!("{alice} --inh-caps +sys_admin --ambient-caps +sys_admin"),
        "trusted.secret%0a",
    );
}

fn security_names_are_shown(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setx f security.label x");
    t.user(ALICE).is("listx f", "security.label");
    t.user(ALICE).is("getx f security.label", "x");
    t.user(ALICE).err("setx f security.label y", "EPERM");
}

fn open_descriptors_outlive_chmod(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("chmod f 666");
    t.user(ALICE).ok("open f f rw");
    t.ok("chmod f 0");
    t.ok("chown f 0 0");
    t.user(ALICE).is("pread f 0 9", "hello");
    t.user(ALICE).ok("pwrite f 0 J");
    t.user(ALICE).ok("ftruncate f 3");
    t.user(ALICE).ok("fsync f");
    t.user(ALICE).ok("fstat f");
    t.user(ALICE).err("open g f r", "EACCES");
    t.is("get f", "Jel");
}

fn users_see_each_others_writes(t: &mut Trace) {
    t.open_to_all();
    t.user(ALICE).ok("open f f rw,creat 644");
    t.ok("chmod f 666");
    t.user(BOB).ok("open f f rw");
    for round in 0..5 {
        t.user(ALICE).ok(&format!("pwrite f {} alice{round}", round * 10));
        t.user(BOB).is(&format!("pread f {} 6", round * 10), &format!("alice{round}"));
        t.user(BOB).ok(&format!("append f bob{round}"));
        t.user(ALICE).ok("fstat f");
    }
    t.user(ALICE).ok("get f");
}

fn executing_as_a_user(t: &mut Trace) {
    t.user(SECOND).ok("install script echo $0 | tail -c 8; echo $1");
    t.user(ALICE).is("exec ./script argument", "/script%0aargument%0a exit status: 0");
    t.ok("chmod script 700");
    t.user(ALICE).err("exec ./script", "EACCES");
    t.ok("chmod script 754");
    t.ok("chown script 0 2000");
    t.user(BOB).run("exec ./script x").ok();
    t.user(ALICE).err("exec ./script", "EACCES");
}

fn setuid_programs_change_the_user(t: &mut Trace) {
    t.user(SECOND).ok("copyin id /usr/bin/id");
    let answers = |t: &mut Trace, who: Who, expected: &str| {
        t.user(who).is("exec ./id -u", &format!("{expected}%0a exit status: 0"));
    };
    answers(t, ALICE, "1001");
    t.ok("chmod id 4755");
    answers(t, ALICE, "0");
    t.ok("chown id 1002 -1");
    t.ok("chmod id 4755");
    answers(t, ALICE, "1002");
    t.ok("unlink id");
}
