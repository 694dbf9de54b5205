//! One reader, and what happens to its file meanwhile. The mount of node 1 is the oracle.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::thread;
use std::time::{Duration, Instant};

use fusewire::metrics::snapshot::Locality;
use nix::sys::signal::Signal;

use super::ground::Ground;
use crate::common::actor::ALICE;
use crate::common::daemon::Daemon;
use crate::tool::tool;

pub(crate) fn text(error: impl ToString) -> String {
    error.to_string()
}

pub(crate) fn expect(what: &str, found: &[u8], wanted: &[u8]) -> Result<(), String> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    match found == wanted {
        true => Ok(()),
        false => Err(format!(
            "{what}: {} bytes {:?} instead of {} bytes {:?}",
            found.len(),
            shown(found),
            wanted.len(),
            shown(wanted)
        )),
    }
}

pub(crate) fn read(daemon: &Daemon, name: &str) -> Result<Vec<u8>, String> {
    fs::read(daemon.mountpoint.join(name)).map_err(|error| format!("read {name}: {error}"))
}

/// Bytes that no other file has, of a length that is no multiple of a page.
fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let word = |index: u32| index.wrapping_mul(2_654_435_761).wrapping_add(seed).to_le_bytes();
    (0..).flat_map(word).take(len).collect()
}

/// Fails unless the last look for a replica was as expected.
fn is_local(
    ground: &Ground,
    daemon: &Daemon,
    before: &Locality,
    local: bool,
) -> Result<(), String> {
    let now = ground.figures(daemon)?;
    let reads = (now.replica_reads - before.replica_reads, now.mount_reads - before.mount_reads);
    match (reads, local) {
        // A metadata server that is busy has a READ go through the mount.
        ((1.., _), true) | ((0, 1..), false) => Ok(()),
        _ => Err(format!("{reads:?} reads from the spool and through the mount: {now:?}")),
    }
}

