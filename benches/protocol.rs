//! Decoding and encoding without a mount.
fn main() {}
