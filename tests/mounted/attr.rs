//! Attributes: what stat says, and what chmod, chown and truncate change.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        stat_of_every_kind,
        stat_through_a_descriptor,
        stat_of_an_opath_descriptor,
        inode_numbers_and_all_attributes_are_the_backings,
        inode_number_survives_forgetting,
        statx_has_a_birth_time,
        link_count_of_directories,
        blocks_follow_writes,
        large_sizes,
        chmod_keeps_kind_and_owner,
        chmod_follows_symlinks,
        chmod_of_a_directory,
        fchmod_and_fchown_without_a_name,
        chown_keeps_what_is_not_given,
        lchown_of_a_symlink,
        chown_by_root_clears_setuid,
        truncate_shrinks_and_grows,
        truncate_by_descriptor,
        truncate_grown_part_is_zero_after_shrink,
        truncate_refusals,
        truncate_of_an_open_file_seen_by_all,
        truncate_beyond_4_gib,
        open_truncates,
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
    t.err("stat file/", "ENOTDIR");
    t.is("stat dir/.", "dir 750 0:0 n2 s4096 b8");
    t.is("samefile dir/..  .", "same");
}

fn stat_through_a_descriptor(t: &mut Trace) {
    t.ok("open f file rw,creat,excl 640");
    t.is("fstat f", "reg 640 0:0 n1 s0 b0");
    t.ok("write f {x*5000}");
    t.is("fstat f", "reg 640 0:0 n1 s5000 b16");
    t.is("stat file", "reg 640 0:0 n1 s5000 b16");
    t.ok("link file other");
    t.is("fstat f", "reg 640 0:0 n2 s5000 b16");
    t.ok("mkdir d 700");
    t.ok("open d d r,dir");
    t.is("fstat d", "dir 700 0:0 n2 s4096 b8");
}

fn stat_of_an_opath_descriptor(t: &mut Trace) {
    t.ok("put file hello");
    t.ok("symlink file link");
    t.ok("open p file path");
    t.ok("open l link path,nofollow");
    t.is("fstat p", "reg 644 0:0 n1 s5 b8");
    t.is("fstat l", "lnk 777 0:0 n1 s4 b0");
    t.err("read p 5", "EBADF");
    t.err("fchmod p 600", "EBADF");
    t.ok("append file more");
    t.is("fstat p", "reg 644 0:0 n1 s9 b8");
}

fn inode_numbers_and_all_attributes_are_the_backings(t: &mut Trace) {
    t.ok("put file hello");
    t.ok("mkdir dir 755");
    t.ok("symlink file link");
    t.ok("mknod null chr 666 1 3");
    t.ok("link file hard");
    for name in [".", "file", "dir", "link", "null", "hard"] {
        t.same_behind(name);
    }
    t.is("samefile file hard", "same");
    t.is("samefile file link", "different");
}

fn inode_number_survives_forgetting(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f hello");
    let before = (t.statx("d/f").stx_ino, t.statx("d").stx_ino);
    std::fs::write("/proc/sys/vm/drop_caches", "2\n").expect("root may drop dentries");
    let after = (t.statx("d/f").stx_ino, t.statx("d").stx_ino);
    t.check("the inode numbers are as before", before == after);
    t.is("get d/f", "hello");
}

fn statx_has_a_birth_time(t: &mut Trace) {
    t.ok("put file hello");
    let found = t.statx("file");
    let wanted = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    t.check("the mask has all that was asked for", found.stx_mask & wanted == wanted);
    t.check("born when it was made", found.stx_btime.tv_sec > 1_600_000_000);
    t.ok("utimens file 1000 2000");
    let later = t.statx("file");
    let same = later.stx_btime.tv_nsec == found.stx_btime.tv_nsec;
    t.check("utimens leaves it alone", same && later.stx_btime.tv_sec == found.stx_btime.tv_sec);
    t.same_behind("file");
}

