//! A tree of source code that the tool makes itself: the same bytes everywhere and every time.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What grep looks for; every fiftieth file has it.
pub(crate) const NEEDLE: &str = "needle_in_the_hay";
const NEEDLE_EVERY: usize = 50;
/// Files of one directory.
const FAN_OUT: usize = 18;
/// A file is seldom larger than so many times the mean.
const TAIL: f64 = 12.0;
const WORDS: [&str; 24] = [
    "static", "int", "char", "return", "if", "else", "while", "struct", "node", "list", "buffer",
    "length", "offset", "error", "path", "name", "lock", "count", "flags", "inode", "page",
    "cache", "read", "write",
];

/// Writes a tree of `files` files and about `mib` MiB into the new directory `root`. Most files are
/// small and a few are large, as in source code.
pub(crate) fn write(root: &Path, files: usize, mib: usize) -> io::Result<()> {
    let mut random = StdRng::seed_from_u64(files as u64);
    // Exponential gaps, squared: the median is about an eighth of the mean.
    let weights: Vec<f64> = (0..files)
        .map(|_| (-(1.0 - random.random::<f64>()).ln()).powi(2).min(TAIL) + 0.01)
        .collect();
    let total: f64 = weights.iter().sum();
    fs::create_dir(root)?;
    for (index, weight) in weights.iter().enumerate() {
        let path = root.join(name(index));
        if index.is_multiple_of(FAN_OUT) {
            fs::create_dir_all(path.parent().expect("a name has a directory before it"))?;
        }
        let share = Share(weight / total);
        let mut file = fs::File::create_new(path)?;
        file.write_all(text(&mut random, share.of(mib << 20), index).as_bytes())?;
        // Old: what is as young as its index git reads again, and sometimes it would be.
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))?;
    }
    Ok(())
}

/// A part of a whole.
struct Share(f64);

impl Share {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a size is a smaller size"
    )]
    fn of(&self, bytes: usize) -> usize {
        (self.0 * bytes as f64) as usize
    }
}

/// Directories within directories, so that paths have several components.
fn name(index: usize) -> PathBuf {
    let dir = index / FAN_OUT;
    PathBuf::from(format!("part{}/sub{}/dir{dir}", dir % 7, dir % 3)).join(format!("file{index}.c"))
}

fn text(random: &mut StdRng, bytes: usize, index: usize) -> String {
    let mut text = String::with_capacity(bytes + 100);
    if index.is_multiple_of(NEEDLE_EVERY) {
        let _ = writeln!(text, "/* {NEEDLE} */");
    }
    while text.len() < bytes {
        for _ in 0..random.random_range(3..10) {
            text.push_str(WORDS[random.random_range(0..WORDS.len())]);
            text.push(' ');
        }
        let _ = writeln!(text, "{};", random.random_range(0..1_000_000));
    }
    text
}

/// A small C program: `files` units, one header that all include, and a Makefile.
pub(crate) fn write_program(root: &Path, files: usize) -> io::Result<()> {
    fs::create_dir(root)?;
    let units: Vec<String> = (0..files).map(|index| format!("unit{index}")).collect();
    let objects: Vec<String> = units.iter().map(|unit| format!("{unit}.o")).collect();
    fs::write(
        root.join("Makefile"),
        format!(
            "CFLAGS = -O0 -w\nprogram: {objects}\n\t$(CC) -o $@ $^\n{objects}: all.h\n",
            objects = objects.join(" ")
        ),
    )?;
    let declarations: String =
        units.iter().map(|unit| format!("int {unit}(int value);\n")).collect();
    fs::write(root.join("all.h"), declarations)?;
    for (index, unit) in units.iter().enumerate() {
        let mut code = String::from("#include \"all.h\"\n");
        for number in 0..40 {
            let _ = writeln!(
                code,
                "static int step{number}(int value) {{ return value * {index} + {number}; }}"
            );
        }
        let calls: String = (0..40).map(|number| format!(" + step{number}(value)")).collect();
        let _ = writeln!(code, "int {unit}(int value) {{ return 1{calls}; }}");
        if index == 0 {
            let calls: String = units.iter().map(|unit| format!(" ^ {unit}(2)")).collect();
            let _ = writeln!(code, "int main(void) {{ return (1{calls}) == 0; }}");
        }
        fs::write(root.join(format!("{unit}.c")), code)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).expect("readable").flatten() {
            match entry.path() {
                path if path.is_dir() => files(&path, found),
                path => found.push((path.clone(), fs::read_to_string(path).expect("is text"))),
            }
        }
    }

    #[test]
    fn the_tree_is_of_its_size_and_always_the_same() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut trees = ["a", "b"].map(|name| {
            let root = dir.path().join(name);
            write(&root, 400, 3).expect("can be written");
            let mut found = Vec::new();
            files(&root, &mut found);
            found.sort();
            for (path, _) in &mut found {
                *path = path.strip_prefix(&root).expect("below").to_owned();
            }
            found
        });
        assert_eq!(trees[0], trees[1]);
        let found = &mut trees[0];
        assert_eq!(found.len(), 400);
        let bytes: usize = found.iter().map(|(_, text)| text.len()).sum();
        assert!((3 << 20..4 << 20).contains(&bytes), "{bytes}");
        assert_eq!(found.iter().filter(|(_, text)| text.contains(NEEDLE)).count(), 8);
        found.sort_by_key(|(_, text)| text.len());
        assert!(found[200].1.len() * 3 < bytes / 400, "most files are small");
    }
}
