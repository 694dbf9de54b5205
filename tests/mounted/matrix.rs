//! Permissions as a matrix: everybody, on files and directories of every kind of mode and ACL, with
//! every operation that asks for a permission. Nobody may do on a mount what the plain directory
//! refuses, or be refused what it grants.

use crate::common::actor::{ALICE, BOB, CAROL, DAVE, ERIN, SECOND, Who};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Users => [
        files_by_mode,
        files_by_acl,
        directories_by_mode,
        directories_by_acl,
        default_acls_by_maker,
        links_in_sticky_directories,
    ];
    Needs::Any => [
        root_and_every_mode,
    ];
    Needs::Options("") => [
        nobody_else_enters,
        nor_as_another_for_file_systems,
    ];
}

/// ALICE owns what is tried, and its group is 2000: BOB's and CAROL's by the way, ERIN's first.
const EVERYBODY: [Who; 6] = [SECOND, ALICE, BOB, CAROL, DAVE, ERIN];
const OWNED: &str = "1001 2000";

/// Runs lines in which `@` stands for `name`. Whatever comes of them goes into the transcript.
fn play(t: &mut Trace, who: Who, name: &str, lines: &[&str]) {
    for line in lines {
        let line = line.replace('@', name);
        let opened = t.user(who).run(&line).is_ok() && line.starts_with("open ");
        if opened {
            t.user(who).ok("close x");
        }
    }
}

/// What is asked of a file: first what leaves it as it is.
const ON_A_FILE: &[&str] = &[
    "stat @",
    "access @ r",
    "access @ w",
    "access @ x",
    "exec ./@",
    "get @",
    "open x @ r",
    "open x @ r,noatime",
    "open x @ w",
    "open x @ rw",
    "open x @ w,append",
    "open x @ r,creat 644",
    "getx @ user.given",
    "getx @ trusted.given",
    "getx @ security.given",
    "getx @ security.capability",
    "listx @",
    "getacl @ access",
    "link @ @-hard",
    "setx @ user.a 1",
    "rmx @ user.a",
    "rmx @ user.given",
    "setx @ trusted.a 1",
    "setx @ security.a 1",
    "rmx @ security.given",
    "utimens @ now now",
    "utimens @ 5 6",
    "open x @ r,trunc",
    "truncate @ 3",
    "chown @ 1002 -1",
    "chown @ -1 2000",
    "chmod @ 640",
    "setacl @ access u::rw,g::r,o::-",
    "rename @ @-moved",
    "unlink @-moved",
];

/// A program of ALICE's, made by a process that no other inherits descriptors from.
fn plant_file(t: &mut Trace, name: &str) {
    t.user(SECOND).ok(&format!("install {name} echo run"));
    for space in ["user", "trusted", "security"] {
        t.user(SECOND).ok(&format!("setx {name} {space}.given 1"));
    }
    t.user(SECOND).ok(&format!("chown {name} {OWNED}"));
}

/// Which of the three digits of a mode counts for `who`.
fn class(who: Who) -> u32 {
    match (who == ALICE, who.gid == 2000 || who.groups.contains(&2000)) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    }
}

const MODES: [u32; 13] =
    [0, 0o400, 0o200, 0o100, 0o040, 0o020, 0o070, 0o004, 0o007, 0o644, 0o750, 0o4755, 0o2775];

fn files_by_mode(t: &mut Trace) {
    t.open_to_all();
    for mode in MODES {
        for who in EVERYBODY {
            let name = format!("f{mode:o}-{}", who.name);
            plant_file(t, &name);
            t.user(SECOND).ok(&format!("chmod {name} {mode:o}"));
            let readable = who == SECOND || mode >> class(who) & 4 != 0;
            let read = t.user(who).run(&format!("get {name}"));
            t.check("who may read can", read.is_ok() == readable);
            play(t, who, &name, ON_A_FILE);
        }
    }
}

fn files_by_acl(t: &mut Trace) {
    t.open_to_all();
    let acls = [
        "u::rwx,u:1005:rx,g::-,m::rx,o::-",
        "u::r,u:1002:rw,g::r,m::r,o::-",
        "u::rw,u:1002:-,g::rwx,m::rwx,o::rwx",
        "u::rw,g::-,g:2000:rwx,m::rwx,o::-",
        "u::rw,g::rx,g:2001:-,m::rwx,o::r",
        "u::-,u:1001:rwx,g::-,m::rwx,o::rx",
        "u::rwx,g::rwx,g:1005:w,m::-,o::r",
    ];
    for (number, acl) in acls.iter().enumerate() {
        for who in EVERYBODY {
            let name = format!("f{number}-{}", who.name);
            plant_file(t, &name);
            t.user(SECOND).ok(&format!("setacl {name} access {acl}"));
            play(t, who, &name, ON_A_FILE);
        }
    }
}

