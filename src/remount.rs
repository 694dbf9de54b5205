//! `fusewire mount -o remount`: what the kernel changes of a live mount by itself.
//!
//! Its daemon is asked how the mount was made, and is told nothing.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use thiserror::Error;

use crate::cli;
use crate::config::{Config, MountOptions};
use crate::control::client::{self, ClientError};
use crate::metrics::snapshot::Snapshot;

/// Why a mount is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemountError {
    /// It is no mount of ours, or a dead one.
    #[error(transparent)]
    Target(#[from] ClientError),
    /// It shows something else.
    #[error("{p} shows {shown}, not {asked}; leave the source out: `mount -o remount,... {p}`",
        p = path.display(), asked = asked.display())]
    Source {
        /// The mount point.
        path: PathBuf,
        /// What it shows.
        shown: String,
        /// What was named.
        asked: PathBuf,
    },
    /// What was asked for is settled when a mount is made.
    #[error(
        "{what} of a live mount can not be changed, only ro, and nosuid, nodev and noexec added; unmount {p} \
         and mount it again (`mount -o remount,ro SOURCE {p}` does not look into fstab)",
        p = path.display()
    )]
    Settled {
        /// The mount point.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The kernel refused.
    #[error("remount {p}: {error}{}", match error {
        nix::Error::EBUSY => "; files are open for writing",
        nix::Error::EPERM => "; only root may",
        _ => "",
    }, p = path.display())]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// What it says.
        error: nix::Error,
    },
}

/// Not in the C library's list.
const MS_NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

/// Changes what can be changed; all of it or nothing.
///
/// # Errors
/// [`RemountError`], each naming the mount point.
pub fn run(request: &cli::Mount) -> Result<(), RemountError> {
    let target = client::find(&request.config.mountpoint)?;
    let path = &target.path;
    let made = target.snapshot()?;
    let asked = &request.config.source;
    // mount(8) names what /proc/self/mountinfo does, which need be no path.
    if *asked != Path::new(&made.source)
        && asked.canonicalize().ok().is_none_or(|asked| asked != Path::new(&made.source))
        && !asked.ends_with(&target.mount.source)
    {
        let (path, shown, asked) = (path.clone(), made.source, asked.clone());
        return Err(RemountError::Source { path, shown, asked });
    }
    if let Some(what) = settled(&request.config, request.rw, &made) {
        return Err(RemountError::Settled { path: path.clone(), what });
    }
    let has = |option| target.mount.options.split(',').any(|live| live == option);
    let options = &request.config.mount;
    let mut flags = MsFlags::MS_REMOUNT;
    flags.set(MsFlags::MS_RDONLY, options.ro || has("ro") && !request.rw);
    flags.set(MS_NOSYMFOLLOW, has("nosymfollow"));
    flags.set(MsFlags::MS_NOSUID, options.nosuid || has("nosuid"));
    flags.set(MsFlags::MS_NODEV, options.nodev || has("nodev"));
    flags.set(MsFlags::MS_NOEXEC, options.noexec || has("noexec"));
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .map_err(|error| RemountError::Refused { path: path.clone(), error })
}

/// What a request would change that can not be, if there is anything.
fn settled(request: &Config, rw: bool, made: &Snapshot) -> Option<&'static str> {
    let had = |option| made.options.iter().any(|known| known == option);
    let MountOptions { allow_other, default_permissions, noatime, .. } = request.mount;
    let plain = Config {
        mount: request.mount.clone(),
        ..Config::new(&request.source, &request.mountpoint)
    };
    [
        (*request != plain, "how the source is shown and served"),
        // The daemon holds the source read-only as well, and trusts that nobody writes here.
        (had("ro") && rw, "what was mounted read-only"),
        (noatime && !had("noatime"), "whether access times move"),
        (allow_other && !had("allow_other"), "who may enter"),
        (default_permissions && !had("default_permissions"), "who checks permissions"),
    ]
    .into_iter()
    .find_map(|(changed, what)| changed.then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataMode;

    #[test]
    fn only_what_the_kernel_changes_by_itself_may_differ() {
        let plain = Config::new("/s", "/m");
        let made = |options: &[&str]| Snapshot {
            options: options.iter().map(|&option| option.to_owned()).collect(),
            ..Snapshot::default()
        };
        let asking = |mount| Config { mount, ..plain.clone() };
        let (ro, noatime) = (
            MountOptions { ro: true, nosuid: true, ..MountOptions::default() },
            MountOptions { noatime: true, ..MountOptions::default() },
        );
        assert_eq!(settled(&plain, true, &made(&[])), None);
        assert_eq!(settled(&asking(ro.clone()), false, &made(&[])), None);
        assert_eq!(settled(&asking(ro), false, &made(&["ro"])), None);
        assert_eq!(settled(&plain, false, &made(&["ro", "noatime"])), None, "as it is");
        assert_eq!(settled(&asking(noatime.clone()), false, &made(&["noatime"])), None);
        for (request, rw, options) in [
            (plain.clone(), true, vec!["ro"]),
            (asking(noatime), false, vec![]),
            (asking(MountOptions { allow_other: true, ..MountOptions::default() }), false, vec![]),
            (Config { data: DataMode::Copy, ..plain.clone() }, false, vec![]),
        ] {
            assert!(settled(&request, rw, &made(&options)).is_some(), "{request:?} {options:?}");
        }
    }
}
