//! The table of requests per operation, held exactly: `fusewire study requests` must print what
//! `expected.txt` says. Needs root and /dev/fuse.
//!
//! `FUSEWIRE_BLESS=1 cargo test --test requests` writes `expected.txt` anew: its diff is what a
//! change costs or saves.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use fusewire::study::requests::{Cost, Document, Profile};

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
/// Only the profiles of lines that were not are counted again.
const ATTEMPTS: usize = 8;
/// Whole tables of which a new one takes the best lines.
const BLESSED: usize = 4;

#[test]
fn requests_per_operation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requests/expected.txt");
    if std::env::var_os("FUSEWIRE_BLESS").is_some() {
        std::fs::write(&path, least().join("\n") + "\n").expect("the checkout can be written to");
    }
    let expected = std::fs::read_to_string(&path).expect("it is a part of the checkout");
    let mut wrong: Vec<&str> = expected.lines().collect();
    let mut found = table(&[]);
    let lines = found.iter().map(Line::place).collect::<Vec<_>>();
    let known = wrong.iter().map(|line| place(line)).collect::<Vec<_>>();
    assert_eq!(lines, known, "FUSEWIRE_BLESS=1 writes down what is new");
    for attempt in 1.. {
        wrong.retain(|line| found.iter().all(|found| found.text != *line));
        if wrong.is_empty() {
            return;
        }
        if attempt == ATTEMPTS {
            break;
        }
        let mut profiles: Vec<&str> = wrong.iter().map(|line| profile(line)).collect();
        profiles.dedup();
        found = table(&profiles);
    }
    let mut differences = String::new();
    for line in wrong {
        let found = found.iter().find(|found| found.place() == place(line));
        let found = found.map_or("nothing", |found| &found.text);
        let _ = writeln!(differences, "- {line}\n+ {found}");
    }
    panic!(
        "requests per operation are not what they were (- expected, + found); if they should be, \
         FUSEWIRE_BLESS=1 writes them down:\n{differences}"
    );
}

/// A line of the table.
struct Line {
    text: String,
    /// How many requests it tells of.
    requests: u64,
}

impl Line {
    fn place(&self) -> &str {
        place(&self.text)
    }
}

/// Which profile and operation a line is about.
fn place(line: &str) -> &str {
    line.rsplit_once(" | ").map_or(line, |(place, _)| place)
}

fn profile(line: &str) -> &str {
    line.split_once(" | ").map_or(line, |(profile, _)| profile)
}

/// The table with the fewest requests that any of several runs found, line by line.
fn least() -> Vec<String> {
    let mut least = table(&[]);
    for _ in 1..BLESSED {
        for (kept, found) in least.iter_mut().zip(table(&[])) {
            if found.requests < kept.requests {
                *kept = found;
            }
        }
    }
    least.into_iter().map(|line| line.text).collect()
}

/// The table, a line for each operation of each profile, or of these profiles.
fn table(profiles: &[&str]) -> Vec<Line> {
    // In namespaces of its own: nobody else sees the mounts or meets the control sockets.
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--net", env!("CARGO_BIN_EXE_fusewire")])
        .args(["study", "requests", "--json"])
        .args(profiles.iter().flat_map(|profile| ["--only", profile]))
        .output()
        .expect("unshare is a part of util-linux");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let document: Document = serde_json::from_slice(&output.stdout).expect("it is the document");
    let lines = |profile: Profile| {
        profile.operations.into_iter().map(move |cost| Line {
            text: format!("{} | {} | {}", profile.name, cost.operation, told(&cost)),
            requests: cost.blocking(),
        })
    };
    document.profiles.into_iter().flat_map(lines).collect()
}

/// FORGETs are left out: the kernel sends them when it likes, and together when it can.
fn told(cost: &Cost) -> String {
    if let Some((_, most)) = PROGRAMS.iter().find(|(name, _)| *name == cost.operation) {
        let blocking = cost.blocking() as f64 / f64::from(cost.times);
        return match blocking <= *most {
            true => format!("at most {most}"),
            false => format!("{blocking}, not {most} at most: {:?}", cost.requests),
        };
    }
    let kept = cost.requests.iter().filter(|(opcode, _)| !opcode.ends_with("FORGET"));
    let requests: Vec<String> = kept.map(|(opcode, count)| format!("{count} {opcode}")).collect();
    if requests.is_empty() { "nothing".to_owned() } else { requests.join(", ") }
}
