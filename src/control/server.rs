//! The answering end of the control socket: a thread of the daemon.
//!
//! An abstract socket leaves nothing behind, however the daemon ends. Only root and the daemon's
//! own user are answered.

use std::io::{self, BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tracing::debug;

use super::{REQUEST_STATS, socket_name};
use crate::metrics::snapshot::Snapshot;

/// A client that neither asks nor reads is given up after this long.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Until a client that could not be taken is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// How long a mount waits for its name, which may belong to somebody else for a moment: the kernel
/// gives a device number away again while the daemon that had it is still ending.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listens for the mount of device number `major:minor`, and answers with what `snapshot` gives, until
/// the mount `is_over`: the name may be another's then.
///
/// EADDRINUSE if the name is still taken after a while: the thread goes on trying.
pub fn start(
    (major, minor): (u32, u32),
    is_over: impl Fn() -> bool + Send + 'static,
    snapshot: impl Fn() -> Snapshot + Send + 'static,
) -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(socket_name(major, minor))?;
    let (bound, wait) = mpsc::sync_channel(1);
    let serve = move || {
        let listener = bind(&address);
        let failed = listener.as_ref().err().map(io::Error::kind);
        // Nobody waits any more if it took long.
        let _ = bound.try_send(failed);
        let Ok(listener) = listener else { return };
        loop {
            let client = listener.accept();
            if is_over() {
                // Before the client, who asks again.
                drop(listener);
                return;
            }
            let answered = match client {
                Ok((client, _)) => answer(client, &snapshot),
                Err(error) => {
                    // Without a descriptor for it the client is still there.
                    std::thread::sleep(TRY_AGAIN);
                    Err(error)
                }
            };
            if let Err(error) = answered {
                debug!(%error, "a control client was not answered");
            }
        }
    };
    std::thread::Builder::new().name("control".to_owned()).spawn(serve)?;
    match wait.recv_timeout(PATIENCE) {
        Ok(None) => Ok(()),
        Ok(Some(kind)) => Err(kind.into()),
        Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Binds the name, as soon as nobody else has it. Whoever has it is called, and notices that its mount
/// is gone.
fn bind(address: &SocketAddr) -> io::Result<UnixListener> {
    let mut pause = Duration::from_millis(5);
    loop {
        match UnixListener::bind_addr(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let _ = UnixStream::connect_addr(address);
                std::thread::sleep(pause);
                pause = (pause * 2).min(PATIENCE / 4);
            }
            result => return result,
        }
    }
}

fn answer(client: UnixStream, snapshot: impl Fn() -> Snapshot) -> io::Result<()> {
    let peer = getsockopt(&client, sockopt::PeerCredentials)?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other(format!("uid {peer} may not see the figures")));
    }
    client.set_read_timeout(Some(TIMEOUT))?;
    client.set_write_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    // A request is one short word; nobody makes the daemon hold more.
    BufReader::new(io::Read::take(&client, 64)).read_line(&mut line)?;
    if line.trim() != REQUEST_STATS.trim() {
        return Err(io::Error::other(format!("unknown request {line:?}")));
    }
    let document = serde_json::to_vec(&snapshot())?;
    (&client).write_all(&document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    fn said_by(number: (u32, u32)) -> Snapshot {
        let address = SocketAddr::from_abstract_name(socket_name(number.0, number.1));
        let mut client = UnixStream::connect_addr(&address.expect("a name")).expect("connect");
        let mut answer = String::new();
        client.write_all(REQUEST_STATS.as_bytes()).expect("ask");
        client.read_to_string(&mut answer).expect("an answer");
        serde_json::from_str(&answer).expect("a snapshot")
    }

    #[test]
    fn the_name_is_free_for_the_next_mount_though_the_daemon_of_the_last_goes_on() {
        // No kernel gives out such a number.
        let number = (4095, std::process::id() * 10 + 9);
        let shows = |source: &str| {
            let source = source.to_owned();
            move || Snapshot { source: source.clone(), ..Snapshot::default() }
        };
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        start(number, move || is_over.load(Relaxed), shows("first")).expect("a name");
        assert_eq!(said_by(number).source, "first");
        over.store(true, Relaxed);
        start(number, || false, shows("second")).expect("the same name");
        assert_eq!(said_by(number).source, "second");
    }
}
