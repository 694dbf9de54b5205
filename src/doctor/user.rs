//! What this user may do: capabilities, fusermount3, descriptors.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Uid, User};

use super::check::{Check, Group};

const ASK: Group = Group::User;

/// Capabilities that a mount gains from, and what is lost without each.
const CAPABILITIES: [(Capability, &str); 9] = [
    (Capability::CAP_SYS_ADMIN, "mounting without fusermount3, kernel passthrough, fanotify"),
    (Capability::CAP_DAC_READ_SEARCH, "inodes by file handle: fewer open descriptors"),
    (Capability::CAP_SETUID, "what others create through the mount belongs to them"),
    (Capability::CAP_SETGID, "what others create through the mount gets their groups"),
    (Capability::CAP_FSETID, "set-group-id bits are kept as natively"),
    (Capability::CAP_CHOWN, "chown through the mount"),
    (Capability::CAP_FOWNER, "chmod, utimes and xattrs of files of other users"),
    (Capability::CAP_MKNOD, "device nodes through the mount"),
    (Capability::CAP_SYS_RESOURCE, "RLIMIT_NOFILE above its hard limit, reserved disk blocks"),
];

/// What is read from the system; a value of its own so that the judgements can be tested.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) uid: u32,
    pub(super) name: Option<String>,
    pub(super) missing: Vec<Capability>,
    pub(super) fusermount: Option<Fusermount>,
    pub(super) user_allow_other: bool,
    pub(super) nofile: (u64, u64),
}

/// The helper of ordinary users.
#[derive(Debug, Clone)]
pub(super) struct Fusermount {
    pub(super) path: PathBuf,
    pub(super) setuid_root: bool,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let uid = Uid::effective();
        let lacks = |capability: &Capability| {
            !caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false)
        };
        let conf = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
        Facts {
            uid: uid.as_raw(),
            name: User::from_uid(uid).ok().flatten().map(|user| user.name),
            missing: CAPABILITIES
                .map(|(capability, _)| capability)
                .into_iter()
                .filter(lacks)
                .collect(),
            fusermount: find_fusermount(),
            user_allow_other: conf.lines().any(|line| line.trim() == "user_allow_other"),
            nofile: getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default(),
        }
    }

    /// For the headline.
    pub(super) fn who(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("uid {}", self.uid))
    }

    /// May mount(2): then fusermount3 is not needed.
    pub(super) fn may_mount(&self) -> bool {
        !self.missing.contains(&Capability::CAP_SYS_ADMIN)
    }

    /// May mount one way or the other.
    pub(super) fn can_mount(&self) -> bool {
        self.may_mount() || self.fusermount.as_ref().is_some_and(|helper| helper.setuid_root)
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks = self.capabilities();
        checks.extend([self.fusermount(), self.allow_other(), self.nofile()]);
        checks
    }

    fn capabilities(&self) -> Vec<Check> {
        if self.missing.is_empty() {
            let ask = ASK.ask("capabilities", "what a mount may do for its users");
            return vec![ask.ok("all that a mount gains from")];
        }
        if self.missing.len() == CAPABILITIES.len() {
            let ask = ASK.ask(
                "capabilities",
                "without them: data is copied, files belong to you, only you may enter; the rest works",
            );
            return vec![ask.degraded("none", Some("run fusewire as root"))];
        }
        let table = CAPABILITIES.iter().filter(|(capability, _)| self.missing.contains(capability));
        let check = |(capability, lost): &(Capability, &'static str)| {
            let name: &'static str = name_of(*capability);
            ASK.ask(name, lost).degraded("not held", None)
        };
        table.map(check).collect()
    }

    fn fusermount(&self) -> Check {
        let ask = ASK.ask("fusermount3", "mounts for those who may not mount themselves");
        let install = "apt-get install fuse3    (as root)";
        match &self.fusermount {
            _ if self.may_mount() => ask.ok("not needed: this user may mount"),
            None => ask.missing("not found", install),
            Some(helper) if !helper.setuid_root => ask.missing(
                format!("{} is not set-user-id root", helper.path.display()),
                "chmod u+s $(command -v fusermount3)    (as root)",
            ),
            Some(helper) => ask.ok(format!("{}", helper.path.display())),
        }
    }

    fn allow_other(&self) -> Check {
        let ask = ASK.ask("user_allow_other", "ordinary users may mount with -o allow_other");
        match self.user_allow_other {
            _ if self.may_mount() => ask.ok("not needed: this user may mount"),
            true => ask.ok("set in /etc/fuse.conf"),
            false => ask.missing(
                "not set in /etc/fuse.conf: only you can enter your mounts",
                "echo user_allow_other >> /etc/fuse.conf    (as root)",
            ),
        }
    }

    fn nofile(&self) -> Check {
        let ask =
            ASK.ask("RLIMIT_NOFILE", "open files of all users of the mount, and cached inodes");
        let (_, hard) = self.nofile;
        // fusewire raises the soft limit to the hard one; a build tree needs some tens of thousands.
        if hard >= 16_384 {
            ask.ok(format!("{hard}"))
        } else {
            ask.degraded(
                format!("{hard}"),
                Some("ulimit -Hn 1048576    (as root, before mounting)"),
            )
        }
    }
}

