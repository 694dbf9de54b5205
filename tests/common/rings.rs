//! The kernel's switch for FUSE over io_uring.

use std::fs;
use std::io;

const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// The switch, set while this lives, and as it was afterwards.
pub(crate) struct Rings {
    before: String,
}

impl Rings {
    /// Sets it to `Y` or `N`.
    pub(crate) fn switch(to: &str) -> io::Result<Self> {
        let before = fs::read_to_string(PARAMETER)?;
        fs::write(PARAMETER, to)?;
        Ok(Rings { before })
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        // The test script restores it as well.
        let _ = fs::write(PARAMETER, self.before.trim());
    }
}
