//! Whole jobs of other programs, on copies of a tree that lies beside the measured directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::load::consumed::Reading;
use super::super::process::{run_timed, run_tool};
use super::super::record::Measurement;
use super::super::supervise::Cancel;
use super::super::work::{Job, Task};
use super::scene::{Scene, Site};
use super::tree;

/// A copy with the times of the original.
const COPY: [&str; 2] = ["-r", "--preserve=timestamps"];
/// What a job may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The programs of a task, each with the package that has it.
pub(crate) fn programs(task: Task) -> &'static [(&'static str, &'static str)] {
    match task {
        Task::Untar => &[("tar", "tar")],
        Task::Copy | Task::Remove => &[("cp", "coreutils")],
        Task::Grep => &[("grep", "grep")],
        Task::Walk => &[("find", "findutils")],
        Task::GitAdd | Task::GitStatus => &[("git", "git")],
        Task::Build => &[("make", "make"), ("cc", "gcc")],
    }
}

/// One job in one turn.
#[derive(Debug)]
pub(crate) struct Errand {
    job: Job,
    site: Site,
    /// The turn's directory, as the system shows it.
    here: PathBuf,
}

impl Errand {
    /// Nothing is made yet.
    pub(crate) fn new(job: &Job, site: &Site) -> Self {
        Errand { job: job.clone(), site: site.clone(), here: PathBuf::new() }
    }

    /// The tree beside the measured directory, made when the first job needs it.
    fn tree(&self) -> Result<PathBuf, String> {
        let Job { task, files, mib } = self.job;
        let said = |error: std::io::Error| format!("make the tree: {error}");
        match task {
            Task::Build => {
                self.derived("program", |half| tree::write_program(half, files).map_err(said))
            }
            _ => self.derived("tree", |half| tree::write(half, files, mib).map_err(said)),
        }
    }

    /// What is made of the tree once for all turns: made aside and renamed, so that half of it is never
    /// taken for the whole.
    fn derived(
        &self,
        name: &str,
        make: impl Fn(&Path) -> Result<(), String>,
    ) -> Result<PathBuf, String> {
        let Job { files, mib, .. } = self.job;
        let path = self.site.material.join(format!("{name}-{files}-{mib}"));
        if !path.exists() {
            let half = self.site.material.join(format!("{name}-half"));
            make(&half)?;
            fs::rename(&half, &path).map_err(|error| format!("rename {name}: {error}"))?;
        }
        Ok(path)
    }

    fn archive(&self) -> Result<PathBuf, String> {
        let tree = self.tree()?;
        self.derived("archive", |half| {
            let mut command = Command::new("tar");
            command.args(["--sort=name", "--mtime=@1000000000", "-cf"]).arg(half);
            tool("make the archive", command.arg("-C").arg(&tree).arg("."))
        })
    }

    fn repository(&self) -> Result<PathBuf, String> {
        let tree = self.tree()?;
        self.derived("repository", |half| {
            tool("copy the tree", Command::new("cp").args(COPY).arg(&tree).arg(half))?;
            tool("make a repository", git(half).args(["init", "-q"]))?;
            tool("add to it", git(half).args(["add", "-A"]))?;
            tool("commit", git(half).args(["commit", "-q", "-m", "all"]))
        })
    }

    fn command(&self) -> Result<Command, String> {
        let work = self.here.join("work");
        let words = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words);
            command
        };
        Ok(match self.job.task {
            Task::Untar => {
                let mut command = words("tar", &["-xf"]);
                command.arg(self.archive()?).arg("-C").arg(work);
                command
            }
            Task::Copy => {
                let mut command = words("cp", &["-r"]);
                command.arg(work).arg(self.here.join("copy"));
                command
            }
            Task::Grep => {
                let mut command = words("grep", &["-rlF", tree::NEEDLE]);
                command.arg(work);
                command
            }
            Task::Walk => {
                // To know sizes it must stat each.
                let mut command = words("find", &[]);
                command.arg(work).args(["-type", "f", "-size", "+1000000k"]);
                command
            }
            Task::GitAdd => {
                let mut command = words("sh", &["-c", "git init -q && git add -A"]);
                quiet_git(command.current_dir(work));
                command
            }
            Task::GitStatus => {
                let mut command = git(&work);
                command.args(["status", "--porcelain"]);
                command
            }
            Task::Remove => {
                let mut command = words("rm", &["-rf"]);
                command.arg(work);
                command
            }
            Task::Build => {
                let mut command = words("make", &["-s", "-j2", "-C"]);
                command.arg(work);
                command
            }
        })
    }

    /// What the job printed must be what it prints on a plain directory.
    fn check(&self, stdout: &str) -> Result<(), String> {
        let wrong = match self.job.task {
            Task::Grep => stdout.lines().count() != self.job.files.div_ceil(50),
            Task::GitStatus | Task::Walk => !stdout.trim().is_empty(),
            Task::Untar => !self.here.join("work").join("part0").exists(),
            Task::Build => !self.here.join("work").join("program").exists(),
            Task::Remove => self.here.join("work").exists(),
            Task::Copy | Task::GitAdd => false,
        };
        match wrong {
            true => Err(format!("the result is not what it is natively: {}", head(stdout))),
            false => Ok(()),
        }
    }
}

