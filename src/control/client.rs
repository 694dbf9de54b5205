//! The asking end of the control socket.
//!
//! It finds the daemon of a mount without touching the mount, makes sure who answers, and never
//! waits longer than [`TIMEOUT`]. It must not know what is done with the answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, Uid};
use thiserror::Error;

use super::{REQUEST_STATS, socket_name};
use crate::metrics::snapshot::Snapshot;
use crate::mountinfo::{self, Mount};

/// The whole exchange with a daemon may take this long.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// No document of ours is longer; whoever sends more is no daemon of ours.
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// Why a daemon's figures can not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The path can not be looked up.
    #[error("look up the mount point {}: {source}", path.display())]
    Lookup {
        /// As given.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Nothing is mounted at the path.
    #[error("{} is not a mount point{}", path.display(), list_mounts(mounted))]
    NotMounted {
        /// Absolute.
        path: PathBuf,
        /// Mount points of fusewire that do exist.
        mounted: Vec<PathBuf>,
    },
    /// Something else is mounted at the path.
    #[error("{} is not a fusewire mount: its type is {fs_type}", path.display())]
    NotFusewire {
        /// Absolute.
        path: PathBuf,
        /// What it is.
        fs_type: String,
    },
    /// Nobody listens.
    #[error(
        "no daemon answers for {p}: it was killed, or runs in another network namespace; \
         `fusewire umount {p}` clears a dead mount",
        p = path.display()
    )]
    Dead {
        /// Absolute.
        path: PathBuf,
    },
    /// Somebody listens who has no business to.
    #[error(
        "the control socket of {} belongs to uid {uid}, who is neither root nor you nor the mount's \
         owner: not trusted",
        path.display()
    )]
    Untrusted {
        /// Absolute.
        path: PathBuf,
        /// Who listens.
        uid: u32,
    },
    /// The daemon hung up without an answer.
    #[error(
        "the daemon of {} does not answer uid {}: ask as root or as the mount's owner",
        path.display(),
        Uid::effective()
    )]
    Refused {
        /// Absolute.
        path: PathBuf,
    },
    /// No answer in time, or no readable one.
    #[error("ask the daemon of {}: {source}", path.display())]
    Exchange {
        /// Absolute.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

fn list_mounts(mounted: &[PathBuf]) -> String {
    match mounted {
        [] => "; no fusewire is mounted".into(),
        mounted => {
            let names: Vec<_> = mounted.iter().map(|path| path.display().to_string()).collect();
            format!("; fusewire is mounted at {}", names.join(", "))
        }
    }
}

/// A mount of ours and whether its daemon listens.
#[derive(Debug)]
pub struct Target {
    /// Where it is mounted: absolute, with the links in its parents resolved.
    pub path: PathBuf,
    /// Its line of the mount table.
    pub mount: Mount,
    /// The process that listens on its control socket; `None` if nobody trustworthy does.
    pub daemon: Option<Pid>,
}

/// Finds the fusewire mount on top at `path`, alive or dead. Does not touch the mount.
///
/// A mount of type `fuse.fusewire` is ours. With a subtype of the user's choice it is ours if its
/// daemon listens on the control socket.
///
/// # Errors
/// [`ClientError::Lookup`], [`ClientError::NotMounted`] or [`ClientError::NotFusewire`].
pub fn find(path: &Path) -> Result<Target, ClientError> {
    let (path, mount) = mountinfo::find_top(path)
        .map_err(|source| ClientError::Lookup { path: path.into(), source })?;
    let Some(mount) = mount else {
        return Err(ClientError::NotMounted { path, mounted: mounted_by_us() });
    };
    let not_ours = ClientError::NotFusewire { path: path.clone(), fs_type: mount.fs_type.clone() };
    if !mount.is_fuse() {
        return Err(not_ours);
    }
    // Who can not be asked can still be unmounted; `document` says what is wrong with the daemon.
    match dial(&path, &mount) {
        Ok((_, daemon)) => Ok(Target { path, mount, daemon: Some(daemon) }),
        Err(_) if is_our_type(&mount) => Ok(Target { path, mount, daemon: None }),
        Err(_) => Err(not_ours),
    }
}

fn is_our_type(mount: &Mount) -> bool {
    mount.fs_type == "fuse.fusewire"
}

fn mounted_by_us() -> Vec<PathBuf> {
    let table = mountinfo::MountTable::read().unwrap_or_default();
    table.iter().filter(|mount| is_our_type(mount)).map(|m| m.mount_point.clone()).collect()
}

impl Target {
    /// Asks for the figures, as the daemon wrote them.
    ///
    /// # Errors
    /// [`ClientError::Dead`], [`ClientError::Untrusted`], [`ClientError::Refused`] or
    /// [`ClientError::Exchange`].
    pub fn document(&self) -> Result<String, ClientError> {
        let deadline = Instant::now() + TIMEOUT;
        let mut hung_up = None;
        loop {
            let (stream, daemon) = match dial(&self.path, &self.mount) {
                // The next to have the name is not there yet.
                Err(ClientError::Dead { .. }) if hung_up.is_some() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                dialled => dialled?,
            };
            let text = ask(stream, deadline)
                .map_err(|source| ClientError::Exchange { path: self.path.clone(), source })?;
            match text.is_empty() {
                false => return Ok(text),
                true if hung_up == Some(daemon) => {
                    return Err(ClientError::Refused { path: self.path.clone() });
                }
                // Perhaps one whose mount is gone, and its device number this one's.
                true => hung_up = Some(daemon),
            }
        }
    }

    /// Asks for the figures.
    ///
    /// # Errors
    /// As [`document`](Self::document).
    pub fn snapshot(&self) -> Result<Snapshot, ClientError> {
        self.parse(&self.document()?)
    }

    /// Reads a document of this daemon.
    ///
    /// # Errors
    /// [`ClientError::Exchange`] if it is none.
    pub fn parse<T: serde::de::DeserializeOwned>(&self, document: &str) -> Result<T, ClientError> {
        serde_json::from_str(document).map_err(|error| ClientError::Exchange {
            path: self.path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }
}

/// Connects and checks who listens.
fn dial(path: &Path, mount: &Mount) -> Result<(UnixStream, Pid), ClientError> {
    let exchange = |error: nix::Error| match error {
        nix::Error::ECONNREFUSED => ClientError::Dead { path: path.into() },
        // SO_SNDTIMEO ran out while the queue of a daemon that accepts no more was full.
        nix::Error::EAGAIN => ClientError::Exchange { path: path.into(), source: no_answer() },
        error => ClientError::Exchange { path: path.into(), source: error.into() },
    };
    let name = socket_name(mount.major, mount.minor);
    let address = UnixAddr::new_abstract(name.as_bytes()).map_err(exchange)?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(exchange)?;
    let seconds = i64::try_from(TIMEOUT.as_secs()).expect("two seconds fit");
    setsockopt(&fd, SendTimeout, &TimeVal::new(seconds, 0)).map_err(exchange)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address).map_err(exchange)?;
    let peer = getsockopt(&fd, PeerCredentials).map_err(exchange)?;
    // Any process may bind the name once the daemon is dead.
    let owner = mount.super_option("user_id").and_then(|uid| uid.parse().ok());
    let own = Uid::effective().as_raw();
    if peer.uid() != 0 && peer.uid() != own && Some(peer.uid()) != owner {
        return Err(ClientError::Untrusted { path: path.into(), uid: peer.uid() });
    }
    Ok((UnixStream::from(fd), Pid::from_raw(peer.pid())))
}

/// Asks for the figures; nothing if the daemon hangs up.
fn ask(mut stream: UnixStream, deadline: Instant) -> io::Result<String> {
    stream.set_write_timeout(Some(TIMEOUT))?;
    match stream.write_all(REQUEST_STATS.as_bytes()) {
        // It hung up before it read, and there is nothing to read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result?,
    }
    read_to_end(&mut stream, deadline)
}

fn no_answer() -> io::Error {
    let message = format!("no answer within {} s: it hangs or was stopped", TIMEOUT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// Reads up to the end of the stream, all of it before `deadline`.
fn read_to_end(stream: &mut UnixStream, deadline: Instant) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(no_answer());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(no_answer());
            }
            // A daemon that hangs up on a request it has not read resets the stream.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"));
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::thread;

    /// A mount that does not exist, with a device number that no kernel gives out.
    fn target(minor: u32) -> Target {
        let line = format!("900 1 4095:{minor} / /nowhere rw - fuse.fusewire /src rw,user_id=0");
        let table = mountinfo::MountTable::parse(line.as_bytes());
        let mount = table.iter().next().expect("one line").clone();
        Target { path: "/nowhere".into(), mount, daemon: None }
    }

    fn bind(minor: u32) -> UnixListener {
        let minor = minor + std::process::id() * 10;
        let name = SocketAddr::from_abstract_name(socket_name(4095, minor)).expect("valid name");
        UnixListener::bind_addr(&name).expect("nobody else has it")
    }

    fn listen(minor: u32, serve: impl FnOnce(UnixStream) + Send + 'static) {
        let listener = bind(minor);
        thread::spawn(move || serve(listener.accept().expect("a client").0));
    }

    fn ask(minor: u32) -> Result<String, ClientError> {
        target(minor + std::process::id() * 10).document()
    }

    #[test]
    fn one_line_out_one_document_back() {
        listen(1, |mut stream| {
            let mut request = [0; 6];
            stream.read_exact(&mut request).expect("request");
            assert_eq!(&request, b"stats\n");
            stream.write_all(b"{\"pid\":").expect("answer");
            stream.write_all(b"7}").expect("answer");
        });
        assert_eq!(ask(1).expect("answer"), "{\"pid\":7}");
    }

    #[test]
    fn each_way_to_fail_is_told_apart() {
        assert!(matches!(ask(2), Err(ClientError::Dead { .. })));
        let refusing = bind(3);
        thread::spawn(move || {
            while let Ok((client, _)) = refusing.accept() {
                drop(client);
            }
        });
        assert!(matches!(ask(3), Err(ClientError::Refused { .. })), "hung up, early or late");
        listen(4, |stream| {
            thread::sleep(TIMEOUT * 2);
            drop(stream);
        });
        let start = Instant::now();
        let error = ask(4).expect_err("no answer in time");
        assert!(matches!(error, ClientError::Exchange { .. }), "{error}");
        assert!(start.elapsed() < TIMEOUT * 3 / 2, "{:?}", start.elapsed());
    }

    #[test]
    fn who_hangs_up_and_goes_is_followed_by_another() {
        let ended = bind(5);
        thread::spawn(move || {
            let client = ended.accept().expect("a client");
            drop(ended);
            drop(client);
            thread::sleep(Duration::from_millis(50));
            listen(5, |mut stream| stream.write_all(b"{}").expect("answer"));
        });
        assert_eq!(ask(5).expect("answer"), "{}");
    }

    #[test]
    fn what_is_no_mount_of_ours_is_named() {
        let error = find(Path::new("/proc")).expect_err("procfs");
        assert_eq!(error.to_string(), "/proc is not a fusewire mount: its type is proc");
        let folder = tempfile::tempdir().expect("temporary folder");
        let error = find(folder.path()).expect_err("a plain directory");
        assert!(matches!(error, ClientError::NotMounted { .. }), "{error}");
        let error = find(&folder.path().join("gone")).expect_err("missing");
        assert!(matches!(error, ClientError::Lookup { .. }), "{error}");
    }
}
