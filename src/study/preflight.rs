//! Everything that can be known to fail is found before anything is made or measured, and said
//! with its remedy.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_DIRECT;
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use super::error::StudyError;
use super::fio;
use super::mounts;
use super::options::DemoOptions;
use super::say;
use super::scratch::PREFIXES;

/// What an image grows to beyond the test file: journal, inode tables, the metadata cells.
const IMAGE_SLACK_MIB: u64 = 320;
const DIRECTORY_SLACK_MIB: u64 = 64;

/// What the preflight found out.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Where temporary directories go.
    pub(crate) temporary: PathBuf,
    /// fio's version.
    pub(crate) fio: String,
}

/// Checks programs, privileges, space, and what an earlier demo left.
pub(crate) fn check(options: &DemoOptions) -> Result<Checked, StudyError> {
    let fio = fio::version()?;
    let root = geteuid().is_root();
    let temporary = std::env::temp_dir();
    match &options.dir {
        None => {
            if !root {
                return Err(refuse(
                    "without DIR the demo makes an ext4 image on a loop device, which needs root: \
                     use sudo, or `fusewire demo DIR`, which an ordinary user may do where \
                     fusermount3 is installed",
                ));
            }
            program("mkfs.ext4", "e2fsprogs")?;
            program("losetup", "mount")?;
            space(
                &temporary,
                u64::from(options.size_mib) + IMAGE_SLACK_MIB,
                "TMPDIR=<directory> or a smaller --size-mib",
            )?;
        }
        Some(dir) => {
            let found = fs::metadata(dir).map_err(StudyError::io("use directory", dir))?;
            if !found.is_dir() {
                return Err(refuse(format!("{} is not a directory", dir.display())));
            }
            if !root {
                program("fusermount3", "fuse3")?;
            }
            space(
                dir,
                u64::from(options.size_mib) + DIRECTORY_SLACK_MIB,
                "another DIR or a smaller --size-mib",
            )?;
        }
    }
    if !Path::new("/dev/fuse").exists() {
        return Err(refuse(
            "/dev/fuse does not exist: modprobe fuse (in a container: --device /dev/fuse)",
        ));
    }
    tell_leftovers(options.dir.as_deref().into_iter().chain([temporary.as_path()]))?;
    Ok(Checked { temporary, fio })
}

/// O_DIRECT must work on the test file itself.
pub(crate) fn o_direct(file: &Path) -> Result<(), StudyError> {
    OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(file).map(|_| ()).map_err(
        |error| {
            refuse(format!(
                "the file system of {} does not support O_DIRECT ({error}): choose another DIR, or \
                 `--only buffered` and metadata cells",
                file.display()
            ))
        },
    )
}

/// A precondition that does not hold.
pub(crate) fn refuse(why: impl Into<String>) -> StudyError {
    StudyError::Preflight(why.into())
}

/// `name` must be found as a shell of root would find it: sbin is not in every PATH.
pub(crate) fn program(name: &str, package: &str) -> Result<(), StudyError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        true => Ok(()),
        false if Path::new("/usr/sbin").join(name).is_file() => {
            Err(refuse(format!("{name} is in /usr/sbin, which is not in PATH: add it")))
        }
        false => Err(refuse(format!("{name} is not installed: apt-get install {package}"))),
    }
}

/// So much must be free.
pub(crate) fn space(dir: &Path, needed_mib: u64, remedy: &str) -> Result<(), StudyError> {
    let found = statvfs(dir).map_err(StudyError::io("find the free space of", dir))?;
    let free_mib = (found.blocks_available() * found.fragment_size()) >> 20;
    if free_mib < needed_mib {
        return Err(refuse(format!(
            "{} has {free_mib} MiB free, {needed_mib} MiB are needed: choose {remedy}",
            dir.display()
        )));
    }
    Ok(())
}

/// Tells of what an earlier run left: mounts anywhere, and directories in `places`. Nothing is measured
/// wrong beside it, and it may have been made in another PID namespace, so it is neither refused nor
/// removed.
pub(crate) fn tell_leftovers<'a>(
    places: impl IntoIterator<Item = &'a Path>,
) -> Result<(), StudyError> {
    let lives = |pid: &str| Path::new("/proc").join(pid).exists();
    let table = mounts::table()?;
    let points = table.iter().map(|mount| mount.mount_point.as_path());
    // What can not be listed is not where anything could be made either, which is said elsewhere.
    let entries = places.into_iter().flat_map(|place| fs::read_dir(place).into_iter().flatten());
    let entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if let Some(told) = leftovers(points, entries.iter().map(PathBuf::as_path), &lives) {
        say::line(format_args!("fusewire: {told}"));
    }
    Ok(())
}

