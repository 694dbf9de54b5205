//! What fuzzing begins with: a request of each kind.

use std::fs;
use std::path::PathBuf;

use crate::golden;

/// Writes a file for each into the folder `FUSEWIRE_SEEDS`, in the form that the target reads.
pub fn write(form: impl Fn(Vec<u8>) -> Vec<u8>) {
    let Some(folder) = std::env::var_os("FUSEWIRE_SEEDS").map(PathBuf::from) else { return };
    for golden in golden::all() {
        let path = folder.join(golden.name.to_lowercase());
        fs::write(&path, form(golden.request()))
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}
