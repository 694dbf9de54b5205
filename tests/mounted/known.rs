//! Where FUSE cannot be as native, and which rule of the kernel makes it so. A behaviour that meets
//! one of these names it; anything that differs and is not here fails.

/// One difference.
pub(crate) struct Known {
    pub(crate) id: &'static str,
    /// The rule of the kernel.
    pub(crate) rule: &'static str,
    /// `ok` or the errno on ext4.
    pub(crate) native: &'static str,
    /// `ok` or the errno on the mount.
    pub(crate) mounted: &'static str,
}

const ALL: &[Known] = &[
    Known {
        id: "fallocate-collapse",
        rule: "fuse_file_fallocate() passes on KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE only",
        native: "ok",
        mounted: "EOPNOTSUPP",
    },
    Known {
        id: "fallocate-insert",
        rule: "fuse_file_fallocate() passes on KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE only",
        native: "ok",
        mounted: "EOPNOTSUPP",
    },
    Known {
        id: "fiemap",
        rule: "fuse_file_inode_operations has no .fiemap, so FS_IOC_FIEMAP goes nowhere",
        native: "ok",
        mounted: "EOPNOTSUPP",
    },
];

/// The difference called `id`.
pub(crate) fn find(id: &str) -> &'static Known {
    ALL.iter()
        .find(|known| known.id == id)
        .unwrap_or_else(|| panic!("{id} is not a known difference"))
}
