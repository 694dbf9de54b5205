//! Opens of one file mixed in every order. The kernel refuses some mixtures of cached, direct and
//! passthrough opens with EIO; the user must never see one of them.

use crate::common::actor::SECOND;
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        every_pair_of_opens,
        every_triple_of_opens,
        every_pair_closed_in_between,
        every_pair_after_a_rename,
        every_pair_through_two_links,
        every_pair_with_another_process,
        mapping_and_each_open,
        truncation_between_opens,
        created_file_and_each_open,
        unnamed_file_and_each_open,
        cached_reading_after_other_writing,
        opens_racing_with_closes,
        fsync_and_seek_under_mixed_opens,
        many_opens_of_one_file,
    ];
}

/// The ways to open, and whether one can write.
const WAYS: [(&str, bool); 7] = [
    ("r", false),
    ("rw", true),
    ("r,direct", false),
    ("rw,direct", true),
    ("rw,append", true),
    ("rw,trunc", true),
    ("r,noatime", false),
];

/// Opens `path` as `slot`, maps it if it is long enough, reads, and writes if that is possible.
fn use_it(t: &mut Trace, slot: &str, path: &str, way: (&str, bool)) {
    t.ok(&format!("open {slot} {path} {}", way.0));
    t.ok(&format!("pread {slot} 0 4096"));
    if way.1 {
        t.ok(&format!("pwrite {slot} 0 pat:{}:4096", way.0.len()));
        t.ok(&format!("pread {slot} 0 4096"));
    }
    t.ok(&format!("fstat {slot}"));
}

fn fresh(t: &mut Trace, name: &str) {
    t.ok(&format!("put {name} pat:1:8192"));
}

fn every_pair_of_opens(t: &mut Trace) {
    for first in WAYS {
        for second in WAYS {
            fresh(t, "f");
            use_it(t, "a", "f", first);
            use_it(t, "b", "f", second);
            t.ok("pread a 0 4096");
            t.ok("mmap m a 0 4096 shared r");
            t.ok("load m 0 4096");
            t.ok("close a");
            t.ok("pread b 0 4096");
            t.ok("munmap m");
            t.ok("close b");
            t.ok("get f");
            t.ok("unlink f");
        }
    }
}

fn every_triple_of_opens(t: &mut Trace) {
    for first in WAYS {
        for second in WAYS {
            for third in WAYS {
                fresh(t, "f");
                for (slot, way) in [("a", first), ("b", second), ("c", third)] {
                    use_it(t, slot, "f", way);
                }
                for slot in ["b", "a", "c"] {
                    t.ok(&format!("pread {slot} 4096 4096"));
                    t.ok(&format!("close {slot}"));
                }
                t.ok("get f");
                t.ok("unlink f");
            }
        }
    }
}

fn every_pair_closed_in_between(t: &mut Trace) {
    for first in WAYS {
        for second in WAYS {
            fresh(t, "f");
            use_it(t, "a", "f", first);
            t.ok("close a");
            use_it(t, "b", "f", second);
            t.ok("close b");
            use_it(t, "a", "f", first);
            t.ok("close a");
            t.ok("get f");
            t.behind().ok("get f");
            t.ok("unlink f");
        }
    }
}

fn every_pair_after_a_rename(t: &mut Trace) {
    for first in WAYS {
        for second in WAYS {
            fresh(t, "f");
            use_it(t, "a", "f", first);
            t.ok("rename f g");
            use_it(t, "b", "g", second);
            t.ok("unlink g");
            t.ok("pread a 0 4096");
            t.ok("pread b 0 4096");
            t.ok("close a");
            t.ok("close b");
        }
    }
}

fn every_pair_through_two_links(t: &mut Trace) {
    for first in WAYS {
        for second in WAYS {
            fresh(t, "f");
            t.ok("link f g");
            use_it(t, "a", "f", first);
            use_it(t, "b", "g", second);
            t.ok("unlink f");
            t.ok("pread a 0 4096");
            t.ok("close a");
            t.ok("close b");
            t.ok("get g");
            t.ok("unlink g");
        }
    }
}

fn every_pair_with_another_process(t: &mut Trace) {
    for first in WAYS {
        for second in WAYS {
            fresh(t, "f");
            use_it(t, "a", "f", first);
            t.user(SECOND).ok(&format!("open b f {}", second.0));
            t.user(SECOND).ok("mmap m b 0 4096 shared r");
            t.user(SECOND).ok("pread b 0 4096");
            t.ok("pread a 0 4096");
            t.user(SECOND).ok("munmap m");
            t.user(SECOND).ok("close b");
            t.ok("close a");
            t.ok("unlink f");
        }
    }
}

