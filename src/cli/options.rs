//! The language of `-o`: one table of every key, what it takes and what it does.
//!
//! The long options of `mount` are replayed through the same table, in the order of the command
//! line, so `--data copy -o data=auto` ends as `auto` like any other duplicate. The vocabulary of
//! fstab(5) is known here too. Nothing here touches the file system.

mod split;
mod table;

use thiserror::Error;

use super::Mount;
use split::split;
use table::Takes::{Ignored, Nothing, Refused, Value};
use table::{OF_A_SOURCE, TABLE};

/// A `-o` argument that can not be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No such key.
    #[error(
        "unknown mount option '{key}'{} `fusewire {command} --help` lists them all",
        nearest.map_or(";".into(), |known| format!(", did you mean '{known}'?"))
    )]
    Unknown {
        /// As the user wrote it.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
        /// Whose options they are: `mount` or `null`.
        command: &'static str,
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
            return Err(OptionError::Refused { key, reason: NO_SOURCE });
        }
    }
    apply_list(mount, list, false).map_err(|error| match error {
        OptionError::Unknown { key, nearest, .. } => {
            let nearest = nearest.filter(|known| !OF_A_SOURCE.contains(known));
            OptionError::Unknown { key, nearest, command: "null" }
        }
        error => error,
    })
}

const NO_SOURCE: &str = "there is no source; `fusewire mount` has it";

/// What to write in place of a long option `long` that is known only as a key; `None` if it is none.
pub(super) fn in_place_of(long: &str, value: Option<&str>, has_source: bool) -> Option<String> {
    let normal = long.replace('-', "_");
    let (key, takes) = TABLE.iter().find(|(known, _)| *known == normal)?;
    match takes {
        _ if !has_source && OF_A_SOURCE.contains(key) => Some(NO_SOURCE.to_owned()),
        Nothing(_) => Some(format!("use -o {key}")),
        Value { accepts, .. } => Some(match value {
            Some(value) => format!("use -o {key}={value}"),
            None => format!("use -o {key}=VALUE, which is {accepts}"),
        }),
        Refused(reason) => Some((*reason).to_owned()),
        Ignored => None,
    }
}

/// Obeys one key.
pub(super) fn apply(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<(), OptionError> {
    if is_comment(key) {
        return Ok(());
    }
    let normal = key.replace('-', "_");
    let Some((key, takes)) = TABLE.iter().find(|(known, _)| *known == normal) else {
        let (nearest, command) = (nearest(&normal), "mount");
        return Err(OptionError::Unknown { key: key.into(), nearest, command });
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

/// Every key that does something.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    let does = |takes: &table::Takes| matches!(takes, Nothing(_) | Value { .. });
    TABLE.iter().filter(move |(_, takes)| does(takes)).map(|(key, _)| *key)
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

#[cfg(test)]
mod tests;
