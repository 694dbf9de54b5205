//! What is done before the power is cut, and what is asked afterwards. Lines are those of the shell of
//! system calls.

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What is there before, on the disk already.
    pub(crate) before: &'static [&'static str],
    /// What is done.
    pub(crate) lines: &'static [&'static str],
    pub(crate) end: End,
    /// What is asked of the living file system and of the one after the cut: the answers must be the
    /// same.
    pub(crate) looks: &'static [&'static str],
}

/// What is between the last line and the cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing.
    Cut,
    /// Nothing, and nothing was synced: the answers must differ, or the cut cuts nothing.
    CutUnsynced,
    /// Nothing; natively all was synced, and through FUSE nothing was.
    CutSyncedNatively,
    /// The mount is unmounted. Not played natively.
    Unmount,
    /// The daemon is told to end. Not played natively.
    Terminate,
}

const fn case(
    name: &'static str,
    before: &'static [&'static str],
    lines: &'static [&'static str],
    looks: &'static [&'static str],
) -> Case {
    Case { name, before, lines, end: End::Cut, looks }
}

pub(crate) static CASES: &[Case] = &[
    Case {
        end: End::CutUnsynced,
        ..case("nothing_synced", &[], &["put f pat:1:70000", "mkdir d 755"], &["get f", "ls ."])
    },
    case(
        "fsync",
        &[],
        &["open f f rw,creat 644", "write f pat:1:70000", "chmod f 640", "fsync f"],
        &["get f", "ls .", "stat f"],
    ),
    case(
        "fsync_by_another",
        &["put f old"],
        &["open f f w", "pwrite f 9000 pat:2:70000", "close f", "open g f r", "fsync g"],
        &["get f"],
    ),
    case(
        "fsync_of_attributes",
        &["put f text"],
        &[
            "setx f user.a kept",
            "chmod f 751",
            "chown f 1001 2000",
            "utimens f 1000 2000",
            "truncate f 30000",
            "open f f r",
            "fsync f",
        ],
        &["stat f", "mtime f", "getx f user.a", "get f"],
    ),
    case(
        "fdatasync_over_old_bytes",
        &["put f pat:3:70000"],
        &["open f f rw", "pwrite f 4000 pat:4:50000", "fdatasync f"],
        &["get f"],
    ),
    case(
        "fdatasync_of_a_longer_file",
        &["put f pat:3:5000"],
        &["open f f rw,append", "write f pat:4:50000", "fdatasync f"],
        &["get f"],
    ),
    case(
        "written_by_dsync",
        &["put f pat:3:5000"],
        &["open f f rw,dsync", "pwrite f 3000 pat:5:60000"],
        &["get f"],
    ),
    case(
        "written_by_sync",
        &[],
        &["open f f rw,creat,sync 644", "write f pat:6:60000", "write f more"],
        &["get f", "ls ."],
    ),
    case(
        "written_with_a_flag",
        &["put f pat:3:5000"],
        &["open f f rw", "pwritedsync f 100 pat:7:60000"],
        &["get f"],
    ),
    case(
        "written_directly",
        &["put f pat:3:20000"],
        &["open f f rw,direct", "pwrite f 4096 pat:8:65536", "fdatasync f"],
        &["get f"],
    ),
    case(
        "written_directly_by_dsync",
        &["put f pat:3:20000"],
        &["open f f rw,direct,dsync", "pwrite f 4096 pat:9:65536"],
        &["get f"],
    ),
    case(
        "mapped",
        &["put f pat:3:20000"],
        &["open f f rw", "mmap m f 0 20000 shared rw", "store m 5000 pat:10:9000", "msync m"],
        &["get f"],
    ),
    case(
        "mapped_then_fsync",
        &["put f pat:3:20000"],
        &["open f f rw", "mmap m f 0 20000 shared rw", "store m 5000 pat:11:9000", "fsync f"],
        &["get f"],
    ),
    case(
        "allocated",
        &["put f pat:3:20000"],
        &[
            "open f f rw",
            "fallocate f default 0 60000",
            "fallocate f punch,keep 4096 8192",
            "fallocate f zero 12288 4096",
            "fsync f",
        ],
        &["get f", "stat f"],
    ),
    case(
        "copied",
        &["put from pat:12:90000"],
        &["open from from r", "open f f rw,creat 644", "copy from 0 f 0 90000", "fsync f"],
        &["get f"],
    ),
    case(
        "directory",
        &["mkdir d 755", "put d/gone text", "put d/old text"],
        &[
            "mkdir d/new 751",
            "symlink target d/link",
            "put d/empty -",
            "unlink d/gone",
            "rename d/old d/renamed",
            "link d/renamed d/second",
            "mknod d/pipe fifo 644",
            "open d d r,dir",
            "fsync d",
        ],
        &["ls d", "readlink d/link", "get d/renamed", "get d/second", "stat d/new", "stat d/empty"],
    ),
    case(
        "between_directories",
        &["mkdir a 755", "mkdir b 755", "put a/f pat:13:5000", "put b/f text"],
        &["rename a/f b/f", "open a a r,dir", "open b b r,dir", "fsync a", "fsync b"],
        &["ls a", "ls b", "get b/f"],
    ),
    case(
        "unnamed_file",
        &[],
        &["open f . rw,tmpfile 644", "write f pat:14:9000", "linkfd f named", "fsync f"],
        &["ls .", "get named"],
    ),
    case(
        "replaced",
        &["put f pat:15:9000"],
        &[
            "open new new rw,creat 644",
            "write new pat:16:70000",
            "fsync new",
            "rename new f",
            "open d . r,dir",
            "fsync d",
        ],
        &["ls .", "get f"],
    ),
    case(
        "sync_of_everything",
        &["put f text"],
        &["append f pat:17:9000", "mkdir d 755", "put d/new pat:18:70000", "rename f d/f", "sync"],
        &["ls .", "ls d", "get d/new", "get d/f"],
    ),
    // fuse_sync_fs() tells the daemon of syncfs(2) on virtiofs and fuseblk only. What the kernel passed
    // through is dirty in the source's inodes, which do not belong to the superblock that is synced.
    Case {
        end: End::CutSyncedNatively,
        ..case(
            "syncfs",
            &[],
            &["open f f rw,creat 644", "write f pat:23:70000", "syncfs f"],
            &["get f", "ls ."],
        )
    },
    Case {
        end: End::Unmount,
        ..case(
            "unmounted",
            &["put f text"],
            &["put new pat:19:300000", "append f more", "mkdir d 755"],
            &["ls .", "get new", "get f"],
        )
    },
    Case {
        end: End::Unmount,
        ..case(
            "unmounted_after_mapping",
            &["put f pat:20:20000"],
            &["open f f rw", "mmap m f 0 20000 shared rw", "store m 5000 pat:21:9000"],
            &["get f"],
        )
    },
    Case {
        end: End::Terminate,
        ..case(
            "terminated",
            &["put f text"],
            &["put new pat:22:300000", "append f more", "rename new f"],
            &["ls .", "get f"],
        )
    },
];
