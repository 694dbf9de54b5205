//! Everything that can be known to fail is found before anything is measured, and said with its remedy:
//! within a study nothing falls back in silence.

use std::path::Path;

use nix::unistd::geteuid;

use super::super::environment;
use super::super::error::StudyError;
use super::super::file::cells::Planned;
use super::super::file::systems::{PlannedSystem, find_program};
use super::super::file::{Backing, BackingKind};
use super::super::preflight::{o_direct, program, refuse, tell_leftovers};
use super::super::process::run_tool;
use super::super::work::{Cache, Fio, Operation, Work};
use super::super::{fio, mounts, prepare};
use super::{jobs, room};

/// The oldest fio whose json+ and `--sync=dsync` are understood.
const FIO_SINCE: (u32, u32) = (3, 20);

/// Whether a cell uses the shared test file.
pub(crate) fn uses_data_file(work: &Work) -> bool {
    match work {
        Work::Fio(_) => true,
        Work::Operation(work) => work.operation == Operation::ReadDirect,
        _ => false,
    }
}

/// What can be checked before there is a place. Returns fio's version, if it is needed.
pub(crate) fn before(
    cells: &[Planned],
    systems: &[PlannedSystem],
    (backing, size_mib): (&Backing, u32),
    temporary: &Path,
) -> Result<String, StudyError> {
    let mut version = String::new();
    if cells.iter().any(|cell| matches!(cell.work, Work::Fio(_))) {
        version = fio::version()?;
        is_new_enough(&version)?;
    }
    for cell in cells {
        if let Work::Job(job) = &cell.work {
            for (name, package) in jobs::programs(job.task) {
                program(name, package)?;
            }
        }
    }
    for planned in systems {
        if let Some(why) = planned.misnamed() {
            return Err(refuse(format!("system {}: {why}", planned.system.id)));
        }
    }
    if systems.len() > 2 && !Path::new("/dev/fuse").exists() {
        return Err(refuse(
            "/dev/fuse does not exist: modprobe fuse (in a container: --device /dev/fuse)",
        ));
    }
    let root = geteuid().is_root();
    let needs_root = match backing.kind {
        BackingKind::Directory | BackingKind::Distributed => {
            cells.iter().any(|cell| cell.cache == Cache::Cold)
        }
        _ => true,
    };
    if needs_root && !root {
        return Err(refuse(
            "this study makes mounts or drops caches, which needs root: use sudo, or a study of warm \
             cells with --dir DIRECTORY, which an ordinary user may do where fusermount3 is installed",
        ));
    }
    if !root {
        program("fusermount3", "fuse3")?;
    }
    match backing.kind {
        BackingKind::Image => {
            let package = match backing.filesystem.as_str() {
                "ext4" => "e2fsprogs",
                "xfs" => "xfsprogs",
                "btrfs" => "btrfs-progs",
                other => {
                    return Err(refuse(format!(
                        "an image has filesystem ext4, xfs or btrfs, not {other}"
                    )));
                }
            };
            let mkfs = format!("mkfs.{}", backing.filesystem);
            if find_program(&mkfs).is_none() {
                return Err(refuse(format!("{mkfs} is not installed: apt-get install {package}")));
            }
            program("losetup", "mount")?;
        }
        BackingKind::Directory | BackingKind::Distributed => {
            if let Some(dir) = &backing.path {
                lies_where_it_should(backing.kind, dir)?;
            }
        }
        BackingKind::Device | BackingKind::Tmpfs | BackingKind::Null => {}
    }
    room::before(cells, size_mib, backing, temporary)?;
    let places = [backing.path.as_deref(), backing.image_dir.as_deref(), Some(temporary)];
    tell_leftovers(places.into_iter().flatten())?;
    Ok(version)
}

/// A directory is native, and a distributed file system's own mount is what its study says that it is.
fn lies_where_it_should(kind: BackingKind, dir: &Path) -> Result<(), StudyError> {
    let is_fuse = mounts::mount_of(dir)?.is_some_and(|mount| mount.is_fuse());
    let dir = dir.display();
    match (kind, is_fuse) {
        (BackingKind::Distributed, false) => Err(refuse(format!(
            "{dir} is no mount of a distributed file system, with which this study compares: mount one, as \
             scripts/cluster-gluster.sh up does, or choose another --dir or `path` in [backing]"
        ))),
        (BackingKind::Directory, true) => Err(refuse(format!(
            "{dir} lies on FUSE itself, and would be measured as native: choose another --dir or `path` in \
             [backing], or say kind = \"distributed\" in [backing] if it is to be compared with"
        ))),
        _ => Ok(()),
    }
}

fn is_new_enough(version: &str) -> Result<(), StudyError> {
    let mut numbers = version
        .trim_start_matches("fio-")
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match found >= FIO_SINCE {
        true => Ok(()),
        false => Err(refuse(format!(
            "{version} is too old, fio {}.{} or newer is needed: apt-get install fio",
            FIO_SINCE.0, FIO_SINCE.1
        ))),
    }
}

/// What needs the test file: O_DIRECT, and every engine of fio that the study names.
pub(crate) fn data_file(cells: &[Planned], source: &Path) -> Result<(), StudyError> {
    let file = prepare::data_file(source);
    let mut engines: Vec<(&str, bool)> = Vec::new();
    for cell in cells {
        match &cell.work {
            Work::Fio(Fio { engine, depth, .. }) => engines.push((engine, depth.is_some())),
            Work::Operation(work) if work.operation == Operation::ReadDirect => o_direct(&file)?,
            _ => {}
        }
    }
    engines.sort_unstable();
    engines.dedup();
    for (engine, is_direct) in engines {
        if is_direct {
            o_direct(&file)?;
        }
        let mut command = fio::base("probe", &file);
        command.args(["--rw=read", "--bs=4k", "--size=4k"]);
        command.arg(format!("--ioengine={engine}"));
        command.arg(format!("--direct={}", u8::from(is_direct)));
        run_tool("probe", &mut command).map_err(|error| {
            refuse(format!(
                "fio can not use ioengine {engine} here ({error}): give the cells another `engine`, as \
                 libaio"
            ))
        })?;
    }
    Ok(())
}

/// Whether a study that began elsewhere may go on here.
pub(crate) fn same_machine(then: &environment::Environment) -> Result<(), StudyError> {
    let now = environment::Environment::capture();
    for (what, then, now) in [
        ("kernel", &then.kernel, &now.kernel),
        ("processor", &then.cpu, &now.cpu),
        ("version of fusewire", &then.fusewire, &now.fusewire),
    ] {
        if then != now {
            return Err(refuse(format!(
                "the study began with another {what} ({then}, now {now}): begin it anew"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_fio_is_refused_by_name() {
        assert!(is_new_enough("fio-3.33").is_ok() && is_new_enough("fio-4.0-12-gabc").is_ok());
        let error = is_new_enough("fio-3.1").expect_err("old").to_string();
        assert!(error.starts_with("fio-3.1 is too old, fio 3.20 or newer"), "{error}");
    }

    #[test]
    fn what_is_no_distributed_file_system_is_not_compared_with_as_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = |kind| lies_where_it_should(kind, dir.path());
        place(BackingKind::Directory).expect("it is native");
        let error = place(BackingKind::Distributed).expect_err("it is not").to_string();
        assert!(error.contains("is no mount of a distributed file system"), "{error}");
    }
}
