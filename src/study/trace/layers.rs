//! The events of a trace as layers: what a client waits for, from its request to its answer.
//!
//! Only the time that the client waits is split: a request that nobody waits for (RELEASE) costs its
//! sender what it costs to queue it. What is left of the run is the client's own.

use std::collections::{BTreeMap, HashSet};

use super::events::{Event, Kind, Trace};
use crate::study::sample::count;

/// Nanoseconds of one operation, by layer.
pub(crate) type Layers = BTreeMap<String, f64>;

/// System calls in which a daemon waits for requests: read, readv, splice, io_uring_enter.
const RECEIVING: [i64; 4] = [0, 19, 275, 426];

/// The layers of one of `operations` which took `seconds` in all.
pub(super) fn of(
    trace: &Trace,
    client: &[u32],
    daemon: &[u32],
    operations: u64,
    seconds: f64,
) -> Result<Layers, String> {
    let operations = count(operations) * trace.kept;
    let whole = seconds * 1e6 * trace.kept;
    if operations < 1.0 || whole <= 0.0 {
        return Err("the trace is empty".to_owned());
    }
    let daemon: HashSet<u32> = daemon.iter().copied().collect();
    // A thread of the client may have ended: whoever sends and is not the daemon is one.
    let mut clients: HashSet<u32> = client.iter().copied().collect();
    clients.extend(trace.events.iter().filter_map(|event| match event.kind {
        Kind::Send(_) if !daemon.contains(&event.thread) => Some(event.thread),
        _ => None,
    }));
    let mut sums = Sums::default();
    let events = &trace.events;
    for (index, event) in events.iter().enumerate() {
        if let Kind::Send(request) = event.kind
            && clients.contains(&event.thread)
            && let Some(wait) = wait(events, index, request)
        {
            sums.add(events, index, &wait);
        }
    }
    let waited: f64 = sums.0.iter().map(|(_, sum)| sum).sum();
    let own = (whole - waited).max(0.0);
    let all = [("client", own)].into_iter().chain(sums.0);
    Ok(all.map(|(name, sum)| (name.to_owned(), sum / operations * 1e3)).collect())
}

/// A client that waits for a request.
#[derive(Debug)]
struct Wait {
    /// Place of the answer in the trace.
    end: usize,
    /// When the client runs again.
    back: f64,
}

/// Whether the thread that sends at `index` waits for the answer, and until when.
fn wait(events: &[Event], index: usize, request: u64) -> Option<Wait> {
    let thread = events[index].thread;
    let after = || events[index + 1..].iter().zip(index + 1..);
    // It waits if the next thing it does, apart from being preempted, is to give the CPU away.
    let mut own = after().filter(|(event, _)| event.thread == thread);
    let is_preempted =
        |(event, _): &(&Event, usize)| matches!(event.kind, Kind::Switch { waits: false, .. });
    let next = own.find(|found| !is_preempted(found))?;
    matches!(next.0.kind, Kind::Switch { waits: true, .. }).then_some(())?;
    let end = after().find(|(event, _)| event.kind == Kind::End(request))?.1;
    // Not every kernel records the switch from each CPU's idle thread: then it is back by what it does
    // first.
    let is_back = |event: &&Event| event.thread == thread || event.gives_cpu_to(thread);
    let back = events[end..].iter().find(is_back)?;
    Some(Wait { end, back: back.at })
}