fn link_count_of_directories(t: &mut Trace) {
    t.ok("mkdir d 755");
    for child in ["a", "b", "c"] {
        t.ok(&format!("mkdir d/{child} 755"));
        t.ok(&format!("put d/file-{child} x"));
    }
    t.is("stat d", "dir 755 0:0 n5*");
    t.ok("rename d/a e");
    t.is("stat d", "dir 755 0:0 n4*");
    t.ok("rmdir d/b");
    t.is("stat d", "dir 755 0:0 n3*");
    t.is("stat e", "dir 755 0:0 n2*");
}

fn blocks_follow_writes(t: &mut Trace) {
    t.ok("open f file rw,creat 644");
    for (offset, blocks) in [("0", 8), ("4K", 16), ("1M", 24), ("4K", 24)] {
        t.ok(&format!("pwrite f {offset} pat:1:4096"));
        t.is("fstat f", &format!("reg 644 0:0 n1 s{} b{blocks}", size_after(offset, blocks)));
    }
    t.ok("fsync f");
    t.is("stat file", "reg 644 0:0 n1 s1052672 b24");
    t.ok("ftruncate f 4096");
    t.is("stat file", "reg 644 0:0 n1 s4096 b8");
}

fn size_after(offset: &str, blocks: u32) -> u64 {
    match (offset, blocks) {
        ("0", _) => 4096,
        ("4K", 16) => 8192,
        _ => (1 << 20) + 4096,
    }
}

fn large_sizes(t: &mut Trace) {
    t.ok("create f 644");
    for size in ["2147483647", "2147483648", "4294967295", "4294967296", "1099511627776"] {
        t.ok(&format!("truncate f {size}"));
        t.is("stat f", &format!("reg 644 0:0 n1 s{size} b0"));
    }
    t.err("truncate f 9223372036854775807", "EFBIG");
    t.is("stat f", "reg 644 0:0 n1 s1099511627776 b0");
}

fn chmod_keeps_kind_and_owner(t: &mut Trace) {
    t.ok("create f 644");
    for mode in ["0", "7777", "1644", "2755", "4711", "600"] {
        t.ok(&format!("chmod f {mode}"));
        t.is("stat f", &format!("reg {mode} 0:0 n1 s0 b0"));
    }
    t.err("chmod missing 600", "ENOENT");
}

fn chmod_follows_symlinks(t: &mut Trace) {
    t.ok("create f 644");
    t.ok("symlink f link");
    t.ok("chmod link 600");
    t.is("stat f", "reg 600*");
    t.is("lstat link", "lnk 777*");
    t.ok("symlink missing dangling");
    t.err("chmod dangling 600", "ENOENT");
}

fn chmod_of_a_directory(t: &mut Trace) {
    t.ok("mkdir d 700");
    t.ok("chmod d 3775");
    t.is("stat d", "dir 3775 0:0 n2*");
    t.ok("mkdir d/inherits 755");
    t.is("stat d/inherits", "dir 2755 0:0*");
    t.ok("chmod d 0");
    t.is("stat d", "dir 0 0:0 n3*");
}

fn fchmod_and_fchown_without_a_name(t: &mut Trace) {
    t.ok("open f file rw,creat 644");
    t.ok("unlink file");
    t.ok("fchmod f 600");
    t.ok("fchown f 12 34");
    t.is("fstat f", "reg 600 12:34 n0 s0 b0");
    t.ok("write f hello");
    t.ok("futimens f 100.5 200.5");
    t.is("fstat f", "reg 600 12:34 n0 s5 b8");
    t.is("pread f 0 10", "hello");
}

fn chown_keeps_what_is_not_given(t: &mut Trace) {
    t.ok("create f 644");
    t.ok("chown f 12 34");
    t.is("stat f", "reg 644 12:34*");
    t.ok("chown f -1 56");
    t.is("stat f", "reg 644 12:56*");
    t.ok("chown f 78 -1");
    t.is("stat f", "reg 644 78:56*");
    t.ok("chown f -1 -1");
    t.is("stat f", "reg 644 78:56*");
    t.ok("mkdir d 755");
    t.ok("chmod d 2755");
    t.ok("chown d 4000000000 4000000001");
    t.is("stat d", "dir 2755 4000000000:4000000001*");
}