/// Tells of what an earlier run left in the file system of `device`, which is mounted at `root` for now.
pub(crate) fn tell_leftovers_on(device: &Path, root: &Path) {
    let lives = |pid: &str| Path::new("/proc").join(pid).exists();
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    if let Some(told) = leftovers_on(device, entries.map(|entry| entry.file_name()), &lives) {
        say::line(format_args!("fusewire: {told}"));
    }
}

fn leftovers_on(
    device: &Path,
    names: impl Iterator<Item = OsString>,
    lives: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let dead = names.filter(|name| owner(name).is_some_and(|pid| !lives(pid)));
    let dead: Vec<String> = dead.map(|name| name.to_string_lossy().into_owned()).collect();
    (!dead.is_empty()).then(|| {
        format!(
            "an earlier run was killed and left something behind on {}; mount it and remove from its top: {}",
            device.display(),
            dead.join(" ")
        )
    })
}

/// Mounts and directories of a run whose process is gone: it was killed in a way it could not clean up
/// after.
fn leftovers<'a>(
    points: impl Iterator<Item = &'a Path>,
    entries: impl Iterator<Item = &'a Path>,
    lives: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let dead = |path: &&Path| {
        own(path).and_then(|own| owner(own.file_name()?)).is_some_and(|pid| !lives(pid))
    };
    let mut found: Vec<&Path> = points.filter(dead).collect();
    // The kernel lists a mount before those upon it; they are undone the other way round.
    found.reverse();
    let dirs: BTreeSet<&Path> =
        found.iter().copied().chain(entries.filter(dead)).filter_map(own).collect();
    if dirs.is_empty() {
        return None;
    }
    let list = |paths: &mut dyn Iterator<Item = &Path>| {
        paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let unmount = match found.is_empty() {
        true => String::new(),
        false => format!("umount -l {} && ", list(&mut found.iter().copied())),
    };
    Some(format!(
        "an earlier run was killed and left something behind; remove it with: {unmount}\
         rm -r --one-file-system {}",
        list(&mut dirs.into_iter())
    ))
}

/// The part of a path that ends with a directory of a run.
fn own(path: &Path) -> Option<&Path> {
    path.ancestors().filter(|part| part.file_name().and_then(owner).is_some()).last()
}

/// The process id in the name of a run's directory.
fn owner(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    let name = name.strip_prefix('.').unwrap_or(name);
    let (pid, _) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?.split_once('-')?;
    pid.parse::<u32>().is_ok().then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_runs_left_on_a_device_is_told_of() {
        let names = [".fusewire-study-47-a", ".fusewire-study-48-b", "lost+found", "theirs"];
        let told = |lives: &dyn Fn(&str) -> bool| {
            leftovers_on(Path::new("/dev/x"), names.iter().map(OsString::from), lives)
        };
        let said = told(&|pid| pid != "47").expect("left over");
        assert!(said.contains("/dev/x") && said.ends_with(": .fusewire-study-47-a"), "{said}");
        assert_eq!(told(&|_| true), None);
    }

    #[test]
    fn what_dead_runs_left_is_told_of_and_what_living_ones_have_is_not() {
        let points = [
            "/",
            "/t/fusewire-study-47-a/disk",
            "/t/fusewire-study-47-a/mnt/fs",
            "/t/fusewire-demo-48-a/mnt",
        ]
        .map(Path::new);
        let entries =
            ["/d/.fusewire-study-47-b", "/d/fusewire-study-me", "/d/theirs"].map(Path::new);
        let told = |lives: &dyn Fn(&str) -> bool| {
            leftovers(points.into_iter(), entries.into_iter(), lives)
        };
        assert_eq!(told(&|_| true), None);
        let said = told(&|pid| pid != "47").expect("left over");
        let remedy = "umount -l /t/fusewire-study-47-a/mnt/fs /t/fusewire-study-47-a/disk && \
                      rm -r --one-file-system /d/.fusewire-study-47-b /t/fusewire-study-47-a";
        assert!(said.ends_with(remedy), "{said}");
        let said = leftovers([].into_iter(), entries.into_iter(), &|_| false).expect("left over");
        let remedy = "remove it with: rm -r --one-file-system /d/.fusewire-study-47-b";
        assert!(said.ends_with(remedy), "{said}");
    }

    #[test]
    fn missing_programs_and_space_name_their_remedy() {
        let error = program("no-such-program", "its-package").expect_err("missing").to_string();
        assert_eq!(error, "no-such-program is not installed: apt-get install its-package");
        assert!(program("sh", "dash").is_ok());
        let error = space(Path::new("/"), u64::MAX, "another DIR").expect_err("too much");
        assert!(error.to_string().contains("choose another DIR"), "{error}");
    }
}
