//! What is said on standard error beside the results. Nobody may be there any more to hear it: a pipe
//! whose reader has ended, a terminal that has hung up. That takes nothing from what is measured, and
//! least of all may it end a process that has mounts to undo, as `eprintln!` would.

use std::fmt::Display;
use std::io::Write;

/// Says a line.
pub(crate) fn line(text: impl Display) {
    // In one write, so that lines of several threads do not mix.
    let text = format!("{text}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
}