/// What is asked of a directory, and of what is in it: `own` belongs to who asks, the rest to root.
const IN_A_DIRECTORY: &[&str] = &[
    "stat @",
    "access @ r",
    "access @ w",
    "access @ x",
    "ls @",
    "open x @ r,dir",
    "stat @/f",
    "get @/f",
    "readlink @/l",
    "get @/l",
    "stat @/none",
    "getx @/f user.a",
    "append @/own more",
    "chmod @/own 600",
    "create @/new 644",
    "open x @/f r,creat 644",
    "open x @ rw,tmpfile 600",
    "mkdir @/new-d 2755",
    "symlink x @/new-l",
    "mknod @/new-p fifo 644",
    "link @/f @/hard",
    "link @/own @/own-hard",
    "link @/own @-hard",
    "rename @/own @/own-2",
    "rename @/f @/f-2",
    "rename2 @/own-2 @/l exchange",
    "rename @/sub @/sub-2",
    "rename @/own-hard @-out",
    "rmdir @/sub",
    "unlink @/f",
    "unlink @/own-2",
    "unlink @/l",
    "setx @ user.a 1",
    "listx @",
    "utimens @ now now",
    "utimens @ 5 6",
    "chown @ -1 2001",
    "chmod @ 2755",
    "setacl @ default u::rwx,g::rx,o::-",
];

fn plant_directory(t: &mut Trace, name: &str, who: Who) {
    let mut root = t.user(SECOND);
    root.ok(&format!("mkdir {name} 755"));
    root.ok(&format!("mkdir {name}/sub 755"));
    root.ok(&format!("put {name}/f hello"));
    root.ok(&format!("put {name}/own hello"));
    root.ok(&format!("chown {name}/own {} {}", who.uid, who.gid));
    root.ok(&format!("symlink f {name}/l"));
    root.ok(&format!("chown {name} {OWNED}"));
}

fn directories_by_mode(t: &mut Trace) {
    t.open_to_all();
    let modes = ["0", "100", "300", "500", "710", "750", "770", "707", "1777", "1770", "2775"];
    for mode in modes {
        for who in EVERYBODY {
            let name = format!("d{mode}-{}", who.name);
            plant_directory(t, &name, who);
            t.user(SECOND).ok(&format!("chmod {name} {mode}"));
            play(t, who, &name, IN_A_DIRECTORY);
        }
    }
}

fn directories_by_acl(t: &mut Trace) {
    t.open_to_all();
    let acls = [
        "u::rwx,u:1005:rwx,g::-,m::rwx,o::-",
        "u::rwx,u:1002:x,g::rwx,m::rwx,o::rwx",
        "u::rx,g::-,g:2001:wx,m::rwx,o::r",
        "u::rwx,g::rwx,g:2000:rwx,m::rx,o::x",
    ];
    for (number, acl) in acls.iter().enumerate() {
        for who in EVERYBODY {
            let name = format!("d{number}-{}", who.name);
            plant_directory(t, &name, who);
            t.user(SECOND).ok(&format!("setacl {name} access {acl}"));
            play(t, who, &name, IN_A_DIRECTORY);
        }
    }
}

/// Whose is what is made below a default ACL, under which mode and ACL, and who may use it.
fn default_acls_by_maker(t: &mut Trace) {
    t.open_to_all();
    let acls = [
        "u::rwx,u:1002:rw,g::rx,m::rwx,o::-",
        "u::rw,g::-,g:2000:rwx,m::rx,o::r",
        "u::rwx,g::rx,o::rx",
    ];
    let everybody = EVERYBODY;
    for (number, acl) in acls.iter().enumerate() {
        let dir = format!("d{number}");
        for line in ["mkdir @ 777", "chown @ 1001 2000", "chmod @ 2777"] {
            t.ok(&line.replace('@', &dir));
        }
        t.ok(&format!("setacl {dir} default {acl}"));
        for who in everybody {
            t.user(who).ok("umask 27");
            let name = format!("{dir}/{}", who.name);
            play(
                t,
                who,
                &name,
                &[
                    "create @-f 666",
                    "create @-x 777",
                    "mkdir @-d 777",
                    "mknod @-p fifo 666",
                    "mknod @-r reg 6777",
                    "symlink x @-l",
                    "create @-d/below 660",
                ],
            );
            for kind in ["f", "x", "d", "p", "r", "d/below"] {
                t.run(&format!("stat {name}-{kind}")).ok();
                t.run(&format!("getacl {name}-{kind} access")).ok();
                t.run(&format!("getacl {name}-{kind} default")).ok();
            }
            for other in everybody {
                let lines = ["get @-f", "append @-f more", "ls @-d", "access @-x x", "stat @-l"];
                play(t, other, &name, &lines);
            }
        }
    }
}

