//! Mappings: what they show of the file, and what the file shows of them.

use crate::common::actor::SECOND;
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        mapping_shows_the_file,
        store_is_seen_by_read,
        write_is_seen_by_the_mapping,
        private_mapping_keeps_to_itself,
        mapping_outlives_close,
        mapping_outlives_unlink,
        two_processes_share_a_mapping,
        msync_reaches_the_backing,
        closing_reaches_the_backing,
        tail_of_the_last_page,
        growing_under_a_mapping,
        seeking_what_was_stored,
        truncating_under_a_mapping,
        mapping_refusals,
        mapping_a_hole,
        direct_write_is_seen_by_the_mapping,
        mapping_a_large_file,
        mapping_then_rename,
        mapping_changed_behind,
        mapping_of_a_read_only_descriptor,
    ];
}

fn mapping_shows_the_file(t: &mut Trace) {
    t.ok("put f pat:1:10000");
    t.ok("open f f r");
    t.ok("mmap m f 0 10000 shared r");
    let loaded = t.ok("load m 0 10000");
    t.is("get f", &loaded);
    t.ok("mmap n f 4096 4096 private r");
    let part = t.ok("load n 0 4096");
    t.is("pread f 4096 4096", &part);
}

fn store_is_seen_by_read(t: &mut Trace) {
    t.ok("put f {.*8192}");
    t.ok("open f f rw");
    t.ok("mmap m f 0 8192 shared rw");
    for round in 0..10 {
        t.ok(&format!("store m {} mark{round}", round * 500));
        t.is(&format!("pread f {} 5", round * 500), &format!("mark{round}"));
    }
    t.ok("get f");
}

fn write_is_seen_by_the_mapping(t: &mut Trace) {
    t.ok("put f {.*8192}");
    t.ok("open f f rw");
    t.ok("open g f rw");
    t.ok("mmap m f 0 8192 shared rw");
    t.is("load m 0 3", "...");
    for round in 0..10 {
        t.ok(&format!("pwrite g {} word{round}", round * 600));
        t.is(&format!("load m {} 5", round * 600), &format!("word{round}"));
    }
    t.ok("append f at-the-end");
    t.ok("load m 0 8192");
}

fn private_mapping_keeps_to_itself(t: &mut Trace) {
    t.ok("put f {.*4096}");
    t.ok("open f f rw");
    t.ok("mmap p f 0 4096 private rw");
    t.ok("mmap s f 0 4096 shared r");
    t.ok("store p 0 private");
    t.is("load p 0 8", "private.");
    t.is("load s 0 8", "........");
    t.is("pread f 0 8", "........");
    t.ok("pwrite f 2000 written");
    t.is("load s 2000 7", "written");
    t.ok("open r f r");
    t.ok("mmap q r 0 4096 private rw");
    t.ok("store q 5 own");
    t.is("pread r 0 9", ".........");
}

fn mapping_outlives_close(t: &mut Trace) {
    t.ok("put f {.*4096}");
    t.ok("open f f rw");
    t.ok("mmap m f 0 4096 shared rw");
    t.ok("close f");
    t.ok("store m 0 after-close");
    t.is("load m 0 11", "after-close");
    t.ok("msync m");
    t.ok("munmap m");
    t.ok("open f f r");
    t.is("pread f 0 12", "after-close.");
}

fn mapping_outlives_unlink(t: &mut Trace) {
    t.ok("put f {.*4096}");
    t.ok("open f f rw");
    t.ok("mmap m f 0 4096 shared rw");
    t.ok("unlink f");
    t.ok("store m 0 gone");
    t.is("pread f 0 5", "gone.");
    t.ok("close f");
    t.is("load m 0 5", "gone.");
    t.ok("store m 5 still-here");
    t.ok("msync m");
    t.ok("put f new");
    t.is("load m 0 15", "gone.still-here");
}

fn two_processes_share_a_mapping(t: &mut Trace) {
    t.ok("put f {.*4096}");
    t.ok("open f f rw");
    t.ok("mmap m f 0 4096 shared rw");
    t.user(SECOND).ok("open f f rw");
    t.user(SECOND).ok("mmap m f 0 4096 shared rw");
    for round in 0..5 {
        t.ok(&format!("store m 0 ping{round}"));
        t.user(SECOND).is("load m 0 5", &format!("ping{round}"));
        t.user(SECOND).ok(&format!("store m 100 pong{round}"));
        t.is("load m 100 5", &format!("pong{round}"));
        t.is("pread f 100 5", &format!("pong{round}"));
    }
}

fn msync_reaches_the_backing(t: &mut Trace) {
    t.ok("put f {.*8192}");
    t.ok("open f f rw");
    t.ok("mmap m f 0 8192 shared rw");
    t.ok("store m 0 first");
    t.ok("store m 5000 second");
    t.ok("msync m");
    t.behind().ok("open f f r");
    t.behind().is("pread f 0 6", "first.");
    t.behind().is("pread f 5000 7", "second.");
    t.ok("store m 0 again");
    t.ok("fsync f");
    t.behind().is("pread f 0 6", "again.");
}

fn closing_reaches_the_backing(t: &mut Trace) {
    t.ok("put f {.*8192}");
    t.ok("open f f rw");
    t.ok("mmap m f 0 8192 shared rw");
    t.ok("store m 4000 across-the-page-edge-and-then-some-more-than-ninety-six-bytes-are-in-a-page-tail-so-it-goes");
    t.ok("munmap m");
    t.ok("close f");
    t.behind().ok("get f");
    t.ok("get f");
}

