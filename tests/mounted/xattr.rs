//! Extended attributes and access control lists as root sees them.

use crate::harness::Needs;
use crate::trace::Trace;

/// CAP_NET_RAW, permitted and effective, as `setcap` writes it.
const CAPABILITY: &str = "%01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00";

behaviours! {
    Needs::Any => [
        setting_getting_listing_removing,
        values_of_any_bytes,
        empty_values,
        sizes_asked_for,
        buffers_too_small,
        create_and_replace,
        missing_attributes,
        every_namespace,
        unknown_namespaces,
        names_of_any_length,
        values_of_any_length,
        many_attributes,
        attributes_of_symlinks,
        attributes_of_special_files,
        attributes_through_descriptors,
        attributes_without_a_name,
        attributes_follow_the_inode,
        attributes_changed_behind,
        capabilities_go_with_a_write,
        capabilities_go_with_truncate_and_chown,
        access_acl_shows_in_the_mode,
        chmod_changes_the_mask,
        default_acl_is_inherited,
        default_acl_overrides_umask,
        acl_refusals,
        acl_removal,
        acl_is_gone_behind,
    ];
}

fn setting_getting_listing_removing(t: &mut Trace) {
    t.ok("put f hello");
    t.is("listx f", "");
    t.ok("setx f user.one 1");
    t.ok("setx f user.two second");
    t.is("getx f user.one", "1");
    t.is("listx f", "user.one user.two");
    t.ok("setx f user.one another-value");
    t.is("getx f user.one", "another-value");
    t.ok("rmx f user.one");
    t.err("getx f user.one", "ENODATA");
    t.is("listx f", "user.two");
    t.behind().is("getx f user.two", "second");
    t.ok("mkdir d 755");
    t.ok("setx d user.dir yes");
    t.is("getx d user.dir", "yes");
}

fn values_of_any_bytes(t: &mut Trace) {
    t.ok("put f hello");
    for (number, value) in ["%00", "%00%00a%00", "%ff%fe", "a%0ab", "{z*1000}"].iter().enumerate() {
        t.ok(&format!("setx f user.v{number} {value}"));
        t.ok(&format!("getx f user.v{number}"));
    }
    t.is("getx f user.v1", "%00%00a%00");
    t.ok("listx f");
}

fn empty_values(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setx f user.empty -");
    t.is("getx f user.empty", "");
    t.is("getx f user.empty 0", "size 0");
    t.is("listx f", "user.empty");
    t.ok("setx f user.empty filled");
    t.ok("setx f user.empty - replace");
    t.is("getx f user.empty", "");
}

fn sizes_asked_for(t: &mut Trace) {
    t.ok("put f hello");
    t.is("listx f 0", "size 0");
    t.ok("setx f user.a 12345");
    t.ok("setx f user.bcd 6");
    t.is("getx f user.a 0", "size 5");
    t.is("listx f 0", "size 16");
    t.is("getx f user.a 5", "12345");
    t.is("getx f user.a 100", "12345");
    t.is("listx f 16", "user.a user.bcd");
    t.err("getx f user.none 0", "ENODATA");
}

fn buffers_too_small(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setx f user.a 12345");
    t.err("getx f user.a 4", "ERANGE");
    t.err("getx f user.a 1", "ERANGE");
    t.err("listx f 6", "ERANGE");
    t.is("listx f 7", "user.a");
}

fn create_and_replace(t: &mut Trace) {
    t.ok("put f hello");
    t.err("setx f user.a 1 replace", "ENODATA");
    t.ok("setx f user.a 1 create");
    t.err("setx f user.a 2 create", "EEXIST");
    t.is("getx f user.a", "1");
    t.ok("setx f user.a 3 replace");
    t.is("getx f user.a", "3");
}

fn missing_attributes(t: &mut Trace) {
    t.ok("put f hello");
    for name in ["user.none", "trusted.none", "security.none"] {
        t.err(&format!("getx f {name}"), "ENODATA");
        t.err(&format!("rmx f {name}"), "ENODATA");
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default", "security.capability"] {
        t.err(&format!("getx f {name}"), "ENODATA");
    }
    t.err("getx missing user.a", "ENOENT");
    t.err("setx missing user.a 1", "ENOENT");
    t.err("listx missing", "ENOENT");
    t.err("rmx missing user.a", "ENOENT");
}

fn every_namespace(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    for place in ["f", "d"] {
        for name in ["user.a", "trusted.a", "security.a", "trusted.overlay.x"] {
            t.ok(&format!("setx {place} {name} value-of-{name}"));
            t.is(&format!("getx {place} {name}"), &format!("value-of-{name}"));
        }
        t.is(&format!("listx {place}"), "security.a trusted.a trusted.overlay.x user.a");
    }
}

