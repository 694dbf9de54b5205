//! The control socket: how other processes ask a live daemon for its figures.
//!
//! An abstract unix stream socket, named after the device number of the mount, so that it is found
//! from mountinfo alone, needs no folder, and vanishes with the daemon. A client writes one line
//! with its request and reads one answer until the end of the stream.

pub mod client;
pub mod server;

/// The name of the socket for the mount with this device number, without the leading NUL.
pub fn socket_name(major: u32, minor: u32) -> String {
    format!("fusewire/{major}:{minor}")
}

/// Asks for one JSON [`Snapshot`](crate::metrics::snapshot::Snapshot).
pub const REQUEST_STATS: &str = "stats\n";
