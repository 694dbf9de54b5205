//! The language of `-o`: one table of every key, what it takes and what it does.
//!
//! The long options of `mount` are replayed through the same table, in the order of the command
//! line, so `--data copy -o data=auto` ends as `auto` like any other duplicate. The vocabulary of
//! fstab(5) is known here too. Nothing here touches the file system.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

use super::Mount;
use crate::config::{
    Coherence, DataMode, DevIo, Locality, Profile, ReplicaTrust, Sched, Transport,
};

/// A `-o` argument that can not be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No such key.
    #[error(
        "unknown mount option '{key}'{}; `fusewire mount --help` lists them all",
        nearest.map(|known| format!(", did you mean '{known}'?")).unwrap_or_default()
    )]
    Unknown {
        /// As the user wrote it.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// The key is known, the value is not.
    #[error("invalid value '{value}' for mount option '{key}': expected {accepts}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// As the user wrote it.
        value: String,
        /// What would have been accepted.
        accepts: &'static str,
    },
    /// `key` without `=value`.
    #[error("mount option '{key}' needs a value: {key}={accepts}")]
    MissingValue {
        /// The key.
        key: &'static str,
        /// What is accepted.
        accepts: &'static str,
    },
    /// `key=value` of a switch.
    #[error("mount option '{key}' takes no value, but got '{value}'")]
    UnexpectedValue {
        /// The key.
        key: &'static str,
        /// As the user wrote it.
        value: String,
    },
    /// Known, and impossible.
    #[error("mount option '{key}' is not supported: {reason}")]
    Refused {
        /// The key.
        key: &'static str,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// An octal escape that is no text.
    #[error("mount option '{option}' is not UTF-8 once its escapes are resolved")]
    NotText {
        /// The option, lossily.
        option: String,
    },
}

