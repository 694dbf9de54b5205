//! The command line: from arguments to a resolved [`Command`], and nothing else.
//!
//! It must not open, stat or mount anything; what it answers can be tested without a process.

mod null;
mod options;
mod study;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::Level;

pub use null::Null;
pub use options::OptionError;
pub use study::Study;

use null::NullArgs;

use crate::config::{Config, DataMode, DevIo, Gfarm, Locality, Profile, Transport};
use crate::study::DemoOptions;
use crate::{doctor, stats_view, umount};

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

/// What `fusewire mount` was asked for: the session's configuration and the daemon around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// What the session is built from. Both paths are absolute.
    pub config: Config,
    /// Stay in the foreground and log to standard error.
    pub foreground: bool,
    /// Append the log to this file instead. Absolute.
    pub log_file: Option<PathBuf>,
    /// What is worth logging: `INFO` unless asked for more.
    pub log_level: Level,
}

impl Mount {
    fn new(source: impl Into<PathBuf>, mountpoint: impl Into<PathBuf>) -> Self {
        Mount {
            config: Config::new(source, mountpoint),
            foreground: false,
            log_file: None,
            log_level: Level::INFO,
        }
    }

    fn debug(&mut self) {
        self.foreground = true;
        self.log_level = self.log_level.max(Level::DEBUG);
    }

