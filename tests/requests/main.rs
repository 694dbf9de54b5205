//! The table of requests per operation, held exactly: `fusewire study requests` must print what
//! `expected.txt` says. Needs root and /dev/fuse.
//!
//! `FUSEWIRE_BLESS=1 cargo test --test requests` writes `expected.txt` anew: its diff is what a
//! change costs or saves.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use fusewire::study::requests::{Cost, Document};

/// What programs ask for depends on their version: at most so many requests that are waited for, per
/// file, on whichever profile.
const PROGRAMS: [(&str, f64); 7] = [
    ("grep -r, per file, cold", 4.0),
    ("grep -r, per file, again", 3.0),
    ("tar xf, per file", 10.0),
    ("cp -r, per file", 8.0),
    ("git add, per file", 20.0),
    ("git status, per file", 5.0),
    ("rm -rf, per file", 4.0),
];

/// So often it is counted until each line was as expected once: whoever empties the kernel's caches
/// meanwhile (`/proc/sys/vm/drop_caches`, or a lack of memory) adds LOOKUPs, and never takes any away.
const ATTEMPTS: usize = 4;

#[test]
fn requests_per_operation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requests/expected.txt");
    if std::env::var_os("FUSEWIRE_BLESS").is_some() {
        std::fs::write(&path, least().join("\n") + "\n").expect("the checkout can be written to");
    }
    let expected = std::fs::read_to_string(&path).expect("it is a part of the checkout");
    let expected: Vec<&str> = expected.lines().collect();
    let mut wrong: Vec<usize> = (0..expected.len()).collect();
    let mut differences = String::new();
    for _ in 0..ATTEMPTS {
        let found: Vec<String> = table().into_iter().map(|(_, line)| line).collect();
        assert_eq!(found.len(), expected.len(), "FUSEWIRE_BLESS=1 writes down what is new");
        wrong.retain(|line| found[*line] != expected[*line]);
        differences.clear();
        for line in &wrong {
            let _ = writeln!(differences, "- {}\n+ {}", expected[*line], found[*line]);
        }
        if wrong.is_empty() {
            return;
        }
    }
    panic!(
        "requests per operation are not what they were (- expected, + found); if they should be, \
         FUSEWIRE_BLESS=1 writes them down:\n{differences}"
    );
}

/// The table with the fewest requests that any of several runs found, line by line.
fn least() -> Vec<String> {
    let mut least = table();
    for _ in 1..ATTEMPTS {
        for (kept, found) in least.iter_mut().zip(table()) {
            if found.0 < kept.0 {
                *kept = found;
            }
        }
    }
    least.into_iter().map(|(_, line)| line).collect()
}

/// The table as text, a line for each operation of each profile, and how many requests it tells of.
fn table() -> Vec<(u64, String)> {
    // In namespaces of its own: nobody else sees the mounts or meets the control sockets.
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--net", env!("CARGO_BIN_EXE_fusewire")])
        .args(["study", "requests", "--json"])
        .output()
        .expect("unshare is a part of util-linux");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let document: Document = serde_json::from_slice(&output.stdout).expect("it is the document");
    let mut lines = Vec::new();
    for profile in &document.profiles {
        for cost in &profile.operations {
            match PROGRAMS.iter().find(|(name, _)| *name == cost.operation) {
                Some((_, most)) => check_program(&profile.name, cost, *most),
                None => lines.push((cost.blocking(), line(&profile.name, cost))),
            }
        }
    }
    lines
}

/// FORGETs are left out: the kernel sends them when it likes, and together when it can.
fn line(profile: &str, cost: &Cost) -> String {
    let kept = cost.requests.iter().filter(|(opcode, _)| !opcode.ends_with("FORGET"));
    let requests: Vec<String> = kept.map(|(opcode, count)| format!("{count} {opcode}")).collect();
    let requests = if requests.is_empty() { "nothing".to_owned() } else { requests.join(", ") };
    format!("{profile} | {} | {requests}", cost.operation)
}

fn check_program(profile: &str, cost: &Cost, most: f64) {
    let blocking = cost.blocking() as f64 / f64::from(cost.times);
    assert!(blocking <= most, "{profile}: {blocking} requests, not {most} at most: {cost:?}");
}