/// Sums by layer, microseconds.
#[derive(Debug)]
struct Sums([(&'static str, f64); 6]);

impl Default for Sums {
    fn default() -> Self {
        let names = ["wake_up", "receive", "daemon", "source", "reply", "client_wake_up"];
        Sums(names.map(|name| (name, 0.0)))
    }
}

impl Sums {
    /// Splits one wait, at the places that the thread which answers passes.
    fn add(&mut self, events: &[Event], send: usize, wait: &Wait) {
        let (sent, ended) = (events[send].at, events[wait.end].at);
        let server = events[wait.end].thread;
        let before_end = || events[..wait.end].iter().rev().filter(|event| event.thread == server);
        // Backwards from the answer: the call that carries it, the end of the one that brought the
        // request, and that one's beginning.
        let replies = before_end().find(|event| matches!(event.kind, Kind::Enter(_)));
        let replies = replies.map_or(ended, |event| event.at.max(sent));
        let received = before_end()
            .filter(|event| event.at <= replies)
            .find(|event| matches!(event.kind, Kind::Exit(call) if RECEIVING.contains(&call)));
        let received = received.map_or(replies, |event| event.at.max(sent));
        let asked = before_end()
            .filter(|event| event.at <= received)
            .find(|event| matches!(event.kind, Kind::Enter(call) if RECEIVING.contains(&call)))
            .map_or(sent, |event| event.at);
        // It runs from when it is given a CPU, or, if it had one, from when it asked for more. It has been
        // given one that nobody recorded if the last that was seen is that it gave one away.
        let moved = |event: &&Event| {
            let gives = matches!(event.kind, Kind::Switch { .. }) && event.thread == server;
            gives || event.gives_cpu_to(server)
        };
        let mut before = events[..wait.end].iter().rev().filter(|event| event.at <= received);
        let runs = match before.find(moved) {
            Some(event) if event.gives_cpu_to(server) => event.at,
            Some(_) => received,
            None => sent,
        };
        let runs = runs.max(asked).clamp(sent, received);
        let source = calls(events, server, received, replies);
        let parts = [
            runs - sent,
            received - runs,
            replies - received - source,
            source,
            ended - replies,
            wait.back - ended,
        ];
        for ((_, sum), part) in self.0.iter_mut().zip(parts) {
            *sum += part.max(0.0);
        }
    }
}

/// Time that a thread spends in system calls which begin and end between two moments.
fn calls(events: &[Event], thread: u32, from: f64, to: f64) -> f64 {
    let first = events.partition_point(|event| event.at < from);
    let mut entered = None;
    let mut sum = 0.0;
    let within = events[first..].iter().take_while(|event| event.at <= to);
    for event in within.filter(|event| event.thread == thread) {
        match event.kind {
            Kind::Enter(_) if event.at < to => entered = Some(event.at),
            Kind::Exit(_) => sum += entered.take().map_or(0.0, |entered| event.at - entered),
            _ => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: u32 = 7;
    const SERVER: u32 = 9;

    fn event(thread: u32, at: f64, kind: Kind) -> Event {
        Event { thread, at, kind }
    }

    fn switch(thread: u32, at: f64, next: u32) -> Event {
        event(thread, at, Kind::Switch { next, waits: true })
    }

    /// One request through io_uring: sent at 3, served from 5 to 15, answered at 18.
    fn one() -> Vec<Event> {
        vec![
            event(SERVER, 0.0, Kind::Enter(426)),
            switch(SERVER, 0.5, 0),
            event(CLIENT, 1.0, Kind::Enter(262)),
            event(CLIENT, 3.0, Kind::Send(1)),
            switch(CLIENT, 4.0, SERVER),
            event(SERVER, 5.0, Kind::Exit(426)),
            event(SERVER, 7.0, Kind::Enter(264)),
            event(SERVER, 13.0, Kind::Exit(264)),
            event(SERVER, 15.0, Kind::Enter(426)),
            event(SERVER, 18.0, Kind::End(1)),
            switch(SERVER, 20.0, CLIENT),
            event(CLIENT, 21.0, Kind::Exit(262)),
        ]
    }

    fn layers(events: Vec<Event>, operations: u64, seconds: f64) -> BTreeMap<String, f64> {
        let trace = Trace { events, kept: 1.0 };
        of(&trace, &[CLIENT], &[SERVER], operations, seconds).expect("is not empty")
    }

    fn expect(found: &BTreeMap<String, f64>, wanted: [(&str, f64); 7]) {
        for (name, nanoseconds) in wanted {
            assert!((found[name] - nanoseconds).abs() < 1.0, "{name}: {found:?}");
        }
    }

    #[test]
    fn a_wait_is_split_where_the_server_passes() {
        let found = layers(one(), 1, 25e-6);
        expect(
            &found,
            [
                ("client", 8000.0),
                ("wake_up", 1000.0),
                ("receive", 1000.0),
                ("daemon", 4000.0),
                ("source", 6000.0),
                ("reply", 3000.0),
                ("client_wake_up", 2000.0),
            ],
        );
        assert!((found.values().sum::<f64>() - 25_000.0).abs() < 1.0, "nothing is lost");
        let half = layers(one(), 2, 25e-6);
        assert!((half["source"] - 3000.0).abs() < 1.0, "of one operation");
    }

    #[test]
    fn a_cpu_that_was_given_unseen_is_told_by_what_is_done_on_it() {
        let mut events = one();
        events[4] = switch(CLIENT, 4.0, 0);
        events[10] = switch(SERVER, 20.0, 0);
        // Much later somebody sees the client being given a CPU.
        events.push(switch(0, 24.0, CLIENT));
        expect(
            &layers(events, 1, 25e-6),
            [
                ("client", 7000.0),
                ("wake_up", 2000.0),
                ("receive", 0.0),
                ("daemon", 4000.0),
                ("source", 6000.0),
                ("reply", 3000.0),
                ("client_wake_up", 3000.0),
            ],
        );
    }

    #[test]
    fn a_request_that_nobody_waits_for_costs_no_wait() {
        let mut events = one();
        // Its sender leaves the call, and is preempted only later.
        events[4] = event(CLIENT, 4.0, Kind::Enter(3));
        let found = layers(events, 1, 25e-6);
        expect(
            &found,
            [
                ("client", 25_000.0),
                ("wake_up", 0.0),
                ("receive", 0.0),
                ("daemon", 0.0),
                ("source", 0.0),
                ("reply", 0.0),
                ("client_wake_up", 0.0),
            ],
        );
        // Preempted on its way to sleep it waits all the same.
        let mut events = one();
        events.insert(4, event(CLIENT, 3.5, Kind::Switch { next: 0, waits: false }));
        events.insert(5, event(0, 3.8, Kind::Switch { next: CLIENT, waits: false }));
        assert!((layers(events, 1, 25e-6)["source"] - 6000.0).abs() < 1.0);
    }

    #[test]
    fn a_server_that_was_busy_is_waited_for() {
        // While it serves another request it runs already; it asks for more at 8 and has it at 9.
        let events = vec![
            event(SERVER, 0.0, Kind::Exit(0)),
            event(CLIENT, 3.0, Kind::Send(2)),
            switch(CLIENT, 4.0, 0),
            event(SERVER, 8.0, Kind::Enter(0)),
            event(SERVER, 9.0, Kind::Exit(0)),
            event(SERVER, 11.0, Kind::Enter(20)),
            event(SERVER, 12.0, Kind::End(2)),
            switch(0, 16.0, CLIENT),
        ];
        expect(
            &layers(events, 1, 20e-6),
            [
                ("client", 7000.0),
                ("wake_up", 5000.0),
                ("receive", 1000.0),
                ("daemon", 2000.0),
                ("source", 0.0),
                ("reply", 1000.0),
                ("client_wake_up", 4000.0),
            ],
        );
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        for end in 0..one().len() {
            let cut = layers(one()[..end].to_vec(), 1, 25e-6);
            assert!((cut.values().sum::<f64>() - 25_000.0).abs() < 1.0, "{cut:?}");
            let cut = layers(one()[end..].to_vec(), 1, 25e-6);
            assert!(cut.values().all(|part| *part >= 0.0), "{cut:?}");
        }
        let empty = Trace { events: Vec::new(), kept: 1.0 };
        assert!(of(&empty, &[], &[], 0, 1.0).is_err());
    }
}
