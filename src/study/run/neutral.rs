//! Reasons without the paths of this machine: results are published, and what a run made for itself has
//! another name in the next.

use std::path::Path;

use super::super::record::Outcome;

/// Directories that are the same on every machine, and whose files it helps to know.
const EVERYWHERE: [&str; 9] = ["bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr"];

/// The words that stand for paths of a run.
#[derive(Debug, Default)]
pub(crate) struct Neutral(Vec<(String, &'static str)>);

impl Neutral {
    /// Of several that match the longest counts.
    pub(crate) fn new(words: &[(&Path, &'static str)]) -> Self {
        let mut words: Vec<(String, &'static str)> =
            words.iter().map(|(path, word)| (path.to_string_lossy().into_owned(), *word)).collect();
        words.retain(|(path, _)| path.len() > 1);
        words.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Neutral(words)
    }

    /// The outcome as it is to be written.
    pub(crate) fn outcome(&self, outcome: &Outcome) -> Outcome {
        match outcome {
            Outcome::Failed(why) => Outcome::Failed(self.text(why)),
            Outcome::Skipped(why) => Outcome::Skipped(self.text(why)),
            Outcome::Measured(measurement) => {
                let mut measurement = measurement.clone();
                for flag in &mut measurement.flags {
                    *flag = self.text(flag);
                }
                Outcome::Measured(measurement)
            }
        }
    }

    /// Known paths become words; of others the last component is left.
    pub(crate) fn text(&self, text: &str) -> String {
        let known = |text: String, (path, word): &(String, &'static str)| text.replace(path, word);
        let text = self.0.iter().fold(text.to_owned(), known);
        let mut neutral = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(begin) = rest.find('/') {
            let before = rest[..begin].chars().next_back();
            let path = &rest[begin..];
            let end = path.find(|c: char| c.is_whitespace() || "'\"`,;:()<>".contains(c));
            let (path, after) = path.split_at(end.unwrap_or(path.len()));
            neutral.push_str(&rest[..begin]);
            // Within a word it is no root: a relative path, a rate, or below one of the words.
            let is_root = before.is_none_or(|c| !c.is_alphanumeric() && !"}._-/".contains(c));
            neutral.push_str(if is_root { last_component(path) } else { path });
            rest = after;
        }
        neutral + rest
    }
}

fn last_component(path: &str) -> &str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if EVERYWHERE.contains(&first) {
        return path;
    }
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_this_machine_is_left() {
        let neutral = Neutral::new(&[
            (Path::new("/tmp/x.1"), "{temporary}"),
            (Path::new("/tmp/x.1/disk/source"), "{source}"),
            (Path::new("/tmp/x.1/mnt/fs"), "{mountpoint}"),
            (Path::new("/"), "{root}"),
        ]);
        for (text, expected) in [
            ("read /tmp/x.1/disk/source/turn3/f1: EIO", "read {source}/turn3/f1: EIO"),
            ("/tmp/x.1/disk/source on /tmp/x.1/mnt/fs", "{source} on {mountpoint}"),
            ("the end of '/tmp/x.1/y z'", "the end of '{temporary}/y z'"),
            ("start /home/someone/hp/build/hp: ENOENT", "start hp: ENOENT"),
            ("conf=/home/a/b,ro (see /etc/fuse.conf)", "conf=b,ro (see /etc/fuse.conf)"),
            ("fio: a/b 4/s /dev/fuse /", "fio: a/b 4/s /dev/fuse /"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(neutral.text(text), expected);
        }
    }
}
