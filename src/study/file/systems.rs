//! From the system entries of a study's file to the systems of a study: native twice, then the others
//! in the file's order.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::cells::{identifier, unknown};
use super::{BackingKind, StudyFile, SystemEntry, SystemKind};
use crate::metrics::snapshot::Snapshot;
use crate::study::daemon::Launch;
use crate::study::record::{self, Kind, NATIVE, NATIVE_AGAIN};

/// What `require` may speak of.
const REQUIRABLE: [&str; 5] = ["transport", "data", "coherence", "profile", "workers"];

/// A system: how it is recorded, and how it is started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlannedSystem {
    /// As it is recorded.
    pub(crate) system: record::System,
    /// The other program, if it is one.
    pub(crate) command: Vec<String>,
    /// The package that has it.
    pub(crate) package: Option<String>,
}

/// All systems of a file.
pub(crate) fn resolve(file: &StudyFile) -> Result<Vec<PlannedSystem>, String> {
    let native = |id: &str, title: &str| PlannedSystem {
        system: record::System {
            id: id.to_owned(),
            title: title.to_owned(),
            ..record::System::default()
        },
        command: Vec::new(),
        package: None,
    };
    let (title, again) = match file.backing.kind {
        BackingKind::Distributed => ("own mount", "own mount again"),
        _ => ("native", "native again"),
    };
    let mut systems = vec![native(NATIVE, title), native(NATIVE_AGAIN, again)];
    for entry in &file.systems {
        let at = |why: String| format!("[[system]] {}: {why}", entry.id);
        identifier("id", &entry.id).map_err(|why| format!("[[system]]: {why}"))?;
        if systems.iter().any(|other| other.system.id == entry.id) {
            return Err(at("there is a system of this name already".to_owned()));
        }
        systems.push(planned(entry).map_err(at)?);
    }
    for cell in &file.cells {
        let known = || file.systems.iter().map(|system| system.id.as_str());
        for id in cell.systems.iter().flatten() {
            if [NATIVE, NATIVE_AGAIN].contains(&id.as_str()) {
                return Err(format!(
                    "`{id}` in `systems` of a cell: it always takes part, leave it out there"
                ));
            }
            if !known().any(|known| known == id) {
                return Err(unknown("system", id, known()));
            }
        }
    }
    Ok(systems)
}

fn planned(entry: &SystemEntry) -> Result<PlannedSystem, String> {
    let kind = match entry.kind {
        SystemKind::Fusewire => Kind::Fusewire,
        SystemKind::Null => Kind::Null,
        SystemKind::Command => Kind::Command,
    };
    if entry.package.is_some() && kind != Kind::Command {
        return Err("`package` is for kind = \"command\": fusewire is here".to_owned());
    }
    let arguments = match kind {
        Kind::Command => {
            if let Some(name) = entry.command.iter().find_map(|word| stands_for_nothing(word)) {
                return Err(format!(
                    "{{{name}}} in `command` stands for nothing: {{source}} and {{mountpoint}} are filled \
                     in (what is a brace to a shell has a $ or a blank beside it)"
                ));
            }
            if !entry.command.iter().any(|word| word.contains("{mountpoint}")) {
                return Err("`command` must name the program and {mountpoint}, as [\"bindfs\", \
                            \"-f\", \"{source}\", \"{mountpoint}\"]"
                    .to_owned());
            }
            if !entry.arguments.is_empty() || !entry.require.is_empty() {
                return Err("`arguments` and `require` are for fusewire: a command says all in \
                            `command`"
                    .to_owned());
            }
            entry.command.clone()
        }
        _ if !entry.command.is_empty() => {
            return Err(
                "`command` is for kind = \"command\"; fusewire takes `arguments`".to_owned()
            );
        }
        _ => entry.arguments.clone(),
    };
    if let Some(key) = entry.require.keys().find(|key| !REQUIRABLE.contains(&key.as_str())) {
        return Err(unknown("key of `require`", key, REQUIRABLE.into_iter()));
    }
    let system = record::System {
        id: entry.id.clone(),
        title: entry.title.clone().unwrap_or_else(|| entry.id.clone()),
        kind,
        arguments,
        requested: entry.require.clone(),
        in_force: None,
    };
    Ok(PlannedSystem { system, command: entry.command.clone(), package: entry.package.clone() })
}

/// A name in braces that is not filled in. `${x}` and `{ x; }` are the shell's.
fn stands_for_nothing(word: &str) -> Option<&str> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic() || "-_".contains(c))
    };
    let known = ["source", "mountpoint"];
    word.match_indices('{').find_map(|(at, _)| {
        let (name, _) = word[at + 1..].split_once('}')?;
        let is_shell = word[..at].ends_with('$');
        (is_name(name) && !is_shell && !known.contains(&name)).then_some(name)
    })
}

