//! What programmers do: git and cargo.

use std::fs;
use std::path::Path;

use crate::generate;
use crate::tool::{Tool, tool};
use crate::world::Place;

/// A repository from its first commit to a garbage collection, and clones of it.
pub(crate) fn git(place: &Place) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let repository = place.dir.join("repository");
    generate::project(&repository, 40)?;
    let mut git = |at: &Path, args: &[&str]| -> Result<(), String> {
        let said = git_in(at, args).run()?;
        lines.push(format!("git {}: {}", args.join(" "), said.trim_end()));
        Ok(())
    };
    for args in [
        &["init", "-q", "-b", "main"] as &[&str],
        &["add", "-A"],
        &["commit", "-q", "-m", "Everything"],
        &["status", "--porcelain"],
        &["rev-parse", "HEAD"],
        &["ls-files", "-s"],
    ] {
        git(&repository, args)?;
    }
    git(&repository, &["checkout", "-q", "-b", "other"])?;
    for number in 0..20 {
        let file = repository.join(format!("folder-{0}/part-{number}/file-3.txt", number % 7));
        let changed = fs::write(&file, generate::text(1000 + number));
        changed.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    for args in [
        &["status", "--porcelain"] as &[&str],
        &["mv", "run.sh", "walk.sh"],
        &["commit", "-q", "-a", "-m", "Changed"],
        &["checkout", "-q", "main"],
        &["merge", "-q", "--no-edit", "other"],
        &["gc", "-q", "--aggressive"],
        &["fsck", "--full", "--strict"],
        &["status", "--porcelain"],
        &["rev-parse", "HEAD"],
    ] {
        git(&repository, args)?;
    }
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let (outside, copied) = (place.scratch.join("outside"), place.dir.join("copied"));
    for (options, from, to) in [
        (&["--no-hardlinks"] as &[&str], &repository, place.dir.join("linked-not")),
        (&["--local"], &repository, place.dir.join("linked")),
        (&["--no-hardlinks"], &repository, outside.clone()),
        (&["--no-hardlinks"], &outside, copied),
    ] {
        let (source, target) = (path(from), path(&to));
        let clone = [&["clone", "-q"], options, &[&source, &target]].concat();
        git(&place.dir, &clone)?;
        git(&to, &["rev-parse", "HEAD"])?;
        git(&to, &["status", "--porcelain"])?;
        git(&to, &["fsck", "--full", "--strict"])?;
        let differences = tool("diff", "diffutils").args(["-r", "-x", ".git"]).args([from, &to]);
        differences.run()?;
    }
    Ok(lines)
}

fn git_in(directory: &Path, args: &[&str]) -> Tool {
    let mut git = tool("git", "git").within(directory).args(args);
    for (name, value) in [("AUTHOR", "alice"), ("COMMITTER", "bob")] {
        git = git
            .env(&format!("GIT_{name}_NAME"), value)
            .env(&format!("GIT_{name}_EMAIL"), format!("{value}@example.org"))
            .env(&format!("GIT_{name}_DATE"), "2024-02-29T12:00:00Z");
    }
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1")
}

const MANIFEST: &str =
    "[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
const BUILD: &str = "fn main() {
    let at = std::path::Path::new(&std::env::var_os(\"OUT_DIR\").unwrap()).join(\"made.rs\");
    std::fs::write(at, \"pub const MADE: u32 = 41;\").unwrap();
    println!(\"cargo::rerun-if-changed=build.rs\");
}
";
const LIBRARY: &str = "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));
pub fn answer() -> u32 { MADE + 1 }
#[test] fn it_answers() { assert_eq!(answer(), 42); }
";
const PROGRAM: &str = "fn main() { println!(\"the answer is {}\", sample::answer()); }\n";

/// A crate that is built, tested, changed and built again; its programs run from where they are.
pub(crate) fn cargo(place: &Place) -> Result<Vec<String>, String> {
    let files = [
        ("Cargo.toml", MANIFEST),
        ("build.rs", BUILD),
        ("src/lib.rs", LIBRARY),
        ("src/main.rs", PROGRAM),
    ];
    fs::create_dir(place.dir.join("src")).map_err(|error| format!("make src: {error}"))?;
    for (name, content) in files {
        fs::write(place.dir.join(name), content).map_err(|error| format!("{name}: {error}"))?;
    }
    let cargo = |args: &[&str]| {
        tool(env!("CARGO"), "cargo")
            .within(&place.dir)
            .args(args)
            .arg("--offline")
            .env("CARGO_TARGET_DIR", place.dir.join("target"))
            .env("CARGO_TERM_COLOR", "never")
            .env("RUSTFLAGS", "")
    };
    let mut lines = Vec::new();
    let mut build = |args: &[&str]| -> Result<(), String> {
        let output = cargo(args).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(format!("cargo {args:?}: {}\n{said}", output.status));
        }
        let compiled = said.lines().filter(|line| line.contains("Compiling"));
        lines.push(format!("cargo {args:?}: {}", compiled.collect::<Vec<_>>().join(" ")));
        Ok(())
    };
    build(&["build"])?;
    // What is fresh is not built again: times and file names are what they were.
    build(&["build"])?;
    build(&["test", "-q"])?;
    let program = place.dir.join("target/debug/sample");
    let first = tool(&program, "nothing").run()?;
    let changed = PROGRAM.replace("is {}", "is still {}");
    fs::write(place.dir.join("src/main.rs"), changed).map_err(|error| error.to_string())?;
    build(&["build"])?;
    let second = tool(&program, "nothing").run()?;
    lines.extend([first, second]);
    Ok(lines)
}
