//! Runs other programs: bounded in time, stoppable, with their output captured, in a process
//! group of their own, so that a ^C at the terminal reaches only us and we stop them in order.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::StudyError;
use super::supervise::Cancel;

/// How long a helper of a moment (losetup, mkfs, `fusewire stats`) may take.
pub(crate) const TOOL_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);
/// How often a timed program is looked after.
const WATCH: Duration = Duration::from_millis(50);

/// Runs `command` to its end and gives its standard output. `action` completes "cannot ...".
pub(crate) fn run_tool(action: &str, command: &mut Command) -> Result<String, StudyError> {
    run_stoppable(action, command, TOOL_LIMIT, &|| false)
}

/// The same with another limit, and killed as soon as `stop` says so.
pub(crate) fn run_stoppable(
    action: &str,
    command: &mut Command,
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<String, StudyError> {
    let failed = |problem: String| StudyError::Tool { action: format!("cannot {action}"), problem };
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("{program}: {error}")))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let ended = wait(&mut child, limit, stop);
    if !matches!(ended, Ok(Some(_))) {
        // Already gone is as good as killed.
        let _ = child.kill();
        // A process that the kernel cannot kill at once (it waits for a mount that hangs) is
        // reaped by whoever outlives it; its pipes are not waited for.
        if wait(&mut child, Duration::from_secs(2), &|| false).ok().flatten().is_none() {
            return Err(failed(format!("{program} hangs in the kernel and cannot be killed")));
        }
    }
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match ended {
        Ok(Some(status)) if status.success() => Ok(stdout),
        Ok(Some(status)) => Err(failed(describe(&program, status, &stdout, &stderr))),
        Ok(None) if stop() => Err(failed(format!("{program} was stopped"))),
        Ok(None) => Err(failed(format!("{program} did not end within {} s", limit.as_secs()))),
        Err(error) => Err(failed(format!("{program}: {error}"))),
    }
}

/// Runs `command` to its end and tells how long that took, to the microsecond: the thread sleeps in
/// wait(2), and another one kills the command when `cancel` or the limit says so. Standard output is
/// returned.
pub(crate) fn run_timed(
    action: &str,
    command: &mut Command,
    limit: Duration,
    cancel: &Cancel,
) -> Result<(Duration, String), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |problem: String| format!("cannot {action}: {problem}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let begin = Instant::now();
    let mut child = command.spawn().map_err(|error| failed(format!("{program}: {error}")))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    let (ended, watched) = channel::<()>();
    let theirs = cancel.clone();
    let watcher = std::thread::spawn(move || {
        let deadline = Instant::now() + limit;
        while let Err(RecvTimeoutError::Timeout) = watched.recv_timeout(WATCH) {
            if theirs.is_set() || Instant::now() >= deadline {
                // Gone already is as good as killed.
                let _ = group.map(|group| killpg(group, Signal::SIGKILL));
                return true;
            }
        }
        false
    });
    let status = child.wait();
    let elapsed = begin.elapsed();
    drop(ended);
    let was_killed = watcher.join().unwrap_or(false);
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match status {
        _ if cancel.is_set() => Err(failed(format!("{program} was stopped"))),
        _ if was_killed => {
            Err(failed(format!("{program} did not end within {} s", limit.as_secs())))
        }
        Ok(status) if status.success() => Ok((elapsed, stdout)),
        Ok(status) => Err(failed(describe(&program, status, &stdout, &stderr))),
        Err(error) => Err(failed(format!("{program}: {error}"))),
    }
}

/// Waits for a child; `None` if it still runs when the limit has passed or `stop` says so.
pub(crate) fn wait(
    child: &mut Child,
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if stop() || Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn describe(program: &str, status: ExitStatus, stdout: &str, stderr: &str) -> String {
    let said = [stderr.trim(), stdout.trim()].into_iter().find(|text| !text.is_empty());
    match said {
        Some(said) => format!("{program}: {} ({status})", tail(said, 600)),
        None => format!("{program}: {status}"),
    }
}

/// The last `bytes` of a text, at a character's start.
pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_captured_even_if_it_exceeds_a_pipe() {
        let text = run_tool("count", &mut sh("seq 1 100000")).expect("seq works");
        assert!(text.starts_with("1\n2\n") && text.ends_with("100000\n"));
    }

    #[test]
    fn a_failure_says_action_program_and_stderr() {
        let error = run_tool("try", &mut sh("echo why >&2; exit 3")).expect_err("fails");
        assert_eq!(error.to_string(), "cannot try: sh: why (exit status: 3)");
        let error = run_tool("try", &mut Command::new("/no/such/program")).expect_err("fails");
        assert!(error.to_string().contains("/no/such/program: No such file"), "{error}");
    }

    #[test]
    fn a_program_is_killed_at_its_limit_and_when_stopped() {
        let begin = Instant::now();
        let limit = Duration::from_millis(50);
        let error =
            run_stoppable("wait", &mut sh("exec sleep 60"), limit, &|| false).expect_err("limit");
        assert!(error.to_string().contains("did not end"), "{error}");
        let error = run_stoppable("wait", &mut sh("exec sleep 60"), TOOL_LIMIT, &|| true)
            .expect_err("stopped");
        assert!(error.to_string().contains("was stopped"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_timed_program_gives_time_and_output_or_the_reason() {
        let cancel = Cancel::default();
        let timed = |script: &str, limit| run_timed("try", &mut sh(script), limit, &cancel);
        let (elapsed, text) = timed("sleep 0.05; echo done", TOOL_LIMIT).expect("works");
        assert!(elapsed >= Duration::from_millis(50) && text == "done\n");
        let error = timed("echo why >&2; exit 3", TOOL_LIMIT).expect_err("fails");
        assert_eq!(error, "cannot try: sh: why (exit status: 3)");
        let error = timed("exec sleep 60", Duration::from_millis(10)).expect_err("limit");
        assert!(error.contains("did not end"), "{error}");
    }

    #[test]
    fn tails_respect_characters() {
        assert_eq!(tail("abc", 10), "abc");
        assert_eq!(tail("aäb", 2), "b");
    }
}
