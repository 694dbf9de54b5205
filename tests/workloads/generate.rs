//! Trees to work on, the same each time.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::shell::pattern;

/// What a project looks like: `folders` of ten text files each, links, a program.
pub(crate) fn project(root: &Path, folders: usize) -> Result<(), String> {
    write_project(root, folders).map_err(|error| format!("make {}: {error}", root.display()))
}

fn write_project(root: &Path, folders: usize) -> io::Result<()> {
    for folder in 0..folders {
        let at = root.join(format!("folder-{}/part-{folder}", folder % 7));
        fs::create_dir_all(&at)?;
        for file in 0..10 {
            fs::write(at.join(format!("file-{file}.txt")), text(folder * 10 + file))?;
        }
        symlink("file-0.txt", at.join("first"))?;
    }
    fs::write(root.join("binary"), pattern(1, 3 << 20))?;
    fs::write(root.join("run.sh"), "#!/bin/sh\necho run\n")?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(root.join("run.sh"), executable)
}

/// Some lines of text.
pub(crate) fn text(seed: usize) -> String {
    let lines = (0..20 + seed % 50).map(|line| format!("line {line} of text {seed}\n"));
    lines.collect()
}
