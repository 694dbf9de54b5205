//! PostgreSQL as its own user: a cluster made, loaded, worked on, crashed, checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tool::{Tool, tool};
use crate::world::Place;

const USER: &str = "postgres";

/// A running cluster, stopped when dropped.
struct Cluster {
    data: PathBuf,
    folder: PathBuf,
}

impl Cluster {
    fn start(&self) -> Result<(), String> {
        let options =
            format!("-c listen_addresses= -c unix_socket_directories={}", self.folder.display());
        let log = self.folder.join("log");
        let ctl = program("pg_ctl")?.args(["-w", "-t", "40", "-o", &options, "-D"]).arg(&self.data);
        ctl.arg("-l")
            .arg(&log)
            .arg("start")
            .run()
            .map(drop)
            .map_err(|reason| format!("{reason}\n{}", fs::read_to_string(&log).unwrap_or_default()))
    }

    fn stop(&self, mode: &str) -> Result<(), String> {
        let ctl = program("pg_ctl")?.args(["-w", "-t", "40", "-m", mode, "-D"]).arg(&self.data);
        ctl.arg("stop").run().map(drop)
    }

    /// A client program, pointed at the cluster.
    fn client(&self, name: &str) -> Result<Tool, String> {
        Ok(program(name)?.arg("-h").arg(&self.folder))
    }

    fn ask(&self, query: &str) -> Result<String, String> {
        self.client("psql")?.args(["-d", "postgres", "-XAtc", query]).run()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            let _ = self.stop("immediate");
        }
    }
}

/// A program of PostgreSQL's, run as its user; Debian keeps most of them outside of PATH.
fn program(name: &str) -> Result<Tool, String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    places.sort();
    places.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path));
    let found = places.iter().map(|place| place.join(name)).find(|path| path.exists());
    let package = if name == "pgbench" { "postgresql-contrib" } else { "postgresql" };
    let found =
        found.ok_or_else(|| format!("{name} is not installed; apt-get install {package}"))?;
    let user = ["--reuid", USER, "--regid", USER, "--init-groups", "--"];
    Ok(tool("setpriv", "util-linux").args(user).arg(found).within(Path::new("/")))
}

/// `pgbench` between `initdb` and a crash, and what must be true after it.
pub(crate) fn pgbench(place: &Place) -> Result<Vec<String>, String> {
    let account = nix::unistd::User::from_name(USER).ok().flatten();
    let account = account.ok_or("there is no user postgres; apt-get install postgresql")?;
    for directory in [&place.dir, &place.scratch] {
        std::os::unix::fs::chown(directory, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
            .map_err(|error| format!("chown {}: {error}", directory.display()))?;
    }
    let data = place.dir.join("data");
    let initdb = program("initdb")?.args(["-A", "trust", "-E", "UTF8", "--locale=C", "-k", "-D"]);
    initdb.arg(&data).limit(Duration::from_secs(120)).run()?;
    let cluster = Cluster { data, folder: place.scratch.clone() };
    cluster.start()?;
    let load = ["-i", "-s", "1", "-q", "postgres"];
    cluster.client("pgbench")?.args(load).run()?;
    let work = ["-c", "4", "-j", "2", "-t", "200", "-n", "postgres"];
    let report = cluster.client("pgbench")?.args(work).run()?;
    let done = report
        .lines()
        .filter(|line| line.contains("actually processed") || line.contains("failed transactions"));
    let mut lines: Vec<String> = done.map(str::to_owned).collect();
    let balances = "SELECT count(*), (SELECT sum(abalance) FROM pgbench_accounts) = sum(delta),
        (SELECT sum(bbalance) FROM pgbench_branches) = sum(delta),
        (SELECT sum(tbalance) FROM pgbench_tellers) = sum(delta) FROM pgbench_history";
    lines.push(cluster.ask(balances)?);
    // A crash: everything that was committed comes back from the log.
    cluster.stop("immediate")?;
    cluster.start()?;
    lines.push(cluster.ask(balances)?);
    let check = ["--install-missing", "--heapallindexed", "--parent-check", "-d", "postgres"];
    lines.push(cluster.client("pg_amcheck")?.args(check).run()?);
    cluster.ask("VACUUM FULL pgbench_accounts")?;
    lines.push(cluster.ask("SELECT count(*), sum(abalance) IS NOT NULL FROM pgbench_accounts")?);
    cluster.stop("fast")?;
    let sums = program("pg_checksums")?.args(["--check", "-D"]).arg(&cluster.data).run()?;
    let bad = sums.lines().filter(|line| line.starts_with("Bad checksums"));
    lines.extend(bad.map(str::to_owned));
    Ok(lines)
}
