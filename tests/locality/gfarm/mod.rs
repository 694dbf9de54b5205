//! Files of Gfarm, read from the spool of a storage node.

mod cases;
mod ground;
mod start;
mod writers;

use crate::common::limit::Body;

pub(crate) use ground::Ground;

pub(crate) const TESTS: [(&str, Body<Ground>); 16] = [
    ("gfarm::reads::from_the_spool", cases::from_the_spool),
    ("gfarm::reads::of_another_node", cases::of_another_node),
    ("gfarm::reads::after_a_rewrite", cases::after_a_rewrite),
    ("gfarm::reads::after_a_truncation", cases::after_a_truncation),
    ("gfarm::reads::of_what_was_renamed_over", cases::of_what_was_renamed_over),
    ("gfarm::reads::beside_an_open_writer", cases::beside_an_open_writer),
    ("gfarm::reads::with_permission", cases::with_permission),
    ("gfarm::torture", writers::tortured),
    ("gfarm::replicas::made_meanwhile", cases::made_meanwhile),
    ("gfarm::replicas::lost", cases::lost),
    ("gfarm::start::refused", start::refused),
    ("gfarm::start::with_another_spool", start::with_another_spool),
    ("gfarm::start::with_a_file_of_the_shell", start::with_a_file_of_the_shell),
    ("gfarm::start::with_a_node_that_hands_out_nothing", start::with_a_node_that_hands_out_nothing),
    ("gfarm::servers::storage_node_gone", cases::storage_node_gone),
    ("gfarm::servers::silent", cases::silent),
];
