//! A cluster of Gfarm, and fusewire over one of its mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fusewire::metrics::snapshot::{Locality, Snapshot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Cluster;
use crate::common::daemon::Daemon;
use crate::common::limit::in_turn;
use crate::tool::{exclusively, tool};

/// The storage nodes.
pub(crate) const NODES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// One cluster for all tests, each of which has files of its own names, and servers for itself.
pub(crate) struct Ground {
    pub(crate) folder: PathBuf,
    cluster: Cluster,
    turn: Mutex<()>,
}

impl Ground {
    /// None if Gfarm is not installed.
    pub(crate) fn prepare() -> Result<Option<Self>, String> {
        let cluster = Cluster::up("cluster-gfarm.sh", "gfsd")?;
        Ok(cluster.map(|cluster| Ground {
            folder: cluster.folder.clone(),
            cluster,
            turn: Mutex::default(),
        }))
    }

    /// Until it is dropped no other test has servers stopped.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        in_turn(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings up what does not run.
    pub(crate) fn mend(&self) -> Result<(), String> {
        self.cluster.ask("up").map(drop)
    }

    /// A path in the mount of node 1 or 2.
    pub(crate) fn node(&self, node: usize, name: &str) -> PathBuf {
        self.folder.join(format!("node{node}")).join(name)
    }

    /// Runs a command of Gfarm's clients.
    pub(crate) fn client(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let net = format!("--net={}", self.folder.join("net").display());
        let config = format!("GFARM_CONFIG_FILE={}", self.folder.join("gfarm2.conf").display());
        let command = tool("nsenter", "util-linux").args([&*net, "env", &config, program]);
        let output = command.args(args).limit(Duration::from_secs(40)).run()?;
        Ok(output)
    }

    /// Runs a command of fusewire's where its daemons can be asked, which are in the cluster's network.
    pub(crate) fn fusewire(&self, command: &[&str], at: &Path) -> Result<String, String> {
        let net = format!("--net={}", self.folder.join("net").display());
        let tool = tool("nsenter", "util-linux").args([&*net, env!("CARGO_BIN_EXE_fusewire")]);
        tool.args(command).arg(at).run()
    }

    /// What a daemon has read where. READs are counted a moment after they are answered, and a mount
    /// shows a moment before its daemon can be asked.
    pub(crate) fn figures(&self, daemon: &Daemon) -> Result<Locality, String> {
        let deadline = Instant::now() + Duration::from_secs(15);
        let mut last = None;
        loop {
            let shown = match self.fusewire(&["stats", "--json"], &daemon.mountpoint) {
                Err(_) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
                shown => shown?,
            };
            let now: Snapshot = serde_json::from_str(&shown).map_err(|error| error.to_string())?;
            if last.as_ref() == Some(&now.locality) {
                return Ok(now.locality);
            }
            last = Some(now.locality);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stores a file on one storage node only.
    pub(crate) fn store(&self, name: &str, bytes: &[u8], node: usize) -> Result<(), String> {
        let file = self.folder.join(format!("store-{name}"));
        fs::write(&file, bytes).map_err(|error| error.to_string())?;
        let url = format!("gfarm:///{name}");
        let stored = self.client("gfreg", &["-h", NODES[node - 1], &file.to_string_lossy(), &url]);
        let _ = fs::remove_file(&file);
        stored.map(drop)
    }

    /// Has a storage node get a copy of a file.
    pub(crate) fn replicate(&self, name: &str, node: usize) -> Result<(), String> {
        self.client("gfrep", &["-q", "-D", NODES[node - 1], &format!("/{name}")]).map(drop)
    }

    /// Where node 1 or 2 keeps a file, as it is now.
    pub(crate) fn in_spool(&self, name: &str, node: usize) -> Result<PathBuf, String> {
        let path = self.client("gfspoolpath", &[&format!("/{name}")])?;
        Ok(self.folder.join(format!("spool{node}")).join(path.trim()))
    }

    /// Ends a server and its children.
    pub(crate) fn stop(&self, server: &str) -> Result<(), String> {
        let conf = self.folder.join(format!("{server}.conf"));
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let pids = processes_with(&conf);
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                let _ = kill(pid, Signal::SIGKILL);
            }
            if Instant::now() > deadline {
                return Err(format!("{server} does not end"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops a server, or has it go on.
    pub(crate) fn signal(&self, server: &str, signal: Signal) {
        for pid in processes_with(&self.folder.join(format!("{server}.conf"))) {
            let _ = kill(pid, signal);
        }
    }

    /// The options of a mount that reads from the spool of node 1.
    pub(crate) fn options(&self) -> String {
        self.options_with(&self.folder.join("spool1"), NODES[0])
    }

    pub(crate) fn options_with(&self, spool: &Path, host: &str) -> String {
        format!(
            "allow_other,locality=gfarm,gfarm_spool={},gfarm_host={host},gfarm_config={}",
            spool.display(),
            self.folder.join("gfarm2.conf").display()
        )
    }

    /// The socket by which node 1 or 2 hands descriptors to clients of this machine.
    pub(crate) fn socket(&self, node: usize) -> Result<PathBuf, String> {
        let address = NODES[node - 1];
        let list = self.client("gfhost", &["-l"])?;
        let mut words = list.split_whitespace().skip_while(|word| *word != address);
        let port = words.nth(1).ok_or_else(|| format!("no port of {address}: {list}"))?;
        Ok(format!("/tmp/.gfarm-gfsd{address}-{port}/sock").into())
    }

    /// Fusewire over the mount of node 1.
    pub(crate) fn mount(&self, name: &str, options: &str) -> Result<Daemon, String> {
        self.mount_through(&[], name, options)
    }

    /// The same, run by `wrapper`: a program, and its arguments in front of the command.
    pub(crate) fn mount_through(
        &self,
        wrapper: &[&str],
        name: &str,
        options: &str,
    ) -> Result<Daemon, String> {
        let above = self.folder.join(format!("above-{name}"));
        fs::create_dir_all(&above).map_err(|error| error.to_string())?;
        let net = format!("--net={}", self.folder.join("net").display());
        let source = self.folder.join("node1");
        let wrapper = [&["nsenter", &*net], wrapper].concat();
        exclusively(|| Daemon::start_through(&wrapper, &source, &above, "auto", options))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.signal("gfmd", Signal::SIGCONT);
    }
}

/// Processes that have a path among their arguments.
fn processes_with(path: &Path) -> Vec<Pid> {
    let path = path.to_string_lossy();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_string_lossy().parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let named = command.split(|byte| *byte == 0).any(|arg| arg == path.as_bytes());
        named.then_some(Pid::from_raw(pid))
    });
    pids.filter(|pid| *pid != Pid::this()).collect()
}
