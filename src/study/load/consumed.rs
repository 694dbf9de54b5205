//! What threads and processes have consumed: from getrusage(2) and /proc.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::study::record::Consumption;
use crate::study::sample::count;

/// A reading, to be subtracted from a later one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading(Consumption);

impl Reading {
    /// This thread.
    pub(crate) fn of_thread() -> Self {
        let mut reading = Reading::of(UsageWho::RUSAGE_THREAD);
        reading.0.migrations = migrations("/proc/thread-self/sched");
        reading
    }

    /// The children of this process that have ended. How often they moved is not told.
    pub(crate) fn of_children() -> Self {
        Reading::of(UsageWho::RUSAGE_CHILDREN)
    }

    fn of(who: UsageWho) -> Self {
        let Ok(usage) = getrusage(who) else { return Reading::default() };
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let microseconds =
            |time: TimeVal| count(number(time.tv_sec())) * 1e6 + count(number(time.tv_usec()));
        let switches = |of: fn(&Usage) -> i64| number(of(&usage));
        Reading(Consumption {
            user_cpu_us: microseconds(usage.user_time()),
            system_cpu_us: microseconds(usage.system_time()),
            voluntary_switches: switches(Usage::voluntary_context_switches),
            involuntary_switches: switches(Usage::involuntary_context_switches),
            migrations: None,
        })
    }

    /// The living threads of another process; `None` if it has ended, or is not ours to look at.
    pub(crate) fn of_process(pid: u32) -> Option<Self> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let mut sum = Consumption { migrations: Some(0), ..Consumption::default() };
        let (mut run_us, mut user_ticks, mut all_ticks) = (None, 0, 0);
        for task in tasks.flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            // A thread that has just ended, or a kernel that does not tell.
            let Ok(nanoseconds) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            *run_us.get_or_insert(0.0) += count(first_number(&nanoseconds)) / 1e3;
            let stat = read("stat");
            // utime and stime are the 12th and 13th after the name, which may hold anything.
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            let mut ticks = after_name.split_whitespace().skip(11).map(first_number);
            let user = ticks.next().unwrap_or(0);
            user_ticks += user;
            all_ticks += user + ticks.next().unwrap_or(0);
            let status = read("status");
            sum.voluntary_switches += field(&status, "voluntary_ctxt_switches");
            sum.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches");
            let path = task.path().join("sched");
            sum.migrations =
                sum.migrations.zip(migrations(&path.to_string_lossy())).map(|(a, b)| a + b);
        }
        let run_us = run_us?;
        // Ticks are coarse, the time that was run is not: ticks only split it.
        let user_share = if all_ticks == 0 { 0.0 } else { count(user_ticks) / count(all_ticks) };
        sum.user_cpu_us = run_us * user_share;
        sum.system_cpu_us = run_us - sum.user_cpu_us;
        Some(Reading(sum))
    }

    /// What was consumed since `earlier`.
    pub(crate) fn since(self, earlier: Reading) -> Consumption {
        let (now, then) = (self.0, earlier.0);
        Consumption {
            user_cpu_us: (now.user_cpu_us - then.user_cpu_us).max(0.0),
            system_cpu_us: (now.system_cpu_us - then.system_cpu_us).max(0.0),
            voluntary_switches: now.voluntary_switches.saturating_sub(then.voluntary_switches),
            involuntary_switches: now
                .involuntary_switches
                .saturating_sub(then.involuntary_switches),
            migrations: now
                .migrations
                .zip(then.migrations)
                .map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

/// Readings of several processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings(BTreeMap<u32, Reading>);

impl Readings {
    /// Of those that can be read.
    pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Self {
        let read = |pid| Some((pid, Reading::of_process(pid)?));
        Readings(pids.into_iter().filter_map(read).collect())
    }

    /// Whether this one is among them.
    pub(crate) fn has(&self, pid: u32) -> bool {
        self.0.contains_key(&pid)
    }

    /// What all that are left have consumed since `earlier`; who was not there has begun since.
    pub(crate) fn since(&self, earlier: &Readings) -> Consumption {
        let start = Reading(Consumption { migrations: Some(0), ..Consumption::default() });
        let then = |pid| earlier.0.get(pid).copied().unwrap_or(start);
        let parts = self.0.iter().map(|(pid, now)| now.since(then(pid)));
        sum(&parts.collect::<Vec<_>>())
    }
}

/// Adds up what several have consumed; who moved how often is known only if it is known of all.
pub(crate) fn sum(parts: &[Consumption]) -> Consumption {
    let start = Consumption { migrations: Some(0), ..Consumption::default() };
    parts.iter().fold(start, |sum, part| Consumption {
        user_cpu_us: sum.user_cpu_us + part.user_cpu_us,
        system_cpu_us: sum.system_cpu_us + part.system_cpu_us,
        voluntary_switches: sum.voluntary_switches + part.voluntary_switches,
        involuntary_switches: sum.involuntary_switches + part.involuntary_switches,
        migrations: sum.migrations.zip(part.migrations).map(|(sum, part)| sum + part),
    })
}

/// The processes of these names, as the kernel has them.
pub(crate) fn processes(names: &[String]) -> Vec<u32> {
    if names.is_empty() {
        return Vec::new();
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        names.iter().any(|known| known == name.trim_end()).then_some(pid)
    };
    entries.filter_map(named).collect()
}

fn migrations(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.nr_migrations"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map_or(0, first_number)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// However busy the machine is, a thread that wants to run does so in the end.
    fn eventually(what: &str, read: impl Fn() -> Consumption) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = read();
            if seen.user_cpu_us + seen.system_cpu_us > 30_000.0 {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {seen:?}");
        }
    }

    #[test]
    fn busy_threads_and_processes_are_seen() {
        let thread = Reading::of_thread();
        eventually("thread", || Reading::of_thread().since(thread));
        std::thread::sleep(Duration::from_millis(2));
        assert!(Reading::of_thread().since(thread).voluntary_switches >= 1);
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("sh is installed");
        let pids = [child.id()];
        let none = Readings::default();
        let process = Readings::of(pids);
        eventually("process", || Readings::of(pids).since(&process));
        eventually("a new process", || Readings::of(pids).since(&none));
        child.kill().and_then(|()| child.wait()).expect("our child");
        assert!(Reading::of_process(child.id()).is_none() && !Readings::of(pids).has(pids[0]));
    }

    #[test]
    fn processes_are_found_by_name() {
        let own = fs::read_to_string("/proc/self/comm").expect("readable");
        let names = [own.trim_end().to_owned()];
        assert!(processes(&names).contains(&std::process::id()));
        assert!(processes(&["no such".to_owned()]).is_empty() && processes(&[]).is_empty());
    }

    #[test]
    fn sums_know_of_moves_only_if_all_parts_do() {
        let known =
            Consumption { migrations: Some(2), voluntary_switches: 3, ..Default::default() };
        let unknown = Consumption { migrations: None, ..known };
        assert_eq!(sum(&[known, known]).migrations, Some(4));
        assert_eq!(sum(&[known, unknown]).migrations, None);
        assert_eq!(sum(&[known, unknown]).voluntary_switches, 6);
    }
}
