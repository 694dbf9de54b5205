//! Opening and creating: what each flag allows, refuses and changes.

use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        creating_with_modes,
        exclusive_creation,
        creating_through_symlinks,
        opening_what_is_missing,
        opening_a_directory,
        opening_what_is_no_directory,
        nofollow,
        access_mode_is_kept,
        append_writes_at_the_end,
        append_from_two_descriptors,
        append_set_later_by_fcntl,
        append_cleared_by_fcntl,
        concurrent_appends_lose_nothing,
        reopening_through_proc,
        duplicated_descriptors_share_the_offset,
        two_opens_have_their_own_offsets,
        many_open_files,
        creating_and_removing_again,
        asking_more_of_a_file_open_for_reading,
        asking_more_of_it_once_it_is_gone,
        sync_flags,
        direct_aligned,
        direct_unaligned,
        direct_unaligned_over_holes,
        direct_unaligned_in_part,
        direct_vector_of_odd_parts,
        copying_directly,
        direct_and_buffered_agree,
        mkdir_refusals,
        rmdir_refusals,
        unlink_refusals,
        creating_with_the_umask,
    ];
}

fn creating_with_modes(t: &mut Trace) {
    t.user(crate::common::actor::SECOND).ok("umask 0");
    for mode in ["0", "777", "4755", "2711", "1644", "200"] {
        t.user(crate::common::actor::SECOND).ok(&format!("create f{mode} {mode}"));
        t.is(&format!("stat f{mode}"), &format!("reg {mode} 0:0 n1 s0 b0"));
    }
    t.ok("open f0 f0 rw");
    t.ok("open ro new rw,creat,excl 400");
    t.is("write ro hello", "5");
    t.is("stat new", "reg 400 0:0 n1 s5 b8");
}

fn exclusive_creation(t: &mut Trace) {
    t.ok("open a f rw,creat,excl 600");
    t.err("open b f rw,creat,excl 600", "EEXIST");
    t.ok("open b f rw,creat 644");
    t.is("stat f", "reg 600*");
    t.ok("mkdir d 755");
    t.err("open c d rw,creat,excl 600", "EEXIST");
    t.err("open c d rw,creat 600", "EISDIR");
    t.ok("symlink missing dangling");
    t.err("open c dangling rw,creat,excl 600", "EEXIST");
    t.err("open c f/x rw,creat 600", "ENOTDIR");
    t.err("open c missing/x rw,creat 600", "ENOENT");
    t.err("open c new/ rw,creat 600", "EISDIR");
}

fn creating_through_symlinks(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("symlink d/target link");
    t.ok("open f link rw,creat 640");
    t.ok("write f hello");
    t.is("stat d/target", "reg 640 0:0 n1 s5*");
    t.is("lstat link", "lnk 777*");
    t.ok("symlink d dirlink");
    t.ok("put dirlink/other x");
    t.is("get d/other", "x");
}

fn opening_what_is_missing(t: &mut Trace) {
    for flags in ["r", "w", "rw", "r,dir", "path", "rw,trunc", "rw,append"] {
        t.err(&format!("open f missing {flags}"), "ENOENT");
        t.err(&format!("open f no/such/way {flags}"), "ENOENT");
    }
    t.is("ls .", "");
}

fn opening_a_directory(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.ok("open e d r");
    t.err("open f d w", "EISDIR");
    t.err("open f d rw", "EISDIR");
    t.err("open f d r,trunc", "EISDIR");
    t.err("read d 10", "EISDIR");
    t.err("write d x", "EBADF");
    t.ok("fsync d");
    t.ok("fchmod d 700");
    t.is("stat d", "dir 700*");
}

fn opening_what_is_no_directory(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f link");
    t.err("open d f r,dir", "ENOTDIR");
    t.err("open d link r,dir", "ENOTDIR");
    t.err("open d f/ r", "ENOTDIR");
    t.err("ls f", "ENOTDIR");
}

fn nofollow(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("symlink f link");
    t.ok("mkdir d 755");
    t.ok("symlink d dlink");
    t.err("open l link r,nofollow", "ELOOP");
    t.err("open l link rw,creat,nofollow 600", "ELOOP");
    t.ok("open l f r,nofollow");
    t.err("open l dlink r,dir,nofollow", "ENOTDIR");
    t.ok("put d/inside x");
    t.ok("open l dlink/inside r,nofollow");
}

fn access_mode_is_kept(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open r f r");
    t.ok("open w f w");
    t.err("write r x", "EBADF");
    t.err("read w 5", "EBADF");
    t.is("read r 5", "hello");
    t.is("write w J", "1");
    t.err("fallocate r default 0 10", "EBADF");
    t.err("mmap m w 0 4096 shared r", "EACCES");
    t.err("mmap m r 0 4096 shared rw", "EACCES");
    t.is("get f", "Jello");
}

