//! What is looked at before anything is mounted, or with the first file.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::cases::{PATIENCE, expect, from_spool, read, text};
use super::ground::{Ground, NODES};
use crate::tool::tool;

/// Tries to mount node 1 of the cluster, or `source`, which must be refused for a reason that says
/// `part`.
fn is_refused(ground: &Ground, source: &Path, options: &str, part: &str) -> Result<(), String> {
    let above = ground.folder.join("above-refused");
    fs::create_dir_all(&above).map_err(text)?;
    let net = format!("--net={}", ground.folder.join("net").display());
    let fusewire = env!("CARGO_BIN_EXE_fusewire");
    let command = tool("nsenter", "util-linux").args([&*net, fusewire, "mount"]);
    let output = command.args([source, &above]).args(["-o", options]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let _ = tool("umount", "mount").arg(&above).run();
        return Err(format!("{options} is not refused"));
    }
    match said.contains(part) {
        true => Ok(()),
        false => Err(format!("{options} is refused, but does not say {part:?}: {said}")),
    }
}

pub(crate) fn refused(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let node = ground.folder.join("node1");
    let config = format!("gfarm_config={}", ground.folder.join("gfarm2.conf").display());
    let spool = ground.folder.join("spool1");
    let good = ground.options();
    is_refused(ground, &ground.folder, &good, "no FUSE mount")?;
    is_refused(ground, &node, "locality=gfarm", "gfarm_spool=PATH")?;
    let elsewhere = format!("locality=gfarm,gfarm_spool=/nowhere,{config}");
    is_refused(ground, &node, &elsewhere, "/nowhere is not the spool of a storage node")?;
    let other = ground.options_with(Path::new("/etc"), NODES[0]);
    is_refused(ground, &node, &other, "/etc is not the spool of a storage node")?;
    let stranger = ground.options_with(&spool, "stranger");
    is_refused(ground, &node, &stranger, "stranger is no storage node")?;
    let held = format!("{good},replica=held,ro");
    is_refused(ground, &node, &held, "is not for this system")?;
    let nothing = ground.folder.join("nothing.conf");
    let unconfigured = format!(
        "locality=gfarm,gfarm_spool={},gfarm_host={},gfarm_config={}",
        spool.display(),
        NODES[0],
        nothing.display()
    );
    is_refused(ground, &node, &unconfigured, "ask Gfarm")
}

/// The spool of the other node has files of the same numbers; it is found out with the first of them.
pub(crate) fn with_another_spool(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let bytes = b"the same on both";
    ground.store("both", bytes, 1)?;
    ground.replicate("both", 2)?;
    let options = ground.options_with(&ground.folder.join("spool2"), NODES[0]);
    let daemon = ground.mount("other-spool", &options)?;
    let began = Instant::now();
    let figures = loop {
        expect("what is read", &read(&daemon, "both")?, bytes)?;
        let figures = ground.figures(&daemon)?;
        // The metadata server may not have heard of the second replica yet.
        let looked = figures.misses.keys().any(|miss| miss != "elsewhere");
        if looked || figures.replica_reads > 0 || began.elapsed() > PATIENCE {
            break figures;
        }
        thread::sleep(Duration::from_millis(200));
    };
    if figures.replica_reads != 0 || !figures.misses.contains_key("failed") {
        return Err(format!("the spool of another node is believed: {figures:?}"));
    }
    let said = daemon.report().contains("is not the spool of this machine's storage node");
    let reason = figures.reason.unwrap_or_default();
    match said && reason.contains("the spool is not that") {
        true => Ok(()),
        false => Err(format!("nothing is said of it: {reason:?}, {}", daemon.report())),
    }
}

/// What the shell has open stays out of the process that asks Gfarm, which looks at what it has open.
pub(crate) fn with_a_file_of_the_shell(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let bytes = b"beside another";
    ground.store("beside", bytes, 1)?;
    let other = ground.folder.join("gfarm2.conf");
    let wrapper = ["sh", "-c", "exec \"$@\" 9<\"$0\"", &other.to_string_lossy()];
    let daemon = ground.mount_through(&wrapper, "with-a-file", &ground.options())?;
    from_spool(ground, &daemon, "beside", bytes)
}

/// Without its socket the node serves files through the network, and nothing shows whose the spool is: that
/// is tried with a few, and then told.
pub(crate) fn with_a_node_that_hands_out_nothing(ground: &Ground) -> Result<(), String> {
    let _turn = ground.turn();
    let name = |number: u8| format!("unproven-{number}");
    for number in 0..6 {
        ground.store(&name(number), &[number; 100], 1)?;
    }
    let socket = ground.socket(1)?;
    let aside = socket.with_extension("aside");
    fs::rename(&socket, &aside).map_err(text)?;
    let looked = || {
        let daemon = ground.mount("unproven", &ground.options())?;
        for number in 0..6 {
            expect("what is read", &read(&daemon, &name(number))?, &[number; 100])?;
        }
        Ok((ground.figures(&daemon)?, daemon))
    };
    let looked: Result<_, String> = looked();
    fs::rename(&aside, &socket).map_err(text)?;
    let (figures, daemon) = looked?;
    let words = "nothing shows that";
    let (said, reason) = (daemon.report(), figures.reason.as_deref().unwrap_or_default());
    let told = said.matches(words).count() == 1 && reason.starts_with(words);
    match told && figures.replica_reads == 0 {
        true => Ok(()),
        false => Err(format!("{figures:?}, {said}")),
    }
}
