//! Reading and writing: offsets, ends, holes, vectors, and copies inside the kernel.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        reading_to_the_end_and_beyond,
        reading_and_writing_nothing,
        writing_over_and_between,
        positional_calls_leave_the_offset,
        vectored_calls,
        large_transfers,
        every_size_around_a_page,
        small_pieces_make_a_whole,
        offsets_beyond_4_gib,
        offsets_at_the_limit,
        sparse_files_read_as_zeros,
        descriptors_see_each_others_writes,
        processes_see_each_others_writes,
        reading_while_it_grows,
        sendfile_from_and_to_the_mount,
        splice_from_and_to_the_mount,
        advice_and_readahead,
        random_writes_then_compare,
        parallel_writers_of_one_file,
        content_survives_dropped_caches,
        overwriting_by_rename,
        writing_after_all_names_are_gone,
    ];
}

fn reading_to_the_end_and_beyond(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open r f r");
    t.is("read r 3", "hel");
    t.is("read r 10", "lo");
    t.is("read r 10", "");
    t.is("seek r 100 set", "100");
    t.is("read r 10", "");
    t.is("pread r 4 100", "o");
    t.is("pread r 5 100", "");
    t.is("pread r 1G 100", "");
    t.err("pread r -1 10", "EINVAL");
    t.ok("create empty 644");
    t.is("get empty", "");
}

fn reading_and_writing_nothing(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.is("write f -", "0");
    t.is("pwrite f 1000 -", "0");
    t.is("read f 0", "");
    t.is("fstat f", "reg 644 0:0 n1 s0 b0");
    t.ok("write f x");
    t.is("pread f 0 0", "");
    t.is("pread f 100 0", "");
    t.is("writev f - a - b", "2");
    t.is("get f", "xab");
}

fn writing_over_and_between(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f 0123456789");
    t.ok("pwrite f 3 abc");
    t.is("get f", "012abc6789");
    t.ok("pwrite f 8 XYZW");
    t.is("get f", "012abc67XYZW");
    t.ok("pwrite f 15 end");
    t.is("get f", "012abc67XYZW%00%00%00end");
    t.is("seek f 0 cur", "10");
    t.is("seek f -3 end", "15");
    t.is("read f 9", "end");
}

fn positional_calls_leave_the_offset(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f 0123456789");
    t.ok("seek f 4 set");
    t.ok("pwrite f 8 XX");
    t.is("pread f 6 4", "67XX");
    t.is("seek f 0 cur", "4");
    t.is("read f 2", "45");
    t.err("pwrite f -1 x", "EINVAL");
    t.err("seek f -1 set", "EINVAL");
    t.is("seek f 0 cur", "6");
}

fn vectored_calls(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.is("writev f one two three", "11");
    t.is("pwritev f 3 TWO - THREE", "8");
    t.is("get f", "oneTWOTHREE");
    t.is("preadv f 0 3 3 10", "11 one|TWO|THREE");
    t.is("preadv f 9 1 1 1", "2 E|E|");
    t.is("pwritev f 100 pat:1:10000 pat:2:10000 pat:3:10000", "30000");
    t.ok("preadv f 100 7000 7000 20000");
    t.ok("get f");
}

fn large_transfers(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.is("write f pat:1:8388608", "8388608");
    t.is("pwrite f 3000001 pat:2:3000000", "3000000");
    t.ok("pread f 0 8388608");
    t.ok("pread f 2999999 4000000");
    t.behind().ok("get f");
    t.is("stat f", "reg 644 0:0 n1 s8388608*");
}

fn every_size_around_a_page(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    for page in [4096, 8192, 65536, 131_072, 1_048_576] {
        for len in [page - 1, page, page + 1] {
            t.is(&format!("pwrite f 0 pat:{len}:{len}"), &len.to_string());
            t.ok(&format!("pread f 0 {}", len + 1));
            t.ok(&format!("pread f 1 {len}"));
            t.is("ftruncate f 0", "");
        }
    }
}

fn small_pieces_make_a_whole(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    for number in 0..400 {
        t.ok(&format!("write f piece{number:04}"));
    }
    t.is("pread f 9 9", "piece0001");
    t.is("stat f", "reg 644 0:0 n1 s3600*");
    t.ok("open r f r");
    for _ in 0..40 {
        t.ok("read r 91");
    }
}

fn offsets_beyond_4_gib(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    for offset in ["4294967290", "4294967296", "8589934591", "100G"] {
        t.ok(&format!("pwrite f {offset} across-the-edge"));
        t.is(&format!("pread f {offset} 15"), "across-the-edge");
    }
    t.is("pread f 4294967290 30", "across*");
    t.is("seek f 0 end", "107374182415");
    t.ok("write f more");
    t.is("fstat f", "reg 644 0:0 n1 s107374182419*");
    t.is("pread f 50G 100", "zeros:100");
    t.is("pread f 100G 100", "across-the-edgemore");
}

fn offsets_at_the_limit(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.err("pwrite f 9223372036854775807 x", "EINVAL");
    t.run("pwrite f 17592186040319 x").ok();
    t.run("pwrite f 17592186044416 x").ok();
    t.run("pwrite f 17592186044415 xyz").ok();
    t.known("seek-limit", "seek f 17592186044416 set");
    t.is("pread f 9000000000000000000 10", "");
    t.ok("fstat f");
    t.ok("ftruncate f 0");
}

