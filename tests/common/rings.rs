//! The kernel's switch for FUSE over io_uring.

use std::io;

use super::setting::Setting;

pub(crate) const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// The switch, set while this lives, and as it was afterwards.
pub(crate) struct Rings {
    _setting: Setting,
}

impl Rings {
    /// Sets it to `Y` or `N`.
    pub(crate) fn switch(to: &str) -> io::Result<Self> {
        Ok(Rings { _setting: Setting::set(PARAMETER, to)? })
    }

    /// Sets it to `Y`, for tests that cannot do without.
    pub(crate) fn on() -> Result<Self, String> {
        Rings::switch("Y").map_err(|error| format!("switch io_uring on: {error}"))
    }
}