fn append_writes_at_the_end(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open a f rw,append");
    t.is("write a 12", "2");
    t.is("seek a 0 set", "0");
    t.is("write a 34", "2");
    t.is("seek a 0 cur", "9");
    // Linux appends even where pwrite names an offset.
    t.is("pwrite a 0 56", "2");
    t.is("get f", "hello123456");
    t.ok("truncate f 2");
    t.is("write a end", "3");
    t.is("get f", "heend");
}

fn append_from_two_descriptors(t: &mut Trace) {
    t.ok("open a f w,creat,append 644");
    t.ok("open b f w,append");
    t.ok("open c f w");
    for round in 0..5 {
        t.ok(&format!("write a a{round}"));
        t.ok(&format!("write b b{round}"));
    }
    t.ok("pwrite c 0 C");
    t.ok("pwrite c 30 tail");
    t.ok("write a last");
    t.ok("get f");
    t.is("stat f", "reg 644 0:0 n1 s38*");
}

fn append_set_later_by_fcntl(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open w f rw");
    t.ok("write w J");
    t.ok("setfl w append");
    t.ok("write w end");
    t.is("get f", "Jelloend");
    t.ok("setfl w r");
    t.ok("pwrite w 1 E");
    t.is("get f", "JElloend");
}

fn append_cleared_by_fcntl(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open w f rw,append");
    t.ok("write w end");
    t.ok("setfl w r");
    t.ok("pwrite w 1 E");
    let seen = std::fs::read_to_string(t.path("f")).map_err(|error| error.to_string());
    t.known_answer("setfl", "what is written once a file no longer appends", &seen);
    t.ok("setfl w append");
    t.ok("write w last");
    let appends = std::fs::read(t.path("f")).is_ok_and(|content| content.ends_with(b"last"));
    t.check("it appends again", appends);
    t.ok("unlink f");
}

fn concurrent_appends_lose_nothing(t: &mut Trace) {
    t.ok("create f 644");
    let path = t.path("f");
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                let file = std::fs::OpenOptions::new().append(true).open(path);
                let mut file = file.expect("the file was created above");
                for _ in 0..200 {
                    std::io::Write::write_all(&mut file, &[b'a' + writer; 10]).expect("append");
                }
            });
        }
    });
    let bytes = std::fs::read(&path).expect("read what was appended");
    let whole = bytes.chunks(10).all(|record| record.iter().all(|byte| *byte == record[0]));
    t.check("no record is torn", whole);
    for writer in 0..4u8 {
        let count = bytes.iter().filter(|&&byte| byte == b'a' + writer).count();
        t.check(&format!("all of writer {writer} is there"), count == 2000);
    }
    t.ok("truncate f 0");
}

fn reopening_through_proc(t: &mut Trace) {
    t.ok("open r f r,creat 644");
    let path = t.path("f");
    let file = std::fs::File::open(&path).expect("it was created above");
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    t.ok("unlink f");
    std::fs::write(&link, "through proc").expect("reopen for writing without a name");
    t.is("pread r 0 50", "through%20proc");
    t.is("fstat r", "reg 644 0:0 n0 s12 b8");
}

fn duplicated_descriptors_share_the_offset(t: &mut Trace) {
    t.ok("put f 0123456789");
    t.ok("open a f rw");
    t.ok("dup a b");
    t.is("read a 3", "012");
    t.is("read b 3", "345");
    t.ok("write a XX");
    t.is("seek b 0 cur", "8");
    t.ok("close a");
    t.is("read b 3", "89");
    t.is("get f", "012345XX89");
}

fn two_opens_have_their_own_offsets(t: &mut Trace) {
    t.ok("put f 0123456789");
    t.ok("open a f r");
    t.ok("open b f rw");
    t.is("read a 3", "012");
    t.is("write b abcde", "5");
    t.is("read a 3", "de5");
    t.is("read b 3", "567");
    t.is("pread a 0 4", "abcd");
    t.is("seek a 0 cur", "6");
}

fn many_open_files(t: &mut Trace) {
    for number in 0..500 {
        t.ok(&format!("open f{number} f{number} rw,creat 644"));
    }
    for number in 0..500 {
        t.ok(&format!("write f{number} content-{number}"));
    }
    for number in 0..500 {
        t.is(&format!("pread f{number} 0 20"), &format!("content-{number}"));
        t.ok(&format!("close f{number}"));
    }
}

fn creating_and_removing_again(t: &mut Trace) {
    for round in 0..50 {
        t.ok("create f 644");
        t.ok(&format!("append f round{round}"));
        t.is("get f", &format!("round{round}"));
        t.ok("unlink f");
        t.err("stat f", "ENOENT");
        t.ok("mkdir f 700");
        t.err("create f 644", "EEXIST");
        t.is("stat f", "dir 700*");
        t.ok("rmdir f");
    }
}