/// What fs.protected_hardlinks, _symlinks, _fifos and _regular say of directories where all may write:
/// they speak of the inodes of the mount, whichever of them are switched on.
fn links_in_sticky_directories(t: &mut Trace) {
    t.open_to_all();
    for (dir, owner) in [("tmp", "0"), ("hers", "1001"), ("his", "1002")] {
        t.ok(&format!("mkdir {dir} 777"));
        t.ok(&format!("chown {dir} {owner} {owner}"));
        t.ok(&format!("chmod {dir} 1777"));
        for maker in [ALICE, BOB, SECOND] {
            let name = format!("{dir}/{}", maker.name);
            let lines = ["put @ hello", "symlink @ @-l", "mknod @-p fifo 666"];
            play(t, maker, &name, &lines);
            t.user(maker).ok(&format!("symlink {} {name}-near", maker.name));
            t.user(maker).ok(&format!("chmod {name} 666"));
            t.user(maker).ok(&format!("chmod {name}-p 666"));
            for who in EVERYBODY {
                play(
                    t,
                    who,
                    &name,
                    &[
                        "get @-near",
                        "readlink @-near",
                        "chmod @-near 666",
                        "open x @ rw,creat 644",
                        "open x @-p r,creat,nonblock 644",
                        "open x @-p r,nonblock",
                        "link @ @-hard",
                        "link @-near @-hard-near",
                        "link @-p @-hard-p",
                        "rename @ @-moved",
                        "rename @-moved @",
                        "unlink @-near",
                        "append @ more",
                    ],
                );
                t.run(&format!("symlink {} {name}-near", maker.name)).ok();
                t.run(&format!("lchown {name}-near {} {}", maker.uid, maker.gid)).ok();
            }
        }
    }
}

/// On either profile root has what it has natively.
fn root_and_every_mode(t: &mut Trace) {
    for mode in MODES {
        let name = format!("f{mode:o}");
        plant_file(t, &name);
        t.user(SECOND).ok(&format!("chmod {name} {mode:o}"));
        play(t, SECOND, &name, ON_A_FILE);
        let name = format!("d{mode:o}");
        plant_directory(t, &name, SECOND);
        t.user(SECOND).ok(&format!("chmod {name} {mode:o}"));
        play(t, SECOND, &name, IN_A_DIRECTORY);
    }
}

/// Without allow_other a mount is a directory of mode 700.
fn nobody_else_enters(t: &mut Trace) {
    let (file, dir) = ("open-to-all", "open-to-all-d");
    t.ok("chmod . 700");
    plant_file(t, file);
    t.user(SECOND).ok(&format!("chmod {file} 777"));
    plant_directory(t, dir, ALICE);
    t.user(SECOND).ok(&format!("chmod {dir} 777"));
    for who in [ALICE, BOB, CAROL, DAVE, ERIN] {
        for (name, lines) in [(file, ON_A_FILE), (dir, IN_A_DIRECTORY)] {
            for line in lines {
                t.user(who).err(&line.replace('@', name), "EACCES");
            }
        }
    }
    t.ok(&format!("stat {file}"));
}

/// A process of root's that acts as somebody else for file systems only is let in by the kernel; what
/// it then asks of the daemon is refused.
fn nor_as_another_for_file_systems(t: &mut Trace) {
    t.ok("chmod . 700");
    t.ok("put f hello");
    t.ok("chmod f 666");
    t.ok("mkdir d 777");
    t.ok("chmod d 777");
    t.user(SECOND).ok("fsuid 1001");
    for line in [
        "get f",
        "open x f rw",
        "stat none",
        "create new 644",
        "create d/new 644",
        "mkdir new 755",
        "symlink x new",
        "mknod new fifo 644",
        "link f new",
        "rename f new",
        "unlink f",
        "rmdir d",
        "chmod f 600",
        "truncate f 0",
        "setx f user.a 1",
        "rmx f user.a",
    ] {
        t.user(SECOND).err(line, "EACCES");
    }
    t.user(SECOND).ok("fsuid 0");
    t.user(SECOND).is("get f", "hello");
}
