//! A file system below that does not answer.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Ground;
use crate::below::FILE;

/// What must not wait for the file system below gets this long, on a busy machine too.
const PATIENCE: &str = "15";

/// `fusewire` with a time limit; its exit status and what it said.
fn fusewire(arguments: &[&str]) -> Result<(Option<i32>, String), String> {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", PATIENCE, env!("CARGO_BIN_EXE_fusewire")]).args(arguments);
    let output = command.output().map_err(|error| format!("fusewire: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// Clients wait and go on when it answers again; nothing else waits for it.
pub(crate) fn for_a_while(ground: &Ground) -> Result<(), String> {
    let played = play(ground);
    // Whatever went wrong, what is above must be able to end.
    ground.below.signal(Signal::SIGCONT)?;
    played
}

fn play(ground: &Ground) -> Result<(), String> {
    let mountpoint = ground.above.mountpoint.to_string_lossy().into_owned();
    let path = ground.above.mountpoint.join(FILE);
    fs::write(&path, "text").map_err(|error| error.to_string())?;
    ground.below.signal(Signal::SIGSTOP)?;
    // More than there are threads which serve.
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut command = Command::new("cat");
        command.arg(&path).stdout(Stdio::piped());
        readers.push(command.spawn().map_err(|error| format!("cat: {error}"))?);
    }
    std::thread::sleep(Duration::from_secs(1));
    let (status, said) = fusewire(&["stats", &mountpoint])?;
    if status != Some(0) {
        return Err(format!("stats while nothing answers below: {status:?} {said}"));
    }
    let (status, said) = fusewire(&["umount", &mountpoint])?;
    if status != Some(1) || !said.contains("busy") {
        return Err(format!("umount while clients wait: {status:?} {said}"));
    }
    // Killed, a client is gone as soon as its request is answered: `request_wait_answer()` of the
    // kernel waits for what a daemon has read already.
    readers[0].kill().map_err(|error| error.to_string())?;
    ground.below.signal(Signal::SIGCONT)?;
    for (number, reader) in readers.into_iter().enumerate() {
        let output = reader.wait_with_output().map_err(|error| error.to_string())?;
        if number > 0 && output.stdout != b"text" {
            return Err(format!("a client reads {output:?} afterwards"));
        }
    }
    // Once more, and this time it is left behind.
    ground.below.signal(Signal::SIGSTOP)?;
    let mut waiting = Command::new("stat").arg(&path).stdout(Stdio::null()).spawn();
    let waiting = waiting.as_mut().map_err(|error| format!("stat: {error}"))?;
    std::thread::sleep(Duration::from_secs(1));
    let (status, said) = fusewire(&["umount", "--lazy", &mountpoint])?;
    if status != Some(0) {
        return Err(format!("umount --lazy while nothing answers below: {status:?} {said}"));
    }
    ground.below.signal(Signal::SIGCONT)?;
    waiting.wait().map_err(|error| error.to_string())?;
    Ok(())
}