impl Scene for Errand {
    fn make(&mut self) -> Result<(), String> {
        let here = self.site.source.join(&self.site.turn);
        fs::create_dir(&here).map_err(|error| format!("prepare: {error}"))?;
        let work = here.join("work");
        let from = match self.job.task {
            Task::Untar => {
                self.archive()?;
                return fs::create_dir(work).map_err(|error| format!("prepare: {error}"));
            }
            Task::GitStatus => self.repository()?,
            _ => self.tree()?,
        };
        tool("copy the tree", Command::new("cp").args(COPY).arg(from).arg(work))
    }

    fn enter(&mut self, root: &Path) -> Result<(), String> {
        self.here = root.join(&self.site.turn);
        if self.job.task == Task::GitStatus {
            // The index remembers the inodes of the original: without this every file is read again.
            run_tool("refresh the index", git(&self.here.join("work")).arg("status"))
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn warm(&mut self, cancel: &Cancel) -> Result<(), String> {
        walk(&self.here, cancel)?;
        match self.job.task {
            Task::Grep => {
                run_timed("warm the cache", &mut self.command()?, LIMIT, cancel).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn play(&mut self, cancel: &Cancel) -> Result<Measurement, String> {
        let mut command = self.command()?;
        let before = Reading::of_children();
        let (elapsed, stdout) = run_timed("run the job", &mut command, LIMIT, cancel)?;
        let client = Reading::of_children().since(before);
        self.check(&stdout)?;
        Ok(Measurement {
            operations: self.job.files as u64,
            seconds: elapsed.as_secs_f64(),
            client,
            ..Measurement::default()
        })
    }
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir);
    quiet_git(&mut command);
    command
}

/// Nothing of a user's configuration, and no work in the background that would outlive the command.
fn quiet_git(command: &mut Command) {
    let names =
        [("AUTHOR", "NAME"), ("AUTHOR", "EMAIL"), ("COMMITTER", "NAME"), ("COMMITTER", "EMAIL")];
    for (who, what) in names {
        command.env(format!("GIT_{who}_{what}"), "nobody");
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "2")
        .env("GIT_CONFIG_KEY_0", "gc.auto")
        .env("GIT_CONFIG_VALUE_0", "0")
        .env("GIT_CONFIG_KEY_1", "safe.directory")
        .env("GIT_CONFIG_VALUE_1", "*");
}

fn tool(action: &str, command: &mut Command) -> Result<(), String> {
    run_tool(action, command).map(drop).map_err(|error| error.to_string())
}

fn head(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Looks everything below `dir` up.
pub(crate) fn walk(dir: &Path, cancel: &Cancel) -> Result<(), String> {
    let said = |error: std::io::Error| format!("walk {}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(said)? {
        let entry = entry.map_err(said)?;
        if cancel.is_set() {
            return Err("stopped".to_owned());
        }
        if entry.metadata().map_err(said)?.is_dir() {
            walk(&entry.path(), cancel)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_on_a_plain_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("can be made");
            path
        };
        let (source, material) = (place("source"), place("material"));
        for (task, files) in [
            (Task::Untar, 120),
            (Task::Copy, 120),
            (Task::Grep, 120),
            (Task::Walk, 120),
            (Task::GitAdd, 120),
            (Task::GitStatus, 120),
            (Task::Remove, 120),
            (Task::Build, 3),
        ] {
            let turn = PathBuf::from(format!("{task:?}"));
            let (source, material) = (source.clone(), material.clone());
            let site = Site { source: source.clone(), material, turn, seed: 1 };
            let mut errand = Errand::new(&Job { task, files, mib: 1 }, &site);
            let cancel = Cancel::default();
            let run = errand
                .make()
                .and_then(|()| errand.enter(&source))
                .and_then(|()| errand.warm(&cancel))
                .and_then(|()| errand.play(&cancel))
                .unwrap_or_else(|error| panic!("{task:?}: {error}"));
            assert!(run.seconds > 0.0 && run.operations == files as u64, "{task:?}");
        }
    }

    #[test]
    fn a_job_whose_result_is_wrong_fails() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (source, material) = (dir.path().to_owned(), dir.path().to_owned());
        let site = Site { source: source.clone(), material, turn: "turn".into(), seed: 1 };
        let mut errand = Errand::new(&Job { task: Task::Grep, files: 120, mib: 1 }, &site);
        errand.make().and_then(|()| errand.enter(&source)).expect("can be made");
        fs::remove_file(source.join("turn/work/part0/sub0/dir0/file0.c")).expect("exists");
        let error = errand.play(&Cancel::default()).expect_err("a file is missing");
        assert!(error.contains("not what it is natively"), "{error}");
    }
}
