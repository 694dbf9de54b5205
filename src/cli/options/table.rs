//! Every key of `-o`: what it takes, what it accepts and what it does.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;

use super::super::mount::Mount;
use crate::config::{
    Coherence, DataMode, DevIo, Locality, Profile, ReplicaTrust, Sched, Transport, seconds,
};

/// What a key takes and does.
pub(super) enum Takes {
    /// Nothing.
    Nothing(fn(&mut Mount)),
    /// A value; the setter answers `None` if it is not an accepted one.
    Value { accepts: &'static str, set: fn(&mut Mount, &str) -> Option<()> },
    /// Meant for mount(8), fstab or systemd; means nothing to a file system.
    Ignored,
    /// A thing that other file systems do and this one does not.
    Refused(&'static str),
}

use Takes::{Ignored, Nothing, Refused, Value};

const ABSOLUTE: &str = "an absolute path";
const SECONDS: &str = "seconds, as 0, 0.5 or 3600";

/// Every key, by its `-o` spelling; `-` and `_` are the same in a key.
pub(super) const TABLE: &[(&str, Takes)] = &[
    // fusewire's own.
    (
        "data",
        Value {
            accepts: "auto, passthrough, splice or copy",
            set: |mount, value| {
                mount.config.data = DataMode::from_str(value, false).ok()?;
                Some(())
            },
        },
    ),
    (
        "transport",
        Value {
            accepts: "auto, uring, dev or fuser",
            set: |mount, value| {
                mount.config.transport = Transport::from_str(value, false).ok()?;
                Some(())
            },
        },
    ),
    (
        "dev_io",
        Value {
            accepts: "read or uring",
            set: |mount, value| {
                mount.config.dev_io = DevIo::from_str(value, false).ok()?;
                Some(())
            },
        },
    ),
    (
        "sched",
        Value {
            accepts: "auto or normal",
            set: |mount, value| {
                mount.config.sched = Sched::from_str(value, false).ok()?;
                Some(())
            },
        },
    ),
    (
        "workers",
        Value {
            accepts: "a whole number from 1 to 1024",
            set: |mount, value| {
                let workers: NonZeroUsize = value.parse().ok()?;
                mount.config.workers = Some(workers).filter(|workers| workers.get() <= 1024);
                mount.config.workers.map(|_| ())
            },
        },
    ),
    (
        "max_write",
        Value {
            accepts: "bytes, a multiple of 4096 from 4096 to 1048576",
            set: |mount, value| {
                let bytes: u32 = value.parse().ok()?;
                let fits = (4096..=1 << 20).contains(&bytes) && bytes.is_multiple_of(4096);
                mount.config.max_write = Some(bytes).filter(|_| fits);
                mount.config.max_write.map(|_| ())
            },
        },
    ),
    ("pin", Nothing(|mount| mount.config.pin = true)),
    ("no_pin", Nothing(|mount| mount.config.pin = false)),
    (
        "coherence",
        Value {
            accepts: "auto, watch, exclusive or timeout=SECONDS",
            set: |mount, value| {
                mount.config.coherence = match (value, value.strip_prefix("timeout=")) {
                    ("auto", _) => Coherence::Auto,
                    ("watch", _) => Coherence::Watch,
                    ("exclusive", _) => Coherence::Exclusive,
                    (_, timeout) => Coherence::Timeout(seconds(timeout?)?),
                };
                Some(())
            },
        },
    ),
    (
        "locality",
        Value {
            accepts: "off, auto, gluster or gfarm",
            set: |mount, value| {
                mount.config.locality = Locality::from_str(value, false).ok()?;
                Some(())
            },
        },
    ),
    (
        "replica",
        Value {
            accepts: "checked or held",
            set: |mount, value| {
                mount.config.replica = ReplicaTrust::from_str(value, false).ok()?;
                Some(())
            },
        },
    ),
    (
        "gfarm_spool",
        Value {
            accepts: ABSOLUTE,
            set: |mount, value| {
                mount.config.gfarm.spool = Some(already_absolute(value)?);
                Some(())
            },
        },
    ),
    (
        "gfarm_host",
        Value {
            accepts: "the name of a storage node",
            set: |mount, value| {
                mount.config.gfarm.host = Some(value.to_owned()).filter(|name| !name.is_empty());
                mount.config.gfarm.host.as_ref().map(|_| ())
            },
        },
    ),
    (
        "gfarm_config",
        Value {
            accepts: ABSOLUTE,
            set: |mount, value| {
                mount.config.gfarm.configuration = Some(already_absolute(value)?);
                Some(())
            },
        },
    ),
    (
        "entry_timeout",
        Value {
            accepts: SECONDS,
            set: |mount, value| {
                mount.config.entry_timeout = Some(seconds(value)?);
                Some(())
            },
        },
    ),
    (
        "attr_timeout",
        Value {
            accepts: SECONDS,
            set: |mount, value| {
                mount.config.attr_timeout = Some(seconds(value)?);
                Some(())
            },
        },
    ),
    (
        "negative_timeout",
        Value {
            accepts: SECONDS,
            set: |mount, value| {
                mount.config.negative_timeout = Some(seconds(value)?);
                Some(())
            },
        },
    ),
    (
        "fd_cache",
        Value {
            accepts: "a whole number from 1",
            set: |mount, value| {
                mount.config.fd_cache = Some(value.parse().ok()?);
                Some(())
            },
        },
    ),
    ("one_file_system", Nothing(|mount| mount.config.one_file_system = true)),
    // The daemon around it.
    ("foreground", Nothing(|mount| mount.foreground = true)),
    ("debug", Nothing(Mount::debug)),
    ("verbose", Nothing(Mount::more_verbose)),
    (
        "log_file",
        Value {
            accepts: "the path of a file",
            set: |mount, value| {
                let path = Some(value).filter(|value| !value.is_empty())?;
                mount.log_file = Some(std::path::absolute(path).ok()?);
                Some(())
            },
        },
    ),
    (
        "profile",
        Value {
            accepts: "general or read-mostly",
            set: |mount, value| {
                mount.config.profile = Profile::from_str(value, false).ok()?;
                Some(())
            },
        },
    ),
    (
        "xattr",
        Value {
            accepts: "on or off",
            set: |mount, value| {
                mount.config.xattr = match value {
                    "on" => true,
                    "off" => false,
                    _ => return None,
                };
                Some(())
            },
        },
    ),
    // What `mount` shows.
    (
        "fsname",
        Value {
            accepts: "a name",
            set: |mount, value| {
                mount.config.mount.fsname = Some(value).filter(|v| !v.is_empty()).map(Into::into);
                mount.config.mount.fsname.as_ref().map(|_| ())
            },
        },
    ),
    (
        "subtype",
        Value {
            accepts: "a name of letters, digits, '.', '_' and '-'",
            set: |mount, value| {
                let ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                let subtype = Some(value).filter(|v| !v.is_empty() && v.chars().all(ok))?;
                mount.config.mount.subtype = Some(subtype.into());
                Some(())
            },
        },
    ),
    // Who may enter, and what the kernel honours.
    ("allow_other", Nothing(|mount| mount.config.mount.allow_other = true)),
    ("default_permissions", Nothing(|mount| mount.config.mount.default_permissions = true)),
    ("ro", Nothing(|mount| (mount.config.mount.ro, mount.rw) = (true, false))),
    ("rw", Nothing(|mount| (mount.config.mount.ro, mount.rw) = (false, true))),
    ("nosuid", Nothing(|mount| mount.config.mount.nosuid = true)),
    ("suid", Nothing(|mount| mount.config.mount.nosuid = false)),
    ("nodev", Nothing(|mount| mount.config.mount.nodev = true)),
    ("dev", Nothing(|mount| mount.config.mount.nodev = false)),
    ("noexec", Nothing(|mount| mount.config.mount.noexec = true)),
    ("exec", Nothing(|mount| mount.config.mount.noexec = false)),
    ("noatime", Nothing(|mount| mount.config.mount.noatime = true)),
    ("atime", Nothing(|mount| mount.config.mount.noatime = false)),
    ("relatime", Nothing(|mount| mount.config.mount.noatime = false)),
    ("remount", Nothing(|mount| mount.remount = true)),
    // What mount(8) finds in /proc/self/mountinfo and hands on when it remounts.
    ("user_id", Ignored),
    ("group_id", Ignored),
    ("max_read", Ignored),
    ("blksize", Ignored),
    // fstab(5), mount(8) and systemd.mount(5); also the x- family, see `is_comment`.
    ("defaults", Ignored),
    ("auto", Ignored),
    ("noauto", Ignored),
    ("fail", Ignored),
    ("nofail", Ignored),
    ("user", Ignored),
    ("users", Ignored),
    ("nouser", Ignored),
    ("nousers", Ignored),
    ("owner", Ignored),
    ("noowner", Ignored),
    ("group", Ignored),
    ("nogroup", Ignored),
    ("_netdev", Ignored),
    ("comment", Ignored),
    ("helper", Ignored),
    ("uhelper", Ignored),
    ("async", Ignored),
    ("diratime", Ignored),
    // libfuse 2 asked for it; mounting over a non-empty directory needs no leave here.
    ("nonempty", Ignored),
    // What people will try.
    ("sync", Refused("mount the source with it: its files are written to as the source says")),
    ("strictatime", Refused(SOURCE_S_TIMES)),
    ("nodiratime", Refused(SOURCE_S_TIMES)),
    ("lazytime", Refused(SOURCE_S_TIMES)),
    ("allow_root", Refused("use allow_other, which root is part of")),
    (
        "auto_unmount",
        Refused("after a crash `fusewire umount MOUNTPOINT` clears the mount, also a dead one"),
    ),
];

const SOURCE_S_TIMES: &str =
    "how access times move is the source's affair; mount the source with it";

/// Keys that say how a source is shown.
pub(super) const OF_A_SOURCE: [&str; 14] = [
    "data",
    "locality",
    "replica",
    "gfarm_spool",
    "gfarm_host",
    "gfarm_config",
    "coherence",
    "entry_timeout",
    "attr_timeout",
    "negative_timeout",
    "fd_cache",
    "one_file_system",
    "profile",
    "xattr",
];

/// A path that means the same in the daemon, which works from `/`.
fn already_absolute(value: &str) -> Option<PathBuf> {
    Some(PathBuf::from(value)).filter(|path| path.is_absolute())
}
