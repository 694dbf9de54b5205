//! Files that are open when they are removed behind the mount, and whose descriptors the daemon's
//! cache has let go of.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::daemon::Daemon;
use crate::sources::with_each;
use crate::{Ground, until};

/// More than the cache has room for.
const OTHERS: usize = 200;

/// They are what they are natively: all that they were but the name.
pub(crate) fn stay_reachable(ground: &Ground) -> Result<(), String> {
    with_each(ground, &["ext4", "tmpfs", "overlay"], |source| {
        for data in ["auto", "copy"] {
            let mountpoint = ground.mountpoint();
            let daemon = Daemon::start(source, &mountpoint, data, "fd_cache=16")?;
            held(&daemon).map_err(|reason| format!("{data}: {reason}"))?;
        }
        Ok(())
    })
}

fn held(daemon: &Daemon) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    for number in 0..OTHERS {
        fs::write(daemon.source.join(format!("other-{number}")), "x").map_err(failed)?;
    }
    let mut open = Vec::new();
    for (name, writes) in [("read", false), ("written", true)] {
        fs::write(daemon.source.join(name), name).map_err(failed)?;
        let path = daemon.mountpoint.join(name);
        until(name, || path.exists())?;
        let file = File::options().read(true).write(writes).open(&path).map_err(failed)?;
        open.push((name, file));
    }
    crowd_out(daemon)?;
    for (name, _) in &open {
        fs::remove_file(daemon.source.join(name)).map_err(failed)?;
        until(&format!("{name} is gone"), || !daemon.mountpoint.join(name).exists())?;
    }
    crowd_out(daemon)?;
    for (name, file) in &open {
        let failed = |error: io::Error| format!("{name}: {error}");
        let stat = file.metadata().map_err(failed)?;
        file.set_permissions(Permissions::from_mode(0o640)).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        let text = io::read_to_string(file).map_err(failed)?;
        if (stat.nlink(), stat.len(), mode, &*text) != (0, name.len() as u64, 0o640, *name) {
            return Err(format!("{name}: {stat:?}, mode {mode:o}, {text:?}"));
        }
    }
    Ok(())
}

/// Has the daemon look at other files, until it has no room for the first ones.
fn crowd_out(daemon: &Daemon) -> Result<(), String> {
    for number in 0..OTHERS {
        let path = daemon.mountpoint.join(format!("other-{number}"));
        for mode in [0o600, 0o644] {
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}