    fn more_verbose(&mut self) {
        self.log_level = match self.log_level {
            Level::ERROR | Level::WARN => Level::INFO,
            Level::INFO => Level::DEBUG,
            _ => Level::TRACE,
        };
    }
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
    let matches = command.try_get_matches_from_mut(args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let invalid = |command: &mut clap::Command, name: &str, message: String| {
        let command = command.find_subcommand_mut(name).expect("clap has just matched it");
        command.error(ErrorKind::ValueValidation, message)
    };
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
        Sub::Umount(args) => {
            Command::Umount(umount::Options { mountpoint: args.mountpoint, lazy: args.lazy })
        }
        Sub::Doctor(args) => Command::Doctor(doctor::Options {
            source: args.source,
            json: args.json,
            probe_kernel: args.probe_kernel,
        }),
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

Exit status: 0 done, 1 failed (the reason is on standard error), 2 the command line is wrong.";

const MOUNT_HELP: &str = "\
Every long option above is also a key of -o, so that it can stand in fstab:
  -o data=copy,workers=2,attr_timeout=0.5

Keys of -o only:
  fsname=NAME            the device that `mount` and `df` show (default: the source)
  subtype=NAME           the type is fuse.NAME (default: fusewire)
  allow_other            let other users in; implies default_permissions
  default_permissions    the kernel checks permissions itself
  ro, rw                 read-only or not
  nosuid, nodev, noexec  and suid, dev, exec
  noatime                and atime, relatime
  profile=read-mostly    read-only, and what was seen once is read again without a request
  replica=held           with GlusterFS, on a read-only mount: the kernel reads a replica by itself
                         until it is closed; you promise that no storage is lost or moved meanwhile
  xattr=off              no extended attributes, and no request that asks for one
  gfarm_spool=PATH       with locality: the spool of this machine's storage node of Gfarm
  gfarm_host=NAME        its name in Gfarm (default: this machine's)
  gfarm_config=PATH      Gfarm's configuration (default: where Gfarm looks for it)

What fstab brings (defaults, nofail, noauto, user, _netdev, x-*, comment=...) is passed over. A comma
inside a value is written '\\,', a backslash '\\\\'. Of duplicates the last one wins.";

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
    Umount(UmountArgs),
    Doctor(DoctorArgs),
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

/// Show SOURCE at MOUNTPOINT; returns once the mount works
#[derive(Debug, Args)]
#[command(after_help = MOUNT_HELP, args_override_self = true)]
struct MountArgs {
    /// The directory to show
    source: PathBuf,
    /// The directory to show it at; what it holds is hidden until the unmount
    mountpoint: PathBuf,
    #[command(flatten)]
    daemon: DaemonArgs,
    /// Who moves the bytes of files: the kernel where it can (auto), the kernel or no mount at all
    /// (passthrough), the daemon without looking at them (splice), or the daemon
    /// (copy) [default: auto]
    #[arg(long, value_name = "MODE", value_parser = ["auto", "passthrough", "splice", "copy"])]
    data: Option<String>,
    /// What keeps the kernel's caches true to the source: that fusewire watches it (watch), that they
    /// are asked for again after some time (timeout=SECONDS), or your promise that nobody changes it
    /// behind the mount (exclusive) [default: watch where that can be had, else timeout=1]
    #[arg(long, value_name = "HOW")]
    coherence: Option<String>,
    /// Where the bytes of a distributed file system's files are read: on this machine's own disk if they
    /// lie there (auto, or gluster or gfarm and no mount if it can not be had), or through the source (off)
    /// [default: off]
    #[arg(long, value_name = "SYSTEM")]
    locality: Option<String>,
    /// How long the kernel may trust a name [default: as the coherence has it]
    #[arg(long, value_name = "SECONDS")]
    entry_timeout: Option<String>,
    /// How long the kernel may trust attributes [default: as the coherence has it]
    #[arg(long, value_name = "SECONDS")]
    attr_timeout: Option<String>,
    /// How long the kernel may trust that a name does not exist [default: as the coherence
    /// has it]
    #[arg(long, value_name = "SECONDS")]
    negative_timeout: Option<String>,
    /// Descriptors kept open only to save reopening [default: from RLIMIT_NOFILE]
    #[arg(long, value_name = "N")]
    fd_cache: Option<String>,
    /// Show nothing that is mounted inside the source, but the directories beneath
    #[arg(long)]
    one_file_system: bool,
    /// Pass over unknown -o keys, as mount(8) asks its helpers to
    #[arg(short = 's', hide = true)]
    sloppy: bool,
    /// Write no /etc/mtab: mount(8) may ask for it, and it never is written
    #[arg(short = 'n', hide = true)]
    _no_mtab: bool,
}

/// What every command that mounts takes.
#[derive(Debug, Args)]
struct DaemonArgs {
    /// Mount options, a comma-separated list (see below)
    #[arg(short = 'o', value_name = "KEY[=VALUE],...", action = clap::ArgAction::Append)]
    options: Vec<String>,
    /// Stay in the foreground, log to standard error
    #[arg(short, long)]
    foreground: bool,
    /// Foreground, and log every request
    #[arg(short, long)]
    debug: bool,
    /// Log more; twice: everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Append the log to FILE
    #[arg(long, value_name = "FILE")]
    log_file: Option<String>,
    /// How requests come: through io_uring where it can be had (auto), through it or no mount at all
    /// (uring), through reads and writes of /dev/fuse (dev), or the same by the session loop of the
    /// crate fuser, to compare with (fuser) [default: auto]
    #[arg(long, value_name = "TRANSPORT", value_parser = ["auto", "uring", "dev", "fuser"])]
    transport: Option<String>,
    /// How /dev/fuse is read and written: by system calls (read), or through io_uring, to compare with
    /// (uring) [default: read]
    #[arg(long, value_name = "HOW", value_parser = ["read", "uring"])]
    dev_io: Option<String>,
    /// How the threads that serve are scheduled: behind everybody else, each on a CPU of its own, as
    /// long as that starves nobody, which keeps clients on their CPU (auto), or as everybody else
    /// (normal) [default: auto]
    #[arg(long, value_name = "POLICY", value_parser = ["auto", "normal"])]
    sched: Option<String>,
    /// Worker threads of /dev/fuse [default: one per CPU that this process may run on]
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// Largest READ and WRITE: bytes, a multiple of 4096 up to 1048576 [default: 1048576; 524288
    /// if READs are spliced; 131072 on io_uring where the kernel moves the data]
    #[arg(long, value_name = "BYTES")]
    max_write: Option<String>,
    /// Bind each worker to one CPU
    #[arg(long)]
    pin: bool,
    /// Let the kernel place the workers [default]
    #[arg(long)]
    no_pin: bool,
}

/// Options of a command line: each with its position, its key of `-o`, and its value.
type Given<'a> = Vec<(usize, &'static str, Option<&'a str>)>;

impl DaemonArgs {
    /// Replays these options and `given` in the order of the command line, so that the last
    /// duplicate wins whether it was written long or in -o.
    fn replay<'a>(
        &'a self,
        mut mount: Mount,
        matches: &ArgMatches,
        mut given: Given<'a>,
        mut list: impl FnMut(&mut Mount, &str) -> Result<(), OptionError>,
    ) -> Result<Mount, String> {
        given.extend(values(
            matches,
            [
                ("log_file", &self.log_file),
                ("transport", &self.transport),
                ("dev_io", &self.dev_io),
                ("sched", &self.sched),
                ("workers", &self.workers),
                ("max_write", &self.max_write),
            ],
        ));
        for (id, times) in [
            ("foreground", self.foreground.into()),
            ("debug", self.debug.into()),
            ("verbose", self.verbose),
            ("pin", self.pin.into()),
            ("no_pin", self.no_pin.into()),
        ] {
            let index = matches.index_of(id).unwrap_or_default();
            given.extend((0..times).map(|_| (index, id, None)));
        }
        let lists = matches.indices_of("options").into_iter().flatten().zip(&self.options);
        given.extend(lists.map(|(index, list)| (index, "-o", Some(list.as_str()))));
        given.sort_by_key(|(index, ..)| *index);
        for (_, key, value) in given {
            match (key, value) {
                ("-o", Some(options)) => list(&mut mount, options),
                _ => options::apply(&mut mount, key, value),
            }
            .map_err(|error| error.to_string())?;
        }
        // Without the kernel's checks one user's cached answers would serve another.
        mount.config.mount.default_permissions |= mount.config.mount.allow_other;
        let Config { transport, workers, pin, dev_io, .. } = &mount.config;
        if *dev_io == DevIo::Uring && [Transport::Uring, Transport::Fuser].contains(transport) {
            return Err(
                "--dev-io uring is for --transport dev: the others have ways of their own \
                        to read requests"
                    .to_owned(),
            );
        }
        if *transport == Transport::Uring && (workers.is_some() || *pin) {
            return Err(
                "--workers and --pin are for --transport dev: io_uring has one queue per CPU, \
                        served there"
                    .to_owned(),
            );
        }
        Ok(mount)
    }
}

/// Those of `options` that were given.
fn values<'a, const N: usize>(
    matches: &ArgMatches,
    options: [(&'static str, &'a Option<String>); N],
) -> Given<'a> {
    let given = |(id, value): (&'static str, &'a Option<String>)| {
        Some((matches.index_of(id)?, id, Some(value.as_deref()?)))
    };
    options.into_iter().filter_map(given).collect()
}

