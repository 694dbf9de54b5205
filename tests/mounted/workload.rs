//! What programs do: whole patterns of calls, and the everyday tools themselves.

use std::process::Command;

use crate::common::actor::{SECOND, THIRD};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        database_with_a_write_ahead_log,
        database_with_two_processes,
        rotating_a_log,
        saving_as_editors_do,
        lock_files,
        unpacking_as_tar_does,
        copying_a_tree_with_cp,
        archiving_with_tar,
        finding_and_removing_with_tools,
        building_incrementally,
        queue_of_files,
        many_processes_at_once,
        checksum_of_a_large_file,
        sparse_copy_with_cp,
        linking_a_tree_with_cp,
        sorting_in_place,
    ];
}

/// Runs a program in the behaviour's directory and notes how it ended and what it said.
fn run(t: &mut Trace, script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(t.path(".")).output();
    let output = output.expect("there is a shell");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    t.note(script, format!("{} {said}", output.status));
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    t.check(&format!("{script}: succeeds: {complaints}"), output.status.success());
    said
}

/// A small tree with every kind of object in it.
fn plant(t: &mut Trace) {
    t.ok("mkdir src 755");
    for number in 0..20 {
        t.ok(&format!("mkdir src/d{number} 755"));
        t.ok(&format!("put src/d{number}/f pat:{number}:{}", number * 700));
        t.ok(&format!("chmod src/d{number}/f {}", ["600", "644", "755", "4711"][number % 4]));
        t.ok(&format!("utimens src/d{number}/f 1000.5 {}.25", 2000 + number));
    }
    t.ok("symlink d1/f src/link");
    t.ok("link src/d2/f src/hard");
    t.ok("mknod src/fifo fifo 640");
    // Which ordinary users are refused, here as there.
    let _ = t.run("chown src/d3/f 12 34");
    t.ok("setx src/d4/f user.k value");
    t.ok("setacl src/d5 default u::rwx,u:1001:rx,g::rx,m::rx,o::-");
    t.ok("put src/%ff%20name x");
    t.ok("utimens src/%ff%20name 5 6");
}

fn database_with_a_write_ahead_log(t: &mut Trace) {
    t.ok("open db db rw,creat 644");
    t.ok("open wal wal rw,creat 644");
    t.ok("open shm shm rw,creat 644");
    t.ok("ftruncate shm 32768");
    t.ok("mmap index shm 0 32768 shared rw");
    for page in 0..20 {
        t.ok("ofdlk shm wr 120 1");
        t.ok(&format!("pwrite wal {} pat:{page}:4120", page * 4120));
        t.ok(&format!("store index {} frame{page}", page * 8));
        t.ok("fdatasync wal");
        t.ok("ofdlk shm un 120 1");
    }
    for page in 0..20 {
        t.ok(&format!("pread wal {} 4096", page * 4120 + 24));
        t.ok(&format!("pwrite db {} pat:{page}:4096", page * 4096));
    }
    t.ok("fsync db");
    t.ok("ftruncate wal 0");
    t.ok("load index 0 160");
    t.ok("get db");
}

fn database_with_two_processes(t: &mut Trace) {
    for who in [SECOND, THIRD] {
        t.user(who).ok("open db db rw,creat 644");
        t.user(who).ok("open shm shm rw,creat 644");
        t.user(who).ok("ftruncate shm 4096");
        t.user(who).ok("mmap m shm 0 4096 shared rw");
    }
    for round in 0..10 {
        let (writer, reader) = if round % 2 == 0 { (SECOND, THIRD) } else { (THIRD, SECOND) };
        t.user(writer).ok("setlkw db wr 0 1");
        t.user(writer).ok(&format!("pwrite db 4096 value{round}"));
        t.user(writer).ok(&format!("store m 0 counter{round}"));
        t.user(reader).err("setlk db rd 0 1", "EAGAIN");
        t.user(writer).ok("setlk db un 0 1");
        t.user(reader).ok("setlk db rd 0 1");
        t.user(reader).is("load m 0 8", &format!("counter{round}"));
        t.user(reader).is("pread db 4096 6", &format!("value{round}"));
        t.user(reader).ok("setlk db un 0 1");
    }
}

fn rotating_a_log(t: &mut Trace) {
    t.ok("open log log w,creat,append 644");
    for round in 0..10 {
        for line in 0..10 {
            t.ok(&format!("write log round-{round}-line-{line}%0a"));
        }
        t.ok(&format!("rename log log.{round}"));
        t.ok("write log late%0a");
        t.ok("open log log w,creat,append 644");
    }
    t.ok("get log.3");
    t.ok("ls .");
}

fn saving_as_editors_do(t: &mut Trace) {
    t.ok("put document original");
    t.ok("chmod document 640");
    for round in 0..10 {
        t.ok("link document document~");
        t.ok("open new document.new w,creat,excl 600");
        t.ok(&format!("write new version-{round}"));
        t.ok("fchmod new 640");
        t.ok("fsync new");
        t.ok("close new");
        t.ok("rename document.new document");
        t.is("get document", &format!("version-{round}"));
        t.ok("unlink document~");
    }
    t.is("stat document", "reg 640 0:0 n1 s9*");
}

fn lock_files(t: &mut Trace) {
    for round in 0..10 {
        t.user(SECOND).ok("open l index.lock rw,creat,excl 644");
        t.user(THIRD).err("open l index.lock rw,creat,excl 644", "EEXIST");
        t.user(SECOND).ok(&format!("write l index-{round}"));
        t.user(SECOND).ok("close l");
        t.user(SECOND).ok("rename index.lock index");
        t.user(THIRD).is("get index", &format!("index-{round}"));
        t.user(THIRD).err("stat index.lock", "ENOENT");
    }
}

