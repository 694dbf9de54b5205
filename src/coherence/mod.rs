//! What the kernel may answer by itself, and who tells it of changes made behind the mount.

use std::time::Duration;

use crate::config::{Coherence, Config};

/// Longer than any mount lives, and short enough for every clock of the kernel.
const UNBOUNDED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// What a name or attributes are trusted for where nobody says otherwise.
const CLASSIC: Duration = Duration::from_secs(1);

/// How far the kernel may trust what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// How long it may trust a name.
    pub entry: Duration,
    /// How long it may trust attributes.
    pub attr: Duration,
    /// How long it may trust that a name does not exist.
    pub negative: Duration,
    /// Whether what it keeps of files and directories is good until it is told otherwise.
    pub caches: bool,
}

impl Trust {
    /// What `config` asks for. Timeouts that are given by themselves override those of the coherence.
    pub fn new(config: &Config) -> Self {
        let (valid, negative, caches) = match config.coherence {
            Coherence::Auto => (CLASSIC, Duration::ZERO, false),
            Coherence::Exclusive => (UNBOUNDED, UNBOUNDED, true),
            Coherence::Timeout(timeout) => (timeout, Duration::ZERO, false),
        };
        Trust {
            entry: config.entry_timeout.unwrap_or(valid),
            attr: config.attr_timeout.unwrap_or(valid),
            negative: config.negative_timeout.unwrap_or(negative),
            caches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_that_is_given_overrides_the_coherence() {
        let mut config = Config::new("/s", "/m");
        let seconds = Duration::from_secs;
        let trust = |entry, attr, negative, caches| Trust { entry, attr, negative, caches };
        assert_eq!(Trust::new(&config), trust(seconds(1), seconds(1), seconds(0), false));
        config.coherence = Coherence::Exclusive;
        assert_eq!(Trust::new(&config), trust(UNBOUNDED, UNBOUNDED, UNBOUNDED, true));
        config.coherence = Coherence::Timeout(seconds(5));
        assert_eq!(Trust::new(&config), trust(seconds(5), seconds(5), seconds(0), false));
        config.attr_timeout = Some(seconds(7));
        config.negative_timeout = Some(seconds(2));
        assert_eq!(Trust::new(&config), trust(seconds(5), seconds(7), seconds(2), false));
        config.entry_timeout = Some(seconds(0));
        config.coherence = Coherence::Exclusive;
        assert_eq!(Trust::new(&config), trust(seconds(0), seconds(7), seconds(2), true));
    }
}
