//! What `fusewire mount` accepts and refuses, and what the mount looks like.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use fusewire::control::socket_name;

use crate::harness::{Place, binary, eventually, fusewire, run};

#[test]
fn a_bad_source_is_named() {
    let place = Place::new();
    let path = place.path();
    for (source, reason) in [("missing", "No such file"), ("source/file", "directory")] {
        let source = path.join(source);
        let output = fusewire([&source, &place.mountpoint]);
        output.failed(1, &[source.to_str().expect("text"), reason]);
        assert_eq!(place.mounted(), None);
    }
}

#[test]
fn a_bad_mount_point_is_named() {
    let place = Place::new();
    let path = place.path();
    for (mountpoint, reason) in [("missing", "No such file"), ("source/file", "directory")] {
        let mountpoint = path.join(mountpoint);
        let output = fusewire([&place.source, &mountpoint]);
        output.failed(1, &[mountpoint.to_str().expect("text"), reason]);
    }
}

#[test]
fn what_a_mount_point_holds_is_hidden_and_comes_back() {
    let place = Place::new();
    let own = place.mountpoint.join("own");
    std::fs::write(&own, "").expect("write");
    place.mount(&[]).succeeded();
    assert!(!own.exists() && place.read() == "hello");
    place.umount(&[]).succeeded();
    assert!(own.exists());
}

#[test]
fn a_mount_point_inside_the_source_does_not_deadlock() {
    let place = Place::new();
    let inner = place.source.join("inner");
    std::fs::create_dir(&inner).expect("mkdir");
    fusewire([&place.source, &inner]).succeeded();
    let listing = run(Command::new("find").arg(&place.source)).succeeded().stdout;
    assert!(listing.contains("/inner/file"), "{listing}");
    assert!(!listing.contains("/inner/inner/"), "the mount does not show itself: {listing}");
    fusewire([Path::new("umount"), &inner]).succeeded();
}

#[test]
fn the_source_itself_can_be_the_mount_point() {
    let place = Place::new();
    fusewire([&place.source, &place.source]).succeeded();
    let file = place.source.join("file");
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), "hello");
    std::fs::write(&file, "changed").expect("writable");
    fusewire([Path::new("umount"), &place.source]).succeeded();
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), "changed");
}

#[test]
fn a_second_fusewire_on_top_is_refused() {
    let place = Place::new();
    for options in [&[][..], &["-o", "subtype=other"]] {
        place.mount(options).succeeded();
        let first = place.mounted();
        place.mount(&[]).failed(1, &[place.at(), "already", "fusewire umount"]);
        place.mount(&["-o", "subtype=third"]).failed(1, &[place.at(), "already"]);
        assert_eq!(place.mounted(), first, "{options:?}");
        assert_eq!(place.read(), "hello");
        place.umount(&[]).succeeded();
        assert_eq!(place.mounted(), None);
    }
}

#[test]
fn it_is_in_the_background_and_works_once_the_command_has_ended() {
    let place = Place::new();
    for _ in 0..5 {
        place.mount(&[]).succeeded();
        assert_eq!(place.read(), "hello");
        place.umount(&[]).succeeded();
    }
}

#[test]
fn the_daemon_holds_no_pipe_of_the_command() {
    let place = Place::new();
    let child = Command::new(binary())
        .args([&place.source, &place.mountpoint])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let waiter = std::thread::spawn(move || child.wait_with_output().expect("our child"));
    eventually("the pipes are closed while the daemon runs", || waiter.is_finished());
    assert!(waiter.join().expect("no panic").status.success());
    assert!(place.mounted().is_some());
    let pid = place.snapshot().pid;
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs");
    assert_eq!(cwd, Path::new("/"), "it keeps no directory busy");
}

/// Takes the names of the control sockets of all mounts that may be made next.
fn take_control_sockets() -> Vec<UnixListener> {
    let bind = |minor| {
        let name = SocketAddr::from_abstract_name(socket_name(0, minor)).expect("a valid name");
        UnixListener::bind_addr(&name).expect("nobody else is in this network namespace")
    };
    (0..2000).map(bind).collect()
}

#[test]
fn a_control_socket_that_is_taken_for_a_moment_is_waited_for() {
    let place = Place::new();
    // As when the mount before has gone, its number is used again, and its daemon is about to end.
    let taken = take_control_sockets();
    let end = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(taken);
    });
    let mounted = place.mount(&[]);
    end.join().expect("no panic");
    mounted.succeeded();
    assert_eq!(place.snapshot().mountpoint, place.at());
    place.umount(&[]).succeeded();
}

#[test]
fn a_control_socket_that_stays_taken_prevents_no_mount() {
    let place = Place::new();
    // Any user may take an abstract name; that must not deny the mount.
    let _taken = take_control_sockets();
    place.mount(&[]).succeeded();
    assert_eq!(place.read(), "hello");
    run(Command::new("umount").arg(&place.mountpoint)).succeeded();
}

#[test]
fn relative_paths_and_links_are_resolved() {
    let place = Place::new();
    symlink("source", place.path().join("link")).expect("symlink");
    let mut command = Command::new(binary());
    run(command.args(["link", "./mountpoint/"]).current_dir(place.path())).succeeded();
    assert_eq!(place.read(), "hello");
    let mount = place.mounted().expect("mounted");
    assert_eq!(mount.source, place.source.as_os_str(), "fsname is the source by default");
    assert_eq!(mount.fs_type, "fuse.fusewire");
    let mut command = Command::new(binary());
    run(command.args(["umount", "mountpoint"]).current_dir(place.path())).succeeded();
}

