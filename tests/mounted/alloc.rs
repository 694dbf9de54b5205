//! Space: fallocate, holes, copy_file_range, and statfs.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        fallocate_extends,
        fallocate_keeps_the_size,
        punching_holes,
        zeroing_ranges,
        zeroing_and_keeping_the_size,
        collapse_and_insert_are_not_passed_on,
        fallocate_refusals,
        fallocate_of_large_ranges,
        punching_under_a_reader,
        fallocate_on_an_append_descriptor,
        seeking_data_and_holes,
        seeking_at_the_end,
        seeking_in_an_empty_and_a_full_file,
        seeking_after_punching,
        seeking_refusals,
        copying_whole_files,
        copying_parts,
        copying_within_a_file,
        copying_past_the_end,
        copying_sparse_files,
        copying_refusals,
        copying_to_an_unlinked_file,
        cloning_and_extent_maps,
        statfs_is_the_backings,
        statfs_of_anything_inside,
    ];
}

fn fallocate_extends(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f rw");
    t.ok("fallocate f default 0 10000");
    t.is("fstat f", "reg 644 0:0 n1 s10000 b24");
    t.is("pread f 5 9995", "zeros:9995");
    t.ok("fallocate f default 20000 1");
    t.is("fstat f", "reg 644 0:0 n1 s20001*");
    t.is("pread f 0 5", "hello");
    t.behind().is("stat f", "reg 644 0:0 n1 s20001*");
}

fn fallocate_keeps_the_size(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f rw");
    t.ok("fallocate f keep 0 100000");
    t.is("fstat f", "reg 644 0:0 n1 s5 b200");
    t.is("get f", "hello");
    t.ok("fallocate f keep 1M 4096");
    t.is("fstat f", "reg 644 0:0 n1 s5 b208");
    t.ok("ftruncate f 5");
    t.is("fstat f", "reg 644 0:0 n1 s5 b8");
}

fn punching_holes(t: &mut Trace) {
    t.ok("put f pat:1:40960");
    t.ok("open f f rw");
    t.ok("fallocate f punch,keep 4096 8192");
    t.is("pread f 4096 8192", "zeros:8192");
    t.is("fstat f", "reg 644 0:0 n1 s40960 b64");
    t.ok("fallocate f punch,keep 20000 100");
    t.is("pread f 20000 100", "zeros:100");
    t.ok("pread f 12288 30000");
    t.ok("fallocate f punch,keep 36864 100000");
    t.is("fstat f", "reg 644 0:0 n1 s40960 b56");
    t.ok("get f");
}

fn zeroing_ranges(t: &mut Trace) {
    t.ok("put f pat:1:40960");
    t.ok("open f f rw");
    t.ok("fallocate f zero 4096 8192");
    t.is("pread f 4096 8192", "zeros:8192");
    t.ok("fallocate f zero 10 20");
    t.is("pread f 10 20", "zeros:20");
    t.ok("fallocate f zero 40000 10000");
    t.is("fstat f", "reg 644 0:0 n1 s50000*");
    t.is("pread f 40000 20000", "zeros:10000");
    t.ok("get f");
}

fn zeroing_and_keeping_the_size(t: &mut Trace) {
    t.ok("put f pat:1:10000");
    t.ok("open f f rw");
    t.ok("fallocate f zero,keep 5000 20000");
    t.is("fstat f", "reg 644 0:0 n1 s10000*");
    t.is("pread f 5000 20000", "zeros:5000");
    t.ok("get f");
}

fn collapse_and_insert_are_not_passed_on(t: &mut Trace) {
    t.ok("put a pat:1:40960");
    t.ok("open a a rw");
    t.ok("open b b rw,creat 644");
    t.known("fallocate-collapse", "fallocate a collapse 4096 4096");
    t.known("fallocate-insert", "fallocate a insert 4096 4096");
    // Where both worked, the same bytes are left but for the page between.
    t.ok("pread a 0 4096");
    t.ok("pread a 8192 32768");
    t.ok("ftruncate a 0");
}

fn fallocate_refusals(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f rw");
    t.err("fallocate f default 0 0", "EINVAL");
    t.err("fallocate f default -1 10", "EINVAL");
    t.err("fallocate f default 0 -1", "EINVAL");
    t.err("fallocate f punch 0 10", "EOPNOTSUPP");
    t.err("fallocate f zero,punch,keep 0 10", "EOPNOTSUPP");
    t.err("fallocate f 1024 0 10", "EOPNOTSUPP");
    t.ok("open r f r");
    t.err("fallocate r default 0 10", "EBADF");
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.err("fallocate d default 0 10", "EBADF");
    t.err("fallocate f default 17592186044416 10", "EFBIG");
    t.is("get f", "hello");
}

