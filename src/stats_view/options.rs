//! What the user asks of `fusewire stats`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::seconds;

/// What `fusewire stats` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where fusewire shows a directory.
    pub mountpoint: PathBuf,
    /// The document itself instead of a view of it.
    pub json: bool,
    /// Again and again, this often.
    pub interval: Option<Duration>,
}

/// Show what a live mount negotiated, does and holds
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct StatsArgs {
    /// Where fusewire shows a directory
    mountpoint: Option<PathBuf>,
    /// Print the exact document; with --watch one document a line
    #[arg(long)]
    json: bool,
    /// Again every SECONDS (default 1) until interrupted or unmounted, with rates
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1)]
    watch: Option<Option<String>>,
}

impl StatsArgs {
    pub(crate) fn resolve(self) -> Result<Options, String> {
        let StatsArgs { mountpoint, json, watch } = self;
        // `--watch /mnt`: clap has taken the only operand for the interval.
        let (mountpoint, watch) = match (mountpoint, watch) {
            (None, Some(Some(operand))) if interval(&operand).is_none() => {
                (Some(operand.into()), Some(None))
            }
            other => other,
        };
        let interval = match watch {
            None => None,
            Some(None) => Some(Duration::from_secs(1)),
            Some(Some(value)) => Some(interval(&value).ok_or_else(|| {
                format!(
                    "invalid value '{value}' for '--watch': expected seconds above 0, as 0.5 or 2"
                )
            })?),
        };
        let mountpoint =
            mountpoint.ok_or("the mount point is missing: fusewire stats MOUNTPOINT")?;
        Ok(Options { mountpoint, json, interval })
    }
}

fn interval(text: &str) -> Option<Duration> {
    seconds(text).filter(|interval| !interval.is_zero())
}
