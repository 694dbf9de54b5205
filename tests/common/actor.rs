//! A shell in a process of its own, under another user: the test binary started again with
//! `--actor`. Threads of one process share umask, working directory and record locks, and libtest's
//! threads must not fork; a second program has none of these problems.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::shell::Shell;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub(crate) name: &'static str,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: &'static [u32],
}

impl Who {
    /// As [`become_user`] takes it: `UID:GID:GROUPS`.
    pub(crate) fn ids(self) -> String {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        format!("{}:{}:{}", self.uid, self.gid, groups.join(","))
    }
}

/// An ordinary user, in no group but her own.
pub(crate) const ALICE: Who = Who { name: "alice", uid: 1001, gid: 1001, groups: &[] };
/// An ordinary user who is also in group 2000.
pub(crate) const BOB: Who = Who { name: "bob", uid: 1002, gid: 1002, groups: &[2000] };
/// An ordinary user in many groups.
pub(crate) const CAROL: Who =
    Who { name: "carol", uid: 1003, gid: 1003, groups: &[2000, 2001, 2002, 2003, 2004] };
/// An ordinary user whom no rule but that for others fits.
pub(crate) const DAVE: Who = Who { name: "dave", uid: 1005, gid: 1005, groups: &[] };
/// An ordinary user whose first group is 2000.
pub(crate) const ERIN: Who = Who { name: "erin", uid: 1004, gid: 2000, groups: &[] };
/// An ordinary user whom every machine knows by name.
pub(crate) const NOBODY: Who = Who { name: "nobody", uid: 65534, gid: 65534, groups: &[] };
/// Another process of root.
pub(crate) const SECOND: Who = Who { name: "second", uid: 0, gid: 0, groups: &[] };
/// A third process of root.
pub(crate) const THIRD: Who = Who { name: "third", uid: 0, gid: 0, groups: &[] };

/// A running helper process.
pub(crate) struct Actor {
    child: Child,
    lines: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts a process as `who`, working in `directory`.
    pub(crate) fn start(who: Who, directory: &Path) -> Self {
        let mut child = Command::new("/proc/self/exe")
            .arg("--actor")
            .arg(who.ids())
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start a process as {}: {error}", who.name));
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let lines = child.stdin.take();
        Actor { child, lines, answers }
    }

    /// Hands over a line; `finish` gives its answer.
    pub(crate) fn begin(&mut self, line: &str) {
        let lines = self.lines.as_mut().expect("stdin is piped");
        writeln!(lines, "{line}").expect("the helper process reads its lines");
    }

    /// The answer to the line handed over last; the signal if the process died of it.
    pub(crate) fn finish(&mut self) -> Result<String, String> {
        let mut answer = String::new();
        match self.answers.read_line(&mut answer) {
            Ok(count) if count > 0 => {}
            _ => {
                let status = self.child.wait().map_err(|error| error.to_string())?;
                return Err(format!("died of signal {:?}", status.signal()));
            }
        }
        match answer.trim_end().split_once(':') {
            Some(("ok", text)) => Ok(text.to_owned()),
            Some(("err", errno)) => Err(errno.to_owned()),
            _ => panic!("a helper process answered {answer:?}"),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.lines.take());
        // It may wait for a lock which nobody will give it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes an actor if the arguments say so: serves lines until its input ends.
pub(crate) fn serve_if_asked() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some("--actor") {
        return;
    }
    let ids = args.next().expect("--actor UID:GID:GROUPS");
    become_user(&ids).unwrap_or_else(|errno| panic!("become {ids}: {errno}"));
    umask(Mode::from_bits_retain(0o022));
    let mut shell = Shell::default();
    for line in std::io::stdin().lines() {
        match shell.run(&line.expect("the test writes text")) {
            Ok(text) => println!("ok:{text}"),
            Err(errno) => println!("err:{errno:?}"),
        }
    }
    std::process::exit(0);
}

/// Becomes who is written as `UID:GID:GROUPS`; stays who one is if that is root.
pub(crate) fn become_user(ids: &str) -> Result<(), Errno> {
    let numbers = |text: &str| text.split(',').filter_map(|id| id.parse().ok()).collect::<Vec<_>>();
    let parts: Vec<Vec<u32>> = ids.split(':').map(numbers).collect();
    let (uid, gid) = (Uid::from_raw(parts[0][0]), Gid::from_raw(parts[1][0]));
    if uid.is_root() {
        return Ok(());
    }
    setgroups(&parts[2].iter().copied().map(Gid::from_raw).collect::<Vec<_>>())?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}
