//! Readers against writers on both nodes.

use super::cases::distrustful;
use super::ground::Ground;
use crate::torture;

pub(crate) fn tortured(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let daemon = ground.mount("torture", &distrustful(ground))?;
    let nodes = [1, 2].map(|node| ground.node(node, ""));
    let (reads, writes) = torture::run(&daemon.mountpoint, [&nodes[0], &nodes[1]])?;
    let figures = ground.figures(&daemon)?;
    eprintln!("gfarm: {reads} blocks read, {writes} times written; {figures:?}");
    match figures.replica_reads > 0 {
        true => Ok(()),
        false => Err(format!("nothing was read from the spool: {figures:?}")),
    }
}
