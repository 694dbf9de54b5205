//! FUSE over io_uring, switched on for as long as something is measured.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::StudyError;
use super::preflight::refuse;
use super::say;
use crate::sys::fuse_dev;

const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";

/// Leaves the switch as it was.
#[derive(Debug)]
pub(crate) struct Uring {
    /// The switch, and what it said.
    switched: Option<(PathBuf, String)>,
}

impl Uring {
    /// Nothing is switched.
    pub(crate) fn untouched() -> Self {
        Uring { switched: None }
    }

    /// Refuses a study whose system `id` needs it where it is off, or switches it on.
    pub(crate) fn needed_by(id: &str, enable: bool) -> Result<Self, StudyError> {
        Uring::for_system(switch(), id, enable)
    }

    /// Switches it on.
    pub(crate) fn on() -> Result<Self, StudyError> {
        Uring::on_at(switch())
    }

    /// Whether it was off before.
    pub(crate) fn was_off(&self) -> bool {
        self.switched.is_some()
    }

    fn for_system(switch: &Path, id: &str, enable: bool) -> Result<Self, StudyError> {
        let shown = switch.display();
        match state(switch) {
            Ok((true, _)) => Ok(Uring::untouched()),
            Ok((false, before)) if enable => Uring::write(switch, before),
            Ok(_) => Err(refuse(format!(
                "system {id} needs FUSE over io_uring, which is off: echo Y > {shown}, or \
                 --enable-uring, which switches it on for the length of the study"
            ))),
            Err(error) => Err(refuse(format!(
                "system {id} needs FUSE over io_uring, which this kernel does not have (Linux 6.14; \
                 {shown}: {error}): take it out of the study"
            ))),
        }
    }

    fn on_at(switch: &Path) -> Result<Self, StudyError> {
        match state(switch) {
            Ok((true, _)) => Ok(Uring::untouched()),
            Ok((false, before)) => Uring::write(switch, before),
            Err(error) => Err(refuse(format!(
                "--enable-uring: this kernel has no FUSE over io_uring (Linux 6.14; {}: {error}): \
                 leave it out",
                switch.display()
            ))),
        }
    }

    fn write(switch: &Path, before: String) -> Result<Self, StudyError> {
        fs::write(switch, "Y").map_err(StudyError::io("switch on", switch))?;
        Ok(Uring { switched: Some((switch.to_owned(), before)) })
    }
}

/// It is there once the module is loaded, which opening the device does.
fn switch() -> &'static Path {
    drop(fuse_dev::open());
    Path::new(ENABLE_URING)
}

/// Whether it is on, and what it says.
fn state(switch: &Path) -> io::Result<(bool, String)> {
    let text = fs::read_to_string(switch)?.trim().to_owned();
    Ok((text == "Y", text))
}

impl Drop for Uring {
    fn drop(&mut self) {
        if let Some((switch, before)) = &self.switched
            && let Err(error) = fs::write(switch, before)
        {
            say::line(format_args!("fusewire: {} is left at Y: {error}", switch.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_uring_is_refused_where_it_is_off_or_switched_on_and_off_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let switch = dir.path().join("enable_uring");
        let ensure = |enable| Uring::for_system(&switch, "u", enable);
        let read = || fs::read_to_string(&switch).expect("readable");
        assert!(ensure(true).expect_err("an old kernel").to_string().contains("Linux 6.14"));
        fs::write(&switch, "N\n").expect("writable");
        let error = ensure(false).expect_err("it is off").to_string();
        assert!(error.contains("system u needs") && error.contains("echo Y >"), "{error}");
        let on = ensure(true).expect("can be switched");
        assert_eq!(read(), "Y");
        drop(on);
        assert_eq!(read(), "N");
        fs::write(&switch, "Y\n").expect("writable");
        drop(ensure(true).expect("it is on"));
        assert_eq!(read(), "Y\n", "what was on stays on");
    }

    #[test]
    fn a_demo_switches_it_on_and_leaves_it_as_it_was() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let switch = dir.path().join("enable_uring");
        let error = Uring::on_at(&switch).expect_err("an old kernel").to_string();
        assert!(error.contains("--enable-uring") && error.contains("leave it out"), "{error}");
        for (before, was_off) in [("N\n", true), ("Y\n", false)] {
            fs::write(&switch, before).expect("writable");
            let uring = Uring::on_at(&switch).expect("can be switched");
            assert_eq!(uring.was_off(), was_off);
            assert!(state(&switch).expect("readable").0);
            drop(uring);
            assert_eq!(state(&switch).expect("readable").1, before.trim());
        }
    }
}