fn mapping_and_each_open(t: &mut Trace) {
    for way in WAYS {
        fresh(t, "f");
        t.ok("open a f rw");
        t.ok("mmap m a 0 8192 shared rw");
        t.ok("store m 0 mapped");
        t.ok("close a");
        if !way.0.contains("trunc") {
            use_it(t, "b", "f", way);
            t.ok("load m 0 4096");
            t.ok("store m 4096 again");
            t.ok("pread b 4096 4096");
            t.ok("close b");
        }
        t.ok("msync m");
        t.ok("munmap m");
        t.ok("get f");
        t.ok("unlink f");
    }
}

fn truncation_between_opens(t: &mut Trace) {
    for way in WAYS {
        fresh(t, "f");
        use_it(t, "a", "f", way);
        t.ok("truncate f 5000");
        t.ok("pread a 4096 4096");
        t.ok("open b f w,trunc");
        t.is("pread a 0 4096", "");
        t.ok("write b anew");
        t.ok("pread a 0 4096");
        use_it(t, "c", "f", way);
        for slot in ["a", "b", "c"] {
            t.ok(&format!("close {slot}"));
        }
        t.ok("get f");
        t.ok("unlink f");
    }
}

fn created_file_and_each_open(t: &mut Trace) {
    for create in ["rw", "w", "rw,direct", "r", "rw,append"] {
        for way in WAYS {
            t.ok(&format!("open n f {create},creat,excl 644"));
            if create != "r" {
                t.ok("write n pat:3:8192");
            }
            use_it(t, "a", "f", way);
            t.ok("close n");
            t.ok("pread a 0 4096");
            t.ok("close a");
            t.ok("get f");
            t.ok("unlink f");
        }
    }
}

fn unnamed_file_and_each_open(t: &mut Trace) {
    for way in WAYS {
        t.ok("open n . rw,tmpfile 644");
        t.ok("write n pat:4:8192");
        t.ok("linkfd n f");
        use_it(t, "a", "f", way);
        t.ok("pread n 0 4096");
        t.ok("close n");
        t.ok("close a");
        t.ok("get f");
        t.ok("unlink f");
    }
}

fn cached_reading_after_other_writing(t: &mut Trace) {
    fresh(t, "f");
    for round in 0..10 {
        t.ok("get f");
        let way = ["rw", "rw,direct", "rw,append"][round % 3];
        t.ok(&format!("open w f {way}"));
        t.ok(&format!("pwrite w 0 pat:{round}:4096"));
        t.ok("close w");
        let mounted = t.ok("get f");
        t.behind().is("get f", &mounted);
    }
}

fn opens_racing_with_closes(t: &mut Trace) {
    fresh(t, "f");
    let path = t.path("f");
    let failed = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (path, failed) = (&path, &failed);
            scope.spawn(move || {
                for round in 0..150 {
                    let mut options = std::fs::OpenOptions::new();
                    let direct = if (round + worker) % 3 == 0 { libc::O_DIRECT } else { 0 };
                    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, direct);
                    options.read(true).write((round + worker) % 2 == 0);
                    let mut buffer = vec![0; 8192];
                    let start = buffer.as_ptr().align_offset(4096);
                    let read = options.open(path).and_then(|file| {
                        let buffer = &mut buffer[start..start + 4096];
                        std::os::unix::fs::FileExt::read_exact_at(&file, buffer, 4096)
                    });
                    if read.is_err() {
                        failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    t.check("no open and no read failed", failed.into_inner() == 0);
    t.ok("get f");
}

fn fsync_and_seek_under_mixed_opens(t: &mut Trace) {
    for first in WAYS {
        for second in WAYS {
            fresh(t, "f");
            t.ok(&format!("open a f {}", first.0));
            t.ok(&format!("open b f {}", second.0));
            t.ok("fsync a");
            t.ok("fdatasync b");
            t.run("seek a 0 hole").ok();
            t.run("seek b 0 data").ok();
            t.ok("fadvise a 0 0 willneed");
            t.ok("readahead b 0 8192");
            if second.1 {
                t.ok("fallocate b default 0 10000");
                t.ok("fallocate b punch,keep 0 4096");
                t.ok("pread a 0 4096");
            }
            t.ok("close a");
            t.ok("close b");
        }
    }
}

fn many_opens_of_one_file(t: &mut Trace) {
    fresh(t, "f");
    for number in 0..200 {
        let way = WAYS[number % 5].0;
        t.ok(&format!("open f{number} f {way}"));
    }
    t.ok("open w f rw");
    t.ok("pwrite w 0 pat:9:4096");
    for number in 0..200 {
        t.ok(&format!("pread f{number} 0 4096"));
        t.ok(&format!("close f{number}"));
    }
}
