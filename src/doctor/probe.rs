//! What the kernel really offers, found out by a throw-away mount.
//!
//! A child process in a mount namespace of its own mounts FUSE, reads the INIT that the kernel
//! sends, accepts it, and tries the ioctls of /dev/fuse. Nobody else sees the mount, and it goes
//! with the child. Versions and configuration are not trusted: kernels backport, containers forbid.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, getegid, geteuid, read, write};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{self, InHeader, InitFlags, InitIn, InitInExt, InitOut, OutHeader};
use crate::sys::fuse_dev::{self, Kernel};

/// The child has this long; a kernel that answers at all needs milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tried {
    /// It works.
    Works,
    /// It does not, and what the kernel said.
    Refused(String),
}

impl From<Result<(), String>> for Tried {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Tried::Refused, |()| Tried::Works)
    }
}

/// What the throw-away mount found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Newest protocol that the kernel speaks, as `7.45`.
    pub protocol: String,
    /// Flags it offers in INIT, by their kernel name without `FUSE_`.
    pub offered: Vec<String>,
    /// Bits it offers that this version has no name for.
    pub unnamed_bits: Vec<u32>,
    /// Largest readahead it offers, bytes.
    pub max_readahead_bytes: u32,
    /// Whether it took a user namespace to be allowed to mount.
    pub in_user_namespace: bool,
    /// A second channel (FUSE_DEV_IOC_CLONE).
    pub clone: Tried,
    /// A backing file on tmpfs (FUSE_DEV_IOC_BACKING_OPEN).
    pub backing: Tried,
    /// A backing file on the source; `None` without a source.
    pub backing_on_source: Option<Tried>,
}

impl Probe {
    /// Whether the kernel offers a flag.
    pub fn offers(&self, name: &str) -> bool {
        self.offered.iter().any(|offered| offered == name)
    }
}

/// Runs the probe in a child process.
///
/// # Errors
/// Why it can not be known, in words.
pub(super) fn run(source: Option<&Path>) -> Result<Probe, String> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("fusewire")
        .args(["doctor", "--probe-kernel"])
        .args(source.map(|source| [Path::new("--"), source]).into_iter().flatten())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("start the probe: {error}"))?;
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            result => {
                // A child that can not be killed can not be waited for either.
                let _ = child.kill();
                return Err(match result {
                    Err(error) => format!("wait for the probe: {error}"),
                    _ => "the kernel did not answer the throw-away mount in time".into(),
                });
            }
        }
    };
    let mut text = String::new();
    let read = |from: Option<&mut dyn Read>, text: &mut String| {
        from.map_or(Ok(0), |from| from.read_to_string(text)).map_err(|e| e.to_string())
    };
    if status.success() {
        read(child.stdout.as_mut().map(|out| out as &mut dyn Read), &mut text)?;
        serde_json::from_str(&text).map_err(|error| format!("read the probe: {error}"))
    } else {
        read(child.stderr.as_mut().map(|err| err as &mut dyn Read), &mut text)?;
        Err(text.trim().trim_start_matches("fusewire: ").into())
    }
}

/// The child's part. Leaves this process in other namespaces, with a mount over /proc: print the
/// result and exit.
///
/// # Errors
/// What failed and how.
pub(super) fn in_this_process(source: Option<&Path>) -> Result<Probe, String> {
    // While /proc and the outer user can still be seen.
    let source = source.map(backing_candidate);
    let in_user_namespace = enter_namespaces()?;
    // After that: the kernel takes a device only in the user namespace that it was opened in.
    let device = fuse_dev::open().map_err(|error| format!("open /dev/fuse: {error}"))?;
    attach(&device)?;
    let (header, init, extension) = receive_init(&device)?;
    let flags = u64::from(init.flags) | u64::from(extension.flags2) << 32;
    let clone = fuse_dev::clone(device.as_fd()).map(drop).map_err(|error| error.to_string());
    let session = Arc::new(device);
    accept(&session, &header, &init, InitFlags::from_bits_retain(flags))?;
    let kernel = Kernel::new(session, 0);
    let register = |file: &OwnedFd| {
        let id = kernel.backing_open(file.as_fd()).map_err(describe)?;
        kernel.backing_close(id).map_err(describe)
    };
    let backing = memfd_create("fusewire-probe", MFdFlags::MFD_CLOEXEC)
        .map_err(describe)
        .and_then(|file| register(&file));
    let named = |flag: &(&str, InitFlags)| flags & flag.1.bits() != 0;
    let offered = InitFlags::all().iter_names().filter(named).map(|(name, _)| name.into());
    Ok(Probe {
        protocol: format!("{}.{}", init.major, init.minor),
        offered: offered.collect(),
        unnamed_bits: unnamed_bits(flags),
        max_readahead_bytes: init.max_readahead,
        in_user_namespace,
        clone: clone.into(),
        backing: backing.into(),
        backing_on_source: source.map(|source| source.and_then(|file| register(&file)).into()),
    })
}

fn describe(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}

/// Bits that are set and that no flag of ours names; INIT_RESERVED (31) never means anything.
fn unnamed_bits(flags: u64) -> Vec<u32> {
    let known = InitFlags::all().bits() | 1 << 31;
    (0..u64::BITS).filter(|bit| flags & !known & 1 << bit != 0).collect()
}

