//! The text of a trace, read: as `trace` of tracefs shows it.

/// What was recorded.
#[derive(Debug, PartialEq)]
pub(super) struct Trace {
    /// In the order of time.
    pub(super) events: Vec<Event>,
    /// Which share of all events is still in the buffer.
    pub(super) kept: f64,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Event {
    /// The thread in whose context it happened.
    pub(super) thread: u32,
    /// When, microseconds since boot.
    pub(super) at: f64,
    /// What.
    pub(super) kind: Kind,
}

impl Event {
    /// Whether a thread is given the CPU.
    pub(super) fn gives_cpu_to(&self, thread: u32) -> bool {
        matches!(self.kind, Kind::Switch { next, .. } if next == thread)
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The thread has queued this request.
    Send(u64),
    /// The answer to this request has come, by the hand of the thread.
    End(u64),
    /// The CPU goes from the thread to `next`. It `waits`, or would have gone on.
    Switch { next: u32, waits: bool },
    /// The thread enters this system call.
    Enter(i64),
    /// It leaves this one.
    Exit(i64),
}

/// Reads a trace. What is none of the five events is passed over.
pub(super) fn parse(text: &str) -> Trace {
    let mut events: Vec<Event> = text.lines().filter_map(line).collect();
    events.sort_by(|a, b| a.at.total_cmp(&b.at));
    Trace { events, kept: kept(text).unwrap_or(1.0) }
}

/// From `# entries-in-buffer/entries-written: 90/100   #P:2`.
fn kept(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("entries-in-buffer/entries-written:"))?;
    let (kept, written) = line.split(": ").nth(1)?.split_whitespace().next()?.split_once('/')?;
    let (kept, written): (f64, f64) = (kept.parse().ok()?, written.parse().ok()?);
    (written > 0.0).then(|| kept / written)
}

/// `       fusewire-123     [001] d..2.  1234.567890: sys_enter: NR 426 (5, 1, ...)`. The name of the
/// thread may hold anything.
fn line(line: &str) -> Option<Event> {
    let cpu = line.match_indices(" [").find(|(index, _)| {
        let rest = &line.as_bytes()[index + 2..];
        rest.len() > 4 && rest[..3].iter().all(u8::is_ascii_digit) && rest[3] == b']'
    })?;
    let thread = line[..cpu.0].trim_end().rsplit('-').next()?.parse().ok()?;
    let (_flags, rest) = line[cpu.0 + 6..].trim_start().split_once(' ')?;
    let (at, rest) = rest.trim_start().split_once(": ")?;
    let (name, fields) = rest.split_once(": ")?;
    let number = |name: &str| {
        let value = fields.split(name).nth(1)?.split([' ', ',']).next()?;
        value.parse::<u64>().ok()
    };
    let kind = match name {
        "fuse_request_send" => Kind::Send(number(" req ")?),
        "fuse_request_end" => Kind::End(number(" req ")?),
        "sched_switch" => {
            let (before, after) = fields.split_once(" ==> ")?;
            let state = before.rsplit("prev_state=").next()?;
            let next = after.rsplit("next_pid=").next()?.split(' ').next()?;
            // R is running, R+ preempted.
            Kind::Switch { next: next.parse().ok()?, waits: !state.starts_with('R') }
        }
        "sys_enter" => Kind::Enter(system_call(fields)?),
        "sys_exit" => Kind::Exit(system_call(fields)?),
        _ => return None,
    };
    Some(Event { thread, at: at.parse::<f64>().ok()? * 1e6, kind })
}

fn system_call(fields: &str) -> Option<i64> {
    fields.strip_prefix("NR ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 5/10   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
      odd [1-2] x-77      [001] .....    10.000001: sys_enter: NR 262 (5, 7f, 7e, 0, 0, 0)
      odd [1-2] x-77      [001] .....    10.000003: fuse_request_send: connection 45 req 18 opcode 3 (FUSE_GETATTR) len 56 
      odd [1-2] x-77      [001] d..2.    10.000004: sched_switch: prev_comm=odd [1-2] x prev_pid=77 prev_prio=120 prev_state=S ==> next_comm=fusewire next_pid=99 next_prio=120
           <...>-99      [001] .....    10.000005: sys_exit: NR 426 = 1
           <...>-99      [001] .....    10.000009: fuse_request_end: connection 45 req 18 len 120 error 0
CPU:0 [LOST 123 EVENTS]
           <...>-99      [000] d..2.    10.000002: sched_switch: prev_comm=a prev_pid=99 prev_prio=120 prev_state=R+ ==> next_comm=b next_pid=1 next_prio=120
           <...>-99      [000] d..2.    10.000012: sched_waking: comm=b pid=1 prio=120 target_cpu=000
";

    #[test]
    fn lines_become_events_in_order() {
        let trace = parse(TRACE);
        assert_eq!(trace.kept, 0.5);
        let kinds: Vec<(u32, Kind)> =
            trace.events.iter().map(|event| (event.thread, event.kind)).collect();
        assert_eq!(
            kinds,
            [
                (77, Kind::Enter(262)),
                (99, Kind::Switch { next: 1, waits: false }),
                (77, Kind::Send(18)),
                (77, Kind::Switch { next: 99, waits: true }),
                (99, Kind::Exit(426)),
                (99, Kind::End(18)),
            ]
        );
        assert!((trace.events[5].at - trace.events[0].at - 8.0).abs() < 1e-3);
    }
}
