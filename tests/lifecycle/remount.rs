//! Changing a live mount.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::Ground;
use crate::common::text;
use crate::launch::Launch;
use crate::tool::fusewire;

/// As mount(8) has it done, with what it finds in /proc/self/mountinfo.
fn remount(source: &Path, mountpoint: &Path, options: &str) -> Result<(), String> {
    let options = format!("remount,user_id=0,group_id=0,dev,suid,{options}");
    fusewire().args([source, mountpoint]).args(["-o", &options]).run().map(drop)
}

fn refusal(result: Result<(), String>, of: &str, expected: &str) -> Result<(), String> {
    match result {
        Ok(()) => Err(format!("{of}: it should be refused")),
        Err(reason) if reason.contains(expected) => Ok(()),
        Err(reason) => Err(format!("{of}: {reason}")),
    }
}

/// Read-only and back, with what is open; the daemon serves on.
pub(crate) fn read_only_and_back(ground: &Ground) -> Result<(), String> {
    for data in ["passthrough", "copy"] {
        let (source, mountpoint) = ground.pair();
        let served = Launch::new(&source, &mountpoint, data).option("allow_other").go()?;
        let file = mountpoint.join("file");
        let mut open = File::create(&file).map_err(text)?;
        open.write_all(b"one").map_err(text)?;
        let ro = remount(&source, &mountpoint, "ro,allow_other");
        refusal(ro, "while a file is open for writing", "files are open for writing")?;
        open.write_all(b" two").map_err(text)?;
        drop(open);
        // The kernel closes a file a moment after its user has.
        served.settled()?;
        remount(&source, &mountpoint, "ro,nosuid,allow_other")?;
        for result in [fs::write(&file, "three"), fs::create_dir(mountpoint.join("directory"))] {
            if result.as_ref().err().map(std::io::Error::kind)
                != Some(ErrorKind::ReadOnlyFilesystem)
            {
                return Err(format!("{data}: a change of what is read-only: {result:?}"));
            }
        }
        if fs::read_to_string(&file).map_err(text)? != "one two" {
            return Err(format!("{data}: what was written before is not there"));
        }
        remount(&source, &mountpoint, "rw")?;
        fs::write(&file, "three").map_err(text)?;
        if !statvfs(&mountpoint).map_err(text)?.flags().contains(FsFlags::ST_NOSUID) {
            return Err(format!("{data}: nosuid was taken off"));
        }
        served.finish()?;
    }
    Ok(())
}

/// What would need another daemon is refused, and says what to do.
pub(crate) fn of_the_rest(ground: &Ground) -> Result<(), String> {
    let (source, mountpoint) = ground.pair();
    refusal(remount(&source, &mountpoint, "ro"), "what is not mounted", "is not a mount point")?;
    let served = Launch::new(&source, &mountpoint, "auto").option("ro").go()?;
    for options in ["rw", "ro,noatime", "ro,data=copy", "ro,allow_other", "ro,coherence=exclusive"]
    {
        let expected = "of a live mount can not be changed";
        refusal(remount(&source, &mountpoint, options), options, expected)?;
    }
    let expected = format!("shows {}", source.display());
    refusal(remount(Path::new("/etc"), &mountpoint, "ro"), "another source", &expected)?;
    remount(&source, &mountpoint, "ro,noexec")?;
    let flags = statvfs(&mountpoint).map_err(text)?.flags();
    if !flags.contains(FsFlags::ST_NOEXEC | FsFlags::ST_RDONLY) {
        return Err(format!("after ro,noexec: {flags:?}"));
    }
    served.finish()?;
    let (source, mountpoint) = ground.pair();
    let served = Launch::new(&source, &mountpoint, "auto").go()?;
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=1",
        "--regid=1",
        "--clear-groups",
        env!("CARGO_BIN_EXE_fusewire"),
        "mount",
    ]);
    let by_user = command.args([&source, &mountpoint]).args(["-o", "remount,ro"]).output();
    let output = by_user.map_err(text)?;
    if output.status.success() || fs::write(mountpoint.join("file"), "").is_err() {
        return Err(format!("a user has remounted what is root's: {output:?}"));
    }
    served.finish()
}
