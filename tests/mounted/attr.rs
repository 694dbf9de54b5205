//! Attributes: what stat says, and what chmod, chown and truncate change.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        stat_of_every_kind,
        chmod_keeps_kind_and_owner,
    ];
}

fn stat_of_every_kind(t: &mut Trace) {
    t.ok("put file hello");
    t.ok("mkdir dir 750");
    t.ok("symlink file link");
    t.ok("mknod fifo fifo 600");
    t.is("stat file", "reg 644 0:0 n1 s5 b8");
    t.is("stat dir", "dir 750 0:0 n2 s4096 b8");
    t.is("lstat link", "lnk 777 0:0 n1 s4 b0");
    t.is("stat link", "reg 644 0:0 n1 s5 b8");
    t.is("stat fifo", "fifo 600 0:0 n1 s0 b0");
    t.err("stat missing", "ENOENT");
    t.err("stat file/x", "ENOTDIR");
}

fn chmod_keeps_kind_and_owner(t: &mut Trace) {
    t.ok("create f 644");
    for mode in ["0", "7777", "1644", "2755", "4711", "600"] {
        t.ok(&format!("chmod f {mode}"));
        t.is("stat f", &format!("reg {mode} 0:0 n1 s0 b0"));
    }
}
