//! A [`Snapshot`] as text: a page for people, a line for logs. Pure.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use crate::metrics::snapshot::{Locality, Opcode, Privileges, Snapshot};

/// Pages are laid out for this many columns.
const COLUMNS: usize = 100;
/// Where the values of the head begin.
const INDENT: usize = 12;

/// The whole picture; with an `earlier` one of the same daemon also rates since then.
pub fn page(now: &Snapshot, earlier: Option<&Snapshot>) -> String {
    let span = Span::new(now, earlier);
    let mut page = head(now);
    page.push('\n');
    page.push_str(&opcodes(now, span.as_ref()));
    page.push('\n');
    page.push_str(&foot(now, span.as_ref()));
    page
}

/// What the kernel offered and fusewire did not take: too long to be watched.
pub fn refusals(now: &Snapshot) -> String {
    let mut out = String::from("\nOffered by the kernel and not taken\n");
    for (flag, reason) in &now.negotiated.refused {
        let _ = writeln!(out, "  {flag:<20} {reason}");
    }
    out
}

/// The columns of [`line()`].
pub fn line_header() -> String {
    line_of([
        "up_s",
        "req/s",
        "err/s",
        "read_MiB/s",
        "write_MiB/s",
        "cpu_%",
        "inodes",
        "fds",
        "rss_MiB",
    ])
}

/// One line of a log; rates are since `earlier`, or since the mount became ready.
pub fn line(now: &Snapshot, earlier: Option<&Snapshot>) -> String {
    let start = Snapshot { pid: now.pid, ..Snapshot::default() };
    let Some(span) = Span::new(now, earlier).or_else(|| Span::new(now, Some(&start))) else {
        return String::new();
    };
    let mib = |bytes: f64| format!("{:.1}", bytes / 1_048_576.0);
    let totals = |of: fn(&Snapshot) -> u64| span.rate(of(now), of(span.earlier));
    line_of([
        &format!("{:.1}", now.uptime_seconds),
        &format!("{:.0}", totals(|s| s.totals.requests)),
        &format!("{:.0}", totals(|s| s.totals.errors)),
        &mib(totals(|s| s.totals.read_bytes)),
        &mib(totals(|s| s.totals.written_bytes)),
        &format!("{:.1}", span.cpu_percent(now)),
        &now.live.inodes.to_string(),
        &now.live.fds.to_string(),
        &mib(float(now.live.rss_bytes)),
    ])
}

fn line_of(cells: [&str; 9]) -> String {
    let mut line = String::new();
    for cell in cells {
        let _ = write!(line, "{cell:>11}");
    }
    line.push('\n');
    line
}

/// The time between two pictures of one daemon.
struct Span<'a> {
    earlier: &'a Snapshot,
    seconds: f64,
}

impl<'a> Span<'a> {
    /// None if the pictures are of different daemons or of the same moment.
    fn new(now: &Snapshot, earlier: Option<&'a Snapshot>) -> Option<Self> {
        let earlier = earlier.filter(|earlier| earlier.pid == now.pid)?;
        let seconds = now.uptime_seconds - earlier.uptime_seconds;
        (seconds > 0.0).then_some(Span { earlier, seconds })
    }

    fn rate(&self, now: u64, earlier: u64) -> f64 {
        float(now.saturating_sub(earlier)) / self.seconds
    }

    fn cpu_percent(&self, now: &Snapshot) -> f64 {
        let spent = |s: &Snapshot| s.process.user_cpu_us + s.process.system_cpu_us;
        self.rate(spent(now), spent(self.earlier)) / 1e6 * 100.0
    }
}

/// Counters are far below 2^53, where f64 stops to be exact.
fn float(count: u64) -> f64 {
    count as f64
}

fn head(now: &Snapshot) -> String {
    let Snapshot { transport, data, coherence, locality, negotiated, .. } = now;
    let because = |reason: &Option<String>| match reason {
        Some(reason) => format!(": {reason}"),
        None => String::new(),
    };
    let mut head = String::new();
    let mut row = |name: &str, value: &str| wrap(&mut head, name, value);
    row("source", &now.source);
    row("mounted at", &now.mountpoint);
    let up = duration(now.uptime_seconds);
    row("daemon", &format!("fusewire {}, pid {}, up {up}", now.version, now.pid));
    row("profile", &now.profile);
    let pinned = if transport.pinned { "pinned" } else { "not pinned" };
    row(
        "transport",
        &format!(
            "{}, {}, {}, {pinned}{}",
            transport.name,
            counted(transport.workers as u64, "worker"),
            counted(transport.channels as u64, "channel"),
            because(&transport.reason)
        ),
    );
    let asked = format!(" (asked for: {})", data.requested);
    let asked = if data.requested == data.mode { "" } else { &asked };
    row("data", &format!("{}{asked}{}", data.mode, because(&data.reason)));
    let told = match coherence.mode.as_str() {
        "watch" => format!(
            ", {} seen, {} told, all names expired {}",
            counted(coherence.events, "change"),
            counted(coherence.notifications, "notification"),
            counted(coherence.expirations, "time"),
        ),
        _ => String::new(),
    };
    row("coherence", &format!("{}{told}{}", coherence.mode, because(&coherence.reason)));
    if !["", "off"].contains(&locality.mode.as_str()) || locality.reason.is_some() {
        row("locality", &local(locality));
    }
    row(
        "protocol",
        &format!(
            "{}, max_write {}, readahead {}, {} in background, stack depth {}",
            negotiated.protocol,
            bytes(negotiated.max_write_bytes.into()),
            bytes(negotiated.max_readahead_bytes.into()),
            negotiated.max_background,
            negotiated.max_stack_depth
        ),
    );
    row("flags", &negotiated.flags.join(" "));
    row("privileges", &privileges(&now.privileges));
    head
}

