//! GlusterFS: two volumes, each mounted twice, and fusewire over the first mount of each.

mod volumes;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use fusewire::metrics::snapshot::Locality;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::cluster::Cluster;
use crate::common::actor::{ALICE, BOB};
use crate::common::daemon::Daemon;
use crate::common::limit::{Body, in_turn};
use crate::common::shell::pattern;
use crate::tool::{exclusively, fusewire, tool};
use crate::torture;

/// Until what mounts and bricks remember has run out, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const LENGTH: usize = 300_001;

pub(crate) const TESTS: [(&str, Body<Ground>); 17] = [
    ("gluster::what_others_write", what_others_write),
    ("gluster::what_is_cached", what_is_cached),
    ("gluster::what_is_open_for_writing", what_is_open_for_writing),
    ("gluster::changes_while_open", changes_while_open),
    ("gluster::torture_spread", |ground| tortured(ground, "dist")),
    ("gluster::torture_replicated", |ground| tortured(ground, "repl")),
    ("gluster::a_brick_that_ends", a_brick_that_ends),
    ("gluster::a_file_that_is_gone_from_its_brick", a_file_that_is_gone_from_its_brick),
    ("gluster::files_that_are_moved", files_that_are_moved),
    ("gluster::marks", marks),
    ("gluster::permissions", permissions),
    ("gluster::held", held),
    ("gluster::volumes::sharded", volumes::sharded),
    ("gluster::volumes::dispersed", volumes::dispersed),
    ("gluster::volumes::stopped_under_load", volumes::stopped_under_load),
    ("gluster::volumes::no_storage_node", volumes::no_storage_node),
    ("gluster::volumes::clocks_that_disagree", volumes::clocks_that_disagree),
];

/// A cluster, and a fusewire over each volume.
pub(crate) struct Ground {
    dist: Daemon,
    repl: Daemon,
    cluster: Cluster,
    /// Held by a test that takes bricks or their files away, or can not bear that another does.
    alone_on_dist: Mutex<()>,
    alone_on_repl: RwLock<()>,
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn expect(what: &str, good: bool) -> Result<(), String> {
    if good { Ok(()) } else { Err(what.to_owned()) }
}

impl Ground {
    /// None where GlusterFS is not installed.
    pub(crate) fn prepare() -> Result<Option<Self>, String> {
        let Some(cluster) = Cluster::up("cluster-gluster.sh", "glusterd")? else { return Ok(None) };
        refusals(&cluster)?;
        let start = |volume: &str, options: &str| {
            let above = cluster.folder.join(format!("above-{volume}"));
            fs::create_dir(&above).map_err(text)?;
            let below = cluster.folder.join(format!("{volume}1"));
            exclusively(|| Daemon::start(&below, &above, "auto", options))
        };
        let dist = start("dist", "locality=gluster,allow_other,transport=uring")?;
        let repl = start("repl", "locality=auto,allow_other,transport=dev")?;
        let (alone_on_dist, alone_on_repl) = Default::default();
        Ok(Some(Ground { dist, repl, cluster, alone_on_dist, alone_on_repl }))
    }

