//! fsx: random reads, writes, mappings, truncations, holes, allocations and copies of one file,
//! each read compared with what was written.

use std::fs;
use std::time::Duration;

use crate::ground::Ground;
use crate::tool::tool;
use crate::{Case, Outcome, Plan, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "fsx",
    play,
    users: false,
    limits: [Duration::from_secs(180), Duration::from_secs(900)],
};

const SEEDS: [&[u32]; 2] = [&[1], &[11, 12, 13]];
const OPERATIONS: [&str; 2] = ["4000", "50000"];

/// Everything that it knows.
const SETTINGS: &str = "\
flen = 262144

[opsize]
max = 65536

[weights]
close_open = 2
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 3
fsync = 1
fdatasync = 1
posix_fallocate = 3
punch_hole = 3
sendfile = 3
posix_fadvise = 2
copy_file_range = 3
";

fn play(plan: &Plan, ground: &Ground) -> Result<Vec<Case>, String> {
    let full = usize::from(plan.full);
    let elsewhere = ground.elsewhere();
    let settings = elsewhere.join("fsx.toml");
    fs::write(&settings, SETTINGS).map_err(|error| format!("{}: {error}", settings.display()))?;
    let mut cases = Vec::new();
    for seed in SEEDS[full] {
        let output = tool(plan.programs.join("fsx"), "nothing")
            .args(["-N", OPERATIONS[full], "-S", &seed.to_string()])
            .arg("-f")
            .arg(&settings)
            .arg("-P")
            .arg(&elsewhere)
            .arg(ground.path().join(format!("file-{seed}")))
            .limit(SUITE.limits[full] / 3)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let fine = output.status.success() && said.contains("All operations completed A-OK!");
        let outcome = if fine {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("{}\n{said}\n{errors}", output.status))
        };
        cases.push(Case { name: format!("seed-{seed}"), outcome });
    }
    Ok(cases)
}
