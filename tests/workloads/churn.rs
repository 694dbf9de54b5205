//! A hundred processes in one directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::generate::text;
use crate::tool::{Tool, tool};
use crate::world::Place;

const PROCESSES: usize = 100;
const ROUNDS: usize = 12;
const FLAG: &str = "--churn";

/// Becomes one of the processes if the arguments say so.
pub(crate) fn serve_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) != Some(FLAG) {
        return;
    }
    let (kind, directory) = (args[2].as_str(), PathBuf::from(&args[3]));
    let number = args[4].parse().expect("the test writes a number");
    let result = match kind {
        "own" => churn(&directory, number),
        _ => contend(&directory, number),
    };
    if let Err(error) = result {
        eprintln!("process {number}: {error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

fn processes(kind: &str, directory: &Path) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let start = |number: usize| -> Result<_, String> {
        let process: Tool = tool(&own, "nothing").args([FLAG, kind]).arg(directory);
        process.arg(number.to_string()).limit(Duration::from_secs(50)).start()
    };
    let running: Vec<_> = (0..PROCESSES).map(start).collect::<Result<_, _>>()?;
    for process in running {
        process.succeed()?;
    }
    Ok(())
}

/// Each works on names of its own; what is left depends on nobody's speed.
pub(crate) fn shared_directory(place: &Place) -> Result<Vec<String>, String> {
    processes("own", &place.dir)?;
    let names = fs::read_dir(&place.dir).map_err(|error| error.to_string())?.count();
    Ok(vec![format!("{names} names")])
}

fn churn(directory: &Path, number: usize) -> io::Result<()> {
    let at = |kind: &str, round: usize| directory.join(format!("{kind}-{number}-{round}"));
    for round in 0..ROUNDS {
        fs::write(at("new", round), text(number))?;
        fs::rename(at("new", round), at("file", round))?;
        fs::hard_link(at("file", round), at("link", round))?;
        fs::create_dir(at("folder", round))?;
        fs::rename(at("link", round), at("folder", round).join("inside"))?;
        let found = fs::metadata(at("file", round))?;
        let links = std::os::unix::fs::MetadataExt::nlink(&found);
        if links != 2 || fs::read_to_string(at("folder", round).join("inside"))? != text(number) {
            return Err(io::Error::other(format!("round {round}: {links} links, or another text")));
        }
        if !fs::read_dir(directory)?.flatten().any(|entry| entry.path() == at("file", round)) {
            return Err(io::Error::other(format!("round {round}: a name is not listed")));
        }
        match round % 3 {
            0 => fs::remove_file(at("file", round))?,
            1 => fs::remove_dir_all(at("folder", round))?,
            _ => {
                std::os::unix::fs::symlink(at("file", round), at("symlink", round))?;
                fs::remove_file(at("symlink", round))?;
            }
        }
        if fs::exists(at("new", round))? {
            return Err(io::Error::other(format!("round {round}: a renamed name is still there")));
        }
    }
    Ok(())
}

/// All replace one name, and take turns by a directory that only one can make.
pub(crate) fn contention(place: &Place) -> Result<Vec<String>, String> {
    fs::write(place.dir.join("shared"), text(0)).map_err(|error| error.to_string())?;
    fs::write(place.dir.join("count"), "0").map_err(|error| error.to_string())?;
    processes("contend", &place.dir)?;
    let count = fs::read_to_string(place.dir.join("count")).map_err(|error| error.to_string())?;
    fs::remove_file(place.dir.join("shared")).map_err(|error| error.to_string())?;
    Ok(vec![count])
}

fn contend(directory: &Path, number: usize) -> io::Result<()> {
    let own = directory.join(format!("own-{number}"));
    let (shared, count) = (directory.join("shared"), directory.join("count"));
    for _ in 0..4 {
        // The name is always there, and always whole, whoever wrote it last.
        fs::write(&own, text(number))?;
        fs::rename(&own, &shared)?;
        let seen = fs::read_to_string(&shared)?;
        if !(0..PROCESSES).any(|other| seen == text(other)) {
            return Err(io::Error::other(format!("a torn text of {} bytes", seen.len())));
        }
    }
    let lock = fs::File::options().create(true).append(true).open(directory.join("lock"))?;
    lock.lock()?;
    let value: usize = fs::read_to_string(&count)?.parse().map_err(io::Error::other)?;
    fs::write(&count, (value + 1).to_string())?;
    Ok(())
}
