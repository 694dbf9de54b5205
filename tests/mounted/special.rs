//! Fifos, sockets, devices, unnamed files, inode flags, programs, and what reaches the disk.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use fusewire::sys::handle::FileHandle;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::common::actor::{SECOND, THIRD};
use crate::common::raw;
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        fifo_between_processes,
        fifo_without_a_writer,
        fifos_and_sockets_join_one_side,
        socket_between_processes,
        devices_can_be_used,
        device_numbers,
        mknod_refusals,
        unnamed_file,
        unnamed_file_gets_a_name,
        unnamed_file_that_stays_unnamed,
        unnamed_file_refusals,
        flags_are_read_and_set,
        statx_tells_no_flags,
        immutable_files,
        immutable_directories,
        append_only_files,
        append_only_files_after_fcntl,
        append_only_files_and_mappings,
        append_only_directories,
        unknown_ioctls,
        running_a_script,
        running_a_program,
        a_running_program_cannot_be_written,
        an_open_program_cannot_run,
        replacing_a_running_program,
        fsync_of_everything,
        fsync_of_a_read_only_descriptor,
        syncfs_and_sync,
        written_data_is_behind_at_once,
        closing_tells_nothing_new,
        file_handles_are_not_given_out,
        watches_tell_of_the_mount_only,
        epoll_takes_a_file,
    ];
    Needs::Users => [immutable_files_seem_writable];
}

fn fifo_between_processes(t: &mut Trace) {
    t.ok("mknod p fifo 644");
    t.user(SECOND).begin("open w p w");
    t.ok("open r p r");
    t.user(SECOND).finish();
    t.user(SECOND).ok("write w through-the-fifo");
    t.is("read r 100", "through-the-fifo");
    t.user(SECOND).ok("close w");
    t.is("read r 100", "");
    t.is("stat p", "fifo 644 0:0 n1 s0*");
}

fn fifo_without_a_writer(t: &mut Trace) {
    t.ok("mknod p fifo 644");
    t.err("open w p w,nonblock", "ENXIO");
    t.ok("open r p r,nonblock");
    t.is("read r 10", "");
    t.ok("open w p w,nonblock");
    t.err("read r 10", "EAGAIN");
    t.ok("write w x");
    t.is("read r 10", "x");
    t.ok("unlink p");
    t.ok("write w still");
    t.is("read r 10", "still");
}