fn unknown_namespaces(t: &mut Trace) {
    t.ok("put f hello");
    for name in ["nonsense", "nonsense.a", "system.nonsense", "user", "USER.a", "os2.x"] {
        t.err(&format!("setx f {name} 1"), "EOPNOTSUPP");
        t.err(&format!("getx f {name}"), "EOPNOTSUPP");
        t.err(&format!("rmx f {name}"), "EOPNOTSUPP");
    }
    t.err("setx f user. 1", "EINVAL");
    t.is("listx f", "");
}

fn names_of_any_length(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setx f user.{n*250} longest");
    t.is("getx f user.{n*250}", "longest");
    t.err("setx f user.{n*251} longer", "ERANGE");
    t.err("getx f user.{n*251}", "ERANGE");
    t.ok("setx f user.%ff%fe not-text");
    t.ok("setx f user.a.b.c dots");
    t.ok("listx f");
}

fn values_of_any_length(t: &mut Trace) {
    t.ok("put f hello");
    for len in [1, 100, 1000, 2000, 3000, 3900, 4000, 4096, 5000, 20_000, 65_536] {
        t.run(&format!("setx f user.v pat:1:{len}")).ok();
        t.ok("getx f user.v");
    }
    t.err("setx f user.v pat:1:65537", "E2BIG");
    t.err("setx f user.v pat:1:1000000", "E2BIG");
    t.ok("getx f user.v 65536");
}

fn many_attributes(t: &mut Trace) {
    t.ok("put f hello");
    for number in 0..100 {
        t.run(&format!("setx f user.name-{number} value-{number}")).ok();
    }
    t.run("setx f user.{b*100} {c*2000}").ok();
    t.ok("listx f");
    t.ok("listx f 0");
    for number in (0..100).step_by(2) {
        t.run(&format!("rmx f user.name-{number}")).ok();
    }
    t.ok("listx f");
}

fn attributes_of_symlinks(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f link");
    t.ok("setx link user.a through");
    t.is("getx f user.a", "through");
    t.err("lsetx link user.a 1", "EPERM");
    t.err("lgetx link user.a", "ENODATA");
    t.ok("lsetx link trusted.a on-the-link");
    t.is("lgetx link trusted.a", "on-the-link");
    t.err("getx f trusted.a", "ENODATA");
    t.is("llistx link", "trusted.a");
    t.ok("lrmx link trusted.a");
    t.ok("symlink missing dangling");
    t.err("getx dangling user.a", "ENOENT");
}

fn attributes_of_special_files(t: &mut Trace) {
    t.ok("mknod p fifo 644");
    t.ok("mknod s sock 644");
    t.ok("mknod n chr 644 1 3");
    for name in ["p", "s", "n"] {
        t.run(&format!("setx {name} user.a 1")).ok();
        t.run(&format!("getx {name} user.a")).ok();
        t.ok(&format!("setx {name} trusted.a 1"));
        t.is(&format!("getx {name} trusted.a"), "1");
        t.is(&format!("listx {name}"), "trusted.a");
    }
}

fn attributes_through_descriptors(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("open r f r");
    t.ok("fsetx f user.a 1");
    t.is("fgetx r user.a", "1");
    t.ok("fsetx r user.b 2");
    t.is("flistx f", "user.a user.b");
    t.ok("frmx f user.a");
    t.is("listx f", "user.b");
    t.ok("open p f path");
    t.err("fgetx p user.b", "EBADF");
}

fn attributes_without_a_name(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("unlink f");
    t.ok("fsetx f user.a value");
    t.is("fgetx f user.a", "value");
    t.is("flistx f", "user.a");
    t.ok("frmx f user.a");
    t.err("fgetx f user.a", "ENODATA");
}

fn attributes_follow_the_inode(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("link a b");
    t.ok("setx a user.k v");
    t.is("getx b user.k", "v");
    t.ok("rename a c");
    t.is("getx c user.k", "v");
    t.ok("put a new");
    t.is("listx a", "");
    t.ok("rename a c");
    t.is("listx c", "");
    t.is("getx b user.k", "v");
}

fn attributes_changed_behind(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setx f user.k old");
    t.is("getx f user.k", "old");
    t.behind().ok("setx f user.k new");
    t.behind().ok("setx f user.other x");
    t.expire();
    t.is("getx f user.k", "new");
    t.is("listx f", "user.k user.other");
}

fn capabilities_go_with_a_write(t: &mut Trace) {
    for (name, line) in [
        ("w", "append w more"),
        ("p", "pwrite fd 0 J"),
        ("d", "pwrite fd 0 pat:1:4096"),
        ("z", "append z -"),
    ] {
        t.ok(&format!("put {name} pat:1:8192"));
        t.ok(&format!("setx {name} security.capability {CAPABILITY}"));
        t.ok(&format!("getx {name} security.capability"));
        let direct = if name == "d" { ",direct" } else { "" };
        t.ok(&format!("open fd {name} rw{direct}"));
        t.ok(line);
        t.run(&format!("getx {name} security.capability")).ok();
    }
    t.err("getx w security.capability", "ENODATA");
    t.err("getx p security.capability", "ENODATA");
}