fn find_fusermount() -> Option<Fusermount> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).map(|folder| folder.join("fusermount3"));
    let found = path.filter_map(|path| {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        // S_ISUID
        let setuid_root = metadata.uid() == 0 && metadata.permissions().mode() & 0o4000 != 0;
        Some(Fusermount { path, setuid_root })
    });
    found.into_iter().next()
}

fn name_of(capability: Capability) -> &'static str {
    match capability {
        Capability::CAP_SYS_ADMIN => "CAP_SYS_ADMIN",
        Capability::CAP_DAC_READ_SEARCH => "CAP_DAC_READ_SEARCH",
        Capability::CAP_SETUID => "CAP_SETUID",
        Capability::CAP_SETGID => "CAP_SETGID",
        Capability::CAP_FSETID => "CAP_FSETID",
        Capability::CAP_CHOWN => "CAP_CHOWN",
        Capability::CAP_FOWNER => "CAP_FOWNER",
        Capability::CAP_MKNOD => "CAP_MKNOD",
        Capability::CAP_SYS_RESOURCE => "CAP_SYS_RESOURCE",
        _ => "capability",
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn root() -> Facts {
        Facts {
            uid: 0,
            name: Some("root".into()),
            missing: vec![],
            fusermount: None,
            user_allow_other: false,
            nofile: (1024, 1 << 20),
        }
    }

    fn ordinary() -> Facts {
        let helper = Fusermount { path: "/usr/bin/fusermount3".into(), setuid_root: true };
        Facts {
            uid: 1000,
            name: None,
            missing: CAPABILITIES.map(|(capability, _)| capability).into(),
            fusermount: Some(helper),
            user_allow_other: true,
            nofile: (1024, 1 << 20),
        }
    }

    fn status(facts: &Facts, name: &str) -> Status {
        facts.checks().into_iter().find(|check| check.name == name).expect(name).status
    }

    #[test]
    fn root_needs_no_helper() {
        assert!(root().can_mount());
        assert!(root().checks().iter().all(|check| check.status == Status::Ok));
        assert_eq!(root().who(), "root");
    }

    #[test]
    fn an_ordinary_user_mounts_through_fusermount3_or_not_at_all() {
        let user = ordinary();
        assert!(user.can_mount());
        assert_eq!(user.who(), "uid 1000");
        assert_eq!(status(&user, "capabilities"), Status::Degraded);
        assert_eq!(status(&user, "fusermount3"), Status::Ok);
        let mut user = ordinary();
        user.fusermount.as_mut().expect("it is there").setuid_root = false;
        assert!(!user.can_mount());
        assert_eq!(status(&user, "fusermount3"), Status::Missing);
        user.fusermount = None;
        assert!(!user.can_mount());
        user.user_allow_other = false;
        assert_eq!(status(&user, "user_allow_other"), Status::Missing);
        user.nofile = (1024, 4096);
        assert_eq!(status(&user, "RLIMIT_NOFILE"), Status::Degraded);
    }

    #[test]
    fn single_missing_capabilities_are_named() {
        let mut facts = root();
        facts.missing = vec![Capability::CAP_SYS_RESOURCE, Capability::CAP_MKNOD];
        assert_eq!(status(&facts, "CAP_SYS_RESOURCE"), Status::Degraded);
        assert_eq!(status(&facts, "CAP_MKNOD"), Status::Degraded);
        for (capability, _) in CAPABILITIES {
            assert_eq!(name_of(capability), capability.to_string());
        }
    }
}
