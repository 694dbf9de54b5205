//! What the scripts say of a command line that is wrong, before they build, install or mount anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Runs `scripts/NAME`, which must end with 2 and say `part`.
#[track_caller]
fn is_refused(name: &str, args: &[&str], part: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let mut command = Command::new(script);
    let output = command.args(args).env("FUSEWIRE", "/nowhere/fusewire").output();
    let output = output.expect("bash is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{name} {args:?}: {said}");
    assert!(said.contains(part), "{name} {args:?} does not say {part:?}: {said}");
}

fn program(path: &Path) {
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("make a folder");
    fs::write(path, "#!/bin/sh\n").expect("write a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn suites() {
    is_refused("suites.sh", &["--sort"], "unknown: --sort; it takes --short,");
    is_refused("suites.sh", &["fxs"], "unknown: fxs");
    is_refused("suites.sh", &["--json"], "--json needs a path");
    is_refused("suites.sh", &["--pjdfstest-c"], "--pjdfstest-c needs a path");
    is_refused("suites.sh", &["--pjdfstest-c", "/nowhere"], "no built pjdfstest at /nowhere");
}

#[test]
fn cluster_gfarm() {
    is_refused("cluster-gfarm.sh", &[], "it takes: up|down [FOLDER]");
    is_refused("cluster-gfarm.sh", &["sideways"], "it takes: up|down [FOLDER]");
    if nix::unistd::geteuid().is_root() {
        is_refused("cluster-gfarm.sh", &["up", "/"], "not a folder for a cluster: /");
        is_refused("cluster-gfarm.sh", &["up", "/nowhere/a b"], "not a folder for a cluster");
    }
}

#[test]
fn xfstests() {
    is_refused("xfstests.sh", &[], "usage:");
    is_refused("xfstests.sh", &["-g", "quick"], "usage:");
    is_refused("xfstests.sh", &["/nowhere"], "no xfstests at /nowhere");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tree = folder.path().to_str().expect("its name is ASCII");
    program(&folder.path().join("check"));
    is_refused("xfstests.sh", &[tree], "there is no ./check with tests/generic");
    fs::create_dir_all(folder.path().join("tests/generic")).expect("make a folder");
    is_refused("xfstests.sh", &[tree], "is not built: run make there");
    program(&folder.path().join("ltp/fsstress"));
    if nix::unistd::geteuid().is_root() {
        is_refused("xfstests.sh", &[tree], "there is no program /nowhere/fusewire");
    }
}

#[test]
fn clusters() {
    is_refused("cluster-gluster.sh", &[], "it takes: up|down [FOLDER]");
    is_refused("cluster-gluster.sh", &["sideways"], "it takes: up|down [FOLDER]");
    if nix::unistd::geteuid().is_root() {
        is_refused("cluster-gluster.sh", &["up", "/"], "not a folder for a cluster: /");
        is_refused("cluster-gluster.sh", &["down", "/a b"], "not a folder for a cluster: /a b");
    }
}

#[test]
fn torture() {
    is_refused("torture.sh", &["for", "ever"], "it takes: [SECONDS [SYSTEM]]");
    is_refused("torture.sh", &["0"], "it takes: [SECONDS [SYSTEM]]");
    is_refused("torture.sh", &["1", "nfs"], "no such system: nfs");
}
