//! Rings on a machine whose CPUs come and go, or are not all the daemon's; and a ring that is full.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::common::raw;
use super::common::setting::Setting;
use super::common::warden::Warden;
use super::denied::{Ground, use_it};
use super::on_cpu;

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

/// The queues of a CPU that is away are there all the same, and it is served when it comes back.
#[test]
fn a_cpu_may_be_away_at_the_mount_or_go_later() {
    let ground = Ground::new();
    let Ok(away) = Setting::set(ONLINE, "0") else {
        eprintln!("no CPU can be taken away here: {ONLINE} is not to be written");
        return;
    };
    let daemon = ground.mount("transport=uring", |_| ()).expect("mount");
    use_it(&daemon.mountpoint);
    drop(away);
    use_it(&daemon.mountpoint);
    for _ in 0..3 {
        let away = Setting::set(ONLINE, "0").expect("take the CPU away");
        use_it(&daemon.mountpoint);
        drop(away);
        use_it(&daemon.mountpoint);
    }
}

/// A mask that the daemon was started with does not hold its queues back; a set of CPUs that it can
/// not leave makes them slower, not dead.
#[test]
fn a_daemon_that_may_not_run_everywhere_serves_everybody() {
    let ground = Ground::new();
    for confined in [false, true] {
        let mut warden = None;
        let daemon = ground.mount_through(&["taskset", "-c", "0"], "transport=uring", |command| {
            if confined {
                // As the kernel answers when no CPU of the mask is in the process's cpuset. The first
                // call is that of taskset.
                let calls = [libc::SYS_sched_setaffinity];
                let decide = |_, before| (before > 0).then_some(Errno::EINVAL);
                warden = Some(Warden::set(command, &calls, decide));
            }
        });
        let daemon = daemon.expect("mount");
        assert_eq!(daemon.stats().expect("stats").transport.name, "uring");
        use_it(&daemon.mountpoint);
    }
}

/// More requests of one CPU than its ring has entries, all of which wait.
#[test]
fn requests_that_find_the_ring_full_wait_their_turn() {
    const CLIENTS: usize = 200;
    let ground = Ground::new();
    raw::ignore_signal(libc::SIGIO);
    let daemon = ground.mount("transport=uring", |_| ()).expect("mount");
    let leased = File::open(daemon.source.join("file")).expect("open the source's file");
    raw::set_lease(&leased, libc::F_RDLCK).expect("take a lease");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let path = daemon.mountpoint.join("file");
            thread::spawn(move || {
                on_cpu(0);
                File::options().write(true).open(path)?.metadata().map(|metadata| metadata.size())
            })
        })
        .collect();
    // All that can be under way are.
    let waiting = || daemon.stats().map_or(0, |stats| stats.live.open_files);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        assert_eq!(waiting(), 0, "the lease did not hold the opens up");
        thread::sleep(Duration::from_millis(50));
    }
    raw::set_lease(&leased, libc::F_UNLCK).expect("give the lease back");
    for client in clients {
        assert_eq!(client.join().expect("no panic").expect("open"), 5);
    }
    use_it(&daemon.mountpoint);
    assert_eq!(fs::read_to_string(daemon.source.join("file")).expect("read"), "hello");
}