/// A regular file on the file system of `source`: an unnamed one, else one that is there already.
fn backing_candidate(source: &Path) -> Result<OwnedFd, String> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    if let Ok(file) = open(source, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        return Ok(file);
    }
    let entries = std::fs::read_dir(source).map_err(|error| error.to_string())?;
    let file = entries
        .flatten()
        .find(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .ok_or("no file to try it with")?;
    open(&file.path(), OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(describe)
}

/// Goes where mounts are seen by nobody else; answers whether a user namespace was needed.
fn enter_namespaces() -> Result<bool, String> {
    let (uid, gid) = (geteuid(), getegid());
    let in_user_namespace = match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => false,
        Err(Errno::EPERM) => {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| {
                format!("a throw-away mount needs root or user namespaces: {}", describe(errno))
            })?;
            for (file, text) in [
                ("setgroups", "deny".into()),
                ("uid_map", format!("0 {uid} 1")),
                ("gid_map", format!("0 {gid} 1")),
            ] {
                std::fs::write(Path::new("/proc/self").join(file), text)
                    .map_err(|error| format!("write /proc/self/{file}: {error}"))?;
            }
            true
        }
        Err(errno) => return Err(format!("unshare the mount namespace: {}", describe(errno))),
    };
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| format!("make mounts private: {}", describe(errno)))?;
    Ok(in_user_namespace)
}

/// Mounts over /proc: a directory that is always there and not needed any more.
fn attach(device: &OwnedFd) -> Result<(), String> {
    let (uid, gid) = (Uid::current(), nix::unistd::getgid());
    let fd = device.as_raw_fd();
    let data = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("fusewire-probe"), "/proc", Some("fuse.fusewire"), flags, Some(data.as_str()))
        .map_err(|errno| format!("make a throw-away FUSE mount: {}", describe(errno)))
}

fn receive_init(device: &OwnedFd) -> Result<(InHeader, InitIn, InitInExt), String> {
    let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(TIMEOUT).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(0) => return Err("the kernel sent no INIT".into()),
        Ok(_) => {}
        Err(errno) => return Err(format!("wait for INIT: {}", describe(errno))),
    }
    let mut buffer = [0; abi::MIN_READ_BUFFER];
    let length = read(device, &mut buffer).map_err(|e| format!("read INIT: {}", describe(e)))?;
    parse_init(&buffer[..length])
}

fn parse_init(bytes: &[u8]) -> Result<(InHeader, InitIn, InitInExt), String> {
    let short = |_| format!("the kernel's INIT is too short: {} bytes", bytes.len());
    let (header, rest) = InHeader::read_from_prefix(bytes).map_err(|e| short(e.to_string()))?;
    if header.opcode != abi::Opcode::Init as u32 {
        return Err(format!("the kernel began with opcode {}, not with INIT", header.opcode));
    }
    let (init, rest) = InitIn::read_from_prefix(rest).map_err(|e| short(e.to_string()))?;
    // Absent before 7.36.
    let extension =
        InitInExt::read_from_prefix(rest).map_or_else(|_| InitInExt::default(), |x| x.0);
    Ok((header, init, extension))
}

/// Accepts passthrough if it is offered, so that backing files can be registered.
fn accept(
    device: &OwnedFd,
    header: &InHeader,
    init: &InitIn,
    offered: InitFlags,
) -> Result<(), String> {
    let flags = offered & (InitFlags::INIT_EXT | InitFlags::PASSTHROUGH);
    let low = u32::try_from(flags.bits() & u64::from(u32::MAX)).expect("it is masked");
    let high = u32::try_from(flags.bits() >> 32).expect("it is shifted");
    let out = InitOut {
        major: abi::VERSION,
        minor: init.minor.min(abi::MINOR),
        max_readahead: init.max_readahead,
        flags: low,
        max_write: 4096,
        time_gran: 1,
        flags2: high,
        // The deepest there is: a source on overlayfs is stacked already.
        max_stack_depth: 2,
        ..InitOut::default()
    };
    let length = size_of::<OutHeader>() + size_of::<InitOut>();
    let length = u32::try_from(length).expect("eighty");
    let reply = OutHeader { len: length, error: 0, unique: header.unique };
    let mut bytes = reply.as_bytes().to_vec();
    bytes.extend_from_slice(out.as_bytes());
    write(device, &bytes).map(drop).map_err(|errno| format!("answer INIT: {}", describe(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init_bytes(opcode: u32) -> Vec<u8> {
        let header = InHeader { len: 104, opcode, unique: 2, ..InHeader::default() };
        let init = InitIn { major: 7, minor: 45, max_readahead: 131_072, flags: 1 << 30 | 1 };
        let extension = InitInExt { flags2: 1 << 5, ..InitInExt::default() };
        [header.as_bytes(), init.as_bytes(), extension.as_bytes()].concat()
    }

    #[test]
    fn init_is_read_with_and_without_its_extension() {
        let bytes = init_bytes(26);
        assert_eq!(bytes.len(), 104);
        let (header, init, extension) = parse_init(&bytes).expect("whole");
        assert_eq!((header.unique, init.minor, extension.flags2), (2, 45, 32));
        let (.., extension) = parse_init(&bytes[..56]).expect("as before 7.36");
        assert_eq!(extension.flags2, 0);
        for length in [0, 39, 40, 55] {
            parse_init(&bytes[..length]).expect_err("too short");
        }
        parse_init(&init_bytes(1)).expect_err("a LOOKUP");
    }

    #[test]
    fn bits_without_a_name_are_told_by_number() {
        let known = InitFlags::PASSTHROUGH.bits() | 1 << 31 | 1;
        assert_eq!(unnamed_bits(known), [] as [u32; 0]);
        assert_eq!(unnamed_bits(known | 1 << 63 | 1 << 50), [50, 63]);
    }
}
