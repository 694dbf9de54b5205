//! Processes that use a mount until told to stop or until it fails them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::common::shell::pattern;
use crate::tool::{Running, Tool, tool};

const FLAG: &str = "--client";
const RECORD: usize = 64;
/// What readers find in the file `data`.
const DATA: (u64, usize) = (5, 256 << 10);

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Appends records to a file of its own and syncs each.
    Write,
    /// Opens, reads and checks `data`.
    Read,
    /// Makes, renames, lists and removes names.
    Names,
    /// Opens and closes, nothing else.
    Open,
    /// All of it and more, on a CPU of its own choice.
    Everything,
    /// Opens a FIFO that nobody else opens.
    Fifo,
    /// Waits for a lock that is never given back.
    Lock,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Write, "write"),
    (Kind::Read, "read"),
    (Kind::Names, "names"),
    (Kind::Open, "open"),
    (Kind::Everything, "everything"),
    (Kind::Fifo, "fifo"),
    (Kind::Lock, "lock"),
];

/// A client that runs.
pub(crate) struct Client {
    pub(crate) kind: Kind,
    number: usize,
    running: Running,
}

/// How a client ended.
pub(crate) struct Ended {
    pub(crate) kind: Kind,
    /// The errno that ended it, if any did.
    pub(crate) errno: Option<String>,
    /// What it was about to do.
    pub(crate) during: String,
    /// Rounds that were completed; for a writer, records that are synced.
    pub(crate) rounds: usize,
    number: usize,
}

/// Makes what readers read.
pub(crate) fn prepare(source: &Path) -> Result<(), String> {
    fs::write(source.join("data"), pattern(DATA.0, DATA.1)).map_err(|error| error.to_string())
}

impl Client {
    /// Starts client `number`, which works in `directory` for `time` at most; it must end within
    /// `limit`.
    pub(crate) fn start(
        kind: Kind,
        number: usize,
        directory: &Path,
        time: Duration,
        limit: Duration,
    ) -> Result<Self, String> {
        let tool = Self::program()?;
        Self::start_as(tool, (kind, number), directory, time, limit)
    }

    /// The same with `directory` as its working directory, by which it uses a mount that has no place
    /// any more.
    pub(crate) fn start_inside(
        kind: Kind,
        number: usize,
        directory: &Path,
        time: Duration,
        limit: Duration,
    ) -> Result<Self, String> {
        let tool = Self::program()?.within(directory);
        Self::start_as(tool, (kind, number), Path::new("."), time, limit)
    }

    fn program() -> Result<Tool, String> {
        let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
        Ok(tool(own, "nothing"))
    }

    fn start_as(
        tool: Tool,
        (kind, number): (Kind, usize),
        directory: &Path,
        time: Duration,
        limit: Duration,
    ) -> Result<Self, String> {
        let (_, name) = KINDS[KINDS.iter().position(|known| known.0 == kind).expect("listed")];
        let numbers = [number.to_string(), time.as_millis().to_string()];
        let tool = tool.args([FLAG, name]).arg(directory).args(numbers);
        Ok(Client { kind, number, running: tool.limit(limit).start()? })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.running.pid()
    }

    /// Kills it, and waits for its end. It may have met an error before.
    pub(crate) fn killed(self) -> Result<(), String> {
        kill(self.pid(), Signal::SIGKILL).map_err(|errno| errno.to_string())?;
        let status = self.running.finish()?.status;
        match status.success() || status.signal() == Some(Signal::SIGKILL as i32) {
            true => Ok(()),
            false => Err(format!("a client {:?} that was killed: {status}", self.kind)),
        }
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<Ended, String> {
        let output = self.running.finish()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        let (errno, during) = match last.split_once(' ') {
            Some(("failed", rest)) => {
                let (errno, during) = rest.split_once(' ').unwrap_or((rest, ""));
                (Some(errno.to_owned()), during.to_owned())
            }
            _ => (None, String::new()),
        };
        let rounds = text.lines().filter(|line| line.starts_with("round")).count();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("client {:?}: {}: {said}", self.kind, output.status));
        }
        Ok(Ended { kind: self.kind, errno, during, rounds, number: self.number })
    }
}

impl Ended {
    /// For a writer: every record that was synced is in the file, in order and whole.
    pub(crate) fn synced_is_there(&self, source: &Path) -> Result<(), String> {
        let path = own_file(source, self.number);
        let found = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for round in 0..self.rounds {
            if found.get(round * RECORD..(round + 1) * RECORD) != Some(&record(round)) {
                let (synced, there) = (self.rounds, found.len() / RECORD);
                return Err(format!("record {round} of {synced} synced is lost ({there} there)"));
            }
        }
        Ok(())
    }
}

