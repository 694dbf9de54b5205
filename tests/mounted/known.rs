//! Where FUSE cannot be as native, and which rule of the kernel makes it so, from
//! tests/known-differences.toml. A behaviour that meets one of these names it; anything that differs
//! and is not there fails.

use std::sync::LazyLock;

use serde::Deserialize;

/// One difference.
#[derive(Deserialize)]
pub(crate) struct Known {
    id: String,
    /// The rule of the kernel.
    pub(crate) rule: String,
    /// On ext4: `ok`, the errno, or how the answer begins. Nothing where a suite shows it, or a test
    /// that compares by itself.
    pub(crate) native: Option<String>,
    /// On the mount, likewise.
    pub(crate) mounted: Option<String>,
    /// The data modes in which it shows; `None` is every one.
    pub(crate) only: Option<String>,
}

#[derive(Deserialize)]
struct File {
    difference: Vec<Known>,
}

static ALL: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let file: Result<File, _> = toml::from_str(include_str!("../known-differences.toml"));
    file.unwrap_or_else(|error| panic!("tests/known-differences.toml: {error}")).difference
});

/// The difference called `id`.
pub(crate) fn find(id: &str) -> &'static Known {
    ALL.iter()
        .find(|known| known.id == id)
        .unwrap_or_else(|| panic!("{id} is not a known difference"))
}
