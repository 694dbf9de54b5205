//! Processes that race: some change the source behind the mount, some use the mount.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::RenameFlags;
use nix::unistd::chroot;

use crate::common::raw;
use crate::tool::{Running, tool};

const FLAG: &str = "--racer";

/// The directories of the source, and of what lies outside.
pub(crate) const DIRECTORIES: &[&str] = &["a", "b", "c", "a/deep", "b/deep"];
/// The files in each.
pub(crate) const FILES: &[&str] = &["one", "two", "three"];

/// What a process does until its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Exchanges directories of the source for links that lead outside, and back.
    SwapDirectories,
    /// The same with files.
    SwapFiles,
    /// Lists, stats and reads everything.
    Walk,
    /// Makes, writes, changes and removes files.
    Change,
    /// Renames and links between directories.
    Rename,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::SwapDirectories, "swap-directories"),
    (Kind::SwapFiles, "swap-files"),
    (Kind::Walk, "walk"),
    (Kind::Change, "change"),
    (Kind::Rename, "rename"),
];

/// A process that races.
pub(crate) struct Racer(Running);

impl Racer {
    /// Starts one that works in `directory` for `time`; `number` seeds its choices.
    pub(crate) fn start(
        kind: Kind,
        number: u64,
        directory: &Path,
        time: Duration,
        limit: Duration,
    ) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
        let name = KINDS.iter().find(|known| known.0 == kind).expect("listed").1;
        let numbers = [number.to_string(), time.as_millis().to_string()];
        let tool = tool(own, "nothing").args([FLAG, name]).arg(directory).args(numbers);
        Ok(Racer(tool.limit(limit).start()?))
    }

    /// Waits for its end; how many of its operations succeeded.
    pub(crate) fn finish(self) -> Result<u64, String> {
        let said = self.0.succeed()?;
        said.trim().parse().map_err(|_| format!("a racer said {said:?}"))
    }
}

/// Becomes a racer if the arguments say so.
pub(crate) fn serve_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) != Some(FLAG) {
        return;
    }
    let kind = KINDS.iter().find(|known| known.1 == args[2]).expect("the test knows the kinds").0;
    let number = args[4].parse().expect("a number");
    let time = Duration::from_millis(args[5].parse().expect("a number"));
    match race(kind, Path::new(&args[3]), number, time) {
        Ok(done) => println!("{done}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
    std::process::exit(0);
}

fn race(kind: Kind, directory: &Path, number: u64, time: Duration) -> io::Result<u64> {
    let mut dice = Dice(number);
    let until = Instant::now() + time;
    let mut done = 0;
    let outside = directory.with_file_name("outside");
    // Nobody is led out of here by a link: whatever happens outside is somebody else's doing.
    chroot(directory)?;
    std::env::set_current_dir("/")?;
    let root = Path::new("/");
    while Instant::now() < until {
        // Whatever fails, fails because of the race.
        done += match kind {
            Kind::SwapDirectories => u64::from(swap_directory(root, &outside, &mut dice).is_ok()),
            Kind::SwapFiles => u64::from(swap_file(root, &outside, &mut dice).is_ok()),
            Kind::Walk => walk(root, 0),
            Kind::Change => u64::from(change(root, &mut dice).is_ok()),
            Kind::Rename => u64::from(rename(root, &mut dice).is_ok()),
        };
    }
    Ok(done)
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn of<'a>(&mut self, names: &[&'a str]) -> &'a str {
        names[self.below(names.len())]
    }

    fn file(&mut self) -> PathBuf {
        Path::new(self.of(DIRECTORIES)).join(self.of(FILES))
    }
}

/// A link that lies at `place` in the source, to what is called `name` outside: by its path, or by
/// dots.
fn leading_outside(outside: &Path, place: &Path, name: &Path, dice: &mut Dice) -> PathBuf {
    let dots = "../".repeat(place.components().count() - 1);
    match dice.below(2) {
        0 => outside.join(name),
        _ => Path::new(&dots).join("outside").join(name),
    }
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    raw::rename_flags(one, other, RenameFlags::RENAME_EXCHANGE.bits()).map_err(Into::into)
}

fn swap_directory(root: &Path, outside: &Path, dice: &mut Dice) -> io::Result<()> {
    let name = Path::new(dice.of(DIRECTORIES));
    let place = root.join(name);
    // Beside it, so that dots lead to the same place.
    let link = place.with_file_name(format!("link-{}", name.file_name().map_or("", to_text)));
    let _ = fs::remove_file(&link);
    symlink(leading_outside(outside, &place, name, dice), &link)?;
    exchange(&place, &link)?;
    for _ in 0..dice.below(300) {
        std::hint::spin_loop();
    }
    exchange(&place, &link)
}

fn to_text(name: &OsStr) -> &str {
    name.to_str().expect("the names are text")
}

fn swap_file(root: &Path, outside: &Path, dice: &mut Dice) -> io::Result<()> {
    let name = dice.file();
    let (place, link) = (root.join(&name), root.join(format!("link-{}", dice.below(4))));
    let _ = fs::remove_file(&link);
    match dice.below(3) {
        0 => fs::write(&link, "inside, and new")?,
        _ => symlink(leading_outside(outside, &place, &name, dice), &link)?,
    }
    match exchange(&place, &link) {
        // A client has removed or renamed it.
        Err(_) => fs::rename(&link, &place),
        Ok(()) => Ok(()),
    }
}

/// How much was found; follows whatever the names are at the moment.
fn walk(path: &Path, depth: usize) -> u64 {
    let mut found = 0;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        found += u64::from(fs::symlink_metadata(&path).is_ok());
        found += u64::from(fs::metadata(&path).is_ok());
        let _ = fs::read_link(&path);
        if fs::metadata(&path).is_ok_and(|found| found.is_file()) {
            found += u64::from(read(&path).is_ok());
        }
        if depth < 4 {
            found += walk(&path, depth + 1);
        }
    }
    found
}

fn read(path: &Path) -> io::Result<String> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    io::read_to_string(file)
}

fn change(root: &Path, dice: &mut Dice) -> io::Result<()> {
    let path = root.join(dice.file());
    match dice.below(12) {
        0 | 1 => fs::write(&path, "by a client"),
        2 => File::options().append(true).open(&path)?.write_all(b"more"),
        3 => fs::remove_file(&path),
        4 => fs::set_permissions(&path, fs::Permissions::from_mode(0o640)),
        5 => chown(&path, Some(1000), Some(1000)),
        6 => lchown(&path, Some(1000), None),
        7 => {
            let c_path = raw::c_path(&path)?;
            raw::set_xattr(raw::On::Path(&c_path), c"user.by", b"a client", 0).map_err(Into::into)
        }
        8 => File::options().write(true).open(&path)?.set_len(3),
        9 => File::open(&path)?.set_modified(std::time::SystemTime::UNIX_EPOCH),
        10 => {
            let made = path.with_file_name("made");
            fs::create_dir(&made)?;
            fs::write(made.join("within"), "by a client")?;
            fs::remove_dir_all(made)
        }
        _ => {
            let made = path.with_file_name("made-link");
            symlink("one", &made)?;
            fs::remove_file(made)
        }
    }
}

fn rename(root: &Path, dice: &mut Dice) -> io::Result<()> {
    let (from, to) = (root.join(dice.file()), root.join(dice.file()));
    match dice.below(4) {
        0 => fs::rename(&from, &to),
        1 => exchange(&from, &to),
        2 => {
            let second = to.with_file_name("second");
            fs::hard_link(&from, &second)?;
            fs::remove_file(second)
        }
        _ => fs::write(&to, "by a client that renames"),
    }
}
