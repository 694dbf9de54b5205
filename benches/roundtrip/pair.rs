//! Processes of this program's own: the other end of a ping-pong, and hogs. Each ends when its
//! standard input does, so that none outlives its parent.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Failure;
use crate::client::{Trip, pin};

fn again(args: &[&str]) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

/// Two pipes and the process at their other end, on one CPU.
#[derive(Debug)]
pub(crate) struct Pair {
    child: Child,
    there: ChildStdin,
    back: ChildStdout,
}

impl Pair {
    pub(crate) fn start(cpu: usize) -> io::Result<Self> {
        let mut child = again(&["--pong", &cpu.to_string()])?;
        let gone = || io::Error::other("a piped stream is missing");
        let there = child.stdin.take().ok_or_else(gone)?;
        let back = child.stdout.take().ok_or_else(gone)?;
        let mut pair = Pair { child, there, back };
        // It is there once it answers.
        pair.once()?;
        Ok(pair)
    }
}

impl Trip for Pair {
    fn once(&mut self) -> io::Result<()> {
        self.there.write_all(&[0])?;
        self.back.read_exact(&mut [0])
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends back what comes, until nothing comes any more.
pub(crate) fn pong(cpu: usize) -> Result<(), Failure> {
    use std::os::fd::AsFd;
    pin(cpu)?;
    let (input, output) = (io::stdin(), io::stdout());
    let mut byte = [0];
    // Past the buffers of the standard streams.
    while nix::unistd::read(input.as_fd(), &mut byte)? == 1 {
        nix::unistd::write(output.as_fd(), &byte)?;
    }
    Ok(())
}

/// Processes that want a CPU all the time.
#[derive(Debug)]
pub(crate) struct Hogs(Vec<Child>);

impl Hogs {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let mut hogs = Hogs(Vec::new());
        for _ in 0..count {
            hogs.0.push(again(&["--hog"])?);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

/// Runs until its parent ends.
pub(crate) fn hog() -> ! {
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    loop {
        std::hint::spin_loop();
    }
}
