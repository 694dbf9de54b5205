//! From samples to a comparison, and the comparison as table, Markdown and JSON.
//!
//! Knows the samples' types and nothing of how they came to be: everything here is a pure function
//! of what `samples.json` and `environment.json` hold, but for [`folder`], which writes them, and
//! [`ls`], which lists what was written.

pub mod compare;
mod differences;
pub mod error;
pub mod folder;
pub mod ls;
pub mod markdown;
pub mod statistics;
pub mod study;
pub mod summary;
pub mod table;
mod text;

#[cfg(test)]
mod fixture;
