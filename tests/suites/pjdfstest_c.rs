//! The older pjdfstest: a program in C, and shell scripts that `prove` runs. Only where a built one is
//! named.

use std::time::Duration;

use crate::ground::Ground;
use crate::tool::tool;
use crate::{Case, Outcome, Plan, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "pjdfstest-c",
    play,
    users: true,
    limits: [Duration::from_secs(900), Duration::from_secs(900)],
};

fn play(plan: &Plan, ground: &Ground) -> Result<Vec<Case>, String> {
    let tree = plan.pjdfstest_c.as_ref().ok_or("no built pjdfstest is named")?;
    let tests = tree.join("tests");
    let output = tool("prove", "perl")
        .within(ground.path())
        .args(["-r", "--nocolor", "-j", "4"])
        .arg(&tests)
        .limit(SUITE.limits[usize::from(plan.full)])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    cases(&said, &format!("{}/", tests.display()))
        .map_err(|reason| format!("{reason}\n{said}\n{errors}"))
}

/// Each script is a line of its path, dots, and `ok` or else; a summary of those that failed follows.
fn cases(said: &str, below: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    let mut summing = None;
    let mut told = None;
    // A script that fails natively may fail in more of its parts on a mount.
    let mut failed = Vec::new();
    for line in said.lines() {
        if line == "Test Summary Report" {
            summing = Some(None);
        } else if let Some(counts) = line.strip_prefix("Files=") {
            told = counts.split(',').next().and_then(|count| count.parse().ok());
        } else if let Some(rest) = line.strip_prefix(below) {
            let Some((name, rest)) = rest.split_once(' ') else { continue };
            let at = cases.iter().position(|case| case.name == name);
            match &mut summing {
                Some(current) => *current = at,
                None => cases.push(Case { name: name.to_owned(), outcome: outcome(rest) }),
            }
        } else if let (Some(Some(at)), true) = (summing, line.trim().starts_with("Failed test")) {
            let script = cases[at].name.clone();
            let numbers = line.split(':').nth(1).unwrap_or_default();
            failed.extend(numbers.split(',').map(|number| Case {
                name: format!("{script} {}", number.trim()),
                outcome: Outcome::Failed(line.trim().to_owned()),
            }));
        }
    }
    if told == Some(cases.len()) {
        cases.extend(failed);
        return Ok(cases);
    }
    Err(format!("prove told of {} scripts, and summed up {told:?}", cases.len()))
}

fn outcome(rest: &str) -> Outcome {
    let rest = rest.trim_start_matches('.').trim();
    match rest.strip_prefix("skipped") {
        _ if rest == "ok" => Outcome::Passed,
        Some(why) => Outcome::Skipped(why.trim_start_matches(':').trim().to_owned()),
        None => Outcome::Failed(rest.to_owned()),
    }
}
