//! What a close does below, and what it says.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::path::Path;

use nix::errno::Errno;

use crate::Ground;
use crate::below::{FILE, FULL};
use crate::common::raw;
use crate::common::text;

/// Opens a file for writing, emptied.
fn anew(directory: &Path, name: &str) -> Result<File, String> {
    let open = OpenOptions::new().read(true).write(true).truncate(true).open(directory.join(name));
    open.map_err(|error| format!("open {name}: {error}"))
}

/// Closes a descriptor, which the standard library does without a look at the answer.
fn close(file: File) -> nix::Result<()> {
    nix::unistd::close(file.into_raw_fd())
}

/// What the file system below has by now.
fn taken(ground: &Ground) -> Result<String, String> {
    fs::read_to_string(ground.above.source.join(FILE)).map_err(text)
}

fn expect(what: &str, found: &str, wanted: &str) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} instead of {wanted:?}")),
    }
}

/// With the close, and no later, what was written is with the file system below.
pub(crate) fn is_passed_on(ground: &Ground) -> Result<(), String> {
    for round in 0..20 {
        let content = format!("written in round {round}");
        // The descriptor of the round before, too, is closed below, a moment after the close here.
        ground.above.settled()?;
        let mut file = anew(&ground.above.mountpoint, FILE)?;
        file.write_all(content.as_bytes()).map_err(text)?;
        expect("before the close", &taken(ground)?, "")?;
        close(file).map_err(text)?;
        expect("after it", &taken(ground)?, &content)?;
    }
    Ok(())
}

/// The same while somebody reads the file, whom the kernel may serve by itself.
pub(crate) fn beside_a_reader(ground: &Ground) -> Result<(), String> {
    let before = anew(&ground.above.mountpoint, FILE)?;
    close(before).map_err(text)?;
    let path = ground.above.mountpoint.join(FILE);
    let reader = File::open(&path).map_err(text)?;
    for round in 0..5 {
        let content = format!("written in round {round} beside a reader");
        let mut file = OpenOptions::new().write(true).open(&path).map_err(text)?;
        file.write_all(content.as_bytes()).map_err(text)?;
        close(file).map_err(text)?;
        expect("after the close", &taken(ground)?, &content)?;
    }
    drop(reader);
    Ok(())
}

/// Each close of a descriptor is one, as it is below.
pub(crate) fn of_each_duplicate(ground: &Ground) -> Result<(), String> {
    let mut file = anew(&ground.above.mountpoint, FILE)?;
    file.write_all(b"one").map_err(text)?;
    close(file.try_clone().map_err(text)?).map_err(text)?;
    expect("after the duplicate's close", &taken(ground)?, "one")?;
    file.write_all(b", two").map_err(text)?;
    close(file).map_err(text)?;
    expect("after the last close", &taken(ground)?, "one, two")
}

/// What was stored through a mapping as well.
pub(crate) fn after_a_mapping(ground: &Ground) -> Result<(), String> {
    let mut file = anew(&ground.above.mountpoint, FILE)?;
    file.write_all(&[b'.'; 4096]).map_err(text)?;
    close(file.try_clone().map_err(text)?).map_err(text)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let map = raw::Map::new(&file, 0, 4096, protection, libc::MAP_SHARED).map_err(text)?;
    map.store(0, b"stored");
    map.sync(libc::MS_SYNC).map_err(text)?;
    drop(map);
    close(file).map_err(text)?;
    expect("after the close", &taken(ground)?[..10], "stored....")
}

/// What the file system below can not take, the close says; a close without anything new is silent.
pub(crate) fn refused(ground: &Ground) -> Result<(), String> {
    for _ in 0..5 {
        ground.above.settled()?;
        let mut file = anew(&ground.above.mountpoint, FULL)?;
        file.write_all(b"too much").map_err(text)?;
        if close(file) != Err(Errno::EDQUOT) {
            return Err("the close does not say EDQUOT".to_owned());
        }
        close(anew(&ground.above.mountpoint, FULL)?).map_err(text)?;
    }
    Ok(())
}
