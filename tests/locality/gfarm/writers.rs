//! Readers against writers on both nodes.

use std::fs;
use std::io;

use super::cases::distrustful;
use super::ground::Ground;
use crate::torture;

/// Writers use Gfarm's own mounts only. These fail so when the storage nodes have lost the metadata server,
/// as they do on a machine that stands still for a minute.
fn is_of_servers(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

pub(crate) fn tortured(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    // A node that was never given a file has no folder data, and its spool is none yet.
    ground.store("before-torture", b"first", 1)?;
    let nodes = [1, 2].map(|node| ground.node(node, "torture"));
    fs::create_dir(&nodes[0]).map_err(|error| error.to_string())?;
    // Whatever is written there is to be on both nodes: now one has the newest, now the other, now both.
    ground.client("gfncopy", &["-s", "2", "/torture"])?;
    let daemon = ground.mount("torture", &distrustful(ground))?;
    let above = daemon.mountpoint.join("torture");
    let (reads, writes) = torture::run(&above, [&nodes[0], &nodes[1]], is_of_servers)?;
    let figures = ground.figures(&daemon)?;
    eprintln!("gfarm: {reads} blocks read, {writes} times written; {figures:?}");
    match figures.replica_reads > 0 {
        true => Ok(()),
        false => Err(format!("nothing was read from the spool: {figures:?}")),
    }
}
