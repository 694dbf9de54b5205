//! From a mount point to a connection: the mount itself, then INIT.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use tracing::debug;

use super::{MountError, Options, system};
use crate::abi;
use crate::protocol::decode::{Dialect, Frame, Operation, decode};
use crate::protocol::init::{self, InitError, Negotiated, Wanted};
use crate::sys::mount::{self, FuseMount};
use crate::transport::buffers::Buffers;
use crate::transport::dev::{Channel, Received};

/// Mounts by mount(2), or through fusermount3 where that is not allowed.
pub(crate) fn attach(options: &Options) -> Result<OwnedFd, MountError> {
    let subtype = options.mount.subtype.as_deref().unwrap_or("fusewire");
    let mountpoint = options.mountpoint.as_path();
    let fuse = FuseMount { mountpoint, fsname: &options.fsname, subtype, options: &options.mount };
    if let Err(error) = crate::sys::fuse_dev::open() {
        return Err(MountError::Device(error));
    }
    let refused = match mount::direct(&fuse) {
        Ok(device) => return Ok(device),
        Err(error) => error,
    };
    let failed =
        |source, hint| MountError::Mount { mountpoint: mountpoint.to_owned(), source, hint };
    if refused.raw_os_error() != Some(Errno::EPERM as i32) {
        return Err(failed(refused, ""));
    }
    debug!("mount(2) is not permitted, trying fusermount3");
    mount::via_fusermount(&fuse).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed(
            refused,
            "; run as root, or install fusermount3 (apt-get install fuse3) to mount as an ordinary user, \
             which works without kernel passthrough",
        ),
        _ if error.to_string().contains("not permitted") => failed(
            error,
            "; this process lacks CAP_SYS_ADMIN and fusermount3 gained no rights either: run as root, \
             in a container with --cap-add SYS_ADMIN; `fusewire doctor` says what still works here",
        ),
        _ => failed(error, ""),
    })
}

/// Reads INIT, settles it with what is wanted, and answers.
pub(super) fn handshake(device: &Arc<OwnedFd>, wanted: &Wanted) -> Result<Negotiated, MountError> {
    let channel = Channel::new(device.clone());
    let mut buffers = Buffers::new(abi::MIN_READ_BUFFER).map_err(system("map a buffer"))?;
    loop {
        let size = match channel.receive(&mut buffers.request) {
            Ok(Received::Request(size)) => size,
            Ok(Received::Closed | Received::Aborted) => {
                return Err(MountError::Handshake("it hung up"));
            }
            Err(errno) => return Err(system("read INIT")(errno.into())),
        };
        let frame = Frame::from_contiguous(&buffers.request[..size]);
        let request = frame.and_then(|frame| decode(frame, Dialect::default()));
        let Ok(request) = request else {
            return Err(MountError::Handshake("its first request was malformed"));
        };
        let Operation::Init { args, flags2 } = request.operation else {
            return Err(MountError::Handshake("another request came first"));
        };
        let unique = request.header.unique;
        let answer = |out: &abi::InitOut| {
            let bytes = zerocopy::IntoBytes::as_bytes(out);
            channel.reply(unique, [bytes, &[]]).map_err(|errno| system("answer INIT")(errno.into()))
        };
        match init::negotiate(args, flags2, wanted) {
            Ok((negotiated, out)) => {
                answer(&out)?;
                debug!(?negotiated, "INIT");
                return Ok(negotiated);
            }
            Err(InitError::Major(major)) if major > abi::VERSION => {
                // The kernel takes our version from this and asks again.
                let ours =
                    abi::InitOut { major: abi::VERSION, minor: abi::MINOR, ..Default::default() };
                answer(&ours)?;
            }
            Err(error) => {
                let _ = channel.reply_error(unique, Errno::EPROTO);
                return Err(error.into());
            }
        }
    }
}
