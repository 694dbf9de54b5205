//! What a live mount counts, and how it is told.

pub mod snapshot;