fn fifos_and_sockets_join_one_side(t: &mut Trace) {
    t.ok("mknod p fifo 644");
    t.behind().ok("open r p r,nonblock");
    t.known("pipes-and-sockets", "open w p w,nonblock");
    let listener = UnixListener::bind(t.path_behind("s")).expect("bind");
    t.expire();
    t.is("stat s", "sock 755*");
    let reached = match UnixStream::connect(t.path("s")) {
        Ok(_) => Ok("ok".to_owned()),
        // As a FIFO without a reader has it.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err("ENXIO".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    t.known_answer("pipes-and-sockets", "a connection to who listens behind", &reached);
    drop(listener);
}

fn socket_between_processes(t: &mut Trace) {
    let path = t.path("s");
    let listener = UnixListener::bind(&path).expect("bind");
    t.is("stat s", "sock 755 0:0 n1*");
    let mut client = UnixStream::connect(&path).expect("connect");
    let (mut server, _) = listener.accept().expect("accept");
    client.write_all(b"hello").expect("send");
    let mut buffer = [0; 5];
    server.read_exact(&mut buffer).expect("receive");
    t.note("received", String::from_utf8_lossy(&buffer));
    t.err("open f s r", "ENXIO");
    t.ok("rename s moved");
    t.check("connect by its new name", UnixStream::connect(t.path("moved")).is_ok());
    drop(listener);
    // A process that another test starts has a copy of it until it executes its program.
    let gone = (0..200).any(|_| {
        let refused = UnixStream::connect(t.path("moved")).is_err();
        thread::sleep(Duration::from_millis(if refused { 0 } else { 10 }));
        refused
    });
    t.check("nobody listens", gone);
}

fn devices_can_be_used(t: &mut Trace) {
    t.ok("mknod null chr 666 1 3");
    t.ok("mknod zero chr 666 1 5");
    t.ok("open n null rw");
    t.is("write n into-nothing", "12");
    t.is("read n 10", "");
    t.ok("open z zero r");
    t.is("read z 100", "zeros:100");
    t.ok("mknod none chr 666 240 77");
    t.err("open x none r", "ENXIO");
}

fn device_numbers(t: &mut Trace) {
    for (name, kind, major, minor) in [
        ("a", "chr", 1, 3),
        ("b", "blk", 7, 200),
        ("c", "chr", 4095, 1_048_575),
        ("d", "blk", 256, 256),
    ] {
        t.ok(&format!("mknod {name} {kind} 600 {major} {minor}"));
        t.is(&format!("stat {name}"), &format!("{kind} 600 0:0 n1 r{major}:{minor}"));
        t.same_behind(name);
    }
}

fn mknod_refusals(t: &mut Trace) {
    t.ok("put f x");
    t.ok("mkdir d 755");
    for name in ["f", "d", "d/.."] {
        t.err(&format!("mknod {name} fifo 644"), "EEXIST");
    }
    t.err("mknod missing/p fifo 644", "ENOENT");
    t.err("mknod f/p fifo 644", "ENOTDIR");
    t.ok("mknod r reg 640");
    t.is("stat r", "reg 640 0:0 n1 s0 b0");
    t.is("get r", "");
}

fn unnamed_file(t: &mut Trace) {
    t.ok("open t . rw,tmpfile 640");
    t.is("fstat t", "reg 640 0:0 n0 s0 b0");
    t.ok("write t hello");
    t.is("pread t 0 10", "hello");
    t.ok("ftruncate t 2");
    t.ok("fchmod t 600");
    t.ok("fsetx t user.a 1");
    t.is("fstat t", "reg 600 0:0 n0 s2*");
    t.is("ls .", "");
    t.ok("close t");
}

fn unnamed_file_gets_a_name(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("open t . rw,tmpfile 640");
    t.ok("write t hello");
    t.ok("linkfd t d/named");
    t.is("stat d/named", "reg 640 0:0 n1 s5*");
    t.ok("write t more");
    t.is("get d/named", "hellomore");
    t.ok("linkfd t second");
    t.is("fstat t", "reg 640 0:0 n2*");
    t.err("linkfd t second", "EEXIST");
    t.ok("unlink second");
    t.same_behind("d/named");
}

fn unnamed_file_that_stays_unnamed(t: &mut Trace) {
    t.ok("open t . rw,tmpfile,excl 640");
    t.ok("write t hello");
    t.err("linkfd t named", "ENOENT");
    t.is("pread t 0 9", "hello");
    t.is("ls .", "");
}

fn unnamed_file_refusals(t: &mut Trace) {
    t.ok("put f x");
    t.err("open t . r,tmpfile 640", "EINVAL");
    t.err("open t f rw,tmpfile 640", "ENOTDIR");
    t.err("open t missing rw,tmpfile 640", "ENOENT");
    t.ok("open w . w,tmpfile 640");
    t.err("read w 1", "EBADF");
    t.ok("write w x");
}

fn flags_are_read_and_set(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("mkdir d 755");
    for (name, flags) in [("f", "r"), ("d", "r,dir")] {
        t.ok(&format!("open x {name} {flags}"));
        t.is("getflags x", "");
        t.ok("setflags x nodump,noatime");
        t.is("getflags x", "nodump,noatime");
        t.ok("setflags x sync");
        t.is("getflags x", "sync");
        t.ok("setflags x -");
        t.is("getflags x", "");
    }
    t.behind().ok("open x f r");
    t.behind().ok("setflags x nodump");
    t.ok("open x f r");
    t.is("getflags x", "nodump");
}

fn statx_tells_no_flags(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open x f r");
    t.ok("setflags x nodump");
    let stat = raw::statx(&t.path("f"), 0, libc::STATX_BASIC_STATS | libc::STATX_DIOALIGN);
    let stat = stat.expect("f is there");
    let nodump = stat.stx_attributes & u64::from(libc::STATX_ATTR_NODUMP.cast_unsigned()) != 0;
    let answer = match (nodump, stat.stx_mask & libc::STATX_DIOALIGN != 0) {
        (true, true) => "told",
        (false, false) => "silent",
        _ => "one of both",
    };
    let what = "statx of flags, and of how O_DIRECT is aligned";
    t.known_answer("statx-attributes", what, &Ok(answer.to_owned()));
    t.is("getflags x", "nodump");
}

fn immutable_files(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open w f rw");
    t.ok("open x f r");
    t.ok("setflags x immutable");
    for line in [
        "open y f w",
        "open y f rw,append",
        "open y f r,trunc",
        "truncate f 0",
        "unlink f",
        "rename f g",
        "link f g",
        "chmod f 600",
        "chown f 1 1",
        "utimens f 1 1",
        "setx f user.a 1",
    ] {
        t.err(line, "EPERM");
    }
    t.run("utimens f now now").ok();
    // What was open for writing before: ext4 refuses each write.
    t.run("pwrite w 0 J").ok();
    t.run("ftruncate w 0").ok();
    t.run("fallocate w default 0 100").ok();
    t.is("get f", "hello");
    t.ok("setflags x -");
    t.ok("append f -again");
    t.is("get f", "hello-again");
}

fn immutable_files_seem_writable(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open x f r");
    t.ok("setflags x immutable");
    t.known("immutable-access", "access f w");
    t.err("open y f w", "EPERM");
    t.ok("setflags x -");
}

fn immutable_directories(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f hello");
    t.ok("open d d r,dir");
    t.ok("setflags d immutable");
    for line in [
        "create d/new 644",
        "mkdir d/new 755",
        "unlink d/f",
        "rename d/f g",
        "rename d e",
        "rmdir d",
        "chmod d 700",
        "symlink x d/l",
        "open t d rw,tmpfile 600",
    ] {
        t.run(line).ok();
    }
    t.ok("append d/f more");
    t.is("ls d", "f/reg");
    t.ok("setflags d -");
    t.ok("unlink d/f");
}

fn append_only_files(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open x f r");
    t.ok("setflags x append");
    t.err("open w f w", "EPERM");
    t.err("open w f rw", "EPERM");
    t.err("open w f w,append,trunc", "EPERM");
    t.ok("open a f rw,append");
    t.ok("write a more");
    t.ok("pwrite a 0 end");
    t.is("get f", "hellomoreend");
    t.err("ftruncate a 0", "EPERM");
    t.err("truncate f 0", "EPERM");
    t.err("unlink f", "EPERM");
    t.err("rename f g", "EPERM");
    t.err("link f g", "EPERM");
    t.run("fallocate a punch,keep 0 4").ok();
    t.run("fallocate a default 0 100").ok();
    t.ok("get f");
    t.ok("setflags x -");
    t.ok("truncate f 3");
}

fn append_only_files_after_fcntl(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open x f r");
    t.ok("setflags x append");
    t.ok("open a f rw,append");
    t.known("setfl-append-only", "setfl a r");
    // Whether or not the flag could be cleared, what is there must stay.
    t.run_quietly("pwrite a 0 XXXXX").ok();
    t.run_quietly("seek a 0 set").ok();
    t.run_quietly("write a YYYYY").ok();
    t.ok("open r f r");
    t.is("pread r 0 5", "hello");
    t.ok("setflags x -");
    t.ok("truncate f 5");
}

fn append_only_files_and_mappings(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("append f more");
    t.ok("open x f r");
    t.ok("setflags x append");
    t.ok("close x");
    t.ok("open a f rw,append");
    t.known("append-only-mappings", "mmap k a 0 4096 shared rw");
    if t.run_quietly("mmap m a 0 4096 shared rw").is_ok() {
        t.run_quietly("store m 0 XXXXX").ok();
        t.run_quietly("msync m").ok();
    }
    t.run_quietly("close a").ok();
    t.is("get f", "hellomore");
    t.behind().is("get f", "hellomore");
    t.ok("open x f r");
    t.ok("setflags x -");
}

fn append_only_directories(t: &mut Trace) {
    t.ok("mkdir d 755");
    t.ok("put d/f hello");
    t.ok("open d d r,dir");
    t.ok("setflags d append");
    t.ok("put d/new x");
    t.err("unlink d/f", "EPERM");
    t.err("rename d/f d/g", "EPERM");
    t.err("rename d/f outside", "EPERM");
    t.ok("append d/f more");
    t.ok("setflags d -");
    t.ok("unlink d/f");
}

fn unknown_ioctls(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open f f rw");
    t.err("unknown_ioctl f", "ENOTTY");
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.err("unknown_ioctl d", "ENOTTY");
    t.is("pread f 0 9", "hello");
}

// Programs are written by a process of its own: while this one has a descriptor to write to them,
// any other thread may fork, and until that child executes its program the file stays busy.

fn running_a_script(t: &mut Trace) {
    t.user(SECOND).ok("install script echo hello $1; exit 7");
    t.is("exec script world", "hello%20world%0a exit status: 7");
    t.ok("chmod script 644");
    t.err("exec script world", "EACCES");
    t.ok("mkdir d 755");
    t.err("exec d", "EACCES");
    t.err("exec missing", "ENOENT");
    t.user(SECOND).ok("put garbage not-a-program");
    t.ok("chmod garbage 755");
    t.err("exec garbage", "ENOEXEC");
}

fn running_a_program(t: &mut Trace) {
    t.user(SECOND).ok("copyin sleep /usr/bin/sleep");
    t.is("exec sleep 0", " exit status: 0");
    t.is("exec sleep 0", " exit status: 0");
    std::fs::write("/proc/sys/vm/drop_caches", "3\n").expect("root may drop caches");
    t.is("exec sleep 0", " exit status: 0");
    t.ok("symlink sleep link");
    t.is("exec link 0", " exit status: 0");
    t.ok("unlink sleep");
}

fn a_running_program_cannot_be_written(t: &mut Trace) {
    t.user(SECOND).ok("copyin sleep /usr/bin/sleep");
    t.user(THIRD).begin("exec ./sleep 0.5");
    t.wait_ms(150);
    t.user(SECOND).err("open w sleep w", "ETXTBSY");
    t.user(SECOND).err("open w sleep rw,append", "ETXTBSY");
    t.user(SECOND).err("truncate sleep 0", "ETXTBSY");
    t.user(SECOND).err("open w sleep r,trunc", "ETXTBSY");
    t.ok("open r sleep r");
    t.user(THIRD).finish();
    t.is("exec sleep 0", " exit status: 0");
    t.user(SECOND).ok("open w sleep w");
    t.user(SECOND).ok("close w");
    t.ok("unlink sleep");
}

fn an_open_program_cannot_run(t: &mut Trace) {
    t.user(SECOND).ok("copyin sleep /usr/bin/sleep");
    t.user(SECOND).ok("open w sleep rw");
    t.user(SECOND).err("exec ./sleep 0", "ETXTBSY");
    t.user(THIRD).err("exec ./sleep 0", "ETXTBSY");
    t.user(SECOND).ok("close w");
    t.user(THIRD).is("exec ./sleep 0", " exit status: 0");
    t.is("exec sleep 0", " exit status: 0");
    t.ok("unlink sleep");
}

fn replacing_a_running_program(t: &mut Trace) {
    t.user(SECOND).ok("copyin sleep /usr/bin/sleep");
    t.user(THIRD).begin("exec ./sleep 0.5");
    t.wait_ms(100);
    t.user(SECOND).ok("install new echo replaced");
    t.ok("rename new sleep");
    t.is("exec sleep", "replaced%0a exit status: 0");
    t.user(THIRD).finish();
}

fn fsync_of_everything(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    for round in 0..5 {
        t.ok(&format!("write f pat:{round}:5000"));
        t.ok("fsync f");
        t.ok(&format!("write f pat:{round}:100"));
        t.ok("fdatasync f");
    }
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.ok("fsync d");
    t.ok("fdatasync d");
    t.ok("unlink f");
    t.ok("fsync f");
    t.ok("open p d path");
    t.err("fsync p", "EBADF");
}

fn fsync_of_a_read_only_descriptor(t: &mut Trace) {
    t.ok("put f hello");
    t.ok("open r f r");
    t.ok("fsync r");
    t.ok("fdatasync r");
    t.ok("append f more");
    t.ok("fsync r");
    t.ok("mknod p fifo 644");
    t.ok("open p p rw");
    t.err("fsync p", "EINVAL");
}

fn syncfs_and_sync(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("write f hello");
    t.ok("syncfs f");
    t.ok("open d . r,dir");
    t.ok("syncfs d");
    t.ok("mmap m f 0 4096 shared rw");
    t.ok("store m 0 J");
    t.ok("syncfs f");
    // fuse_sync_fs() waits for nothing and sends nothing unless the connection is virtiofs.
    t.wait_ms(200);
    t.behind().is("get f", "Jello");
    t.ok("open r f r");
    t.ok("syncfs r");
}

fn written_data_is_behind_at_once(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    for round in 0..10 {
        t.ok(&format!("pwrite f {} round-{round}", round * 5000));
        t.behind().ok("get f");
        t.behind().ok("stat f");
    }
    t.ok("ftruncate f 3");
    t.behind().is("get f", "rou");
    t.ok("chmod f 600");
    t.behind().is("stat f", "reg 600*");
}

fn closing_tells_nothing_new(t: &mut Trace) {
    for name in ["a", "b", "c"] {
        t.ok(&format!("open f {name} rw,creat 644"));
        t.ok("dup f g");
        t.ok("write f hello");
        t.ok("close f");
        t.is("pread g 0 9", "hello");
        t.ok("write g more");
        t.ok("close g");
        t.behind().is(&format!("get {name}"), "hellomore");
    }
}

fn file_handles_are_not_given_out(t: &mut Trace) {
    t.ok("put f hello");
    let file = File::open(t.path("f")).expect("it was just made");
    let answer = FileHandle::of(file.as_fd()).map(|_| String::new());
    let answer = answer.map_err(|errno| format!("{errno:?}"));
    t.known_answer("file-handles", "the file handle of f", &answer);
}

fn watches_tell_of_the_mount_only(t: &mut Trace) {
    t.ok("put f hello");
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).expect("a watch");
    watch.add_watch(&t.path("f"), AddWatchFlags::IN_MODIFY).expect("f is there");
    let told = || watch.read_events().map_or(0, |events| events.len());
    t.ok("append f more");
    t.check("what is done here is told", told() > 0);
    t.behind().ok("append f more");
    t.wait_ms(50);
    let answer = Ok(if told() > 0 { "told" } else { "silent" }.to_owned());
    t.known_answer("watches", "a change behind the mount", &answer);
    t.is("get f", "hellomoremore");
}

fn epoll_takes_a_file(t: &mut Trace) {
    t.ok("put f hello");
    let file = File::open(t.path("f")).expect("f is there");
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
    let added = epoll.add(&file, EpollEvent::new(EpollFlags::EPOLLIN, 0));
    let answer = added.map(|()| "ok".to_owned()).map_err(|errno| format!("{errno:?}"));
    t.known_answer("epoll", "epoll_ctl of a regular file", &answer);
    let is_ready = || epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO) == Ok(1);
    t.check("where it is taken, it is always ready", added.is_err() || is_ready());
}
