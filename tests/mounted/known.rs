//! Where FUSE cannot be as native, and which rule of the kernel makes it so. A behaviour that meets
//! one of these names it; anything that differs and is not here fails.

/// One difference.
pub(crate) struct Known {
    pub(crate) id: &'static str,
    /// The rule of the kernel.
    pub(crate) rule: &'static str,
    /// On ext4: `ok`, the errno, or how the answer begins.
    pub(crate) native: &'static str,
    /// On the mount, likewise.
    pub(crate) mounted: &'static str,
    /// The data mode in which it shows; `None` is every one.
    pub(crate) only: Option<&'static str>,
}

const ALL: &[Known] = &[
    Known {
        id: "fallocate-collapse",
        rule: "fuse_file_fallocate() passes on KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE only",
        native: "ok",
        mounted: "EOPNOTSUPP",
        only: None,
    },
    Known {
        id: "fallocate-insert",
        rule: "fuse_file_fallocate() passes on KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE only",
        native: "ok",
        mounted: "EOPNOTSUPP",
        only: None,
    },
    Known {
        id: "fiemap",
        rule: "fuse_file_inode_operations has no .fiemap, so FS_IOC_FIEMAP goes nowhere",
        native: "ok",
        mounted: "EOPNOTSUPP",
        only: None,
    },
    Known {
        id: "seek-limit",
        rule: "generic_file_llseek() asks the s_maxbytes of the FUSE superblock, which is the largest",
        native: "EINVAL",
        mounted: "ok",
        only: None,
    },
    Known {
        id: "setfl-append-only",
        rule: "setfl() asks S_APPEND of the FUSE inode, which no reply can set",
        native: "EPERM",
        mounted: "ok",
        only: None,
    },
    Known {
        id: "setuid-under-roots-writes",
        rule: "fuse_passthrough_write_iter() writes as who registered the backing file, whoever \
               calls; that is without CAP_FSETID, or no user's write would clear setuid",
        native: "reg 6755",
        mounted: "reg 755",
        only: Some("passthrough"),
    },
    Known {
        id: "setgid-of-a-member",
        rule: "the backing file is changed by the daemon, which is not in the caller's groups: \
               setgid without group execution is cleared for members too",
        native: "reg 2765",
        mounted: "reg 765",
        only: None,
    },
];

/// The difference called `id`.
pub(crate) fn find(id: &str) -> &'static Known {
    ALL.iter()
        .find(|known| known.id == id)
        .unwrap_or_else(|| panic!("{id} is not a known difference"))
}
