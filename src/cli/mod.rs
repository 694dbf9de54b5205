//! The command line: from arguments to a resolved [`Command`], and nothing else.
//!
//! It must not open, stat or mount anything; what it answers can be tested without a process.

mod mount;
mod null;
mod options;
mod study;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use mount::Mount;
pub use null::Null;
pub use options::OptionError;
pub use study::Study;

use mount::MountArgs;
use null::NullArgs;

use crate::stats_view::{self, StatsArgs};
use crate::study::DemoOptions;
use crate::{doctor, umount};

/// What the user asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Show a directory at a mount point.
    Mount(Box<Mount>),
    /// Show a file system without storage at a mount point.
    Null(Box<Null>),
    /// Unmount, and wait until the daemon has gone.
    Umount(umount::Options),
    /// Say what this kernel, this user and this source offer.
    Doctor(doctor::Options),
    /// Show the figures of a live mount.
    Stats(stats_view::Options),
    /// Measure native against fusewire.
    Demo(Box<DemoOptions>),
    /// Measure in studies, and tell what they found.
    Study(Box<Study>),
    /// Write notifications for a daemon, to the connection of this number.
    Notify(u32),
    /// Ask Gfarm for a daemon.
    AskGfarm {
        /// A URL of the root of what it shows.
        root: CString,
        /// The storage node on this machine.
        host: CString,
    },
}

/// Parses a command line, the program's name first.
///
/// # Errors
/// [`clap::Error`], also for `--help` and `--version`: its `exit` prints to the right stream and
/// ends with 0 or 2.
pub fn parse<I, T>(args: I) -> Result<Command, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args = name_the_command(args.into_iter().map(Into::into).collect());
    let mut command = Cli::command();
    let matches = match command.try_get_matches_from_mut(&args) {
        Ok(matches) => matches,
        Err(error) => return Err(name_the_key(&mut command, &args, error)),
    };
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(match cli.command {
        Sub::Mount(args) => {
            let matches = matches.subcommand_matches("mount").expect("clap has just matched it");
            let mount = args.resolve(matches).map_err(|e| invalid(&mut command, "mount", e))?;
            Command::Mount(Box::new(mount))
        }
        Sub::Null(args) => {
            let matches = matches.subcommand_matches("null").expect("clap has just matched it");
            let null = args.resolve(matches).map_err(|e| invalid(&mut command, "null", e))?;
            Command::Null(Box::new(null))
        }
        Sub::Umount(options) => Command::Umount(options),
        Sub::Doctor(options) => Command::Doctor(options),
        Sub::Demo(options) => Command::Demo(options),
        Sub::Study { study } => Command::Study(Box::new(study)),
        Sub::Notify(args) => Command::Notify(args.connection),
        Sub::AskGfarm(args) => {
            // Arguments of a process have no NUL inside.
            let string = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
            Command::AskGfarm { root: string(args.root), host: string(args.host) }
        }
        Sub::Stats(args) => {
            Command::Stats(args.resolve().map_err(|e| invalid(&mut command, "stats", e))?)
        }
    })
}

fn invalid(command: &mut clap::Command, name: &str, message: String) -> clap::Error {
    let command = command.find_subcommand_mut(name).expect("clap knows its own");
    command.error(ErrorKind::ValueValidation, message)
}

/// Says what to write in place of a long option that there is only as a key of `-o`; clap would name
/// the long option that sounds most like it.
fn name_the_key(command: &mut clap::Command, args: &[OsString], error: clap::Error) -> clap::Error {
    let mut words = args.iter().filter_map(|word| word.to_str()).skip(1);
    let (Some(name @ ("mount" | "null")), ErrorKind::UnknownArgument) =
        (words.next(), error.kind())
    else {
        return error;
    };
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let given = words.find(|word| word.split('=').next() == Some(option));
    let value = match given.and_then(|word| word.split_once('=')) {
        Some((_, value)) => Some(value),
        None => words.next(),
    };
    let long = option.trim_start_matches('-');
    match options::in_place_of(long, value, name == "mount") {
        Some(remedy) => invalid(command, name, format!("unexpected argument '{option}': {remedy}")),
        None => error,
    }
}

/// Puts `mount` in front of a line that names no command: `fusewire SRC MNT`, and everything that
/// comes through a link called `mount.fuse.fusewire`, as mount(8) calls its helpers.
fn name_the_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let called_as_helper = args
        .first()
        .and_then(|program| Path::new(program).file_name())
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.starts_with("mount."));
    let is_mount = match args.get(1).map(|first| first.to_string_lossy()) {
        _ if called_as_helper => true,
        None => false,
        Some(first) => {
            let command = Cli::command();
            let known = |likeness: f64| {
                let near = |name: &str| strsim::jaro_winkler(name, &first) >= likeness;
                command.get_subcommands().any(|command| near(command.get_name()))
            };
            let answered_by_clap = ["help", "-h", "--help", "-V", "--version"];
            // A likely slip of the pen is left to clap, which names the command that was meant.
            let slip = || !first.contains('/') && known(0.85) && !Path::new(&*first).exists();
            !(known(1.0) || answered_by_clap.contains(&&*first) || slip())
        }
    };
    if is_mount {
        args.insert(1, "mount".into());
    }
    args
}

const EXAMPLES: &str = "\
Examples:
  fusewire mount /data /mnt                       show /data at /mnt, in the background
  fusewire /data /mnt -o ro,allow_other           the same in the manner of mount(8)
  fusewire mount /data /mnt -f --data copy        stay in the foreground, no kernel passthrough
  fusewire stats /mnt --watch                     what the mount does, live
  fusewire doctor /data                           what could make it faster, and how to enable it
  fusewire umount /mnt                            unmount and wait for the daemon to end
  fusewire null /mnt                              no storage behind it: the price of a request
  fusewire demo                                   native against the mount, in two minutes
  fusewire study run --list                       what can be measured at length, by name

Exit status: 0 done, 1 failed (the reason is on standard error), 2 the command line is wrong,
3 `study compare` found something worse, 128 + N signal N ended a demo or a study.";

/// Show a local directory through FUSE at the speed of the directory itself.
///
/// `fusewire SOURCE MOUNTPOINT` is short for `fusewire mount SOURCE MOUNTPOINT`.
#[derive(Debug, Parser)]
#[command(name = "fusewire", version, after_help = EXAMPLES, args_override_self = true)]
#[command(arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Mount(Box<MountArgs>),
    Umount(umount::Options),
    Doctor(doctor::Options),
    Stats(StatsArgs),
    Demo(Box<DemoOptions>),
    /// Measure the overhead of file systems in studies, and report and compare what they found
    Study {
        #[command(subcommand)]
        study: Study,
    },
    Null(NullArgs),
    Notify(NotifyArgs),
    AskGfarm(AskGfarmArgs),
}

/// The daemon works from `/`, so no relative path may outlive this process's working directory.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("path '{}': {error}", path.display()))
}

/// Write notifications that the kernel may have to wait for; a daemon starts it for itself
#[derive(Debug, Args)]
#[command(hide = true)]
struct NotifyArgs {
    /// The minor number of the mount's device
    connection: u32,
}

/// Ask the servers of Gfarm which replica is the newest; a daemon starts it for itself
#[derive(Debug, Args)]
#[command(hide = true)]
struct AskGfarmArgs {
    /// A URL of the root of what the daemon shows
    root: OsString,
    /// The storage node on this machine
    host: OsString,
}

#[cfg(test)]
mod tests;