fn tail_of_the_last_page(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f rw");
    t.ok("mmap m f 0 4096 shared rw");
    t.is("load m 0 8", "hello%00%00%00");
    t.ok("store m 5 beyond");
    t.ok("msync m");
    t.is("fstat f", "reg 644 0:0 n1 s5*");
    t.is("get f", "hello");
    t.ok("munmap m");
    t.ok("ftruncate f 20");
    t.is("pread f 0 5", "hello");
    t.behind().is("stat f", "reg 644 0:0 n1 s20*");
}

fn seeking_what_was_stored(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("ftruncate f 1M");
    t.ok("mmap m f 0 1M shared rw");
    t.ok("store m 300000 there");
    t.known("mapped-seek", "seek f 0 data");
    t.ok("msync m");
    t.is("seek f 0 data", "299008");
}

fn growing_under_a_mapping(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f rw");
    t.ok("mmap m f 0 16384 shared rw");
    t.ok("ftruncate f 16384");
    t.is("load m 5 16000", "zeros:16000");
    t.ok("store m 10000 grown");
    t.is("pread f 10000 5", "grown");
    t.ok("pwrite f 12000 written");
    t.is("load m 12000 7", "written");
    t.is("fstat f", "reg 644 0:0 n1 s16384*");
}

fn truncating_under_a_mapping(t: &mut Trace) {
    t.ok("put f {.*16384}");
    t.user(SECOND).ok("open f f rw");
    t.user(SECOND).ok("mmap m f 0 16384 shared rw");
    t.user(SECOND).ok("store m 10000 there");
    t.ok("truncate f 5000");
    t.user(SECOND).is("load m 0 3", "...");
    t.user(SECOND).is("load m 5000 3000", "zeros:3000");
    // SIGBUS.
    t.user(SECOND).err("load m 10000 5", "died of signal Some(7)");
    t.is("stat f", "reg 644 0:0 n1 s5000*");
}

fn mapping_refusals(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.ok("open w f w");
    t.ok("open r f r");
    t.ok("open p f path");
    t.err("mmap m d 0 4096 shared r", "ENODEV");
    t.err("mmap m w 0 4096 private r", "EACCES");
    t.err("mmap m r 0 4096 shared rw", "EACCES");
    t.err("mmap m r 1 4096 shared r", "EINVAL");
    t.err("mmap m r 0 0 shared r", "EINVAL");
    t.err("mmap m p 0 4096 shared r", "EBADF");
    t.ok("mmap m r 0 4096 private rw");
}

fn mapping_a_hole(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("ftruncate f 1M");
    t.ok("mmap m f 0 1M shared rw");
    t.is("load m 500000 1000", "zeros:1000");
    t.ok("store m 500000 filled");
    t.ok("msync m");
    t.is("pread f 499998 10", "%00%00filled%00%00");
    t.is("fstat f", "reg 644 0:0 n1 s1048576 b8");
}

fn direct_write_is_seen_by_the_mapping(t: &mut Trace) {
    t.ok("put f {.*16384}");
    t.ok("open b f rw");
    t.ok("mmap m b 0 16384 shared rw");
    t.is("load m 4096 5", ".....");
    t.ok("open d f rw,direct");
    t.ok("pwrite d 4096 {D*4096}");
    t.is("load m 4094 5", "..DDD");
    t.ok("store m 0 mapped");
    t.is("pread d 0 4096", &t_page("mapped"));
    t.is("pread b 0 6", "mapped");
}

/// How a page that starts with `text` and goes on in dots is shown.
fn t_page(text: &str) -> String {
    crate::common::shell::show(format!("{text:.<4096}").as_bytes())
}

fn mapping_a_large_file(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("ftruncate f 5G");
    t.ok("mmap m f 4294967296 1M shared rw");
    t.ok("store m 1000 beyond-4-GiB");
    t.ok("msync m");
    t.is("pread f 4294968296 12", "beyond-4-GiB");
    t.ok("pwrite f 4294970000 written");
    t.is("load m 2704 7", "written");
}

fn mapping_then_rename(t: &mut Trace) {
    t.ok("put a {.*4096}");
    t.ok("put b {b*4096}");
    t.ok("open f a rw");
    t.ok("mmap m f 0 4096 shared rw");
    t.ok("rename a c");
    t.ok("rename b a");
    t.ok("store m 0 moved");
    t.ok("msync m");
    t.is("load m 0 6", "moved.");
    t.ok("open a a r");
    t.is("pread a 0 5", "bbbbb");
    t.ok("open c c r");
    t.is("pread c 0 6", "moved.");
}

fn mapping_changed_behind(t: &mut Trace) {
    t.ok("put f {.*4096}");
    t.ok("open f f r");
    t.is("pread f 0 5", ".....");
    t.ok("close f");
    t.behind().ok("put f {b*4096}");
    t.expire();
    t.ok("open f f r");
    t.ok("mmap m f 0 4096 shared r");
    t.is("load m 0 5", "bbbbb");
}

fn mapping_of_a_read_only_descriptor(t: &mut Trace) {
    t.ok("put f {.*4096}");
    t.ok("open r f r");
    t.ok("mmap m r 0 4096 shared r");
    t.is("load m 0 3", "...");
    t.ok("open w f rw");
    t.ok("pwrite w 0 new");
    t.is("load m 0 4", "new.");
    t.ok("close r");
    t.ok("close w");
    t.is("load m 0 4", "new.");
}