/// What the kernel does not do by itself, of a file that it has opened by itself.
const MORE: [&str; 9] = [
    "fsync f",
    "fdatasync f",
    "seek f 0 hole",
    "seek f 0 data",
    "fadvise f 0 0 willneed",
    "getflags f",
    "fstat f",
    "syncfs f",
    "pread f 4090 100",
];

fn asking_more_of_a_file_open_for_reading(t: &mut Trace) {
    t.ok("put f pat:1:10000");
    t.ok("put to hello");
    t.ok("open to to rw");
    for more in MORE {
        t.ok("open f f r");
        t.ok(more);
        t.ok("copy f 0 to 0 5000");
        t.err("pwrite f 0 x", "EBADF");
        t.err("ftruncate f 5", "EINVAL");
        t.err("fallocate f default 0 10000", "EBADF");
        t.ok("close f");
    }
    t.ok("get to");
}

fn asking_more_of_it_once_it_is_gone(t: &mut Trace) {
    for behind in [false, true] {
        t.ok("put f pat:1:10000");
        t.ok("open f f r");
        match behind {
            true => t.behind().ok("unlink f"),
            false => t.ok("unlink f"),
        };
        t.expire();
        // Another takes the name, and what was cached of the first is let go.
        t.ok("put f other");
        t.wait_ms(2500);
        for more in MORE {
            t.ok(more);
        }
        t.ok("close f");
        t.ok("unlink f");
    }
}

fn sync_flags(t: &mut Trace) {
    for flags in ["sync", "dsync", "sync,append", "dsync,direct"] {
        t.ok(&format!("open f f-{flags} rw,creat,{flags} 644"));
        t.is("write f pat:3:8192", "8192");
        t.is("write f pat:4:4096", "4096");
        t.behind().ok(&format!("get f-{flags}"));
        t.is("fstat f", "reg 644 0:0 n1 s12288 b24");
        t.ok("close f");
    }
}

fn direct_aligned(t: &mut Trace) {
    t.ok("open d f rw,creat,direct 644");
    t.is("pwrite d 0 pat:1:8192", "8192");
    t.is("pwrite d 1M pat:2:65536", "65536");
    t.ok("pread d 0 8192");
    t.is("pread d 8192 4096", "zeros:4096");
    t.ok("pread d 1M 131072");
    t.is("pread d 2M 4096", "");
    t.ok("ftruncate d 5000");
    t.ok("pread d 0 8192");
    t.is("fstat d", "reg 644 0:0 n1 s5000 b16");
}

fn direct_unaligned(t: &mut Trace) {
    t.ok("put f pat:1:10000");
    t.ok("open d f rw,direct");
    t.err("pread d 1 4096", "EINVAL");
    t.err("pread d 0 100", "EINVAL");
    t.err("pwrite d 0 short", "EINVAL");
    t.err("pwrite d 3 pat:1:4096", "EINVAL");
    t.is("pread d 12288 4096", "");
    t.ok("get f");
}

/// What lies where there are no blocks, ext4 reads however it is asked.
fn direct_unaligned_over_holes(t: &mut Trace) {
    t.ok("open d f rw,creat,direct 644");
    t.ok("ftruncate d 1M");
    t.is("pread d 1 100", "zeros:100");
    t.is("pread d 4095 5000", "zeros:5000");
    t.is("pread d 1048575 10", "zeros:1");
    t.is("pwrite d 65536 pat:1:4096", "4096");
    t.err("pread d 65537 100", "EINVAL");
    t.err("pread d 65536 100", "EINVAL");
    t.err("pread d 61441 8192", "EINVAL");
    t.ok("pread d 65536 4196");
    t.err("pread d 61440 5000", "EINVAL");
    t.is("pread d 69632 10", "zeros:10");
    t.ok("fallocate d default 262144 65536");
    t.ok("pread d 262145 100");
    t.ok("ftruncate d 67000");
    t.ok("pread d 65536 5000");
    t.is("pread d 70001 10", "");
}

/// Before ext4 comes to what it refuses, it has written what it does not.
fn direct_unaligned_in_part(t: &mut Trace) {
    t.ok("put f pat:1:12288");
    t.ok("open d f rw,direct");
    t.err("pwrite d 8192 pat:2:20000", "EINVAL");
    t.ok("get f");
    t.behind().ok("get f");
    t.err("pwrite d 12289 pat:3:4096", "EINVAL");
    t.err("pwrite d 4096 pat:4:100", "EINVAL");
    t.ok("get f");
    t.ok("open a f rw,append,direct");
    t.err("write a pat:5:100", "EINVAL");
    t.is("write a pat:6:4096", "4096");
    t.ok("get f");
    t.behind().ok("get f");
}

