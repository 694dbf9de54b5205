//! The table: what clients do, and the system calls that it costs.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;

use fusewire::abi::Opcode;

use super::SETTLE;

/// What a client does, once with each number, and what requests of it shall cost.
pub(crate) struct Step {
    pub(crate) what: &'static str,
    pub(crate) act: fn(&Path, usize),
    pub(crate) costs: &'static [Cost],
}

/// What a request costs, and where it is something else.
pub(crate) struct Cost {
    pub(crate) opcode: Opcode,
    pub(crate) calls: &'static str,
    /// When the kernel is to read and write the file by itself.
    pub(crate) passthrough: Option<&'static str>,
    /// When READs are spliced.
    pub(crate) splice: Option<&'static str>,
    /// On a ring, where nothing may wait.
    pub(crate) ring: Option<&'static str>,
}

impl Cost {
    const fn on_ring(self, calls: &'static str) -> Self {
        Cost { ring: Some(calls), ..self }
    }
}

const fn both(opcode: Opcode, calls: &'static str) -> Cost {
    Cost { opcode, calls, passthrough: None, splice: None, ring: None }
}

const fn either(opcode: Opcode, calls: &'static str, passthrough: &'static str) -> Cost {
    Cost { passthrough: Some(passthrough), ..both(opcode, calls) }
}

/// A READ.
const fn read(calls: &'static str, splice: &'static str) -> Cost {
    Cost { passthrough: Some(""), splice: Some(splice), ..both(Opcode::Read, calls) }
}

/// A request that is answered from memory.
pub(crate) const NOTHING: &str = "nothing";

/// What the first open of a file costs beyond `$open` if the kernel is to read and write it: a look
/// at whether it may only be appended to, and the ioctl.
macro_rules! registered {
    ($open:literal) => {
        concat!($open, " statx ioctl")
    };
}