fn local(now: &Locality) -> String {
    let reason = match &now.reason {
        Some(reason) if now.mode == "off" => {
            return format!("off (asked for: {}): {reason}", now.requested);
        }
        Some(reason) => format!("; {reason}"),
        None => String::new(),
    };
    let misses = now.misses.iter().map(|(miss, count)| format!(", {miss} {count}"));
    format!(
        "{}, {} held, {} ({}) from this machine's disk, {} through the source; {}{}{reason}",
        now.mode,
        counted(now.held_opens, "open"),
        counted(now.replica_reads, "READ"),
        bytes(now.replica_bytes),
        now.mount_reads,
        counted(now.checks, "check"),
        misses.collect::<String>()
    )
}

fn privileges(now: &Privileges) -> String {
    let names = now.capabilities.iter().map(|name| name.trim_start_matches("CAP_"));
    let held = names.collect::<Vec<_>>().join(" ");
    match (held.is_empty(), now.no_new_privs) {
        (true, _) => "an ordinary user's".to_owned(),
        (false, true) => format!("{held}, and no way to more"),
        (false, false) => held,
    }
}

/// `1 worker`, `2 workers`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn opcodes(now: &Snapshot, span: Option<&Span<'_>>) -> String {
    if now.requests.is_empty() {
        return "no requests yet\n".into();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut header = vec!["request", "count"];
    header.extend(span.map(|_| "per s"));
    header.extend(["p50 µs", "p99 µs", "p99.9 µs", "max µs", "errors"]);
    let last = header.len() - 1;
    table.set_header(header);
    let mut sorted: Vec<(&String, &Opcode)> = now.requests.iter().collect();
    sorted.sort_by_key(|(_, opcode)| std::cmp::Reverse(opcode.count));
    for (name, opcode) in sorted {
        let mut row = vec![name.clone(), opcode.count.to_string()];
        row.extend(span.map(|span| {
            let earlier = span.earlier.requests.get(name).map_or(0, |opcode| opcode.count);
            format!("{:.0}", span.rate(opcode.count, earlier))
        }));
        let latency = &opcode.latency_ns;
        for nanos in [latency.p50, latency.p99, latency.p999, latency.max] {
            row.push(format!("{:.1}", float(nanos) / 1000.0));
        }
        let errors: Vec<_> =
            opcode.errors.iter().map(|(e, count)| format!("{e} {count}")).collect();
        row.push(errors.join(", "));
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        let numeric = (1..last).contains(&column.index);
        column.set_cell_alignment(if numeric { CellAlignment::Right } else { CellAlignment::Left });
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn foot(now: &Snapshot, span: Option<&Span<'_>>) -> String {
    let Snapshot { totals, live, process, .. } = now;
    let mut foot = String::new();
    let mut row = |name: &str, value: &str| wrap(&mut foot, name, value);
    row(
        "totals",
        &format!(
            "{} requests, {} errors, {} malformed; READ answered {}, WRITE took {}",
            totals.requests,
            totals.errors,
            totals.malformed,
            bytes(totals.read_bytes),
            bytes(totals.written_bytes)
        ),
    );
    row(
        "alive",
        &format!(
            "inodes {}, open files {}, open directories {}, backing ids {}",
            live.inodes, live.open_files, live.open_dirs, live.backing_ids
        ),
    );
    row(
        "holds",
        &format!(
            "{} descriptors ({} to save reopening), {} resident",
            live.fds,
            live.cached_fds,
            bytes(live.rss_bytes)
        ),
    );
    let seconds = |micros: u64| float(micros) / 1e6;
    let mut cpu = format!(
        "{:.2} s user, {:.2} s kernel; {} voluntary, {} involuntary switches",
        seconds(process.user_cpu_us),
        seconds(process.system_cpu_us),
        process.voluntary_switches,
        process.involuntary_switches
    );
    if let Some(span) = span {
        let _ = write!(cpu, "; now {:.1} % of a CPU", span.cpu_percent(now));
    }
    row("cpu", &cpu);
    foot
}

/// Appends `name` and, from a fixed column, `value`, broken at spaces.
fn wrap(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "{name:<INDENT$}");
    let mut column = INDENT;
    for (index, word) in value.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > COLUMNS {
            let _ = write!(out, "\n{:<INDENT$}{word}", "");
            column = INDENT + width;
        } else {
            let space = if index > 0 { " " } else { "" };
            let _ = write!(out, "{space}{word}");
            column += space.len() + width;
        }
    }
    out.push('\n');
}

