//! Whether a study has room where it is measured: what its cells need, and what there is.

use std::path::Path;

use super::super::error::StudyError;
use super::super::file::cells::Planned;
use super::super::file::{Backing, BackingKind};
use super::super::preflight::{refuse, space};
use super::super::work::{Mix, Work};
use super::checks::uses_data_file;

/// What a file system needs for itself: journal, inode tables.
const SLACK_MIB: u64 = 400;
/// Memory has none of that.
const MEMORY_SLACK_MIB: u64 = 16;
/// What a small file takes.
const SMALL_FILE_KIB: u64 = 4;
/// A file server appends until a file is several times as large as it was.
const GROWTH: u64 = 4;
/// A tree is there as itself, archive, repository and twice in the turn of a copy.
const COPIES: u64 = 5;

/// What the cells need beyond what the file system does, MiB: the test file, and the largest of the
/// others, as each is removed after its turn.
fn of_cells(cells: &[Planned], file_mib: u32) -> u64 {
    let file =
        if cells.iter().any(|cell| uses_data_file(&cell.work)) { file_mib.into() } else { 0 };
    let largest = cells.iter().map(|cell| of_work(&cell.work)).max();
    largest.unwrap_or(0) + file
}

fn of_work(work: &Work) -> u64 {
    let kib = match work {
        Work::Fio(_) => 0,
        Work::Operation(work) => work.files as u64 * work.threads as u64 * SMALL_FILE_KIB,
        Work::Personality(work) => {
            let growth = if work.mix == Mix::FileServer { GROWTH } else { 2 };
            (work.files as u64 * work.mean_kib as u64).saturating_mul(growth)
        }
        Work::Job(job) => (job.mib as u64 * COPIES) << 10,
    };
    kib.div_ceil(1024)
}

/// What can be told before there is a place.
pub(crate) fn before(
    cells: &[Planned],
    file_mib: u32,
    backing: &Backing,
    temporary: &Path,
) -> Result<(), StudyError> {
    let cells_mib = of_cells(cells, file_mib);
    let smaller = "a smaller size-mib in the study's file";
    let (what, needed) = match backing.kind {
        BackingKind::Image => ("an image", cells_mib + SLACK_MIB),
        BackingKind::Tmpfs | BackingKind::Null => ("a tmpfs", cells_mib + MEMORY_SLACK_MIB),
        BackingKind::Directory | BackingKind::Distributed => {
            let remedy = format!("another --dir or `path` in [backing], or {smaller}");
            let dir = backing.path.as_deref();
            return dir.map_or(Ok(()), |dir| space(dir, cells_mib + SLACK_MIB, &remedy));
        }
        BackingKind::Device => return Ok(()),
    };
    if backing.size_mib < needed {
        return Err(refuse(format!(
            "{what} of {} MiB is too small, {needed} MiB are needed: size-mib in [backing]",
            backing.size_mib
        )));
    }
    match backing.kind {
        BackingKind::Image => {
            let dir = backing.image_dir.as_deref().unwrap_or(temporary);
            let remedy = format!("another `on` in [backing], or TMPDIR=<directory>, or {smaller}");
            space(dir, needed, &remedy)
        }
        _ => Ok(()),
    }
}

/// What is known of a device only when it is mounted.
pub(crate) fn on_device(
    cells: &[Planned],
    file_mib: u32,
    backing: &Backing,
    source: &Path,
) -> Result<(), StudyError> {
    match (backing.kind, &backing.path) {
        (BackingKind::Device, Some(device)) => {
            let remedy = "another device, or a smaller size-mib in the study's file";
            // Its journal is there already.
            let needed = of_cells(cells, file_mib) + MEMORY_SLACK_MIB;
            space(source, needed, remedy)
                .map_err(|error| refuse(format!("{}: {error}", device.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::file::{cells, parse};
    use super::*;

    fn refused(text: &str) -> String {
        let text = format!("name = \"a\"\ntitle = \"b\"\nsize-mib = 64\n{text}\n");
        let file = parse(&text, "a").expect("well-formed");
        let cells = cells::expand(&file).expect("well-formed");
        before(&cells, file.size_mib, &file.backing, Path::new("/"))
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn what_the_cells_need_must_be_there() {
        let tmpfs = |mib: u32, cell: &str| {
            let cell = format!("[[cells]]\nworkload = {cell}\n");
            refused(&format!("{cell}[backing]\nkind = \"tmpfs\"\nsize-mib = {mib}"))
        };
        let fio = "\"fio\"\nrw = \"read\"";
        assert_eq!(tmpfs(80, fio), "");
        let want = "a tmpfs of 79 MiB is too small, 80 MiB are needed: size-mib in [backing]";
        assert_eq!(tmpfs(79, fio), want);
        assert_eq!(tmpfs(79, "\"read-direct\"\nfiles = 1"), want.replace("80", "81"));
        assert_eq!(tmpfs(32, "\"stat\"\nfiles = 4096"), "");
        assert!(tmpfs(31, "\"stat\"\nfiles = 4096").contains("32 MiB are needed"));
        assert!(tmpfs(200, "\"walk\"\ntree-mib = 40").contains("216 MiB are needed"));
        assert!(tmpfs(200, "\"web-server\"\nfiles = 102400\nmean-kib = 1").contains("216 MiB"));
        let image = "[[cells]]\nworkload = \"stat\"\n[backing]\nkind = \"image\"\nsize-mib = 300";
        assert!(refused(image).starts_with("an image of 300 MiB is too small"));
    }
}