/// The mount trusts neither names nor attributes, so that each round asks. `known-` and
/// `fresh-` names are older than the mount, `new-` names are made by the steps.
pub(crate) const STEPS: &[Step] = &[
    Step {
        what: "open of files that are new to it",
        act: |at, n| drop(File::open(at.join(format!("fresh-{n}"))).expect("open")),
        costs: &[
            either(Opcode::Open, "open_by_handle_at", registered!("open_by_handle_at")),
            either(Opcode::Release, "close", NOTHING),
        ],
    },
    Step {
        what: "stat of names that are new to it",
        act: |at, n| stat(&at.join(format!("known-{n}"))),
        costs: &[both(Opcode::Lookup, "name_to_handle_at newfstatat")],
    },
    Step {
        what: "stat of a known name",
        act: |at, _| stat(&at.join("known-0")),
        costs: &[both(Opcode::Lookup, "name_to_handle_at fstat")],
    },
    Step {
        what: "stat of a name that is not there",
        act: |at, _| assert!(fs::metadata(at.join("none")).is_err()),
        costs: &[both(Opcode::Lookup, "name_to_handle_at")],
    },
    Step {
        what: "statx with the time of birth",
        act: |at, _| stat(at),
        costs: &[both(Opcode::Statx, "statx")],
    },
    Step {
        what: "fstat",
        act: |at, _| {
            let file = File::open(at).expect("open");
            nix::sys::stat::fstat(&file).expect("fstat");
        },
        costs: &[both(Opcode::Getattr, "fstat")],
    },
    Step {
        what: "statfs",
        act: |at, _| {
            nix::sys::statfs::statfs(at).expect("statfs");
        },
        costs: &[both(Opcode::Statfs, "fstatfs")],
    },
    Step {
        what: "open of a file again and again",
        act: |at, _| drop(File::open(at.join("known-0")).expect("open")),
        costs: &[
            either(Opcode::Open, "open_by_handle_at", NOTHING),
            either(Opcode::Release, "close", NOTHING),
        ],
    },
    Step {
        what: "open for writing",
        act: |at, _| drop(File::options().write(true).open(at.join("known-0")).expect("open")),
        costs: &[both(Opcode::Open, "open_by_handle_at statx"), both(Opcode::Release, "close")],
    },
    Step {
        what: "read",
        act: |at, n| drop(fs::read(at.join(format!("known-{n}"))).expect("read")),
        // Twice: what there is, and that there is no more. A pipe has the header in it by then, for
        // more than there is, and is emptied again.
        // On a ring it is asked for what is in memory only, and how long the file is.
        costs: &[read("pread64 pread64", "write splice splice readv").on_ring("preadv2 statx")],
    },
    Step {
        what: "read of a whole page",
        act: |at, n| drop(fs::read(at.join(format!("page-{n}"))).expect("read")),
        costs: &[read("pread64", "write splice splice").on_ring("preadv2")],
    },
    Step {
        what: "chmod",
        act: |at, n| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(if n % 2 == 0 {
                0o600
            } else {
                0o640
            });
            fs::set_permissions(at.join("known-0"), mode).expect("chmod");
        },
        costs: &[both(Opcode::Setattr, "fchmodat2 fstat")],
    },
    Step {
        what: "utimes",
        act: |at, _| {
            let file = at.join("known-0");
            let now = nix::sys::time::TimeVal::new(1_000_000_000, 0);
            nix::sys::stat::lutimes(&file, &now, &now).expect("utimes");
        },
        costs: &[both(Opcode::Setattr, "utimensat fstat")],
    },
    Step {
        what: "getxattr",
        act: |at, _| {
            getfattr(&at.join("known-0"));
        },
        costs: &[both(Opcode::Getxattr, "getxattrat")],
    },
    Step {
        what: "listing a directory",
        act: |at, _| assert_eq!(fs::read_dir(at.join("known-dir")).expect("opendir").count(), 3),
        // Three entries by name, without `.` and `..`; a second READDIR meets the end.
        costs: &[
            both(Opcode::Opendir, "open_by_handle_at"),
            both(
                Opcode::Readdirplus,
                "getdents64 name_to_handle_at newfstatat name_to_handle_at newfstatat \
                 name_to_handle_at newfstatat getdents64",
            ),
            both(Opcode::Releasedir, "close"),
        ],
    },
    Step {
        what: "create and unlink",
        act: |at, n| {
            let path = at.join(format!("new-{n}"));
            drop(File::create_new(&path).expect("create"));
            // Its RELEASE is served by itself, and it is no longer too young to be identified by its name.
            sleep(SETTLE * 5);
            fs::remove_file(path).expect("unlink");
        },
        costs: &[
            either(
                Opcode::Create,
                "openat name_to_handle_at fstat",
                // None of the attributes that registered files must not have is inherited.
                "openat name_to_handle_at fstat open_by_handle_at ioctl",
            ),
            both(Opcode::Release, "close"),
            either(
                Opcode::Unlink,
                "name_to_handle_at open_by_handle_at unlinkat fstat",
                // Registering it has opened it.
                "name_to_handle_at unlinkat fstat",
            ),
        ],
    },
    Step {
        what: "rename",
        act: |at, n| {
            let (old, new) = (at.join(format!("known-{n}")), at.join(format!("renamed-{n}")));
            fs::rename(&old, &new).expect("rename");
            fs::rename(&new, &old).expect("rename back");
        },
        costs: &[both(Opcode::Rename, "name_to_handle_at renameat")],
    },
    Step {
        what: "link, and unlink of one name of several",
        act: |at, n| {
            let new = at.join(format!("link-{n}"));
            fs::hard_link(at.join("known-0"), &new).expect("link");
            fs::remove_file(new).expect("unlink");
        },
        costs: &[
            both(Opcode::Link, "linkat fstat"),
            both(Opcode::Unlink, "name_to_handle_at unlinkat fstat"),
        ],
    },
    Step {
        what: "mkdir and rmdir",
        act: |at, n| {
            let path = at.join(format!("dir-{n}"));
            fs::create_dir(&path).expect("mkdir");
            fs::remove_dir(path).expect("rmdir");
        },
        costs: &[
            both(Opcode::Mkdir, "mkdirat openat fstat name_to_handle_at"),
            both(Opcode::Rmdir, "name_to_handle_at unlinkat fstat"),
        ],
    },
    Step {
        what: "symlink and readlink",
        act: |at, n| {
            let path = at.join(format!("symlink-{n}"));
            symlink("target", &path).expect("symlink");
            assert_eq!(fs::read_link(path).expect("readlink"), Path::new("target"));
        },
        costs: &[
            both(Opcode::Symlink, "symlinkat openat fstat name_to_handle_at"),
            both(Opcode::Readlink, "readlinkat"),
        ],
    },
];

fn stat(path: &Path) {
    fs::metadata(path).expect("stat");
}

fn getfattr(path: &Path) -> std::process::ExitStatus {
    let mut command = Command::new("getfattr");
    command.args(["-n", "user.none"]).arg(path).stderr(Stdio::null());
    command.status().expect("getfattr")
}