fn bytes(count: u64) -> String {
    let mut value = float(count);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B" && value.fract() != 0.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of seconds since a mount"
    )]
    let minutes = (seconds / 60.0) as u64;
    match minutes {
        0..60 => format!("{minutes} min"),
        60..2880 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} days", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::snapshot::Latency;

    fn snapshot() -> Snapshot {
        let mut now = Snapshot {
            version: "1.2.3".into(),
            pid: 42,
            uptime_seconds: 3725.0,
            source: "/src".into(),
            mountpoint: "/mnt".into(),
            profile: "owner".into(),
            ..Snapshot::default()
        };
        now.transport.name = "dev".into();
        now.transport.workers = 2;
        now.transport.channels = 1;
        now.transport.reason = Some("clone refused".into());
        now.data.mode = "copy".into();
        now.data.requested = "auto".into();
        now.data.reason = Some("needs CAP_SYS_ADMIN".into());
        now.negotiated.protocol = "7.45".into();
        now.negotiated.max_write_bytes = 1 << 20;
        now.negotiated.flags = (0..30).map(|n| format!("SOME_LONG_FLAG_{n}")).collect();
        now.negotiated.refused.insert("WRITEBACK_CACHE".into(), "hides changes".into());
        now.requests.insert(
            "LOOKUP".into(),
            Opcode {
                count: 1000,
                errors: [("ENOENT".into(), 7)].into(),
                latency_ns: Latency { p50: 1500, p99: 20_000, p999: 300_000, max: 4_000_000 },
            },
        );
        now.requests.insert("READ".into(), Opcode { count: 5000, ..Opcode::default() });
        now.totals.requests = 6000;
        now.totals.read_bytes = 3 << 29;
        now.live.rss_bytes = 5 << 20;
        now.process.user_cpu_us = 2_000_000;
        now
    }

    #[test]
    fn a_page_holds_everything_within_its_columns() {
        let page = page(&snapshot(), None);
        for part in [
            "mounted at  /mnt\n",
            "daemon      fusewire 1.2.3, pid 42, up 1 h 2 min\n",
            "transport   dev, 2 workers, 1 channel, not pinned: clone refused\n",
            "data        copy (asked for: auto): needs CAP_SYS_ADMIN\n",
            "7.45, max_write 1 MiB, readahead 0 B",
            "SOME_LONG_FLAG_29",
            "READ answered 1.5 GiB",
            "5 MiB resident",
            "2.00 s user",
        ] {
            assert!(page.contains(part), "no {part:?} in\n{page}");
        }
        assert!(refusals(&snapshot()).contains("  WRITEBACK_CACHE      hides changes\n"));
        assert!(!page.contains("per s") && !page.contains("of a CPU"), "one picture has no rates");
        assert!(page.lines().all(|line| line.chars().count() <= COLUMNS), "{page}");
        let row = page.lines().find(|line| line.contains("LOOKUP")).expect("its row");
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["LOOKUP", "1000", "1.5", "20.0", "300.0", "4000.0", "ENOENT", "7"]);
        let at = |name| page.find(name).expect(name);
        assert!(at("READ ") < at("LOOKUP"), "the most frequent first");
    }

    #[test]
    fn rates_are_differences_over_the_daemons_own_clock() {
        let earlier = snapshot();
        let mut now = snapshot();
        now.uptime_seconds += 2.0;
        now.requests.get_mut("LOOKUP").expect("it is there").count += 300;
        now.totals.requests += 300;
        now.totals.read_bytes += 4 << 20;
        now.process.system_cpu_us += 500_000;
        let page = page(&now, Some(&earlier));
        let row = page.lines().find(|line| line.contains("LOOKUP")).expect("its row");
        assert_eq!(row.split_whitespace().nth(2), Some("150"), "{page}");
        assert!(page.contains("now 25.0 % of a CPU"), "{page}");
        let line = line(&now, Some(&earlier));
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells, ["3727.0", "150", "0", "2.0", "0.0", "25.0", "0", "0", "5.0"]);
        assert_eq!(line.len(), line_header().len());
    }

    #[test]
    fn another_daemon_has_no_rates_with_this_one() {
        let earlier = Snapshot { pid: 41, uptime_seconds: 1.0, ..snapshot() };
        assert!(!page(&snapshot(), Some(&earlier)).contains("per s"));
        assert!(!page(&snapshot(), Some(&snapshot())).contains("per s"), "no time has passed");
    }

    #[test]
    fn an_idle_mount_has_a_page() {
        assert!(page(&Snapshot::default(), None).contains("no requests yet"));
    }

    #[test]
    fn units() {
        for (count, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 30, "1 GiB"),
            (1 << 41, "2.0 TiB"),
        ] {
            assert_eq!(bytes(count), want);
        }
        for (seconds, want) in
            [(0.5, "0.5 s"), (61.0, "1 min"), (86400.0, "24 h 0 min"), (400_000.0, "4 days")]
        {
            assert_eq!(duration(seconds), want);
        }
    }
}
