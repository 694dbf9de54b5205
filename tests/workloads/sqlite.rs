//! SQLite: two writers and a reader at once, and a writer killed in the middle.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::tool::{Tool, tool};
use crate::world::Place;

const TRANSACTIONS: usize = 150;

/// With a write-ahead log, which lives in shared memory mapped from a file.
pub(crate) fn wal(place: &Place) -> Result<Vec<String>, String> {
    let mut lines = concurrent(place, "plain.db", "WAL", "PRAGMA synchronous=NORMAL;")?;
    let mapped = "PRAGMA synchronous=NORMAL; PRAGMA mmap_size=67108864;";
    lines.extend(concurrent(place, "mapped.db", "WAL", mapped)?);
    lines.extend(killed(place, "killed.db", "WAL")?);
    Ok(lines)
}

/// With a rollback journal that is made and deleted by each transaction.
pub(crate) fn delete(place: &Place) -> Result<Vec<String>, String> {
    let mut lines = concurrent(place, "plain.db", "DELETE", "PRAGMA synchronous=OFF;")?;
    let mapped = "PRAGMA synchronous=OFF; PRAGMA mmap_size=67108864;";
    lines.extend(concurrent(place, "mapped.db", "DELETE", mapped)?);
    lines.extend(killed(place, "killed.db", "DELETE")?);
    Ok(lines)
}

fn sqlite(database: &Path) -> Tool {
    tool("sqlite3", "sqlite3").args(["-batch", "-bail", "-cmd", ".timeout 30000"]).arg(database)
}

fn make(database: &Path, journal: &str) -> Result<String, String> {
    let schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, who INT, n INT, filler BLOB);
        CREATE INDEX by_who ON t (who, n);
        CREATE TABLE total (n INT); INSERT INTO total VALUES (0);";
    sqlite(database).arg(format!("PRAGMA journal_mode={journal}; {schema}")).run()
}

/// Transactions of writer `who`; each adds a row and counts it.
fn script(
    place: &Place,
    who: usize,
    settings: &str,
    count: usize,
) -> Result<std::path::PathBuf, String> {
    let mut text = format!("{settings}\n");
    for n in 0..count {
        let _ = writeln!(
            text,
            "BEGIN IMMEDIATE; INSERT INTO t (who, n, filler) VALUES ({who}, {n}, zeroblob({})); \
             UPDATE total SET n = n + 1; COMMIT;",
            (n * 37) % 3000
        );
    }
    let path = place.scratch.join(format!("writer-{who}.sql"));
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Two writers and two readers; a reader must always see as many rows as were counted.
fn concurrent(
    place: &Place,
    name: &str,
    mode: &str,
    settings: &str,
) -> Result<Vec<String>, String> {
    let database = place.dir.join(name);
    let mut lines = vec![make(&database, mode)?];
    let mut writers = Vec::new();
    for who in 0..2 {
        let script = script(place, who, settings, TRANSACTIONS)?;
        writers.push(sqlite(&database).input(&script)?.start()?);
    }
    let torn = "SELECT 'torn' FROM total WHERE n <> (SELECT count(*) FROM t);\n".repeat(60);
    let reading = place.scratch.join("reader.sql");
    fs::write(&reading, format!("{settings}\n{torn}")).map_err(|error| error.to_string())?;
    let mut readers = Vec::new();
    for _ in 0..2 {
        readers.push(sqlite(&database).input(&reading)?.start()?);
    }
    for running in writers.into_iter().chain(readers) {
        lines.push(running.succeed()?);
    }
    lines.push(judge(&database)?);
    Ok(lines)
}

fn judge(database: &Path) -> Result<String, String> {
    let count = "SELECT who, count(*), sum(n), sum(length(filler)) FROM t GROUP BY who;";
    let said = sqlite(database).arg(format!("PRAGMA integrity_check; {count}")).run()?;
    if !said.starts_with("ok\n") {
        return Err(format!("integrity_check: {said}"));
    }
    Ok(said)
}

/// A writer dies in the middle: the next one recovers, and no transaction is half there.
fn killed(place: &Place, name: &str, journal: &str) -> Result<Vec<String>, String> {
    let database = place.dir.join(name);
    make(&database, journal)?;
    let script = script(place, 0, "PRAGMA synchronous=FULL;", 5000)?;
    let writer = sqlite(&database).input(&script)?.start()?;
    thread::sleep(Duration::from_millis(250));
    kill(writer.pid(), Signal::SIGKILL).map_err(|errno| format!("kill the writer: {errno}"))?;
    if writer.finish()?.status.success() {
        return Err("the writer was over before it was killed".to_owned());
    }
    judge(&database)?;
    let torn =
        "SELECT count(*) > 0, count(*) = (SELECT n FROM total), count(*) = max(n) + 1 FROM t;";
    Ok(vec![sqlite(&database).arg(torn).run()?])
}
