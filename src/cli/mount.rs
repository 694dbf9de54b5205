//! `fusewire mount`: its options and the daemon's, replayed in the order of the command line.

use std::path::PathBuf;

use clap::{ArgMatches, Args};
use tracing::Level;

use super::absolute;
use super::options::{self, OptionError};
use crate::config::{Config, DataMode, DevIo, Gfarm, Locality, Profile, Transport};

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
    /// Change a mount that is there.
    pub remount: bool,
    /// That it can be written to was asked for.
    pub rw: bool,
}

impl Mount {
    pub(super) fn new(source: impl Into<PathBuf>, mountpoint: impl Into<PathBuf>) -> Self {
        Mount {
            config: Config::new(source, mountpoint),
            foreground: false,
            log_file: None,
            log_level: Level::INFO,
            remount: false,
            rw: false,
        }
    }

    pub(super) fn debug(&mut self) {
        self.foreground = true;
        self.log_level = self.log_level.max(Level::DEBUG);
    }

    pub(super) fn more_verbose(&mut self) {
        self.log_level = match self.log_level {
            Level::ERROR | Level::WARN => Level::INFO,
            Level::INFO => Level::DEBUG,
            _ => Level::TRACE,
        };
    }
}

/// What stands below the options of a command that mounts.
pub(super) fn keys_help(example: &str, of_a_source: &str) -> String {
    format!(
        "\
Every long option of a mount is also a key of -o, so that it can stand in fstab:
  -o {example}

Keys of -o only:
  fsname=NAME            the device that `mount` and `df` show (default: the source)
  subtype=NAME           the type is fuse.NAME (default: fusewire)
  allow_other            let other users in; implies default_permissions
  default_permissions    the kernel checks permissions itself
  ro, rw                 read-only or not
  nosuid, nodev, noexec  and suid, dev, exec
  noatime                and atime, relatime
  remount                change a live mount: ro or rw, or add nosuid, nodev, noexec
{of_a_source}
What fstab brings (defaults, nofail, noauto, user, _netdev, x-*, comment=...) is passed over.
A comma inside a value is written '\\,', a backslash '\\\\'. Of duplicates the last one wins."
    )
}

