//! Too few descriptors, threads and bytes for a daemon.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::available_parallelism;

use crate::launch::{Launch, mounted};
use crate::{Ground, text};

/// One daemon after the other with few descriptors: it says that they are too few and leaves nothing
/// mounted, or it works.
pub(crate) fn very_few_descriptors(ground: &Ground) -> Result<(), String> {
    let (mut refused, mut served) = (0, 0);
    // Each queue and worker takes some.
    let enough =
        48 + 8 * u32::try_from(available_parallelism().map_err(text)?.get()).map_err(text)?;
    for nofile in [4, 8, 12, 16, 24, 32, 48, 63, 64, 80, 128] {
        for transport in ["transport=dev", "transport=auto", "transport=dev,dev_io=uring"] {
            let (source, mountpoint) = ground.pair();
            fs::write(source.join("file"), "text").map_err(text)?;
            let launch = Launch::new(&source, &mountpoint, "auto").option(transport);
            match (Launch { nofile: Some(nofile), ..launch }).go() {
                Ok(daemon) => {
                    served += 1;
                    work(&mountpoint).map_err(|error| format!("{nofile}, {transport}: {error}"))?;
                    daemon.finish()?;
                }
                Err(reason) => {
                    refused += 1;
                    let said = ["RLIMIT_NOFILE", "ulimit -n", "Too many open files"];
                    if !said.iter().any(|said| reason.contains(said)) || nofile >= enough.max(64) {
                        return Err(format!("{nofile}, {transport}: {reason}"));
                    }
                    if let Some(kind) = mounted(&mountpoint) {
                        return Err(format!("{nofile}, {transport}: left mounted: {kind}"));
                    }
                }
            }
        }
    }
    match refused > 0 && served > 0 {
        true => Ok(()),
        false => Err(format!("{refused} refused, {served} served")),
    }
}

/// A little of everything.
fn work(at: &Path) -> io::Result<()> {
    fs::create_dir(at.join("folder"))?;
    for number in 0..200 {
        fs::write(at.join(format!("folder/{number}")), number.to_string())?;
    }
    for number in 0..200 {
        let read = fs::read_to_string(at.join(format!("folder/{number}")))?;
        if read != number.to_string() {
            return Err(io::Error::other(format!("file {number} reads {read:?}")));
        }
    }
    let listed = fs::read_dir(at.join("folder"))?.count();
    fs::File::open(at.join("file"))?.sync_all()?;
    fs::rename(at.join("folder"), at.join("moved"))?;
    fs::remove_dir_all(at.join("moved"))?;
    match listed {
        200 => Ok(()),
        _ => Err(io::Error::other(format!("{listed} names of 200"))),
    }
}