fn unpacking_as_tar_does(t: &mut Trace) {
    for number in 0..100 {
        let name = format!("d{}/f{number}", number % 10);
        t.run(&format!("mkdir d{} 700", number % 10)).ok();
        t.ok(&format!("open f {name} w,creat,excl 600"));
        t.ok(&format!("write f pat:{number}:{}", number * 37));
        t.ok("fchown f 12 34");
        t.ok("fchmod f 4755");
        t.ok(&format!("futimens f 1000 {}.123456789", 3000 + number));
        t.ok("close f");
        t.is(&format!("mtime {name}"), &format!("{}.123456789", 3000 + number));
    }
    for number in 0..10 {
        t.ok(&format!("chmod d{number} 755"));
        t.ok(&format!("utimens d{number} 1 2"));
        t.is(&format!("mtime d{number}"), "2.000000000");
    }
}

fn copying_a_tree_with_cp(t: &mut Trace) {
    plant(t);
    run(t, "cp -a src copy && diff -r --no-dereference src copy 2>&1 | grep -v fifo; true");
    run(t, "cd copy && find . -type f -printf '%p %m %U:%G %n %s %T@\\n' | sort");
    t.is("getx copy/d4/f user.k", "value");
    t.ok("getacl copy/d5 default");
    t.is("samefile copy/hard copy/d2/f", "same");
    t.is("mtime copy/d7/f", "2007.250000000");
}

fn archiving_with_tar(t: &mut Trace) {
    plant(t);
    run(
        t,
        "tar --xattrs --acls --sort=name -cf archive.tar src && mkdir out && tar --xattrs --acls -xpf archive.tar -C out",
    );
    run(t, "cd out/src && find . -printf '%p %y %m %U:%G %n\\n' | sort");
    run(t, "cmp src/d9/f out/src/d9/f && rm -rf archive.tar src");
    t.is("stat out/src/d3/f", "reg 711 12:34*");
}

fn finding_and_removing_with_tools(t: &mut Trace) {
    plant(t);
    run(t, "find src -type d | sort | wc -l");
    run(t, "find src -size +4k -printf '%p\\n' | sort");
    run(t, "find src -newermt '1970-01-01 00:33:35' -type f -name f -printf '%p\\n' | sort");
    run(t, "find src -perm -4000 | sort");
    run(t, "du -s --apparent-size src/d9/f; du -s src/d9/f");
    run(t, "rm -rf src");
    t.is("ls .", "");
}

fn building_incrementally(t: &mut Trace) {
    t.ok("put source.c v1");
    let build =
        "[ ! -e object -o source.c -nt object ] && cp source.c object && echo built || echo fresh";
    for round in 0..5 {
        t.wait_ms(20);
        let said = run(t, build);
        t.check("built when the source is newer", said == "built\n");
        t.wait_ms(20);
        let said = run(t, build);
        t.check("and not again", said == "fresh\n");
        t.wait_ms(20);
        t.ok(&format!("append source.c v{round}"));
    }
}

fn queue_of_files(t: &mut Trace) {
    for name in ["tmp", "new", "cur"] {
        t.ok(&format!("mkdir {name} 700"));
    }
    for number in 0..30 {
        t.ok(&format!("put tmp/m{number} message-{number}"));
        t.ok(&format!("rename tmp/m{number} new/m{number}"));
        if number % 3 == 2 {
            t.user(SECOND).ok("ls new");
            for back in 0..3 {
                let name = format!("m{}", number - back);
                t.user(SECOND).ok(&format!("rename new/{name} cur/{name}:2,S"));
            }
        }
    }
    t.is("ls new", "");
    t.ok("ls cur");
}

fn many_processes_at_once(t: &mut Trace) {
    run(
        t,
        "for i in 1 2 3 4 5 6 7 8; do (mkdir p$i; for j in $(seq 20); do echo $i-$j > p$i/f$j; \
         cat p$i/f$j >> p$i/all; mv p$i/f$j p$i/g$j; done) & done; wait; cat p?/all | sort | cksum",
    );
    run(t, "ls p3 | wc -l; rm -rf p?; ls | wc -l");
}

fn checksum_of_a_large_file(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    for part in 0..16 {
        t.ok(&format!("pwrite f {} pat:{part}:2097152", part * 2_097_152));
    }
    t.ok("close f");
    run(t, "cksum f");
    run(t, "dd if=f of=g bs=64k status=none && cksum g");
    run(t, "dd if=f of=h bs=1M oflag=direct iflag=direct status=none && cksum h");
    run(t, "cat f g | dd of=i bs=33333 iflag=fullblock status=none && cksum i; rm g h i f");
}

fn sparse_copy_with_cp(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("pwrite f 10M pat:1:8192");
    t.ok("ftruncate f 100M");
    run(t, "cp --sparse=auto f g && cmp f g && stat -c '%s %b' f g");
    run(t, "cp --sparse=always f h && cmp f h && stat -c '%s %b' h");
    run(t, "cp --reflink=auto --sparse=never f i && cmp f i; rm g h i");
}

fn linking_a_tree_with_cp(t: &mut Trace) {
    plant(t);
    run(t, "cp -al src snapshot && find snapshot -type f -links +1 | wc -l");
    t.is("samefile src/d5/f snapshot/d5/f", "same");
    run(t, "rm -r src && find snapshot -type f -name f -links 1 | wc -l");
    t.ok("get snapshot/d5/f");
}

fn sorting_in_place(t: &mut Trace) {
    run(t, "seq 2000 | rev > f && sort -o f f && head -3 f && cksum f");
    run(t, "sed -i 's/^1/one/' f && head -3 f && cksum f");
    run(t, "truncate -s 10 f && cat f | od -c | head -2");
}