    fn alone_on_dist(&self) -> MutexGuard<'_, ()> {
        in_turn(|| self.alone_on_dist.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn alone_on_repl(&self) -> RwLockWriteGuard<'_, ()> {
        in_turn(|| self.alone_on_repl.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn while_repl_is_whole(&self) -> RwLockReadGuard<'_, ()> {
        in_turn(|| self.alone_on_repl.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn daemon(&self, volume: &str) -> &Daemon {
        if volume == "dist" { &self.dist } else { &self.repl }
    }

    /// The second mount of a volume.
    fn there(&self, volume: &str) -> PathBuf {
        self.cluster.folder.join(format!("{volume}2"))
    }

    fn brick(&self, name: &str) -> PathBuf {
        self.cluster.folder.join("bricks").join(name)
    }

    fn gluster(&self, line: &str) -> Result<String, String> {
        let gluster = self.cluster.folder.join("gluster");
        tool(gluster, "glusterfs-cli").args(line.split(' ')).run()
    }
}

/// What is refused, and with which words.
fn refusals(cluster: &Cluster) -> Result<(), String> {
    let above = cluster.folder.join("refused");
    fs::create_dir(&above).map_err(text)?;
    let (plain, mount) = (cluster.folder.join("log"), cluster.folder.join("dist1"));
    for (source, options, words) in [
        (&plain, "locality=gluster", "the source is no FUSE mount"),
        (&mount, "locality=gluster,data=passthrough", "does not go with --data passthrough"),
        (&mount, "locality=gluster,replica=held", "takes a read-only mount"),
        (&mount, "replica=held,ro", "say which"),
        (&mount, "locality=gluster,replica=held,ro,data=copy", "does not go with --data copy"),
        (&mount, "locality=gluster,profile=read-mostly", "does not go with profile=read-mostly"),
    ] {
        let output = fusewire().arg("mount").args([source, &above]).args(["-f", "-o", options]);
        let output = output.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        expect(&format!("{options}: {said}"), said.contains(words) && !output.status.success())?;
    }
    Ok(())
}

/// Writes a file as a whole.
fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| format!("write {}: {error}", path.display()))
}

/// Reads until it is what is wanted; fails at once if it is what was never there.
fn becomes(
    what: &str,
    old: &[u8],
    new: &[u8],
    read: impl Fn() -> Result<Vec<u8>, String>,
) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let found = read()?;
        if found == new {
            return Ok(());
        }
        let length = found.len();
        expect(&format!("{what}: {length} bytes that were never there"), found == old)?;
        expect(&format!("{what}: as it was for too long"), began.elapsed() < PATIENCE)?;
        thread::sleep(Duration::from_millis(20));
    }
}

fn all_of(file: &File) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 2 * LENGTH];
    let mut count = 0;
    loop {
        match file.read_at(&mut bytes[count..], count as u64).map_err(text)? {
            0 => break,
            more => count += more,
        }
    }
    bytes.truncate(count);
    Ok(bytes)
}

fn locality(daemon: &Daemon) -> Result<Locality, String> {
    Ok(daemon.settled()?.locality)
}

/// Reads a file of fusewire until it comes from a brick, or is cached from there, and is right each time.
fn read_locally(daemon: &Daemon, name: &str, content: &[u8]) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let before = locality(daemon)?;
        let found = fs::read(daemon.mountpoint.join(name)).map_err(text)?;
        expect(&format!("{name}: {} bytes", found.len()), found == content)?;
        let after = locality(daemon)?;
        let reads = |locality: &Locality| (locality.replica_reads, locality.mount_reads);
        let cached = reads(&after) == reads(&before);
        if cached || after.replica_bytes >= before.replica_bytes + content.len() as u64 {
            return Ok(());
        }
        expect(&format!("{name} is not read locally: {after:?}"), began.elapsed() < PATIENCE)?;
        thread::sleep(Duration::from_millis(200));
    }
}

/// What another node writes is read here, from this machine's disk.
fn what_others_write(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    for volume in ["dist", "repl"] {
        let daemon = ground.daemon(volume);
        let there = ground.there(volume).join("others");
        fs::create_dir(&there).map_err(text)?;
        for number in 0..8_u8 {
            let content = pattern(number.into(), LENGTH * usize::from(number) / 4);
            let name = format!("others/{number}");
            write(&ground.there(volume).join(&name), &content)?;
            match content.is_empty() {
                true => expect(
                    "empty",
                    fs::read(daemon.mountpoint.join(&name)).map_err(text)?.is_empty(),
                )?,
                false => read_locally(daemon, &name, &content)?,
            }
            fs::rename(there.join(number.to_string()), there.join(format!("moved-{number}")))
                .map_err(text)?;
        }
        let content = pattern(7, LENGTH * 7 / 4);
        read_locally(daemon, "others/moved-7", &content)?;
    }
    Ok(())
}

/// What was read is read again without a READ, by whoever opens the file, until another node changes it.
fn what_is_cached(ground: &Ground) -> Result<(), String> {
    let _alone = ground.alone_on_dist();
    let daemon = ground.daemon("dist");
    let (path, there) = (daemon.mountpoint.join("cached"), ground.there("dist").join("cached"));
    let mut content = pattern(1, LENGTH);
    write(&there, &content)?;
    let writer = OpenOptions::new().write(true).open(&there).map_err(text)?;
    for round in 0..10_u64 {
        // What has just been changed is not kept.
        thread::sleep(Duration::from_millis(50));
        read_locally(daemon, "cached", &content)?;
        // Other tests read through this mount as well: once they do not.
        let began = Instant::now();
        while reads_of_three(daemon, &path, &content)? > 0 {
            expect("what is cached is read again each time", began.elapsed() < PATIENCE)?;
        }
        let old = content.clone();
        content[..8].copy_from_slice(&(round + 1000).to_le_bytes());
        writer.write_all_at(&content[..8], 0).and_then(|()| writer.sync_all()).map_err(text)?;
        becomes("here", &old, &content, || fs::read(&path).map_err(text))?;
    }
    Ok(())
}