fn lchown_of_a_symlink(t: &mut Trace) {
    t.ok("create f 644");
    t.ok("symlink f link");
    t.ok("lchown link 12 34");
    t.is("lstat link", "lnk 777 12:34*");
    t.is("stat link", "reg 644 0:0*");
    t.ok("chown link 56 78");
    t.is("lstat link", "lnk 777 12:34*");
    t.is("stat f", "reg 644 56:78*");
}

fn chown_by_root_clears_setuid(t: &mut Trace) {
    for mode in ["4755", "2755", "6755", "2745", "6644"] {
        t.ok(&format!("create f{mode} 600"));
        t.ok(&format!("chmod f{mode} {mode}"));
        t.ok(&format!("chown f{mode} 12 34"));
        t.ok(&format!("stat f{mode}"));
    }
    t.is("stat f6755", "reg 755 12:34*");
    t.ok("mkdir d 755");
    t.ok("chmod d 6755");
    t.ok("chown d 12 34");
    t.is("stat d", "dir 6755 12:34*");
}

fn truncate_shrinks_and_grows(t: &mut Trace) {
    t.ok("put f 0123456789");
    t.ok("truncate f 4");
    t.is("get f", "0123");
    t.ok("truncate f 8");
    t.is("get f", "0123%00%00%00%00");
    t.ok("truncate f 0");
    t.is("get f", "");
    t.is("stat f", "reg 644 0:0 n1 s0 b0");
    t.ok("truncate f 100000");
    t.is("get f", "zeros:100000");
}

fn truncate_by_descriptor(t: &mut Trace) {
    t.ok("open f file rw,creat 644");
    t.ok("write f 0123456789");
    t.ok("ftruncate f 3");
    t.is("pread f 0 10", "012");
    t.ok("write f X");
    t.is("stat file", "reg 644 0:0 n1 s11*");
    t.is("get file", "012%00%00%00%00%00%00%00X");
    t.ok("open w file w");
    t.ok("ftruncate w 1");
    t.is("get file", "0");
}

fn truncate_grown_part_is_zero_after_shrink(t: &mut Trace) {
    t.ok("put f pat:5:20000");
    t.ok("get f");
    t.ok("truncate f 5001");
    t.ok("truncate f 20000");
    t.ok("open f f r");
    t.is("pread f 5001 14999", "zeros:14999");
    t.ok("pread f 4000 1001");
}

fn truncate_refusals(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put f hello");
    t.ok("mknod p fifo 644");
    t.err("truncate d 0", "EISDIR");
    t.err("truncate missing 0", "ENOENT");
    t.err("truncate f -1", "EINVAL");
    t.err("truncate p 0", "EINVAL");
    t.ok("open r f r");
    t.err("ftruncate r 0", "EINVAL");
    t.err("truncate f/x 0", "ENOTDIR");
    t.is("get f", "hello");
}

fn truncate_of_an_open_file_seen_by_all(t: &mut Trace) {
    t.ok("put file pat:6:50000");
    t.ok("open a file rw");
    t.ok("open b file r");
    t.ok("pread b 0 50000");
    t.ok("truncate file 10");
    t.is("fstat a", "reg 644 0:0 n1 s10*");
    t.is("pread b 20 10", "");
    t.ok("pread b 0 100");
    t.ok("ftruncate a 30000");
    t.is("pread b 10 30000", "zeros:29990");
}

fn truncate_beyond_4_gib(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("truncate f 5G");
    t.ok("open f f rw");
    t.is("pread f 5368709115 100", "zeros:5");
    t.ok("pwrite f 5G tail");
    t.is("fstat f", "reg 644 0:0 n1 s5368709124*");
    t.ok("ftruncate f 5368709122");
    t.is("pread f 5G 100", "ta");
    t.is("pread f 0 5", "hello");
}

fn open_truncates(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open a f r");
    t.is("pread a 0 9", "hello");
    t.ok("open w f w,trunc");
    t.is("fstat a", "reg 644 0:0 n1 s0 b0");
    t.is("pread a 0 9", "");
    t.ok("write w new");
    t.is("pread a 0 9", "new");
    t.ok("open c f rw,creat,trunc 600");
    t.is("stat f", "reg 644 0:0 n1 s0 b0");
}