impl PlannedSystem {
    /// Why it can not be had here, but could be; `None` if it can.
    pub(crate) fn missing(&self) -> Option<String> {
        let (program, package) = (self.command.first()?, self.package.as_ref()?);
        let skipped = !program.contains('/') && find_program(program).is_none();
        skipped.then(|| format!("{program} is not installed: apt-get install {package}"))
    }

    /// Why there is nothing to be started, and no package that has it: a slip of the pen.
    pub(crate) fn misnamed(&self) -> Option<String> {
        let program = self.command.first()?;
        let remedy = "correct it in `command`, or build it";
        match (program.contains('/'), Path::new(program)) {
            (true, path) if !path.is_file() => Some(format!("there is no {program}: {remedy}")),
            (true, path) if access(path, AccessFlags::X_OK).is_err() => {
                Some(format!("{program} can not be executed: chmod +x {program}"))
            }
            (false, _) if self.package.is_none() && find_program(program).is_none() => {
                Some(format!(
                    "{program} is not in PATH: {remedy}, or say which package has it (`package`), so \
                     that the system is skipped where that is not installed"
                ))
            }
            _ => None,
        }
    }

    /// Whether it can only be mounted where io_uring is switched on.
    pub(crate) fn wants_uring(&self) -> bool {
        let words = &self.system.arguments;
        let asked = words.iter().any(|word| word.contains("transport=uring"))
            || words.windows(2).any(|pair| pair[0] == "--transport" && pair[1] == "uring");
        asked || self.system.requested.get("transport").is_some_and(|name| name == "uring")
    }

    /// How to start it; `None` for native.
    pub(crate) fn launch(&self, exe: &Path, source: &Path, mountpoint: &Path) -> Option<Launch> {
        let mut launch = match self.system.kind {
            Kind::Native => return None,
            Kind::Fusewire => Launch::fusewire(exe, source, mountpoint, &self.system.arguments),
            Kind::Null => Launch::null(exe, mountpoint, &self.system.arguments),
            Kind::Command => {
                let fill = |word: &String| {
                    let word = word.replace("{source}", &source.to_string_lossy());
                    word.replace("{mountpoint}", &mountpoint.to_string_lossy()).into()
                };
                Launch {
                    name: String::new(),
                    program: PathBuf::from(&self.command[0]),
                    arguments: self.command[1..].iter().map(fill).collect(),
                    mountpoint: mountpoint.to_owned(),
                    has_counters: false,
                    ..Launch::fusewire(exe, source, mountpoint, &[])
                }
            }
        };
        launch.name.clone_from(&self.system.id);
        Some(launch)
    }

    /// What is required and not in force, with the daemon's reason.
    pub(crate) fn unmet(&self, snapshot: &Snapshot) -> Option<String> {
        self.system.requested.iter().find_map(|(key, wanted)| {
            let (found, reason) = match key.as_str() {
                "transport" => {
                    (snapshot.transport.name.clone(), snapshot.transport.reason.as_ref())
                }
                "data" => (snapshot.data.mode.clone(), snapshot.data.reason.as_ref()),
                "coherence" => {
                    (snapshot.coherence.mode.clone(), snapshot.coherence.reason.as_ref())
                }
                "profile" => (snapshot.profile.clone(), None),
                _ => (snapshot.transport.workers.to_string(), None),
            };
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            (found != *wanted)
                .then(|| format!("{key} is {found} where {wanted} is required{reason}"))
        })
    }
}