/// Until this node is asked again, and Gfarm remembers nothing older, on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Reads a file until it comes from the spool, and is right each time.
pub(crate) fn from_spool(
    ground: &Ground,
    daemon: &Daemon,
    name: &str,
    content: &[u8],
) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let before = ground.figures(daemon)?;
        let file = File::open(daemon.mountpoint.join(name)).map_err(text)?;
        drop_pages(&file)?;
        expect(name, &read(daemon, name)?, content)?;
        let now = ground.figures(daemon)?;
        if now.replica_bytes >= before.replica_bytes + content.len() as u64 {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{name} is not read from the spool: {now:?}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// A whole file, and pieces of it.
pub(crate) fn from_the_spool(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(1, 3 << 20 | 123);
    ground.store("here", &content, 1)?;
    ground.store("empty", b"", 1)?;
    let daemon = ground.mount("from-the-spool", &ground.options())?;
    let before = ground.figures(&daemon)?;
    expect("the whole", &read(&daemon, "here")?, &content)?;
    let file = File::open(daemon.mountpoint.join("here")).map_err(text)?;
    for offset in [0, 4095, 1 << 20, content.len() - 5, content.len(), content.len() + 9000] {
        let mut piece = vec![0; 5000];
        let len = file.read_at(&mut piece, offset as u64).map_err(text)?;
        let end = content.len().min(offset + 5000);
        expect("a piece", &piece[..len], content.get(offset..end).unwrap_or_default())?;
    }
    is_local(ground, &daemon, &before, true)?;
    expect("nothing", &read(&daemon, "empty")?, b"")
}

/// What this node has nothing of comes through the mount.
pub(crate) fn of_another_node(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(2, 300_001);
    ground.store("there", &content, 2)?;
    let daemon = ground.mount("another-node", &ground.options())?;
    let before = ground.figures(&daemon)?;
    expect("what is read", &read(&daemon, "there")?, &content)?;
    is_local(ground, &daemon, &before, false)?;
    match ground.figures(&daemon)?.misses.get("elsewhere") {
        Some(1..) => Ok(()),
        other => Err(format!("it was missed {other:?} times")),
    }
}

/// Without the second for which names and attributes are trusted.
pub(crate) fn distrustful(ground: &Ground) -> String {
    format!("{},entry_timeout=0,attr_timeout=0", ground.options())
}

/// After each close of a writer on another node its bytes are read, though size and time may be as
/// they were, and the spool of this node still has the old ones for a while.
pub(crate) fn after_a_rewrite(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    ground.store("rewritten", &bytes(0, 70_000), 1)?;
    ground.replicate("rewritten", 2)?;
    let daemon = ground.mount("rewritten", &distrustful(ground))?;
    let same = fs::metadata(ground.node(2, "rewritten")).and_then(|file| file.modified());
    let same = same.map_err(text)?;
    for round in 1..=12 {
        let content = bytes(round, 70_000);
        let path = ground.node(1 + round as usize % 2, "rewritten");
        let file = OpenOptions::new().write(true).open(&path).map_err(text)?;
        file.write_all_at(&content, 0).map_err(text)?;
        drop(file);
        if round % 3 == 0 {
            let file = OpenOptions::new().write(true).open(&path).map_err(text)?;
            file.set_modified(same).map_err(text)?;
        }
        expect(&format!("round {round}"), &read(&daemon, "rewritten")?, &content)?;
    }
    match ground.figures(&daemon)?.replica_reads {
        0 => Err(format!("never from the spool: {:?}", ground.figures(&daemon)?)),
        _ => Ok(()),
    }
}

pub(crate) fn after_a_truncation(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(3, 50_000);
    ground.store("shorter", &content, 1)?;
    let daemon = ground.mount("shorter", &distrustful(ground))?;
    from_spool(ground, &daemon, "shorter", &content)?;
    for len in [20_000, 4096, 1, 0] {
        let file = OpenOptions::new().write(true).open(ground.node(2, "shorter")).map_err(text)?;
        file.set_len(len).map_err(text)?;
        drop(file);
        let len = usize::try_from(len).map_err(text)?;
        expect(&format!("at {len}"), &read(&daemon, "shorter")?, &content[..len])?;
    }
    let mut file = OpenOptions::new().append(true).open(ground.node(2, "shorter")).map_err(text)?;
    file.write_all(b"and again").map_err(text)?;
    drop(file);
    expect("appended to", &read(&daemon, "shorter")?, b"and again")
}

/// A descriptor stays with the file that it was opened for, as that of the mount does: whatever the
/// name leads to later, no byte of it may show.
pub(crate) fn of_what_was_renamed_over(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let (old, new) = (bytes(4, 40_000), bytes(5, 40_000));
    ground.store("name", &old, 1)?;
    ground.store("name.new", &new, 1)?;
    let daemon = ground.mount("renamed", &distrustful(ground))?;
    from_spool(ground, &daemon, "name", &old)?;
    let file = File::open(daemon.mountpoint.join("name")).map_err(text)?;
    let mut piece = vec![0; 4096];
    file.read_exact_at(&mut piece, 0).map_err(text)?;
    expect("before", &piece, &old[..4096])?;
    fs::rename(ground.node(2, "name.new"), ground.node(2, "name")).map_err(text)?;
    // Longer than anything is believed without being asked again.
    thread::sleep(Duration::from_millis(1200));
    drop_pages(&file)?;
    for offset in (0..36_864).step_by(4096) {
        match file.read_exact_at(&mut piece, offset as u64) {
            Ok(()) => expect("after", &piece, &old[offset..offset + 4096])?,
            // The mount may know nothing any more of what has no name.
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => {}
            Err(error) => return Err(format!("at {offset}: {error}")),
        }
    }
    expect("opened again", &read(&daemon, "name")?, &new)
}

/// Lets go of what the kernel keeps of a file.
fn drop_pages(file: &File) -> Result<(), String> {
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    nix::fcntl::posix_fadvise(file, 0, 0, advice).map_err(text)
}

/// What is written is there once it is closed, on this mount and on others.
pub(crate) fn beside_an_open_writer(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let (old, new) = (bytes(6, 30_000), bytes(7, 30_000));
    ground.store("open", &old, 1)?;
    ground.replicate("open", 2)?;
    let daemon = ground.mount("writer", &distrustful(ground))?;
    from_spool(ground, &daemon, "open", &old)?;
    let writer = OpenOptions::new().write(true).open(daemon.mountpoint.join("open"));
    let writer = writer.map_err(text)?;
    let before = ground.figures(&daemon)?;
    writer.write_all_at(&new, 0).map_err(text)?;
    read(&daemon, "open")?;
    let during = ground.figures(&daemon)?;
    if during.replica_reads > before.replica_reads {
        return Err(format!("a file that is open for writing is read from the spool: {during:?}"));
    }
    drop(writer);
    expect("after the close", &read(&daemon, "open")?, &new)?;
    let on_the_other = fs::read(ground.node(2, "open")).map_err(text)?;
    expect("on the other node", &on_the_other, &new)
}

/// Who may not read a file does not, whatever lies in the spool.
pub(crate) fn with_permission(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(8, 10_000);
    ground.store("private", &content, 1)?;
    let daemon = ground.mount("permission", &distrustful(ground))?;
    from_spool(ground, &daemon, "private", &content)?;
    let path = daemon.mountpoint.join("private");
    let by_alice = || {
        let ids = [format!("--reuid={}", ALICE.uid), format!("--regid={}", ALICE.gid)];
        let command = tool("setpriv", "util-linux").args(ids).args(["--clear-groups", "cat"]);
        command.arg(&path).output()
    };
    for (mode, allowed) in [(0o644, true), (0o600, false), (0o604, true)] {
        fs::set_permissions(ground.node(1, "private"), Permissions::from_mode(mode))
            .map_err(text)?;
        expect("to root", &read(&daemon, "private")?, &content)?;
        let output = by_alice()?;
        match (allowed, output.status.success()) {
            (true, true) => expect("to alice", &output.stdout, &content)?,
            (false, false) if output.stdout.is_empty() => {}
            _ => return Err(format!("mode {mode:o}, alice: {output:?}")),
        }
    }
    Ok(())
}

/// A file of the other node gets a replica here while it is open.
pub(crate) fn made_meanwhile(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(9, 2 << 20);
    ground.store("coming", &content, 2)?;
    let daemon = ground.mount("coming", &ground.options())?;
    let file = File::open(daemon.mountpoint.join("coming")).map_err(text)?;
    let look = |what: &str| {
        let mut piece = vec![0; content.len()];
        file.read_exact_at(&mut piece, 0).map_err(text)?;
        expect(what, &piece, &content)
    };
    look("before")?;
    ground.replicate("coming", 1)?;
    drop_pages(&file)?;
    look("open all the while")?;
    let before = ground.figures(&daemon)?;
    // Opened again; its pages are read anew.
    expect("opened again", &read(&daemon, "coming")?, &content)?;
    is_local(ground, &daemon, &before, true)
}

/// A file that somebody removes from the spool is read as the mount has it: from the other replica, or
/// not at all.
pub(crate) fn lost(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(10, 20_000);
    for (name, replicas) in [("lost-one", 1), ("lost-both", 2)] {
        ground.store(name, &content, 1)?;
        if replicas == 2 {
            ground.replicate(name, 2)?;
        }
    }
    let daemon = ground.mount("lost", &ground.options())?;
    for name in ["lost-one", "lost-both"] {
        from_spool(ground, &daemon, name, &content)?;
        let open = File::open(daemon.mountpoint.join(name)).map_err(text)?;
        let mut piece = vec![0; 4096];
        open.read_exact_at(&mut piece, 0).map_err(text)?;
        expect("before", &piece, &content[..4096])?;
        fs::remove_file(ground.in_spool(name, 1)?).map_err(text)?;
        drop_pages(&open)?;
        let (ours, theirs) = (read(&daemon, name), fs::read(ground.node(1, name)));
        match (ours, theirs) {
            (Ok(ours), Ok(_)) => expect("after", &ours, &content)?,
            (Err(_), Err(_)) => {}
            (ours, theirs) => {
                return Err(format!("{name}: {:?} and {:?}", ours.map(drop), theirs.map(drop)));
            }
        }
    }
    Ok(())
}

/// Without the storage node of this machine everything comes through the mount, from the other.
pub(crate) fn storage_node_gone(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(11, 100_000);
    ground.store("twice", &content, 1)?;
    ground.replicate("twice", 2)?;
    let daemon = ground.mount("node-gone", &ground.options())?;
    from_spool(ground, &daemon, "twice", &content)?;
    ground.stop("gfsd1")?;
    let ours = read(&daemon, "twice");
    let theirs = fs::read(ground.node(1, "twice"));
    ground.mend()?;
    match (ours, theirs) {
        (Ok(ours), Ok(_)) => expect("without it", &ours, &content)?,
        (Err(_), Err(_)) => {}
        (ours, theirs) => return Err(format!("{:?} and {:?}", ours.map(drop), theirs.map(drop))),
    }
    from_spool(ground, &daemon, "twice", &content)
}

/// A metadata server that does not answer keeps nobody from asking for figures, and nothing mounted.
pub(crate) fn silent(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let content = bytes(12, 9_000);
    ground.store("silence", &content, 1)?;
    let daemon = ground.mount("silent", &ground.options())?;
    from_spool(ground, &daemon, "silence", &content)?;
    ground.signal("gfmd", Signal::SIGSTOP);
    let path = daemon.mountpoint.join("silence");
    // May wait in the mount below, as anybody would who uses that.
    let waiting = thread::spawn(move || fs::read(path));
    thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    let figures = ground.figures(&daemon);
    let told = began.elapsed();
    let unmounted = ground.fusewire(&["umount", "--lazy"], &daemon.mountpoint);
    let gone = began.elapsed();
    ground.signal("gfmd", Signal::SIGCONT);
    let _ = waiting.join();
    figures?;
    unmounted?;
    match gone < Duration::from_secs(15) {
        true => Ok(()),
        false => Err(format!("figures after {told:?}, gone after {gone:?}")),
    }
}