#[test]
fn options_show_in_the_mount_table() {
    let place = Place::new();
    let options = r"fsname=my\,disk,subtype=sub,ro,nosuid,nodev,noexec,noatime,allow_other";
    place.mount(&["-o", options]).succeeded();
    let mount = place.mounted().expect("mounted");
    assert_eq!((mount.fs_type.as_str(), mount.source.to_str()), ("fuse.sub", Some("my,disk")));
    for flag in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(mount.options.split(',').any(|option| option == flag), "{flag} in {mount:?}");
    }
    for flag in ["allow_other", "default_permissions"] {
        assert!(mount.super_options.split(',').any(|option| option == flag), "{flag} in {mount:?}");
    }
    place.umount(&[]).succeeded();
}

#[test]
fn read_only_and_noexec_are_honoured() {
    let place = Place::new();
    let script = place.source.join("script");
    std::fs::write(&script, "#!/bin/sh\n").expect("write");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("chmod");
    let through = place.mountpoint.join("script");
    place.mount(&["-o", "ro,noexec"]).succeeded();
    let error = std::fs::write(place.mountpoint.join("new"), "").expect_err("read-only");
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    let error = Command::new(&through).status().expect_err("noexec");
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    place.umount(&[]).succeeded();
    place.mount(&[]).succeeded();
    std::fs::write(place.mountpoint.join("new"), "").expect("writable again");
    assert!(Command::new(&through).status().expect("executable again").success());
}

#[test]
fn mount_8_and_fstab_options_work() {
    let place = Place::new();
    let fstab = "defaults,nofail,noauto,_netdev,x-systemd.automount,comment=local,ro,data=copy";
    // mount(8) starts mount.fuse3, which starts PROGRAM for a source of the form PROGRAM#SOURCE.
    let source = format!("{}#{}", binary().display(), place.source.display());
    let mut mount = Command::new("mount");
    run(mount.args(["-t", "fuse", "-o", fstab, &source, place.at()])).succeeded();
    let mounted = place.mounted().expect("mounted");
    assert!(mounted.options.starts_with("ro,"), "{mounted:?}");
    assert_eq!(place.snapshot().data.mode, "copy");
    run(Command::new("umount").arg(&place.mountpoint)).succeeded();
    assert_eq!(place.mounted(), None);
}

#[test]
fn a_link_named_like_a_mount_helper_mounts() {
    let place = Place::new();
    let helper = place.path().join("mount.fuse.fusewire");
    symlink(binary(), &helper).expect("symlink");
    let mut command = Command::new(helper);
    run(command.args([&place.source, &place.mountpoint]).args(["-n", "-o", "rw"])).succeeded();
    assert_eq!(place.read(), "hello");
    place.umount(&[]).succeeded();
}

#[test]
fn workers_and_pinning_are_what_was_asked_for() {
    let place = Place::new();
    for (args, workers, pinned) in
        [(&["--workers", "1"][..], 1, false), (&["-o", "workers=3,pin"], 3, true)]
    {
        place.mount(args).succeeded();
        let transport = place.snapshot().transport;
        assert_eq!((transport.workers, transport.pinned), (workers, pinned), "{transport:?}");
        place.umount(&[]).succeeded();
    }
}

#[test]
fn data_modes_are_what_was_asked_for() {
    let place = Place::new();
    for mode in ["passthrough", "splice", "copy"] {
        place.mount(&["--data", mode]).succeeded();
        assert_eq!(place.read(), "hello");
        let snapshot = place.settled();
        assert_eq!((snapshot.data.mode.as_str(), snapshot.data.requested.as_str()), (mode, mode));
        assert_eq!(snapshot.requests.contains_key("READ"), mode != "passthrough", "{snapshot:?}");
        place.umount(&[]).succeeded();
    }
}

/// Requests of one opcode while a file is looked at five times, some time apart.
fn requests(options: &str, opcode: &str, file: &str) -> u64 {
    let place = Place::new();
    place.mount(&["-o", options]).succeeded();
    // stat(2): for the birth time that statx(2) would ask for there is another opcode.
    let exists = file != "missing";
    let path = place.mountpoint.join(file);
    let look = || assert_eq!(nix::sys::stat::stat(&path).is_ok(), exists);
    look();
    let count = || place.settled().requests.get(opcode).map_or(0, |opcode| opcode.count);
    let before = count();
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        look();
    }
    let count = count() - before;
    place.umount(&[]).succeeded();
    count
}

#[test]
fn timeouts_are_honoured() {
    // Others on the machine may drop the kernel's caches meanwhile: not each attempt counts.
    let expect = |options: &str, opcode, file, want| {
        let attempts: Vec<u64> = (0..5).map(|_| requests(options, opcode, file)).collect();
        assert!(attempts.contains(&want), "{options}: {opcode} {attempts:?}, not {want}");
    };
    for (key, opcode, file) in [
        ("attr_timeout", "GETATTR", "file"),
        ("entry_timeout", "LOOKUP", "file"),
        ("negative_timeout", "LOOKUP", "missing"),
    ] {
        let base = "attr_timeout=100,entry_timeout=100,negative_timeout=100";
        expect(base, opcode, file, 0);
        for short in ["0", "0.01"] {
            expect(&format!("{base},{key}={short}"), opcode, file, 5);
        }
    }
}