/// READs that the daemon has while a file is opened and read three times.
fn reads_of_three(daemon: &Daemon, path: &Path, content: &[u8]) -> Result<u64, String> {
    let reads = || locality(daemon).map(|locality| locality.replica_reads + locality.mount_reads);
    let before = reads()?;
    for _ in 0..3 {
        expect("as it was", fs::read(path).map_err(text)? == content)?;
    }
    Ok(reads()? - before)
}

/// Who writes here reads what was written, and so does everybody else here, at once.
fn what_is_open_for_writing(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    for volume in ["dist", "repl"] {
        let daemon = ground.daemon(volume);
        let path = daemon.mountpoint.join("written");
        write(&path, &pattern(1, LENGTH))?;
        read_locally(daemon, "written", &pattern(1, LENGTH))?;
        let reader = File::open(&path).map_err(text)?;
        let writer = OpenOptions::new().write(true).open(&path).map_err(text)?;
        for round in 0..50_u64 {
            let at = round * 5000 % (LENGTH as u64 - 4);
            writer.write_all_at(&round.to_le_bytes()[..4], at).map_err(text)?;
            let mut four = [0; 4];
            reader.read_exact_at(&mut four, at).map_err(text)?;
            expect("what was just written", four == round.to_le_bytes()[..4])?;
        }
        drop(writer);
        let content = all_of(&reader)?;
        let there = ground.there(volume).join("written");
        becomes("the other node", &pattern(1, LENGTH), &content, || {
            fs::read(&there).map_err(text)
        })?;
        read_locally(daemon, "written", &content)?;
    }
    Ok(())
}

/// What another node does to a file shows to who has it open.
fn changes_while_open(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    for volume in ["dist", "repl"] {
        let daemon = ground.daemon(volume);
        let there = ground.there(volume).join("open");
        let (old, new) = (pattern(2, LENGTH), pattern(3, LENGTH));
        write(&there, &old)?;
        read_locally(daemon, "open", &old)?;
        let reader = File::open(daemon.mountpoint.join("open")).map_err(text)?;
        expect("as it was written", all_of(&reader)? == old)?;
        let writer = OpenOptions::new().write(true).open(&there).map_err(text)?;
        writer.write_all_at(&new[..4096], 0).and_then(|()| writer.sync_all()).map_err(text)?;
        let mixed = [&new[..4096], &old[4096..]].concat();
        becomes("written in place", &old, &mixed, || all_of(&reader))?;
        writer.set_len(100).and_then(|()| writer.sync_all()).map_err(text)?;
        becomes("truncated", &mixed, &mixed[..100], || all_of(&reader))?;
        drop(writer);
        fs::rename(&there, there.with_extension("moved")).map_err(text)?;
        expect("renamed", all_of(&reader)? == mixed[..100])?;
        write(&there, &new)?;
        // GlusterFS's own mount may go on with the old one for as long as somebody has it open.
        let began = Instant::now();
        loop {
            let own = fs::read(daemon.source.join("open")).map_err(text)?;
            let found = fs::read(daemon.mountpoint.join("open")).map_err(text)?;
            expect("another of its name", found == new || found == mixed[..100])?;
            if found == new || found == own && began.elapsed() > Duration::from_secs(4) {
                break;
            }
            expect("not as its own mount", began.elapsed() < PATIENCE)?;
            thread::sleep(Duration::from_millis(50));
        }
        expect("still open", all_of(&reader)? == mixed[..100])?;
        fs::remove_file(there.with_extension("moved")).map_err(text)?;
        let removed = all_of(&reader);
        let gone = matches!(&removed, Err(error) if error.contains("os error"));
        expect("removed", gone || removed == Ok(mixed[..100].to_vec()))?;
    }
    Ok(())
}