fn capabilities_go_with_truncate_and_chown(t: &mut Trace) {
    for line in [
        "truncate f 3",
        "chown f 12 34",
        "open x f rw,trunc",
        "chmod f 600",
        "utimens f 1 1",
        "rename f g",
        "fallocate fd default 0 10000",
    ] {
        t.ok("put f pat:1:8192");
        t.ok(&format!("setx f security.capability {CAPABILITY}"));
        t.ok("open fd f rw");
        t.ok(line);
        t.run("fgetx fd security.capability").ok();
        t.run("unlink f").ok();
    }
}

fn access_acl_shows_in_the_mode(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setacl f access u::rw,u:1001:rwx,g::r,m::rwx,o::-");
    t.is("stat f", "reg 670*");
    t.is("getacl f access", "u::rw-,u:1001:rwx,g::r--,m::rwx,o::---");
    t.is("listx f", "system.posix_acl_access");
    t.ok("setacl f access u::rw,u:1001:rwx,g::r,m::r,o::r");
    t.is("stat f", "reg 644*");
    t.ok("setacl f access u::rwx,g::x,o::-");
    t.is("stat f", "reg 710*");
    t.err("getacl f access", "ENODATA");
    t.is("listx f", "");
}

fn chmod_changes_the_mask(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setacl f access u::rw,u:1001:rwx,g::r,m::rwx,o::-");
    t.ok("chmod f 604");
    t.is("getacl f access", "u::rw-,u:1001:rwx,g::r--,m::---,o::r--");
    t.ok("chmod f 751");
    t.is("getacl f access", "u::rwx,u:1001:rwx,g::r--,m::r-x,o::--x");
    t.is("stat f", "reg 751*");
}

fn default_acl_is_inherited(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("setacl d default u::rwx,u:1001:rwx,g::rx,m::rwx,o::-");
    t.is("stat d", "dir 755*");
    t.ok("create d/f 666");
    t.ok("mkdir d/sub 777");
    t.ok("mknod d/p fifo 666");
    t.ok("symlink x d/l");
    t.is("getacl d/f access", "u::rw-,u:1001:rwx,g::r-x,m::rw-,o::---");
    t.is("stat d/f", "reg 660*");
    t.is("getacl d/sub default", "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---");
    t.is("getacl d/sub access", "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---");
    t.is("stat d/sub", "dir 770*");
    t.is("stat d/p", "fifo 660*");
    t.ok("open t d rw,tmpfile 666");
    t.is("fstat t", "reg 660*");
    t.err("getacl d/f default", "ENODATA");
}

fn default_acl_overrides_umask(t: &mut Trace) {
    let second = crate::common::actor::SECOND;
    t.ok("mkdir d 755");
    t.ok("mkdir plain 755");
    t.ok("setacl d default u::rwx,g::rwx,o::rwx");
    t.user(second).ok("umask 77");
    for dir in ["d", "plain"] {
        t.user(second).ok(&format!("create {dir}/f 666"));
        t.user(second).ok(&format!("mkdir {dir}/sub 777"));
        t.user(second).ok(&format!("mknod {dir}/p fifo 664"));
    }
    t.is("stat d/f", "reg 666*");
    t.is("stat d/sub", "dir 777*");
    t.is("stat d/p", "fifo 664*");
    t.is("stat plain/f", "reg 600*");
    t.is("stat plain/sub", "dir 700*");
}

fn acl_refusals(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f l");
    t.err("setacl f default u::rwx,g::rwx,o::rwx", "EACCES");
    t.err("setacl f access u::rw,u:1001:rwx,g::r,o::-", "EINVAL");
    t.err("setacl f access u::rw,g::r", "EINVAL");
    t.err("setx f system.posix_acl_access garbage", "EOPNOTSUPP");
    t.err("setx f system.posix_acl_access xy", "EINVAL");
    t.run("lsetacl l access u::rwx,g::rwx,o::rwx").ok();
    t.is("stat f", "reg 644*");
}

fn acl_removal(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("setacl d default u::rwx,u:1001:rwx,g::rx,m::rwx,o::-");
    t.ok("setacl d access u::rwx,u:1001:rwx,g::rx,m::rwx,o::rx");
    t.is("listx d", "system.posix_acl_access system.posix_acl_default");
    t.ok("rmx d system.posix_acl_default");
    t.ok("rmx d system.posix_acl_access");
    t.ok("rmx d system.posix_acl_access");
    t.is("listx d", "");
    t.ok("stat d");
    t.ok("create d/f 666");
    t.is("stat d/f", "reg 644*");
}

fn acl_is_gone_behind(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("setacl f access u::rw,u:1001:rwx,g::r,m::rwx,o::-");
    t.ok("getacl f access");
    t.behind().ok("setacl f access u::rw,u:1002:r,g::r,m::rw,o::-");
    t.expire();
    t.is("getacl f access", "u::rw-,u:1002:r--,g::r--,m::rw-,o::---");
    t.is("stat f", "reg 660*");
    t.behind().ok("rmx f system.posix_acl_access");
    t.expire();
    t.err("getacl f access", "ENODATA");
}
