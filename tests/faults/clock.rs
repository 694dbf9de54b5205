//! A clock that is set while a mount is in use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::clients::{self, Client, Kind};
use crate::launch::{Launch, eventually};
use crate::{Ground, text};

const HOURS: Duration = Duration::from_secs(3 * 3600);
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

/// The machine's clock, wrong until this is dropped.
struct Wrong {
    real: Duration,
    elapsed: Duration,
}

fn now(clock: ClockId) -> Result<Duration, String> {
    Ok(Duration::from(clock_gettime(clock).map_err(text)?))
}

fn set(real: Duration) -> Result<(), String> {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from(real))
        .map_err(|errno| format!("set the clock: {errno}"))
}

impl Wrong {
    /// Sets it back: programs that run beside it then take what they make for old, and not for newer
    /// than what they will be given.
    fn by(back: Duration) -> Result<Self, String> {
        let wrong =
            Wrong { real: now(ClockId::CLOCK_REALTIME)?, elapsed: now(ClockId::CLOCK_MONOTONIC)? };
        set(wrong.real - back)?;
        Ok(wrong)
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        let elapsed = now(ClockId::CLOCK_MONOTONIC).map(|now| now - self.elapsed);
        if let Err(reason) = elapsed.and_then(|elapsed| set(self.real + elapsed)) {
            eprintln!("the clock is wrong by {HOURS:?} from now on: {reason}");
        }
    }
}

/// Clients go on, a file has the times that it has natively, and what is changed behind the mount shows,
/// after a jump back and after one forth.
pub(crate) fn jumps(ground: &Ground) -> Result<(), String> {
    for (data, options) in
        [("auto", ""), ("copy", "transport=dev"), ("auto", "coherence=timeout=1")]
    {
        let (source, mountpoint) = ground.pair();
        clients::prepare(&source)?;
        let served = Launch::new(&source, &mountpoint, data).option(options).go()?;
        let kinds = [Kind::Write, Kind::Read, Kind::Names];
        let (time, limit) = (Duration::from_secs(2), Duration::from_secs(60));
        let start = |(number, kind)| Client::start(kind, number, &mountpoint, time, limit);
        let clients: Vec<_> = kinds.into_iter().enumerate().map(start).collect::<Result<_, _>>()?;
        thread::sleep(Duration::from_millis(500));
        look(&source, &mountpoint, "before")?;
        let wrong = Wrong::by(HOURS)?;
        let during = touch(&source, &mountpoint, "during");
        drop(wrong);
        during.and_then(|()| shows(&source, &mountpoint, "during"))?;
        look(&source, &mountpoint, "after")?;
        for client in clients {
            let ended = client.finish()?;
            if ended.errno.is_some() || ended.rounds == 0 {
                let (kind, errno, during) = (ended.kind, ended.errno, ended.during);
                return Err(format!("{kind:?} met {errno:?} during {during}"));
            }
            if ended.kind == Kind::Write {
                ended.synced_is_there(&source)?;
            }
        }
        served.stats()?;
        served.finish()?;
    }
    Ok(())
}

fn look(source: &Path, mountpoint: &Path, when: &str) -> Result<(), String> {
    touch(source, mountpoint, when)?;
    shows(source, mountpoint, when)
}

/// Makes a file on either side.
fn touch(source: &Path, mountpoint: &Path, name: &str) -> Result<(), String> {
    for (at, side) in [(mountpoint, "front"), (source, "behind")] {
        fs::write(at.join(format!("{name}-{side}")), name).map_err(text)?;
        fs::write(at.join(side), name).map_err(text)?;
    }
    Ok(())
}

/// Both show, with the same times, and so does what was changed.
fn shows(source: &Path, mountpoint: &Path, name: &str) -> Result<(), String> {
    let seen = |at: &Path, name: &str| {
        let stat = fs::metadata(at.join(name)).ok()?;
        let text = fs::read_to_string(at.join(name)).ok()?;
        Some((text, stat.size(), stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()))
    };
    for name in [&format!("{name}-front"), &format!("{name}-behind"), "front", "behind"] {
        let same =
            || seen(source, name).is_some_and(|native| seen(mountpoint, name) == Some(native));
        if !eventually(SHOWS_WITHIN, same) {
            let (native, shown) = (seen(source, name), seen(mountpoint, name));
            return Err(format!("{name}: natively {native:?}, shown {shown:?}"));
        }
    }
    Ok(())
}
