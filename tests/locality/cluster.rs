//! A cluster of one machine, brought up by a script of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::tool::{shell, tool};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

/// Up as long as this lives.
pub(crate) struct Cluster {
    script: &'static str,
    pub(crate) folder: PathBuf,
    _directory: TempDir,
}

impl Cluster {
    /// Brings one up with `script`. None without a `program` that its packages bring: it says so, and it
    /// is up to `scripts/test.sh` to install them.
    pub(crate) fn up(script: &'static str, program: &str) -> Result<Option<Self>, String> {
        if shell(&format!("command -v {program} /usr/sbin/{program}")).run().is_err() {
            return Ok(None);
        }
        let directory =
            TempDir::with_prefix("fusewire-test-").map_err(|error| error.to_string())?;
        // Other users go through it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        let folder = directory.path().join("c");
        let cluster = Cluster { script, folder, _directory: directory };
        cluster.ask("up")?;
        Ok(Some(cluster))
    }

    /// Runs the script: `up` brings up what does not run.
    pub(crate) fn ask(&self, what: &str) -> Result<String, String> {
        let script = Path::new(SCRIPTS).join(self.script);
        tool(script, "nothing").arg(what).arg(&self.folder).limit(Duration::from_secs(120)).run()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(reason) = self.ask("down") {
            eprintln!("{reason}");
        }
    }
}
