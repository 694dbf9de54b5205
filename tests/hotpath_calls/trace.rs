//! A thread under strace, and what it was seen to do.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// What a thread did while it was watched.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What it did between receiving and receiving again.
    pub(crate) served: Vec<Served>,
    /// How often it entered io_uring only to submit, and how often at all.
    pub(crate) submitted: usize,
    pub(crate) entered: usize,
}

/// The calls between two receives.
#[derive(Debug)]
pub(crate) struct Served {
    /// The request's wire number, where strace sees it: what comes through a ring is nobody's to see.
    pub(crate) opcode: Option<u32>,
    pub(crate) calls: String,
}

/// Traces `thread` while `act` runs.
pub(crate) fn trace(thread: u32, act: impl FnOnce()) -> Result<Seen, String> {
    let mut strace = Command::new("strace");
    // The first 8 bytes of a request are its length and opcode.
    strace.args(["-qqq", "-xx", "-s", "8", "-e", "signal=none"]);
    let output = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut strace = Running(
        strace
            .args(["-p", &thread.to_string(), "-o"])
            .arg(output.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("run strace (Debian: apt-get install strace): {error}"))?,
    );
    wait_traced(thread, &mut strace.0)?;
    act();
    // RELEASE and the like come after the call that caused them.
    sleep(Duration::from_millis(100));
    drop(strace);
    let trace = fs::read_to_string(output.path()).map_err(|error| error.to_string())?;
    Ok(requests(trace.lines()))
}

/// A tracer, which detaches when it is told to end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).expect("process ids are small");
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn wait_traced(thread: u32, strace: &mut Child) -> Result<(), String> {
    for _ in 0..500 {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
            // Attached; a moment more, and it has resumed the thread.
            sleep(Duration::from_millis(50));
            return Ok(());
        }
        if strace.try_wait().is_ok_and(|ended| ended.is_some()) {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    let mut said = String::new();
    if let Some(stderr) = strace.stderr.as_mut() {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    Err(format!("strace does not attach: {said}"))
}

/// Splits a trace at each read of /dev/fuse, and at each turn of a ring.
fn requests<'t>(lines: impl Iterator<Item = &'t str>) -> Seen {
    // Memory and locks are not the request's own business; the first has a test of its own. Debug
    // builds of the standard library ask fcntl whether what they close is open.
    const PASSED_OVER: [&str; 8] =
        ["futex", "brk", "mmap", "munmap", "mprotect", "madvise", "restart_syscall", "fcntl"];
    let mut seen = Seen::default();
    for line in lines {
        let Some((name, arguments)) = line.split_once('(') else { continue };
        match name {
            "read" => {
                if let Some(opcode) = opcode(arguments) {
                    seen.served.push(Served { opcode: Some(opcode), calls: String::new() });
                }
            }
            "io_uring_enter" => {
                seen.served.push(Served { opcode: None, calls: String::new() });
                seen.entered += 1;
                // The third is how many completions it waits for.
                seen.submitted += usize::from(arguments.split(", ").nth(2) == Some("0"));
            }
            "writev" => {}
            name if PASSED_OVER.contains(&name) => {}
            name => {
                let Some(Served { calls, .. }) = seen.served.last_mut() else { continue };
                // How the C library spells fstat.
                let of_descriptor = name == "newfstatat" && arguments.contains("AT_EMPTY_PATH");
                let name = match name {
                    _ if of_descriptor => "fstat",
                    // Younger than some a strace.
                    "syscall_0x1c4" => "fchmodat2",
                    "syscall_0x1d0" => "getxattrat",
                    name => name,
                };
                let separator = if calls.is_empty() { "" } else { " " };
                calls.extend([separator, name]);
            }
        }
    }
    seen
}

/// The opcode in `4, "\x38\x00\x00\x00\x03\x00\x00\x00"..., 1056768) = 56`.
fn opcode(arguments: &str) -> Option<u32> {
    let bytes = arguments.split('"').nth(1)?;
    let bytes = bytes.split("\\x").skip(5).take(4).map(|byte| u8::from_str_radix(byte, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