fn sparse_files_read_as_zeros(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("pwrite f 1M middle");
    t.ok("ftruncate f 3M");
    t.is("pread f 0 10000", "zeros:10000");
    t.is("pread f 1048570 12", "%00%00%00%00%00%00middle");
    t.is("pread f 2M 2M", "zeros:1048576");
    t.is("fstat f", "reg 644 0:0 n1 s3145728 b8");
}

fn descriptors_see_each_others_writes(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("open b f rw");
    t.ok("open c f r");
    for round in 0..10 {
        t.ok(&format!("pwrite a {} from-a-{round}", round * 20));
        t.is(&format!("pread c {} 20", round * 20), &format!("from-a-{round}"));
        t.ok(&format!("pwrite b {} from-b-{round}", round * 20));
        t.is(&format!("pread a {} 20", round * 20), &format!("from-b-{round}"));
        t.is(&format!("pread c {} 20", round * 20), &format!("from-b-{round}"));
    }
}

fn processes_see_each_others_writes(t: &mut Trace) {
    let second = crate::common::actor::SECOND;
    t.ok("open a f rw,creat 644");
    t.user(second).ok("open b f rw");
    for round in 0..10 {
        t.ok(&format!("pwrite a 0 ping{round}"));
        t.user(second).is("pread b 0 20", &format!("ping{round}"));
        t.user(second).ok(&format!("pwrite b 0 pong{round}"));
        t.is("pread a 0 20", &format!("pong{round}"));
    }
    t.user(second).ok("ftruncate b 2");
    t.is("pread a 0 20", "po");
}

fn reading_while_it_grows(t: &mut Trace) {
    t.ok("open r f r,creat 644");
    t.is("read r 100", "");
    for round in 0..20 {
        t.ok(&format!("append f {{line*1000}}{round}"));
        t.ok("read r 10000");
        t.is("read r 10", "");
    }
}

fn sendfile_from_and_to_the_mount(t: &mut Trace) {
    t.ok("put in pat:1:100000");
    t.ok("open in in r");
    t.ok("open out out rw,creat 644");
    t.is("sendfile out in 0 100000", "100000");
    t.is("sendfile out in 99000 5000", "1000");
    t.is("sendfile out in 100000 10", "0");
    t.ok("get out");
    t.is("stat out", "reg 644 0:0 n1 s101000*");
}

fn splice_from_and_to_the_mount(t: &mut Trace) {
    t.ok("put in pat:2:100000");
    t.ok("open in in r");
    t.ok("open out out rw,creat 644");
    t.is("splice in 0 out 0 65536", "65536 65536");
    t.is("splice in 65536 out 65536 65536", "34464 34464");
    t.is("splice in 10 out 200000 100", "100 100");
    t.is("splice in 99999 out 0 100", "1 1");
    t.ok("get out");
}

fn advice_and_readahead(t: &mut Trace) {
    t.ok("put f pat:1:1000000");
    t.ok("open f f rw");
    t.ok("fadvise f 0 0 dontneed");
    t.ok("fadvise f 0 0 willneed");
    t.ok("readahead f 0 1000000");
    t.ok("pread f 0 1000000");
    t.ok("fadvise f 0 0 random");
    t.ok("pwrite f 5000 pat:2:5000");
    t.ok("fadvise f 0 0 willneed");
    t.ok("pread f 0 1000000");
    t.ok("syncrange f 0 1000000");
}

fn random_writes_then_compare(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    let mut state = 12345u64;
    for number in 0..300u64 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (offset, len) = ((state >> 40) % 1_000_000, (state >> 20) % 9000 + 1);
        t.ok(&format!("pwrite f {offset} pat:{number}:{len}"));
        if number % 25 == 0 {
            t.ok(&format!("pread f {} 50000", offset.saturating_sub(20_000)));
        }
    }
    t.ok("get f");
    t.behind().ok("get f");
}

fn parallel_writers_of_one_file(t: &mut Trace) {
    t.ok("create f 644");
    let path = t.path("f");
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let path = &path;
            scope.spawn(move || {
                let file = std::fs::OpenOptions::new().write(true).open(path);
                let file = file.expect("it was created above");
                for block in 0..64 {
                    let data = crate::common::shell::pattern(writer * 100 + block, 5000);
                    let offset = (block * 4 + writer) * 5000;
                    std::os::unix::fs::FileExt::write_all_at(&file, &data, offset).expect("write");
                }
            });
        }
    });
    t.is("stat f", "reg 644 0:0 n1 s1280000*");
    t.ok("get f");
}

fn content_survives_dropped_caches(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f pat:9:300000");
    t.ok("fsync f");
    std::fs::write("/proc/sys/vm/drop_caches", "3\n").expect("root may drop caches");
    t.ok("pread f 0 300000");
    t.ok("get f");
    t.behind().ok("get f");
}

fn overwriting_by_rename(t: &mut Trace) {
    t.ok("put config old");
    t.ok("open r config r");
    for round in 0..20 {
        t.ok(&format!("put config.tmp new-{round}"));
        t.ok("rename config.tmp config");
        t.is("get config", &format!("new-{round}"));
    }
    t.is("pread r 0 10", "old");
    t.is("ls .", "config/reg");
}

fn writing_after_all_names_are_gone(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f before");
    t.ok("unlink f");
    t.is("write f -and-after", "10");
    t.is("pread f 0 50", "before-and-after");
    t.ok("ftruncate f 3");
    t.ok("fsync f");
    t.is("fstat f", "reg 644 0:0 n0 s3*");
    t.is("ls .", "");
    t.ok("put f another");
    t.is("pread f 0 50", "bef");
}
