//! What this kernel's FUSE offers, from the throw-away mount and the kernel's parameters.

use std::path::Path;
use std::process::Command;

use nix::errno::Errno;

use super::check::{Check, Group};
use super::probe::{Probe, Tried};

const ASK: Group = Group::Kernel;

/// What is read from the system, apart from the probe; a value of its own so that the judgements
/// on it can be tested.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) release: String,
    pub(super) device: Result<(), std::io::ErrorKind>,
    pub(super) probe: Result<Probe, String>,
    pub(super) is_root: bool,
    pub(super) enable_uring: Option<bool>,
    pub(super) io_uring: Result<(), Errno>,
    pub(super) configured_passthrough: Option<bool>,
    pub(super) max_pages_limit: Option<u64>,
    pub(super) max_user_bgreq: Option<u64>,
    pub(super) cpus_online: String,
    pub(super) cpus_allowed: usize,
}

impl Facts {
    pub(super) fn gather(probe: Result<Probe, String>, is_root: bool) -> Self {
        let parameter = |name| read(&format!("/sys/module/fuse/parameters/{name}"));
        Facts {
            release: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            device: crate::sys::fuse_dev::open().map(drop).map_err(|error| error.kind()),
            probe,
            is_root,
            enable_uring: parameter("enable_uring").map(|value| value == "Y" || value == "1"),
            io_uring: crate::sys::probe::io_uring_setup(),
            configured_passthrough: configured("CONFIG_FUSE_PASSTHROUGH"),
            max_pages_limit: number(read("/proc/sys/fs/fuse/max_pages_limit")),
            max_user_bgreq: number(parameter("max_user_bgreq")),
            cpus_online: read("/sys/devices/system/cpu/online").unwrap_or_else(|| "?".into()),
            cpus_allowed: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks = vec![
            ASK.ask("kernel", "features are tried, not derived from the version")
                .ok(format!("Linux {}", self.release)),
            self.device(),
            self.mount(),
        ];
        checks.extend([self.passthrough(), self.channels(), self.io_uring(), self.max_pages()]);
        checks.push(self.background());
        checks.push(self.cpus());
        checks
    }

    /// Whether the kernel's side allows a mount. A user who mounts through fusermount3 opens the
    /// device all the same; that the throw-away mount failed says nothing about that way.
    pub(super) fn can_mount(&self) -> bool {
        self.device.is_ok() && (self.probe.is_ok() || !self.is_root)
    }

    fn device(&self) -> Check {
        let ask = ASK.ask("/dev/fuse", "every request comes through this device");
        match self.device {
            Ok(()) => ask.ok("opens"),
            Err(std::io::ErrorKind::NotFound) => ask
                .missing("does not exist", "modprobe fuse    (container: add --device /dev/fuse)"),
            Err(std::io::ErrorKind::PermissionDenied) if !self.is_root => ask.missing(
                "this user may not open it, and fusermount3 opens it with this user's rights",
                "chmod 666 /dev/fuse    (as root)",
            ),
            Err(kind) => ask.missing(
                format!("can not be opened: {kind}"),
                "allow the device in this container or its device cgroup",
            ),
        }
    }

    fn mount(&self) -> Check {
        let ask = ASK.ask("protocol", "newer protocols have more flags to gain speed with");
        match &self.probe {
            Ok(probe) if probe.in_user_namespace => ask.ok(format!(
                "{} offered to a throw-away mount in a user namespace, flags {}",
                probe.protocol,
                flags(probe)
            )),
            Ok(probe) => ask.ok(format!(
                "{} offered to a throw-away mount, flags {}",
                probe.protocol,
                flags(probe)
            )),
            Err(reason) => ask.unknown(reason.clone()),
        }
    }

    fn passthrough(&self) -> Check {
        let ask = ASK.ask(
            "passthrough",
            "the kernel reads and writes the source itself: data costs what it costs natively",
        );
        let as_root = "run fusewire as root, outside of user namespaces";
        match (&self.probe, self.configured_passthrough) {
            (Ok(probe), _) if probe.offers("PASSTHROUGH") => match &probe.backing {
                Tried::Works => ask.ok("offered, and a backing file was registered"),
                Tried::Refused(error) => {
                    ask.missing(format!("offered, but a backing file: {error}"), as_root)
                }
            },
            (Ok(_), Some(false)) => {
                ask.absent("built without CONFIG_FUSE_PASSTHROUGH; data is copied")
            }
            (Ok(_), _) => ask.absent("not offered (Linux 6.9 or newer has it); data is copied"),
            (Err(_), Some(true)) if !self.is_root => {
                ask.missing("configured in this kernel; needs CAP_SYS_ADMIN", as_root)
            }
            (Err(_), Some(true)) => ask.unknown("configured in this kernel, could not be tried"),
            (Err(_), Some(false)) => {
                ask.absent("built without CONFIG_FUSE_PASSTHROUGH; data is copied")
            }
            (Err(_), None) => ask.unknown("could not be tried"),
        }
    }

    fn channels(&self) -> Check {
        let ask =
            ASK.ask("channels", "each worker has a channel of its own instead of sharing one");
        match &self.probe {
            Ok(probe) => match &probe.clone {
                Tried::Works => ask.ok("FUSE_DEV_IOC_CLONE works"),
                Tried::Refused(error) => {
                    ask.degraded(format!("FUSE_DEV_IOC_CLONE: {error}; one is shared"), None)
                }
            },
            Err(_) => ask.unknown("could not be tried"),
        }
    }

    fn io_uring(&self) -> Check {
        let ask =
            ASK.ask("io_uring", "a round trip that stays on the caller's CPU, in one system call");
        match (self.enable_uring, self.io_uring) {
            (None, _) => ask.absent("not in this kernel (Linux 6.14 or newer has it)"),
            (Some(false), _) => ask.missing(
                "in this kernel, switched off",
                "echo Y >/sys/module/fuse/parameters/enable_uring  (as root)",
            ),
            (Some(true), Err(Errno::EPERM)) => ask.missing(
                "switched on, but this process may not make an io_uring",
                "sysctl kernel.io_uring_disabled=0    (as root)",
            ),
            (Some(true), Err(errno)) => ask.absent(format!("io_uring_setup: {errno}")),
            (Some(true), Ok(())) => match &self.probe {
                Ok(probe) if probe.offers("OVER_IO_URING") => ask.ok("switched on and offered"),
                Ok(_) => ask.degraded("switched on, but INIT does not offer it", None),
                Err(_) => ask.unknown("switched on, could not be tried"),
            },
        }
    }

    fn max_pages(&self) -> Check {
        let ask = ASK.ask("max_pages_limit", "the largest request: fewer requests for large I/O");
        // 1 MiB in pages of 4 KiB, what fusewire asks for.
        match self.max_pages_limit {
            None => ask.ok("fixed at 256 pages, 1 MiB"),
            Some(pages) if pages >= 256 => ask.ok(format!("{pages} pages")),
            Some(pages) => ask.degraded(
                format!("{pages} pages, fusewire could use 256"),
                Some("sysctl fs.fuse.max_pages_limit=256    (as root)"),
            ),
        }
    }

    fn background(&self) -> Check {
        let ask = ASK.ask(
            "max_user_bgreq",
            "limits the background requests (readahead, writeback) of mounts by ordinary users",
        );
        match self.max_user_bgreq {
            Some(limit) if limit >= 64 => ask.ok(limit.to_string()),
            Some(limit) => ask.degraded(
                format!("{limit}, fusewire asks for 64"),
                Some("echo 64 >/sys/module/fuse/parameters/max_user_bgreq  (as root)"),
            ),
            None => ask.unknown("the fuse module is not loaded"),
        }
    }

    fn cpus(&self) -> Check {
        ASK.ask(
            "cpus",
            "one worker for each that this process may run on, unless --workers says else",
        )
        .ok(format!("online {}, {} for this process", self.cpus_online, self.cpus_allowed))
    }
}

fn flags(probe: &Probe) -> String {
    let unnamed = probe.unnamed_bits.iter().map(|bit| format!("bit {bit}"));
    probe.offered.iter().cloned().chain(unnamed).collect::<Vec<_>>().join(" ")
}

pub(super) fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(text: Option<String>) -> Option<u64> {
    text?.parse().ok()
}

/// What the kernel was built with, if it tells.
fn configured(key: &str) -> Option<bool> {
    let release = read("/proc/sys/kernel/osrelease")?;
    let boot = format!("/boot/config-{release}");
    let text = if Path::new("/proc/config.gz").exists() {
        let output = Command::new("gzip").args(["-dc", "/proc/config.gz"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?
    } else {
        std::fs::read_to_string(boot).ok()?
    };
    is_set(&text, key)
}

/// None where the text is no kernel configuration at all.
fn is_set(config: &str, key: &str) -> Option<bool> {
    let value = |line: &str| line.strip_prefix(key).is_some_and(|rest| matches!(rest, "=y" | "=m"));
    config.contains("CONFIG_FUSE_FS").then(|| config.lines().any(value))
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn all_well() -> Facts {
        let probe = Probe {
            protocol: "7.45".into(),
            offered: vec!["PASSTHROUGH".into(), "OVER_IO_URING".into()],
            unnamed_bits: vec![],
            max_readahead_bytes: 131_072,
            in_user_namespace: false,
            clone: Tried::Works,
            backing: Tried::Works,
            backing_on_source: None,
        };
        Facts {
            release: "6.18.0".into(),
            device: Ok(()),
            probe: Ok(probe),
            is_root: true,
            enable_uring: Some(true),
            io_uring: Ok(()),
            configured_passthrough: None,
            max_pages_limit: Some(256),
            max_user_bgreq: Some(1000),
            cpus_online: "0-1".into(),
            cpus_allowed: 2,
        }
    }

    fn status(facts: &Facts, name: &str) -> (Status, String) {
        let check = facts.checks().into_iter().find(|check| check.name == name).expect(name);
        (check.status, check.fix.unwrap_or_default())
    }

    #[test]
    fn a_kernel_with_everything_needs_nothing() {
        for check in all_well().checks() {
            assert_eq!((check.status, check.fix), (Status::Ok, None), "{}", check.name);
        }
    }

    #[test]
    fn each_lack_is_found_and_has_its_remedy() {
        let case = |name: &str, change: fn(&mut Facts), want: Status, remedy: &str| {
            let mut facts = all_well();
            change(&mut facts);
            let (status, fix) = status(&facts, name);
            assert_eq!(status, want, "{name}");
            assert!(fix.contains(remedy), "{name}: {fix}");
        };
        use Status::{Degraded, Missing, Unknown};
        use std::io::ErrorKind;
        fn probed(facts: &mut Facts) -> &mut Probe {
            facts.probe.as_mut().expect("probed")
        }
        fn refused() -> Tried {
            Tried::Refused("Operation not permitted".into())
        }
        case("/dev/fuse", |f| f.device = Err(ErrorKind::NotFound), Missing, "modprobe fuse");
        let denied = |f: &mut Facts| {
            f.device = Err(ErrorKind::PermissionDenied);
            f.is_root = false;
        };
        case("/dev/fuse", denied, Missing, "chmod 666");
        case("protocol", |f| f.probe = Err("why".into()), Unknown, "");
        case("passthrough", |f| probed(f).offered.clear(), Missing, "");
        case("passthrough", |f| probed(f).backing = refused(), Missing, "as root");
        let user = |f: &mut Facts| {
            f.probe = Err("why".into());
            f.configured_passthrough = Some(true);
            f.is_root = false;
        };
        case("passthrough", user, Missing, "as root");
        case("channels", |f| probed(f).clone = refused(), Degraded, "");
        case("io_uring", |f| f.enable_uring = Some(false), Missing, "echo Y >");
        case("io_uring", |f| f.io_uring = Err(Errno::EPERM), Missing, "io_uring_disabled=0");
        case("io_uring", |f| f.enable_uring = None, Missing, "");
        case("max_pages_limit", |f| f.max_pages_limit = Some(32), Degraded, "=256");
        case("max_user_bgreq", |f| f.max_user_bgreq = Some(12), Degraded, "echo 64 >");
    }

    #[test]
    fn whether_a_mount_is_possible() {
        use std::io::ErrorKind;
        let possible = |is_root, device, probed: bool| {
            let probe = if probed { all_well().probe } else { Err("why".into()) };
            Facts { is_root, device, probe, ..all_well() }.can_mount()
        };
        assert!(possible(true, Ok(()), true));
        assert!(!possible(true, Ok(()), false), "mount(2) is refused, in a container say");
        assert!(!possible(true, Err(ErrorKind::PermissionDenied), false), "device cgroup");
        assert!(!possible(true, Err(ErrorKind::NotFound), false));
        assert!(possible(false, Ok(()), false), "no user namespaces, but fusermount3");
        assert!(!possible(false, Err(ErrorKind::PermissionDenied), false));
        assert!(!possible(false, Err(ErrorKind::NotFound), false));
    }

    #[test]
    fn kernel_configuration_is_read_by_whole_keys() {
        let text = "CONFIG_FUSE_FS=y\n# CONFIG_FUSE_DAX is not set\nCONFIG_FUSE_PASSTHROUGH=y\n";
        assert_eq!(is_set(text, "CONFIG_FUSE_PASSTHROUGH"), Some(true));
        assert_eq!(is_set(text, "CONFIG_FUSE_PASS"), Some(false));
        assert_eq!(is_set(text, "CONFIG_FUSE_DAX"), Some(false));
        assert_eq!(is_set("", "CONFIG_FUSE_DAX"), None);
    }
}