/// What a key takes and does.
enum Takes {
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
const TABLE: &[(&str, Takes)] = &[
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
                mount.config.gfarm.spool = Some(absolute(value)?);
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
                mount.config.gfarm.configuration = Some(absolute(value)?);
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
    ("ro", Nothing(|mount| mount.config.mount.ro = true)),
    ("rw", Nothing(|mount| mount.config.mount.ro = false)),
    ("nosuid", Nothing(|mount| mount.config.mount.nosuid = true)),
    ("suid", Nothing(|mount| mount.config.mount.nosuid = false)),
    ("nodev", Nothing(|mount| mount.config.mount.nodev = true)),
    ("dev", Nothing(|mount| mount.config.mount.nodev = false)),
    ("noexec", Nothing(|mount| mount.config.mount.noexec = true)),
    ("exec", Nothing(|mount| mount.config.mount.noexec = false)),
    ("noatime", Nothing(|mount| mount.config.mount.noatime = true)),
    ("atime", Nothing(|mount| mount.config.mount.noatime = false)),
    ("relatime", Nothing(|mount| mount.config.mount.noatime = false)),
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
    ("remount", Refused("FUSE can not change a live mount; unmount it and mount again")),
    ("sync", Refused("mount the source with it: its files are written to as the source says")),
    ("strictatime", Refused("access times are the source's; mount the source with it")),
    ("allow_root", Refused("use allow_other, which root is part of")),
    (
        "auto_unmount",
        Refused("after a crash `fusewire umount MOUNTPOINT` clears the mount, also a dead one"),
    ),
];

/// Keys that say how a source is shown.
const OF_A_SOURCE: [&str; 14] = [
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

/// Obeys one `-o` argument: a comma-separated list. With `sloppy` unknown keys are passed over.
pub(super) fn apply_list(mount: &mut Mount, list: &str, sloppy: bool) -> Result<(), OptionError> {
    for option in split(list)? {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        match apply(mount, key, value) {
            Err(OptionError::Unknown { .. }) if sloppy => {}
            result => result?,
        }
    }
    Ok(())
}

/// Obeys one `-o` argument of a mount that shows no source.
pub(super) fn apply_list_without_source(mount: &mut Mount, list: &str) -> Result<(), OptionError> {
    for option in split(list)? {
        let key = option.split('=').next().unwrap_or_default().replace('-', "_");
        if let Some(key) = OF_A_SOURCE.iter().find(|known| **known == key) {
            let reason = "there is no source; `fusewire mount` has it";
            return Err(OptionError::Refused { key, reason });
        }
    }
    apply_list(mount, list, false)
}

/// Obeys one key.
pub(super) fn apply(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<(), OptionError> {
    if is_comment(key) {
        return Ok(());
    }
    let normal = key.replace('-', "_");
    let Some((key, takes)) = TABLE.iter().find(|(known, _)| *known == normal) else {
        return Err(OptionError::Unknown { key: key.into(), nearest: nearest(&normal) });
    };
    match (takes, value) {
        (Nothing(set), None) => set(mount),
        (Nothing(_), Some(value)) => {
            return Err(OptionError::UnexpectedValue { key, value: value.into() });
        }
        (Value { accepts, .. }, None) => return Err(OptionError::MissingValue { key, accepts }),
        (Value { accepts, set }, Some(value)) => set(mount, value)
            .ok_or_else(|| OptionError::BadValue { key, value: value.into(), accepts })?,
        (Ignored, _) => {}
        (Refused(reason), _) => return Err(OptionError::Refused { key, reason }),
    }
    Ok(())
}

/// `x-systemd.automount`, `X-mount.mkdir`: userspace's own, whatever they say.
fn is_comment(key: &str) -> bool {
    key.starts_with("x-") || key.starts_with("X-")
}

/// The known key that a typing error most likely meant; none if nothing is near.
fn nearest(key: &str) -> Option<&'static str> {
    TABLE
        .iter()
        .filter(|(_, takes)| !matches!(takes, Refused(_)))
        .map(|(known, _)| (*known, strsim::jaro_winkler(key, known)))
        .filter(|(_, likeness)| *likeness > 0.8)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(known, _)| known)
}

/// A path that means the same in the daemon, which works from `/`.
fn absolute(value: &str) -> Option<PathBuf> {
    Some(PathBuf::from(value)).filter(|path| path.is_absolute())
}

fn seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

/// Splits at commas as libfuse does: `\,` is a comma, `\\` a backslash, `\ooo` an octal byte, and a
/// backslash before anything else vanishes. Empty options are passed over.
fn split(list: &str) -> Result<Vec<String>, OptionError> {
    let mut options = vec![Vec::new()];
    let mut rest = list.as_bytes();
    while let [first, tail @ ..] = rest {
        let current = options.last_mut().expect("it starts with one and only grows");
        rest = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                current.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                current.push(*escaped);
                tail
            }
            [b',', tail @ ..] => {
                options.push(Vec::new());
                tail
            }
            _ => {
                current.push(*first);
                tail
            }
        };
    }
    options
        .into_iter()
        .filter(|option| !option.is_empty())
        .map(|option| {
            String::from_utf8(option).map_err(|error| OptionError::NotText {
                option: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_to_default(list: &str) -> Result<Mount, OptionError> {
        let mut mount = Mount::new("/src", "/mnt");
        apply_list(&mut mount, list, false)?;
        Ok(mount)
    }

    #[test]
    fn lists_split_as_in_libfuse() {
        for (list, want) in [
            ("", vec![]),
            (",,a,,", vec!["a"]),
            ("a,b=c", vec!["a", "b=c"]),
            (r"fsname=a\,b,ro", vec!["fsname=a,b", "ro"]),
            (r"fsname=a\\,ro", vec![r"fsname=a\", "ro"]),
            (r"fsname=a\\\,b", vec![r"fsname=a\,b"]),
            (r"fsname=a\040b", vec!["fsname=a b"]),
            (r"fsname=a\xb", vec!["fsname=axb"]),
            (r"fsname=a\", vec![r"fsname=a\"]),
            ("fsname=a=b", vec!["fsname=a=b"]),
        ] {
            assert_eq!(split(list).expect(list), want, "{list}");
        }
        assert!(matches!(split(r"fsname=\377"), Err(OptionError::NotText { .. })));
    }

    #[test]
    fn every_key_of_the_table_can_be_spelled_and_the_fstab_ones_change_nothing() {
        let untouched = Mount::new("/src", "/mnt");
        for (key, takes) in TABLE {
            match takes {
                Ignored => assert_eq!(apply_to_default(key).expect(key), untouched, "{key}"),
                Nothing(_) => drop(apply_to_default(key).expect(key)),
                Value { .. } => assert!(
                    matches!(apply_to_default(key), Err(OptionError::MissingValue { .. })),
                    "{key}"
                ),
                Refused(_) => assert!(
                    matches!(apply_to_default(key), Err(OptionError::Refused { .. })),
                    "{key}"
                ),
            }
        }
        let fstab = "defaults,nofail,noauto,user,_netdev,x-systemd.automount,x-gvfs-name=a,\
                     X-mount.mkdir=0755,comment=systemd.automount,group,owner";
        assert_eq!(apply_to_default(fstab).expect(fstab), untouched);
    }

    #[test]
    fn the_last_of_duplicates_wins() {
        let mount = apply_to_default("ro,data=copy,rw,data=passthrough,nosuid,suid,pin,no_pin,pin")
            .expect("all known");
        assert!(!mount.config.mount.ro && !mount.config.mount.nosuid && mount.config.pin);
        assert_eq!(mount.config.data, DataMode::Passthrough);
    }

    #[test]
    fn bad_values_name_key_value_and_what_is_accepted() {
        for (list, want) in [
            (
                "data=fast",
                "invalid value 'fast' for mount option 'data': expected auto, passthrough, splice or copy",
            ),
            (
                "workers=0",
                "invalid value '0' for mount option 'workers': expected a whole number from 1 to 1024",
            ),
            (
                "workers=1025",
                "invalid value '1025' for mount option 'workers': expected a whole number from 1 to 1024",
            ),
            (
                "attr_timeout=-1",
                "invalid value '-1' for mount option 'attr_timeout': expected seconds, as 0, 0.5 or 3600",
            ),
            (
                "entry_timeout=inf",
                "invalid value 'inf' for mount option 'entry_timeout': expected seconds, as 0, 0.5 or 3600",
            ),
            (
                "negative_timeout=1s",
                "invalid value '1s' for mount option 'negative_timeout': expected seconds, as 0, 0.5 or 3600",
            ),
            (
                "coherence=timeout",
                "invalid value 'timeout' for mount option 'coherence': expected auto, watch, exclusive or timeout=SECONDS",
            ),
            (
                "coherence=timeout=never",
                "invalid value 'timeout=never' for mount option 'coherence': expected auto, watch, exclusive or timeout=SECONDS",
            ),
            (
                "fd_cache=",
                "invalid value '' for mount option 'fd_cache': expected a whole number from 1",
            ),
            (
                "subtype=a b",
                "invalid value 'a b' for mount option 'subtype': expected a name of letters, digits, '.', '_' and '-'",
            ),
            ("fsname=", "invalid value '' for mount option 'fsname': expected a name"),
            ("ro=1", "mount option 'ro' takes no value, but got '1'"),
            (
                "workers",
                "mount option 'workers' needs a value: workers=a whole number from 1 to 1024",
            ),
            (
                "allow_otter",
                "unknown mount option 'allow_otter', did you mean 'allow_other'?; `fusewire mount --help` lists them all",
            ),
            (
                "dta=copy",
                "unknown mount option 'dta', did you mean 'data'?; `fusewire mount --help` lists them all",
            ),
            ("zzz", "unknown mount option 'zzz'; `fusewire mount --help` lists them all"),
            (
                "remount,ro",
                "mount option 'remount' is not supported: FUSE can not change a live mount; unmount it and mount again",
            ),
        ] {
            let error = apply_to_default(list).expect_err(list);
            assert_eq!(error.to_string(), want, "{list}");
        }
    }

    #[test]
    fn sloppy_passes_over_unknown_keys_only() {
        let mut mount = Mount::new("/src", "/mnt");
        apply_list(&mut mount, "zzz,ro", true).expect("unknown is passed over");
        assert!(mount.config.mount.ro);
        apply_list(&mut mount, "data=zzz", true).expect_err("a bad value is still an error");
    }
}
