//! Settings of the machine that a test changes for a while.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A setting, changed while this lives, and as it was afterwards.
pub(crate) struct Setting {
    path: PathBuf,
    before: String,
}

impl Setting {
    /// Writes `to` into a file of the kernel's that holds one word.
    pub(crate) fn set(path: impl Into<PathBuf>, to: &str) -> io::Result<Self> {
        let path = path.into();
        let before = fs::read_to_string(&path)?;
        fs::write(&path, to)?;
        Ok(Setting { path, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // The test script restores it as well.
        let _ = fs::write(&self.path, self.before.trim());
    }
}
