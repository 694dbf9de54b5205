//! What threads have consumed, as the scheduler tells it in /proc.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// What one or more threads have consumed.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Usage {
    /// Time on a CPU, nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Context switches, voluntary or not.
    pub(crate) switches: u64,
    /// Moves to another CPU; `None` where the kernel does not say.
    pub(crate) migrations: Option<u64>,
}

impl Usage {
    /// Of the calling thread.
    pub(crate) fn of_thread() -> Self {
        Self::of_task(Path::new("/proc/thread-self"))
    }

    /// Of all threads of a process.
    pub(crate) fn of_process(pid: i32) -> Self {
        let mut sum = Usage { migrations: Some(0), ..Usage::default() };
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            sum.add(&Self::of_task(&task.path()));
        }
        sum
    }

    fn of_task(task: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
        let schedstat = read("schedstat");
        let cpu_ns = schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        let (sched, status) = (read("sched"), read("status"));
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.rsplit([':', ' ', '\t']).next()?.parse::<u64>().ok()
        };
        let switches = field(&status, "voluntary_ctxt_switches").unwrap_or(0)
            + field(&status, "nonvoluntary_ctxt_switches").unwrap_or(0);
        Usage { cpu_ns, switches, migrations: field(&sched, "se.nr_migrations") }
    }

    pub(crate) fn add(&mut self, other: &Usage) {
        self.cpu_ns += other.cpu_ns;
        self.switches += other.switches;
        self.migrations = self.migrations.zip(other.migrations).map(|(a, b)| a + b);
    }

    /// What was consumed since `before`.
    pub(crate) fn since(&self, before: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            switches: self.switches.saturating_sub(before.switches),
            migrations: self.migrations.zip(before.migrations).map(|(a, b)| a.saturating_sub(b)),
        }
    }
}
