//! `fusewire null`: its own options, and those that it has in common with `mount`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args};

use super::mount::{DaemonArgs, Mount, keys_help};
use super::{absolute, options};

/// What `fusewire null` was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Null {
    /// The mount and the daemon around it; its source is `null`.
    pub mount: Mount,
    /// The file system.
    pub fs: crate::null::Null,
}

/// Mount a file system without storage: what a request costs, apart from answering it
///
/// It holds an empty directory `empty` and a file `zeros`, which swallows what is written to it.
/// Attributes are valid for no time at all, so that every stat is a request. For measurements.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(after_help = keys_help("workers=2,max_write=65536", ""))]
pub(super) struct NullArgs {
    /// The directory to mount on; what it holds is hidden until the unmount
    mountpoint: PathBuf,
    /// What GETATTR takes longer than it must, microseconds: running below 100, asleep from there on
    #[arg(long, value_name = "N", default_value_t = 0)]
    delay_us: u64,
    /// Size of the file `zeros`, bytes
    #[arg(long, value_name = "BYTES", default_value_t = crate::null::Null::default().file_size,
          value_parser = clap::value_parser!(u64).range(..=i64::MAX.unsigned_abs()))]
    file_size: u64,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl NullArgs {
    pub(super) fn resolve(&self, matches: &ArgMatches) -> Result<Null, String> {
        let mount = Mount::new("null", absolute(&self.mountpoint)?);
        let list = options::apply_list_without_source;
        let mount = self.daemon.replay(mount, matches, Vec::new(), list)?;
        let delay = Duration::from_micros(self.delay_us);
        Ok(Null { mount, fs: crate::null::Null { file_size: self.file_size, delay } })
    }
}