fn own_file(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("log-{number}"))
}

fn record(round: usize) -> [u8; RECORD] {
    let mut record = [b' '; RECORD];
    record[..20].copy_from_slice(format!("{round:020}").as_bytes());
    record[RECORD - 1] = b'\n';
    record
}

/// Becomes a client if the arguments say so.
pub(crate) fn serve_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) != Some(FLAG) {
        return;
    }
    let kind = KINDS.iter().find(|known| known.1 == args[2]).expect("the test knows the kinds").0;
    let directory = PathBuf::from(&args[3]);
    let number = args[4].parse().expect("a number");
    let time = Duration::from_millis(args[5].parse().expect("a number"));
    let mut during = "start";
    if let Err(error) = work(kind, &directory, number, time, &mut during) {
        match error.raw_os_error() {
            Some(errno) => println!("failed {:?} {during}", Errno::from_raw(errno)),
            None => {
                eprintln!("{during}: {error}");
                std::process::exit(1);
            }
        }
    }
    std::process::exit(0);
}

fn work(
    kind: Kind,
    directory: &Path,
    number: usize,
    time: Duration,
    during: &mut &'static str,
) -> io::Result<()> {
    if kind == Kind::Everything {
        run_on(number);
    }
    let until = Instant::now() + time;
    let mut round = 0;
    while round == 0 || Instant::now() < until {
        match kind {
            Kind::Write => write(directory, number, round, during)?,
            Kind::Read => read(directory, during)?,
            Kind::Names => names(directory, number, during)?,
            Kind::Open => {
                fs::File::open(directory.join("data"))?;
                fs::read_dir(directory)?.next();
            }
            Kind::Everything => everything(directory, number, during)?,
            Kind::Fifo => {
                let path = directory.join(format!("fifo-{number}"));
                let _ = fs::remove_file(&path);
                nix::unistd::mkfifo(&path, Mode::S_IRWXU)?;
                fs::File::open(path)?;
            }
            Kind::Lock => {
                let open = || fs::File::create(directory.join(format!("lock-{number}")));
                let (held, other) = (open()?, open()?);
                held.lock()?;
                other.lock()?;
            }
        }
        println!("round");
        round += 1;
    }
    Ok(())
}

fn write(directory: &Path, number: usize, round: usize, at: &mut &'static str) -> io::Result<()> {
    *at = "open";
    let path = own_file(directory, number);
    let mut file = fs::File::options().create(true).append(true).open(path)?;
    *at = "stat";
    let size = file.metadata()?.size();
    if size != (round * RECORD) as u64 {
        return Err(io::Error::other(format!("{size} bytes after {round} records")));
    }
    *at = "write";
    file.write_all(&record(round))?;
    *at = "fsync";
    file.sync_all()
}

fn read(directory: &Path, at: &mut &'static str) -> io::Result<()> {
    *at = "read";
    match fs::read(directory.join("data"))? == pattern(DATA.0, DATA.1) {
        true => Ok(()),
        false => Err(io::Error::other("read something else than what is there")),
    }
}

fn names(directory: &Path, number: usize, at: &mut &'static str) -> io::Result<()> {
    let path = |name: &str| directory.join(format!("{name}-{number}"));
    *at = "mkdir";
    fs::create_dir(path("folder"))?;
    *at = "create";
    fs::File::create(path("folder").join("new"))?;
    *at = "rename";
    fs::rename(path("folder").join("new"), path("moved"))?;
    *at = "readdir";
    for entry in fs::read_dir(directory)? {
        entry?;
    }
    *at = "unlink";
    fs::remove_file(path("moved"))?;
    *at = "rmdir";
    fs::remove_dir(path("folder"))
}

/// Spreads clients over the CPUs; one whose CPU has gone runs where it may.
fn run_on(number: usize) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    let _ = set.set(number % cpus).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
}

fn everything(directory: &Path, number: usize, at: &mut &'static str) -> io::Result<()> {
    let path = |name: &str| directory.join(format!("{name}-{number}"));
    *at = "create";
    let mut file =
        fs::File::options().read(true).write(true).create(true).truncate(true).open(path("new"))?;
    *at = "write";
    file.write_all(&[7; 20_000])?;
    *at = "fsync";
    file.sync_all()?;
    *at = "read";
    file.read_exact_at(&mut [0; 10_000], 9_000)?;
    *at = "truncate";
    file.set_len(100)?;
    *at = "lock";
    file.lock()?;
    *at = "stat";
    fs::metadata(path("new"))?;
    match fs::metadata(path("missing")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.map(drop)?,
    }
    *at = "rename";
    fs::rename(path("new"), path("moved"))?;
    names(directory, number, at)
}