fn fallocate_of_large_ranges(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("fallocate f default 5G 1048576");
    t.is("fstat f", "reg 644 0:0 n1 s5369757696*");
    t.is("pread f 5G 1048576", "zeros:1048576");
    t.ok("pwrite f 5368709220 far");
    t.ok("fallocate f punch,keep 0 6G");
    t.is("pread f 5G 200", "zeros:200");
    t.is("fstat f", "reg 644 0:0 n1 s5369757696 b0");
}

fn punching_under_a_reader(t: &mut Trace) {
    t.ok("put f pat:1:65536");
    t.ok("open a f rw");
    t.ok("open b f r");
    t.ok("mmap m b 0 65536 shared r");
    t.ok("load m 0 65536");
    t.ok("pread b 0 65536");
    t.ok("fallocate a punch,keep 8192 16384");
    t.is("pread b 8192 16384", "zeros:16384");
    t.is("load m 8192 16384", "zeros:16384");
    t.ok("fallocate a zero 0 100");
    t.is("load m 0 100", "zeros:100");
}

fn fallocate_on_an_append_descriptor(t: &mut Trace) {
    t.ok("open a f rw,creat,append 644");
    t.ok("fallocate a default 0 100");
    t.ok("write a tail");
    t.is("fstat a", "reg 644 0:0 n1 s104*");
    t.ok("fallocate a punch,keep 0 50");
    t.is("pread a 100 10", "tail");
}

fn seeking_data_and_holes(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("pwrite f 1M pat:1:4096");
    t.ok("pwrite f 3M pat:1:8192");
    t.ok("ftruncate f 5M");
    t.ok("fsync f");
    t.is("seek f 0 data", "1048576");
    t.is("seek f 0 hole", "0");
    t.is("seek f 1048576 hole", "1052672");
    t.is("seek f 1052672 data", "3145728");
    t.is("seek f 3145730 data", "3145730");
    t.is("seek f 3145728 hole", "3153920");
    t.err("seek f 3153920 data", "ENXIO");
    t.is("seek f 0 cur", "3153920");
    t.is("read f 10", "zeros:10");
}

fn seeking_at_the_end(t: &mut Trace) {
    t.ok("put f pat:1:5000");
    t.ok("open f f r");
    t.is("seek f 0 data", "0");
    t.is("seek f 0 hole", "5000");
    t.is("seek f 4999 data", "4999");
    t.is("seek f 4999 hole", "5000");
    t.err("seek f 5000 data", "ENXIO");
    t.err("seek f 5000 hole", "ENXIO");
    t.err("seek f 9000 hole", "ENXIO");
    t.err("seek f -1 data", "ENXIO");
}

fn seeking_in_an_empty_and_a_full_file(t: &mut Trace) {
    t.ok("create empty 644");
    t.ok("open e empty r");
    t.err("seek e 0 data", "ENXIO");
    t.err("seek e 0 hole", "ENXIO");
    t.ok("put full pat:1:1000000");
    t.ok("open f full r");
    t.is("seek f 500000 data", "500000");
    t.is("seek f 500000 hole", "1000000");
    t.ok("open h holey rw,creat 644");
    t.ok("ftruncate h 1M");
    t.err("seek h 0 data", "ENXIO");
    t.is("seek h 10 hole", "10");
}

fn seeking_after_punching(t: &mut Trace) {
    t.ok("put f pat:1:65536");
    t.ok("open f f rw");
    t.ok("fsync f");
    t.ok("fallocate f punch,keep 16384 16384");
    t.is("seek f 0 hole", "16384");
    t.is("seek f 16384 data", "32768");
    t.is("seek f 40000 hole", "65536");
    t.ok("pwrite f 20480 pat:2:4096");
    t.is("seek f 16384 data", "20480");
}

fn seeking_refusals(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f r");
    t.err("seek f -10 set", "EINVAL");
    t.err("seek f -10 cur", "EINVAL");
    t.err("seek f -10 end", "EINVAL");
    t.is("seek f 0 cur", "0");
    t.ok("mknod p fifo 644");
    t.ok("open p p rw");
    t.err("seek p 0 set", "ESPIPE");
}

fn copying_whole_files(t: &mut Trace) {
    t.ok("put a pat:1:1000000");
    t.ok("open a a r");
    t.ok("open b b rw,creat 644");
    t.is("copy a 0 b 0 1000000", "1000000");
    t.ok("get b");
    t.is("fstat b", "reg 644 0:0 n1 s1000000*");
    t.behind().ok("get b");
}