const KEYS_OF_A_SOURCE: &str =
    "  profile=read-mostly    read-only, and what was seen once is read again without a request
  replica=held           with GlusterFS, on a read-only mount: the kernel reads a replica by itself
                         until it is closed; you promise that no storage is lost or moved meanwhile
  xattr=off              no extended attributes, and no request that asks for one
  gfarm_spool=PATH       with locality: the spool of this machine's storage node of Gfarm
  gfarm_host=NAME        its name in Gfarm (default: this machine's)
  gfarm_config=PATH      Gfarm's configuration (default: where Gfarm looks for it)
";

const DATA: &str = "Data and caches";
const DISTRIBUTED: &str = "Distributed file systems";
const REQUESTS: &str = "Requests";
const DAEMON: &str = "Daemon";

/// Show SOURCE at MOUNTPOINT; returns once the mount works
#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(after_help = keys_help("data=copy,workers=2,attr_timeout=0.5", KEYS_OF_A_SOURCE))]
pub(super) struct MountArgs {
    /// The directory to show
    source: PathBuf,
    /// The directory to show it at; what it holds is hidden until the unmount
    mountpoint: PathBuf,
    /// Who moves the bytes of files: the kernel where it can (auto), the kernel or no mount at all
    /// (passthrough), the daemon without looking at them (splice), or the daemon
    /// (copy) [default: auto]
    #[arg(long, value_name = "MODE", value_parser = ["auto", "passthrough", "splice", "copy"])]
    #[arg(help_heading = DATA)]
    data: Option<String>,
    /// What keeps the kernel's caches true to the source: that fusewire watches it or there is no
    /// mount (watch), that they are asked for again after some time (timeout=SECONDS), your promise
    /// that nobody changes it behind the mount (exclusive), or watch where that can be had and else
    /// timeout=1 (auto) [default: auto]
    #[arg(long, value_name = "HOW", help_heading = DATA)]
    coherence: Option<String>,
    /// How long the kernel may trust a name [default: as the coherence has it]
    #[arg(long, value_name = "SECONDS", help_heading = DATA)]
    entry_timeout: Option<String>,
    /// How long the kernel may trust attributes [default: as the coherence has it]
    #[arg(long, value_name = "SECONDS", help_heading = DATA)]
    attr_timeout: Option<String>,
    /// How long the kernel may trust that a name does not exist [default: as the coherence
    /// has it]
    #[arg(long, value_name = "SECONDS", help_heading = DATA)]
    negative_timeout: Option<String>,
    /// Descriptors kept open only to save reopening, at most a quarter of RLIMIT_NOFILE [default:
    /// that quarter]
    #[arg(long, value_name = "N", help_heading = DATA)]
    fd_cache: Option<String>,
    /// Show nothing that is mounted inside the source, but the directories beneath
    #[arg(long, help_heading = DATA)]
    one_file_system: bool,
    /// Where the bytes of a distributed file system's files are read: on this machine's own disk if they
    /// lie there (auto, or gluster or gfarm and no mount if it can not be had), or through the source (off)
    /// [default: off]
    #[arg(long, value_name = "SYSTEM", value_parser = ["off", "auto", "gluster", "gfarm"])]
    #[arg(help_heading = DISTRIBUTED)]
    locality: Option<String>,
    #[command(flatten)]
    daemon: DaemonArgs,
    /// Pass over unknown -o keys, as mount(8) asks its helpers to
    #[arg(short = 's', hide = true)]
    sloppy: bool,
    /// Write no /etc/mtab: mount(8) may ask for it, and it never is written
    #[arg(short = 'n', hide = true)]
    _no_mtab: bool,
}

/// What every command that mounts takes.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    /// Mount options, a comma-separated list (see below)
    #[arg(short = 'o', value_name = "KEY[=VALUE],...", action = clap::ArgAction::Append)]
    options: Vec<String>,
    /// How requests come: through io_uring where it can be had (auto), through it or no mount at all
    /// (uring), through reads and writes of /dev/fuse (dev), or the same by the session loop of the
    /// crate fuser, to compare with (fuser) [default: auto]
    #[arg(long, value_name = "TRANSPORT", value_parser = ["auto", "uring", "dev", "fuser"])]
    #[arg(help_heading = REQUESTS)]
    transport: Option<String>,
    /// How /dev/fuse is read and written: by system calls (read), or through io_uring, to compare with
    /// (uring) [default: read]
    #[arg(long, value_name = "HOW", value_parser = ["read", "uring"], help_heading = REQUESTS)]
    dev_io: Option<String>,
    /// How the threads that serve are scheduled: behind everybody else, each on a CPU of its own, as
    /// long as that starves nobody, which keeps clients on their CPU (auto), or as everybody else
    /// (normal) [default: auto]
    #[arg(long, value_name = "POLICY", value_parser = ["auto", "normal"], help_heading = REQUESTS)]
    sched: Option<String>,
    /// Worker threads of /dev/fuse, which this chooses [default: one per CPU that this process may
    /// run on]
    #[arg(long, value_name = "N", help_heading = REQUESTS)]
    workers: Option<String>,
    /// Bind each worker to one CPU; chooses /dev/fuse, too
    #[arg(long, help_heading = REQUESTS)]
    pin: bool,
    /// Let the kernel place the workers [default]
    #[arg(long, help_heading = REQUESTS)]
    no_pin: bool,
    /// Largest READ and WRITE: bytes, a multiple of 4096 up to 1048576 [default: on /dev/fuse 524288,
    /// with --data copy 1048576; on io_uring 131072 with passthrough, else 1048576]
    #[arg(long, value_name = "BYTES", help_heading = REQUESTS)]
    max_write: Option<String>,
    /// Stay in the foreground, log to standard error
    #[arg(short, long, help_heading = DAEMON)]
    foreground: bool,
    /// Foreground, and log every request
    #[arg(short, long, help_heading = DAEMON)]
    debug: bool,
    /// Log more; twice: everything
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = DAEMON)]
    verbose: u8,
    /// Append the log to FILE
    #[arg(long, value_name = "FILE", help_heading = DAEMON)]
    log_file: Option<String>,
}

/// Options of a command line: each with its position, its key of `-o`, and its value.
pub(super) type Given<'a> = Vec<(usize, &'static str, Option<&'a str>)>;

impl DaemonArgs {
    /// Replays these options and `given` in the order of the command line, so that the last
    /// duplicate wins whether it was written long or in -o.
    pub(super) fn replay<'a>(
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
    pub(super) fn resolve(&self, matches: &ArgMatches) -> Result<Mount, String> {
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
