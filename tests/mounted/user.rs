//! Ordinary users: who mounts through fusermount3, and a process of theirs that plays a behaviour.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::prctl::set_dumpable;
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use serde::{Deserialize, Serialize};

use crate::common::actor::{Who, become_user};
use crate::common::disk::Mounted;
use crate::harness::{Behaviour, play_here};
use crate::trace::Stage;

const FLAG: &str = "--play";

/// Lets everybody open /dev/fuse, as udev does, in this mount namespace; `folder` is an empty one.
pub(crate) fn open_device(folder: &Path) -> Result<Mounted, String> {
    let none = None::<&str>;
    let (node, device) = (folder.join("fuse"), Path::new("/dev/fuse"));
    let bound = mount(none, folder, Some("tmpfs"), MsFlags::empty(), none).and_then(|()| {
        mknod(&node, SFlag::S_IFCHR, Mode::empty(), makedev(10, 229))
            .and_then(|()| {
                nix::sys::stat::fchmodat(
                    nix::fcntl::AT_FDCWD,
                    &node,
                    Mode::from_bits_retain(0o666),
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                )
            })
            .and_then(|()| mount(Some(&node), device, none, MsFlags::MS_BIND, none))
    });
    // What is bound needs no name.
    let _ = umount2(folder, MntFlags::MNT_DETACH);
    bound.map_err(|errno| format!("let everybody open /dev/fuse: {errno}"))?;
    Ok(Mounted::of(device))
}

/// A copy of the program in `folder`: the build may lie where others can not go.
pub(crate) fn program(folder: &Path) -> Result<PathBuf, String> {
    let program = folder.join("fusewire");
    fs::copy(env!("CARGO_BIN_EXE_fusewire"), &program)
        .and_then(|_| fs::set_permissions(&program, Permissions::from_mode(0o755)))
        .map_err(|error| format!("copy the program to {}: {error}", program.display()))?;
    Ok(program)
}

/// Gives `path` to `who`, if anyone.
pub(crate) fn give(path: &Path, who: Option<Who>) -> Result<(), String> {
    let Some(who) = who else { return Ok(()) };
    chown(path, Some(who.uid), Some(who.gid))
        .map_err(|error| format!("give {} to {}: {error}", path.display(), who.name))
}

/// What the process of a user is told about its stage.
#[derive(Serialize, Deserialize)]
struct Play {
    behaviour: String,
    dir: PathBuf,
    behind: PathBuf,
    data: String,
    fuse: bool,
    shows_within: Duration,
}

/// Plays in a process of `who`'s; answers the transcript and the failures.
pub(crate) fn play_as(
    who: Who,
    stage: &Stage,
    behaviour: Behaviour,
) -> Result<(Vec<String>, Vec<String>), String> {
    let play = Play {
        behaviour: behaviour.name.to_owned(),
        dir: stage.dir.clone(),
        behind: stage.behind.clone(),
        data: stage.data.clone(),
        fuse: stage.fuse,
        shows_within: stage.shows_within,
    };
    let play = serde_json::to_string(&play).map_err(|error| error.to_string())?;
    let mut command = Command::new("/proc/self/exe");
    command.args([FLAG, &who.ids(), &play]).stdin(Stdio::null()).current_dir("/");
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("the process of {} ended: {}: {error}: {said}", who.name, output.status)
    })
}

/// Plays as a user if the arguments say so.
pub(crate) fn serve_if_asked(find: impl FnOnce(&str) -> Option<Behaviour>) {
    let args: Vec<String> = std::env::args().collect();
    let [_, flag, ids, play] = &args[..] else { return };
    if flag != FLAG {
        return;
    }
    become_user(ids).unwrap_or_else(|errno| panic!("become {ids}: {errno}"));
    // Or its own /proc/self would belong to root.
    set_dumpable(true).expect("it is a process of its own");
    umask(Mode::from_bits_retain(0o022));
    let play: Play = serde_json::from_str(play).expect("written by the parent");
    let behaviour = find(&play.behaviour).expect("the parent knows the same behaviours");
    let Play { dir, behind, data, fuse, shows_within, .. } = play;
    let stage = Stage { dir, behind, data, fuse, daemon: None, shows_within };
    let told = play_here(stage, behaviour);
    println!("\n{}", serde_json::to_string(&told).expect("text"));
    std::process::exit(0);
}