fn copying_parts(t: &mut Trace) {
    t.ok("put a 0123456789");
    t.ok("open a a r");
    t.ok("put b abcdefghij");
    t.ok("open b b rw");
    t.is("copy a 2 b 4 3", "3");
    t.is("get b", "abcd234hij");
    t.is("copy a 8 b 9 2", "2");
    t.is("get b", "abcd234hi89");
    t.is("copy a 0 b 20 4", "4");
    t.is("get b", "abcd234hi89%00%00%00%00%00%00%00%00%000123");
}

fn copying_within_a_file(t: &mut Trace) {
    t.ok("put f pat:1:20000");
    t.ok("open f f rw");
    t.is("copy f 0 f 10000 10000", "10000");
    t.is("copy f 0 f 30000 5000", "5000");
    t.err("copy f 0 f 100 1000", "EINVAL");
    t.err("copy f 100 f 0 1000", "EINVAL");
    t.err("copy f 0 f 0 10", "EINVAL");
    t.ok("get f");
}

fn copying_past_the_end(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("open a a r");
    t.ok("open b b rw,creat 644");
    t.is("copy a 3 b 0 100", "2");
    t.is("copy a 5 b 0 100", "0");
    t.is("copy a 500 b 0 100", "0");
    t.is("copy a 0 b 0 0", "0");
    t.is("get b", "lo");
}

fn copying_sparse_files(t: &mut Trace) {
    t.ok("open a a rw,creat 644");
    t.ok("pwrite a 1M pat:1:4096");
    t.ok("ftruncate a 4M");
    t.ok("open b b rw,creat 644");
    t.is("copy a 0 b 0 4M", "4194304");
    t.ok("get b");
    t.is("pread b 1M 4096", "4096b*");
    t.is("stat b", "reg 644 0:0 n1 s4194304*");
    t.ok("put src pat:1:5000");
    t.ok("open c src r");
    t.is("copy c 0 b 5G 5000", "5000");
    t.ok("pread b 5G 6000");
}

fn copying_refusals(t: &mut Trace) {
    t.ok("put a hello");
    t.ok("put b other");
    t.ok("open ro b r");
    t.ok("open wo a w");
    t.ok("open a a r");
    t.ok("open app b rw,append");
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.err("copy a 0 ro 0 5", "EBADF");
    t.err("copy wo 0 app 0 5", "EBADF");
    t.err("copy a 0 app 0 5", "EBADF");
    t.err("copy d 0 wo 0 5", "EISDIR");
    t.is("get b", "other");
}

fn copying_to_an_unlinked_file(t: &mut Trace) {
    t.ok("put a pat:1:50000");
    t.ok("open a a r");
    t.ok("open b b rw,creat 644");
    t.ok("unlink a");
    t.ok("unlink b");
    t.is("copy a 0 b 0 50000", "50000");
    t.ok("pread b 0 60000");
    t.is("fstat b", "reg 644 0:0 n0 s50000*");
}

fn cloning_and_extent_maps(t: &mut Trace) {
    t.ok("put a pat:1:8192");
    t.ok("open a a r");
    t.ok("open b b rw,creat 644");
    // ext4 has no reflinks either.
    t.err("ficlone b a", "EOPNOTSUPP");
    t.known("fiemap", "fiemap a");
    t.is("fstat b", "reg 644 0:0 n1 s0 b0");
}

fn statfs_is_the_backings(t: &mut Trace) {
    t.ok("statfs .");
    let here = nix::sys::statfs::statfs(&t.path(".")).expect("statfs");
    let behind = nix::sys::statfs::statfs(&t.path_behind(".")).expect("statfs");
    t.check("block size", here.block_size() == behind.block_size());
    t.check("blocks", here.blocks() == behind.blocks());
    t.check("files", here.files() == behind.files());
    t.check("longest name", here.maximum_name_length() == behind.maximum_name_length());
    let near = here.blocks_free().abs_diff(behind.blocks_free()) < 100_000;
    t.check("free blocks, as far as others leave them alone", near);
    let available = here.blocks_available() <= here.blocks_free();
    t.check("available blocks", available && here.blocks_available() > 0);
    t.check("free files", here.files_free() > 0 && here.files_free() < here.files());
}

fn statfs_of_anything_inside(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("symlink f l");
    t.ok("open f f r");
    for name in ["f", "d", "l", "."] {
        t.ok(&format!("statfs {name}"));
    }
    t.ok("fstatfs f");
    t.ok("unlink f");
    t.ok("fstatfs f");
    t.err("statfs missing", "ENOENT");
    t.err("statfs l", "ENOENT");
}