impl MountArgs {
    fn resolve(&self, matches: &ArgMatches) -> Result<Mount, String> {
        let mount = Mount::new(absolute(&self.source)?, absolute(&self.mountpoint)?);
        let mut given = values(
            matches,
            [
                ("data", &self.data),
                ("coherence", &self.coherence),
                ("locality", &self.locality),
                ("entry_timeout", &self.entry_timeout),
                ("attr_timeout", &self.attr_timeout),
                ("negative_timeout", &self.negative_timeout),
                ("fd_cache", &self.fd_cache),
            ],
        );
        if self.one_file_system {
            let id = "one_file_system";
            given.push((matches.index_of(id).unwrap_or_default(), id, None));
        }
        let list = |mount: &mut Mount, list: &str| options::apply_list(mount, list, self.sloppy);
        let mut mount = self.daemon.replay(mount, matches, given, list)?;
        settle_profile(&mut mount.config)?;
        if mount.config.gfarm != Gfarm::default()
            && ![Locality::Auto, Locality::Gfarm].contains(&mount.config.locality)
        {
            return Err(
                "gfarm_spool, gfarm_host and gfarm_config are for locality=gfarm".to_owned()
            );
        }
        match (mount.config.transport, mount.config.data) {
            (Transport::Fuser, DataMode::Passthrough) => {
                Err("--transport fuser copies all data: leave out --data passthrough".to_owned())
            }
            (Transport::Fuser, DataMode::Splice) => {
                Err("--transport fuser copies all data: leave out --data splice".to_owned())
            }
            (Transport::Uring, DataMode::Splice) => {
                Err("--data splice is for --transport dev: no ring takes the pages of a pipe"
                    .to_owned())
            }
            (_, DataMode::Splice) if mount.config.dev_io == DevIo::Uring => {
                Err("--dev-io uring copies all data: leave out --data splice, or --dev-io"
                    .to_owned())
            }
            _ => Ok(mount),
        }
    }
}