/// Where a shell of root would find it: sbin is not in every PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn systems(entries: &str) -> Result<Vec<PlannedSystem>, String> {
        let cells = "[[cells]]\nworkload = \"stat\"\n";
        let text = format!("name = \"a\"\ntitle = \"b\"\n{cells}{entries}\n");
        resolve(&parse(&text, "a.toml").expect("is well-formed"))
    }

    #[test]
    fn native_comes_twice_and_commands_are_filled_in() {
        let all = systems(
            "[[system]]\nid = \"bindfs\"\nkind = \"command\"\n\
             command = [\"bindfs\", \"-f\", \"--x={source}\", \"{mountpoint}\"]\n\
             [[system]]\nid = \"f\"\nkind = \"fusewire\"\narguments = [\"--transport\", \"uring\"]",
        )
        .expect("well-formed");
        let ids: Vec<&str> = all.iter().map(|system| system.system.id.as_str()).collect();
        assert_eq!(ids, ["native", "native-again", "bindfs", "f"]);
        let launch = |index: usize| {
            all[index].launch(Path::new("/exe"), Path::new("/src"), Path::new("/mnt"))
        };
        assert!(launch(0).is_none());
        let bindfs = launch(2).expect("it mounts");
        assert_eq!(bindfs.arguments, ["-f", "--x=/src", "/mnt"]);
        let fusewire = launch(3).expect("it mounts");
        assert_eq!(fusewire.arguments, ["mount", "/src", "/mnt", "-f", "--transport", "uring"]);
        assert!(all[3].wants_uring() && !all[2].wants_uring());
    }

    #[test]
    fn a_distributed_file_system_is_compared_with_its_own_mount() {
        let all = systems("[backing]\nkind = \"distributed\"").expect("well-formed");
        assert_eq!(all[0].system.title, "own mount");
    }

    #[test]
    fn what_is_not_in_force_is_said_with_the_reason() {
        let all = systems(
            "[[system]]\nid = \"f\"\nkind = \"fusewire\"\nrequire = { data = \"passthrough\" }",
        )
        .expect("well-formed");
        let mut snapshot = Snapshot::default();
        snapshot.data.mode = "copy".into();
        snapshot.data.reason = Some("not root".into());
        let unmet = all[2].unmet(&snapshot).expect("it is not in force");
        assert_eq!(unmet, "data is copy where passthrough is required: not root");
        snapshot.data.mode = "passthrough".into();
        assert_eq!(all[2].unmet(&snapshot), None);
    }

    #[test]
    fn entries_that_make_no_system_are_refused() {
        for (entry, want) in [
            ("id = \"native\"\nkind = \"fusewire\"", "already"),
            ("id = \"x\"\nkind = \"command\"\ncommand = [\"a\"]", "{mountpoint}"),
            ("id = \"x\"\nkind = \"null\"\ncommand = [\"{mountpoint}\"]", "takes `arguments`"),
            ("id = \"x\"\nkind = \"fusewire\"\nrequire = { dat = \"copy\" }", "mean `data`?"),
            ("id = \"\"\nkind = \"fusewire\"", "id = \"\": letters, digits"),
            ("id = \"x\"\nkind = \"fusewire\"\npackage = \"p\"", "`package` is for kind"),
            (
                "id = \"x\"\nkind = \"command\"\ncommand = [\"a\", \"{src}\", \"{mountpoint}\"]",
                "{src} in `command` stands for nothing",
            ),
        ] {
            let error = systems(&format!("[[system]]\n{entry}")).expect_err(entry);
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn braces_of_a_shell_are_the_shells() {
        let shell = "a=${at##*:} && b=${a} && { c; } && awk '{ print $1 }' {source} {mountpoint}";
        assert_eq!(stands_for_nothing(shell), None);
        assert_eq!(stands_for_nothing("--dir={mount-point}"), Some("mount-point"));
    }

    #[test]
    fn cells_name_systems_that_there_are() {
        let study = |cell: &str| {
            let text =
                format!("name = \"a\"\ntitle = \"b\"\n[[cells]]\nworkload = \"stat\"\n{cell}\n");
            resolve(&parse(&text, "a.toml").expect("is well-formed")).expect_err(cell)
        };
        assert!(study("systems = [\"native\"]").contains("always takes part"));
        assert_eq!(study("systems = [\"x\"]"), "unknown system `x`; there are none");
    }

    #[test]
    fn what_is_not_installed_is_named_with_its_package() {
        let entry = "[[system]]\nid = \"x\"\nkind = \"command\"\npackage = \"its-package\"\n\
                     command = [\"no-such-program\", \"{mountpoint}\"]";
        let missing = systems(entry).expect("well-formed")[2].missing();
        let want = "no-such-program is not installed: apt-get install its-package";
        assert_eq!(missing.as_deref(), Some(want));
        assert!(systems("").expect("well-formed")[0].missing().is_none());
    }

    #[test]
    fn a_program_that_can_not_be_meant_is_named() {
        let misnamed = |program: &str, package: &str| {
            let entry = format!(
                "[[system]]\nid = \"x\"\nkind = \"command\"\n{package}\n\
                 command = [\"{program}\", \"{{mountpoint}}\"]"
            );
            let system = systems(&entry).expect("well-formed").remove(2);
            assert!(system.misnamed().is_none() || system.missing().is_none());
            system.misnamed().unwrap_or_default()
        };
        let package = "package = \"its-package\"";
        assert_eq!(misnamed("sh", "") + &misnamed("/bin/sh", ""), "");
        assert_eq!(misnamed("no-such-program", package), "", "it can be installed");
        assert!(misnamed("no-such-program", "").starts_with("no-such-program is not in PATH: "));
        assert!(misnamed("/no/such", package).starts_with("there is no /no/such: "));
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().to_string_lossy();
        assert!(misnamed(&path, "").ends_with(&format!("chmod +x {path}")));
    }
}
