//! Which of the differences in tests/known-differences.toml random sequences meet. Anything else that
//! differs is a mistake.

use std::collections::BTreeMap;

use crate::steps::Step;

/// What a difference means for the rest of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A mistake.
    Mistake,
    /// The kernel makes it so, and what follows can be compared.
    Excused,
    /// The kernel makes it so, and from here on everything differs.
    Ends,
}

/// What to think of two answers that differ.
pub(crate) fn judge(
    step: &Step,
    native: &Result<String, String>,
    mounted: &Result<String, String>,
) -> Verdict {
    match (step.operation(), native, mounted) {
        // `chown-of-nothing` of tests/known-differences.toml.
        ("chown" | "lchown" | "fchown", Err(errno), Ok(_))
            if errno == "EPERM" && step.line.ends_with("-1 -1") =>
        {
            Verdict::Ends
        }
        // `removed-directory`, of which nothing answers from here on.
        ("relist", Err(errno), Err(theirs)) if errno == "ENOENT" && theirs == "ESTALE" => {
            Verdict::Ends
        }
        // `removed-directory`.
        ("relist", Err(errno), Ok(listing))
            if errno == "ENOENT"
                && ["./dir ../dir then", "../dir ./dir then"]
                    .iter()
                    .any(|empty| listing.starts_with(empty)) =>
        {
            Verdict::Excused
        }
        // `pipes-and-sockets`: a FIFO, whose other end somebody has opened on the other side.
        ("open", Ok(_), Err(errno)) if errno == "ENXIO" => Verdict::Ends,
        (_, Err(errno), Ok(read)) if errno == "EAGAIN" && read.is_empty() => Verdict::Ends,
        (_, _, Err(errno)) if errno == "EPIPE" => Verdict::Ends,
        (_, Ok(native), Ok(mounted)) if lost_set_id(native, mounted) => Verdict::Excused,
        _ => Verdict::Mistake,
    }
}

/// Whether two trees differ only as FUSE must.
pub(crate) fn is_same_tree(
    native: &BTreeMap<String, String>,
    mounted: &BTreeMap<String, String>,
) -> bool {
    native.len() == mounted.len()
        && native.iter().zip(mounted).all(|((name, line), (other, theirs))| {
            name == other && (line == theirs || lost_set_id(line, theirs))
        })
}

/// `setuid-under-roots-writes`, `setgid-of-a-member` of the mounted tests: the mount has cleared
/// set-user-id or set-group-id where native keeps it. Never the other way round.
fn lost_set_id(native: &str, mounted: &str) -> bool {
    let parts = |line: &str| -> Option<(String, u32, String)> {
        let (kind, rest) = line.split_once(' ')?;
        let (mode, rest) = rest.split_once(' ')?;
        Some((kind.to_owned(), u32::from_str_radix(mode, 8).ok()?, rest.to_owned()))
    };
    let (Some((kind, mode, rest)), Some((their_kind, their_mode, theirs))) =
        (parts(native), parts(mounted))
    else {
        return false;
    };
    let lost = mode & !their_mode;
    kind == "reg"
        && (kind, rest) == (their_kind, theirs)
        && their_mode & !mode == 0
        && lost & !0o6000 == 0
}
