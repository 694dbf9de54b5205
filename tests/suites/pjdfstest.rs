//! pjdfstest: what POSIX says of each system call on names, as several users.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use nix::unistd::{Group, User};

use crate::ground::Ground;
use crate::tool::tool;
use crate::{Case, Outcome, Plan, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "pjdfstest",
    play,
    users: true,
    limits: [Duration::from_secs(180), Duration::from_secs(120)],
};

/// Remounting read-only is left out: FUSE can not.
const FEATURES: &str = "\
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.02
";

fn play(plan: &Plan, ground: &Ground) -> Result<Vec<Case>, String> {
    let elsewhere = ground.elsewhere();
    let settings = elsewhere.join("pjdfstest.toml");
    let text = format!("{FEATURES}\n[dummy_auth]\nentries = [{}]\n", users()?);
    fs::write(&settings, text).map_err(|error| format!("{}: {error}", settings.display()))?;
    let program = plan.programs.join("pjdfstest");
    let output = tool(program, "nothing")
        .env("NO_COLOR", "1")
        .env("RUST_BACKTRACE", "0")
        .arg("-c")
        .arg(&settings)
        .arg("-s")
        .arg(&elsewhere)
        .arg("-p")
        .arg(ground.path())
        .limit(SUITE.limits[usize::from(plan.full)])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    cases(&said).map_err(|reason| format!("{reason}\n{said}\n{errors}"))
}

/// Two users that every system has, each with its own group.
fn users() -> Result<String, String> {
    let mut text = String::new();
    let mut count = 0;
    for name in ["nobody", "daemon", "bin", "mail"] {
        let Ok(Some(user)) = User::from_name(name) else { continue };
        let Ok(Some(group)) = Group::from_gid(user.gid) else { continue };
        if count < 2 {
            let _ = write!(text, "[{name:?}, {:?}], ", group.name);
            count += 1;
        }
    }
    if count == 2 { Ok(text) } else { Err("there are no two ordinary users".to_owned()) }
}

/// Each test is a line of its name and what became of it; indented lines tell why.
fn cases(said: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    let mut total = None;
    for line in said.lines() {
        if line.starts_with("Summary:") {
            total = line.split(' ').rev().nth(1).and_then(|word| word.parse().ok());
            continue;
        }
        let mut words = line.split_whitespace();
        let outcome = match (line.starts_with(char::is_whitespace), words.clone().next_back()) {
            (false, Some("ok")) => Some(Outcome::Passed),
            (false, Some("skipped")) => Some(Outcome::Skipped(String::new())),
            (false, Some("FAILED")) => Some(Outcome::Failed(String::new())),
            _ => None,
        };
        match (outcome, words.next(), cases.last_mut()) {
            (Some(outcome), Some(name), _) => cases.push(Case { name: name.to_owned(), outcome }),
            (None, Some(_), Some(Case { outcome, .. })) => match outcome {
                Outcome::Skipped(text) | Outcome::Failed(text) => {
                    let _ = writeln!(text, "{}", line.trim());
                }
                Outcome::Passed => {}
            },
            _ => {}
        }
    }
    if total == Some(cases.len()) {
        return Ok(cases);
    }
    Err(format!("pjdfstest told of {} tests, and summed up {total:?}", cases.len()))
}