/// What a profile implies, and what it does not go with.
fn settle_profile(config: &mut Config) -> Result<(), String> {
    if !config.xattr && config.mount.default_permissions {
        return Err(
            "xattr=off does not go with allow_other or default_permissions: the kernel would \
                    no longer see the ACLs that it checks; leave out one of them"
                .to_owned(),
        );
    }
    if config.profile == Profile::ReadMostly {
        if [DataMode::Passthrough, DataMode::Splice].contains(&config.data) {
            return Err(
                "profile=read-mostly reads through the kernel's page cache: leave out --data"
                    .to_owned(),
            );
        }
        config.data = DataMode::Copy;
        config.mount.ro = true;
        // Nobody asks the daemon whether a file may be opened, and only root may open all.
        config.mount.default_permissions |= config.xattr && !nix::unistd::geteuid().is_root();
    }
    Ok(())
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

/// Unmount MOUNTPOINT and wait until its daemon has ended
///
/// Only mounts of fusewire are touched. Works on the mount of a killed daemon, too.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct UmountArgs {
    /// Where fusewire shows a directory
    mountpoint: PathBuf,
    /// Detach now even if it is in use; the daemon ends with its last user
    #[arg(short, long)]
    lazy: bool,
}

/// Say what this kernel, this user and SOURCE offer, and the commands that enable more
///
/// Exit status 0 if mounting is possible, 1 if not.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct DoctorArgs {
    /// A directory that you mean to show
    source: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print what a throw-away mount finds out; needs a process of its own
    #[arg(long, hide = true)]
    probe_kernel: bool,
}

/// Show what a live mount negotiated, does and holds
#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct StatsArgs {
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
    fn resolve(self) -> Result<stats_view::Options, String> {
        let StatsArgs { mountpoint, json, watch } = self;
        // `--watch /mnt`: clap has taken the only operand for the interval.
        let (mountpoint, watch) = match (mountpoint, watch) {
            (None, Some(Some(operand))) if seconds(&operand).is_none() => {
                (Some(operand.into()), Some(None))
            }
            other => other,
        };
        let interval = match watch {
            None => None,
            Some(None) => Some(Duration::from_secs(1)),
            Some(Some(value)) => Some(seconds(&value).ok_or_else(|| {
                format!(
                    "invalid value '{value}' for '--watch': expected seconds above 0, as 0.5 or 2"
                )
            })?),
        };
        let mountpoint =
            mountpoint.ok_or("the mount point is missing: fusewire stats MOUNTPOINT")?;
        Ok(stats_view::Options { mountpoint, json, interval })
    }
}

fn seconds(value: &str) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(value.parse().ok()?).ok()?;
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests;