fn tortured(ground: &Ground, volume: &str) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    let _in_place = (volume == "dist").then(|| ground.alone_on_dist());
    let daemon = ground.daemon(volume);
    let there = ground.there(volume);
    let (reads, writes) =
        torture::run(&daemon.mountpoint, [&there, &daemon.mountpoint], |_| false)?;
    let found = locality(daemon)?;
    eprintln!("{volume}: {reads} reads and {writes} writes; {found:?}");
    expect("nothing was read locally", found.replica_reads > 0)?;
    expect("nobody read or wrote", reads > 100 && writes > 5)
}

/// A brick that has missed what was written is not read until it is healed.
fn a_brick_that_ends(ground: &Ground) -> Result<(), String> {
    let _alone = ground.alone_on_repl();
    let (daemon, there) = (&ground.repl, ground.there("repl").join("brick"));
    let (old, new) = (pattern(4, LENGTH), pattern(5, LENGTH));
    write(&there, &old)?;
    read_locally(daemon, "brick", &old)?;
    let reader = File::open(daemon.mountpoint.join("brick")).map_err(text)?;
    expect("as it was written", all_of(&reader)? == old)?;
    let pids = ground.cluster.folder.join("run/vols/repl");
    let file = fs::read_dir(&pids).map_err(text)?.flatten().map(|entry| entry.path());
    let file = file.into_iter().find(|path| path.to_string_lossy().ends_with("repl-1.pid"));
    let pid = fs::read_to_string(file.ok_or("no pid of a brick")?).map_err(text)?;
    let pid = Pid::from_raw(pid.trim().parse().map_err(text)?);
    kill(pid, Signal::SIGKILL).map_err(text)?;
    // An orphan, and so this program's to wait for: until then GlusterFS takes it for alive.
    waitpid(pid, None).map_err(text)?;
    let writer = OpenOptions::new().write(true).open(&there).map_err(text)?;
    writer.write_all_at(&new, 0).and_then(|()| writer.sync_all()).map_err(text)?;
    drop(writer);
    let brick = fs::read(ground.brick("repl-1/brick")).map_err(text)?;
    expect("the brick that ended has missed it", brick == old)?;
    // Block by block it is the one or the other.
    let began = Instant::now();
    while all_of(&reader)? != new {
        expect("as it was for too long", began.elapsed() < PATIENCE)?;
        thread::sleep(Duration::from_millis(50));
    }
    let misses = locality(daemon)?.misses;
    expect(&format!("nothing was noticed: {misses:?}"), misses.contains_key("unhealed"))?;
    ground.gluster("volume start repl force")?;
    for _ in 0..20 {
        let found = fs::read(daemon.mountpoint.join("brick")).map_err(text)?;
        expect("while it is healed", found == new && all_of(&reader)? == new)?;
        thread::sleep(Duration::from_millis(100));
    }
    read_locally(daemon, "brick", &new)?;
    drop(reader);
    let began = Instant::now();
    while fs::read(ground.brick("repl-1/brick")).map_err(text)? != new {
        expect("GlusterFS does not heal it", began.elapsed() < PATIENCE)?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What was taken away below the distributed file system is read as its own mount reads it.
fn a_file_that_is_gone_from_its_brick(ground: &Ground) -> Result<(), String> {
    let _alone = ground.alone_on_dist();
    let (daemon, there) = (&ground.dist, ground.there("dist").join("gone"));
    let content = pattern(6, LENGTH);
    write(&there, &content)?;
    read_locally(daemon, "gone", &content)?;
    let reader = File::open(daemon.mountpoint.join("gone")).map_err(text)?;
    let bricks = ["dist-1", "dist-2"].map(|name| ground.brick(name));
    let brick = bricks.iter().find(|brick| brick.join("gone").exists()).ok_or("no brick has it")?;
    let link = tool("find", "findutils").arg(brick.join(".glusterfs")).args(["-samefile"]);
    let link = link.arg(brick.join("gone")).run()?;
    expect("its second name", link.trim().contains(".glusterfs/"))?;
    fs::remove_file(link.trim())
        .and_then(|()| fs::remove_file(brick.join("gone")))
        .map_err(text)?;
    let own = |path: &Path| fs::read(path).map_err(|error| error.raw_os_error());
    // An open of what a mount still knows by its name is ESTALE there, which a lookup then tells as ENOENT.
    let known = [Ok(content.clone()), Err(Some(libc::ESTALE))];
    let mut agreed = false;
    for _ in 0..8 {
        match all_of(&reader) {
            Ok(found) => expect("open", found == content)?,
            Err(error) => expect(&error, error.contains("os error"))?,
        }
        let (here, there) = (own(&daemon.mountpoint.join("gone")), own(&there));
        agreed = here == there;
        expect(
            &format!("opened anew: {:?}", here.as_ref().map(Vec::len)),
            agreed || known.contains(&here),
        )?;
        thread::sleep(Duration::from_millis(300));
    }
    expect("after its names have expired it is as gone as natively", agreed)?;
    Ok(())
}

/// A rebalance empties the brick's files once it has copied them: nobody may see that.
fn files_that_are_moved(ground: &Ground) -> Result<(), String> {
    let _alone = ground.alone_on_dist();
    const FILES: u64 = 60;
    let daemon = &ground.dist;
    let there = ground.there("dist").join("moves");
    fs::create_dir(&there).map_err(text)?;
    let name = |number| format!("moves/file-{number}");
    for number in 0..FILES {
        write(&there.join(format!("file-{number}")), &pattern(number, 50_000))?;
    }
    let open: Vec<File> = (0..FILES)
        .map(|number| File::open(daemon.mountpoint.join(name(number))).map_err(text))
        .collect::<Result<_, _>>()?;
    let over = AtomicBool::new(false);
    let look = || -> Result<u64, String> {
        let mut looks = 0;
        while !over.load(SeqCst) || looks == 0 {
            for number in 0..FILES {
                let wanted = pattern(number, 50_000);
                let index = usize::try_from(number).expect("few");
                let found = all_of(&open[index])?;
                expect(&format!("open file {number}: {} bytes", found.len()), found == wanted)?;
                // What was read is not asked for again: it has to be opened anew.
                let found = fs::read(daemon.mountpoint.join(name(number))).map_err(text)?;
                expect(&format!("file {number}: {} bytes", found.len()), found == wanted)?;
                looks += 1;
            }
        }
        Ok(looks)
    };
    let address = "10.78.0.1";
    let third = ground.brick("dist-3");
    let moved = thread::scope(|scope| {
        let looking = scope.spawn(look);
        let result = || {
            ground
                .gluster(&format!("volume add-brick dist {address}:{} force", third.display()))?;
            ground.gluster("volume rebalance dist start force")?;
            let began = Instant::now();
            while !ground.gluster("volume rebalance dist status")?.contains("completed") {
                expect("the rebalance takes too long", began.elapsed() < 2 * PATIENCE)?;
                thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        };
        let result: Result<(), String> = result();
        over.store(true, SeqCst);
        let looks = looking.join().expect("no panic")?;
        result.map(|()| looks)
    })?;
    let in_third = fs::read_dir(third.join("moves")).map_err(text)?.flatten();
    let in_third =
        in_third.filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0));
    let count = in_third.count();
    eprintln!("{moved} looks while {count} files were moved");
    expect("nothing was moved", count > 0)
}

/// A file that is marked as a piece, a link, or in need of repair is read through the mount; what users
/// can write that looks like it means nothing.
fn marks(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    let daemon = &ground.repl;
    let set = |path: &Path, name: &str, value: &str| {
        tool("setfattr", "attr").args(["-n", name, "-v", value]).arg(path).run()
    };
    for (index, (name, value, miss)) in [
        ("trusted.glusterfs.shard.block-size", "0x0000000000400000", "encoded"),
        ("trusted.ec.config", "0x0000080301000200", "encoded"),
        ("trusted.glusterfs.dht.linkto", "0x616200", "moved"),
        ("trusted.afr.repl-client-1", "0x000000010000000000000000", "unhealed"),
        ("trusted.new-in-the-next-version", "0x01", "marked"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("marked-{index}");
        let content = pattern(index as u64 + 20, 10_000);
        write(&ground.there("repl").join(&file), &content)?;
        read_locally(daemon, &file, &content)?;
        for brick in ["repl-1", "repl-2"] {
            set(&ground.brick(brick).join(&file), name, value)?;
        }
        let counted = |now: &Locality| now.misses.get(miss).copied().unwrap_or(0);
        let before = locality(daemon)?;
        let found = fs::read(daemon.mountpoint.join(&file)).map_err(text)?;
        expect(&format!("{name}: {} bytes", found.len()), found == content)?;
        let after = locality(daemon)?;
        expect(&format!("{name} is not seen: {after:?}"), counted(&after) > counted(&before))?;
    }
    let content = pattern(30, 10_000);
    let path = ground.there("repl").join("looks-marked");
    write(&path, &content)?;
    for name in ["user.trusted.ec.config", "user.trusted.glusterfs.shard.block-size"] {
        set(&path, name, "0x01")?;
    }
    read_locally(daemon, "looks-marked", &content)?;
    let odd = "x> <POSIX(\n/etc):vm:/etc";
    let folder = odd.replace('/', "_");
    fs::create_dir(ground.there("repl").join(&folder)).map_err(text)?;
    write(&ground.there("repl").join(&folder).join("in"), &content)?;
    read_locally(daemon, &format!("{folder}/in"), &content)
}

/// Whoever may not read a file of the volume may not read it here.
fn permissions(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    for volume in ["dist", "repl"] {
        let daemon = ground.daemon(volume);
        let path = ground.there(volume).join("alices");
        let content = pattern(9, 10_000);
        write(&path, &content)?;
        chown(&path, Some(ALICE.uid), Some(ALICE.gid)).map_err(text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(text)?;
        read_locally(daemon, "alices", &content)?;
        let path = daemon.mountpoint.join("alices");
        let cat = |uid: u32| {
            let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
            tool("setpriv", "util-linux")
                .args(ids)
                .args(["--clear-groups", "cat"])
                .arg(&path)
                .output()
        };
        let alice = cat(ALICE.uid)?;
        let said = String::from_utf8_lossy(&alice.stderr);
        let good = alice.status.success() && alice.stdout == content;
        expect(&format!("its owner reads it: {said}"), good)?;
        let bob = cat(BOB.uid)?;
        expect("another user does not", !bob.status.success() && bob.stdout.is_empty())?;
        // An ACL that refuses him does so, too, though the mode would let him in.
        let there = ground.there(volume).join("alices");
        let bob = format!("u:{}:---", BOB.uid);
        let acl = tool("setfacl", "acl").args(["-m", &bob, "-m", "o::r"]).arg(&there).output()?;
        expect("an ACL is set", acl.status.success())?;
        let bob = cat(BOB.uid)?;
        expect("the ACL refuses another user", !bob.status.success() && bob.stdout.is_empty())?;
        let mut first = [0; 1];
        let mut file = File::open(&path).map_err(text)?;
        file.read_exact(&mut first).map_err(text)?;
        expect("root does", first[0] == content[0])?;
    }
    Ok(())
}

/// On a read-only mount the kernel may read a brick by itself: without a READ, and what others write there
/// shows at once. What is not to be had there is read through the mount.
fn held(ground: &Ground) -> Result<(), String> {
    let _whole = ground.while_repl_is_whole();
    let (below, above) = (ground.cluster.folder.join("repl1"), ground.cluster.folder.join("held"));
    fs::create_dir(&above).map_err(text)?;
    let there = ground.there("repl").join("held");
    let (old, new) = (pattern(10, LENGTH), pattern(11, LENGTH));
    write(&there, &old)?;
    let options = "locality=gluster,replica=held,ro,transport=uring";
    let daemon = exclusively(|| Daemon::start(&below, &above, "passthrough", options))?;
    let began = Instant::now();
    let reader = loop {
        let reader = File::open(above.join("held")).map_err(text)?;
        expect("as it was written", all_of(&reader)? == old)?;
        if locality(&daemon)?.held_opens > 0 {
            break reader;
        }
        expect("it is not held", began.elapsed() < PATIENCE)?;
        thread::sleep(Duration::from_millis(100));
    };
    let reads = |daemon: &Daemon| -> Result<u64, String> {
        Ok(daemon.settled()?.requests.get("READ").map_or(0, |figures| figures.count))
    };
    let before = reads(&daemon)?;
    expect("read again", all_of(&reader)? == old)?;
    let writer = OpenOptions::new().write(true).open(&there).map_err(text)?;
    writer.write_all_at(&new, 0).and_then(|()| writer.sync_all()).map_err(text)?;
    expect("what was written is there", all_of(&reader)? == new)?;
    expect("the daemon was asked", reads(&daemon)? == before)?;
    // It is open for writing elsewhere, or was a moment ago: a second open is not given the brick's file.
    let second = File::open(above.join("held")).map_err(text)?;
    expect("opened a second time", all_of(&second)? == new)?;
    drop((second, reader, writer));
    let second = File::open(above.join("held")).map_err(text)?;
    expect("opened a third time", all_of(&second)? == new)
}
