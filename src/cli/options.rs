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

#[cfg(test)]
mod tests;