/// What the vector leaves behind where it ends is `direct-vectors` of known-differences.toml.
fn direct_vector_of_odd_parts(t: &mut Trace) {
    t.ok("put f pat:1:4096");
    t.ok("open d f rw,direct");
    t.err("writev d abc pat:2:8192", "EINVAL");
    t.err("pwritev d 4096 pat:3:10 pat:4:4096", "EINVAL");
    t.is("seek d 0 end", "4096");
    t.is("pwritev d 0 pat:5:4096 pat:6:4096", "8192");
    t.ok("preadv d 0 4096 4096");
    t.ok("get f");
}

/// Natively the bytes go the way of both descriptors.
fn copying_directly(t: &mut Trace) {
    t.ok("put a pat:1:100000");
    t.ok("put b pat:2:100000");
    for (from, to) in [("r,direct", "rw"), ("r", "rw,direct"), ("r,direct", "rw,direct")] {
        t.ok(&format!("open a a {from}"));
        t.ok(&format!("open b b {to}"));
        for line in [
            "copy a 0 b 0 4096",
            "copy a 8192 b 4096 65536",
            "copy a 1 b 0 100",
            "copy a 0 b 1 100",
            "copy a 0 b 0 5000",
            "copy a 98304 b 98304 8192",
            "copy a 200000 b 0 4096",
        ] {
            t.run(line).ok();
            t.ok("get b");
        }
        t.ok("close a");
        t.ok("close b");
    }
    t.behind().ok("get b");
}

fn direct_and_buffered_agree(t: &mut Trace) {
    t.ok("open b f rw,creat 644");
    t.ok("open d f rw,direct");
    t.ok("write b pat:1:16384");
    t.ok("pread d 0 16384");
    t.ok("pwrite d 4096 pat:2:4096");
    t.ok("pread b 0 16384");
    t.ok("pwrite b 4100 tiny");
    t.ok("pread d 4096 4096");
    t.ok("pwrite d 16384 pat:3:4096");
    t.ok("pread b 16380 100");
    t.is("fstat b", "reg 644 0:0 n1 s20480*");
    t.behind().ok("get f");
}

fn mkdir_refusals(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put f x");
    t.ok("symlink missing dangling");
    t.err("mkdir d 755", "EEXIST");
    t.err("mkdir f 755", "EEXIST");
    t.err("mkdir dangling 755", "EEXIST");
    t.err("mkdir f/x 755", "ENOTDIR");
    t.err("mkdir missing/x 755", "ENOENT");
    t.err("mkdir . 755", "EEXIST");
    t.err("mkdir d/.. 755", "EEXIST");
    t.ok("mkdir d/slash/ 1777");
    t.is("stat d/slash", "dir 1755*");
}

fn rmdir_refusals(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f x");
    t.ok("symlink d link");
    t.err("rmdir d", "ENOTEMPTY");
    t.err("rmdir d/f", "ENOTDIR");
    t.err("rmdir link", "ENOTDIR");
    t.err("rmdir missing", "ENOENT");
    t.err("rmdir d/.", "EINVAL");
    t.err("rmdir d/..", "ENOTEMPTY");
    t.ok("unlink d/f");
    t.ok("rmdir d/");
    t.err("stat d", "ENOENT");
    t.err("stat link", "ENOENT");
}

fn unlink_refusals(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put f x");
    t.ok("symlink f link");
    t.err("unlink d", "EISDIR");
    t.err("unlink missing", "ENOENT");
    t.err("unlink f/", "ENOTDIR");
    t.err("unlink f/x", "ENOTDIR");
    t.ok("unlink link");
    t.is("get f", "x");
    t.ok("unlink f");
    t.err("unlink f", "ENOENT");
    t.err("get f", "ENOENT");
}

fn creating_with_the_umask(t: &mut Trace) {
    let second = crate::common::actor::SECOND;
    for mask in ["0", "22", "77", "777", "27"] {
        t.user(second).ok(&format!("umask {mask}"));
        t.user(second).ok(&format!("mkdir d{mask} 777"));
        t.user(second).ok(&format!("create f{mask} 666"));
        t.user(second).ok(&format!("mknod p{mask} fifo 666"));
        t.user(second).ok(&format!("symlink x l{mask}"));
        t.user(second).ok(&format!("mknod r{mask} reg 777"));
    }
    t.is("stat d27", "dir 750*");
    t.is("stat f77", "reg 600*");
    t.is("stat p777", "fifo 0*");
    t.is("lstat l777", "lnk 777*");
    t.is("stat r22", "reg 755*");
}
