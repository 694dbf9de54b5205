//! Changes elsewhere on the source's file system, which are none of the mount's business.

use std::fs;
use std::thread;
use std::time::Duration;

use fusewire::metrics::snapshot::{Coherence, Snapshot};

use crate::{Ground, undisturbed, until};

const NAMES: usize = 200;
const CHANGES: usize = 10_000;

/// However many there are, nothing that is cached expires.
pub(crate) fn nothing_expires(ground: &Ground) -> Result<(), String> {
    let daemon = ground.watched()?;
    for number in 0..NAMES {
        fs::write(daemon.source.join(format!("f{number}")), "x").map_err(|e| e.to_string())?;
    }
    let look =
        || (0..NAMES).all(|number| daemon.mountpoint.join(format!("f{number}")).metadata().is_ok());
    until("every name", look)?;
    // Until what was told of the making of the files is over.
    thread::sleep(Duration::from_millis(500));
    undisturbed(|| {
        look();
        let before = daemon.stats()?;
        storm(ground, || {
            look();
        });
        let read =
            || daemon.stats().map_or(0, |now| now.coherence.events - before.coherence.events);
        until("the storm was read", || read() >= CHANGES as u64)?;
        look();
        let after = daemon.stats()?;
        println!("{} changes elsewhere were read", read());
        let what = |found: &Snapshot| {
            let count = |name: &str| found.requests.get(name).map_or(0, |found| found.count);
            let Coherence { overflows, expirations, .. } = found.coherence;
            [count("LOOKUP"), count("GETATTR"), count("STATX"), overflows, expirations]
        };
        match (what(&before), what(&after)) {
            (then, now) if then == now => Ok(()),
            (then, now) => Err(format!("something expired: {then:?}, then {now:?}")),
        }
    })
}

/// Two processes' worth of changes in other directories, and `look` beside them.
fn storm(ground: &Ground, look: impl Fn()) {
    thread::scope(|scope| {
        let parts = (0..2).map(|part| {
            let elsewhere = ground.disk.directory(&format!("elsewhere-{part}"));
            scope.spawn(move || {
                for number in 0..CHANGES {
                    let path = elsewhere.join(format!("f{}", number % 100));
                    let _ = fs::write(&path, "x").and_then(|()| fs::remove_file(&path));
                }
            })
        });
        let parts: Vec<_> = parts.collect();
        while parts.iter().any(|part| !part.is_finished()) {
            look();
            thread::sleep(Duration::from_millis(5));
        }
    });
}
