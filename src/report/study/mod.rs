//! Telling of a study: [`results`] (a folder, read) -> [`digest`] (the comparison) -> the views of
//! it.

pub mod cell;
pub mod digest;
mod headline;
pub mod results;
mod warnings;

#[cfg(test)]
pub(crate) mod fixture;
