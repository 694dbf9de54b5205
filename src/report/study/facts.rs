//! How a study was measured and on what, in words: for the page and for the README.

use super::digest::Digest;
use crate::report::statistics::SAME_WITHIN;
use crate::report::text;
use crate::study::environment::Environment;
use crate::study::record::{NATIVE, System};

/// How to read a verdict, and what made the figures.
pub(super) fn method(digest: &Digest) -> Vec<String> {
    let reference = digest.the_reference();
    let twice = match digest.reference() {
        NATIVE => "natively".to_owned(),
        _ => format!("on {reference}"),
    };
    vec![
        format!(
            "{} rounds, seed {}. In each round every cell runs on every system, and {twice} twice, one \
             after the other in a seeded order. The ratio of a round is the system's figure against the \
             geometric mean of the round's two of {reference}; shown is the median of the rounds with its \
             bootstrap 95 % interval, which need not be the ratio of the medians shown beside it. Of rates \
             it is a share of {reference}'s (higher is better), of times a multiple (lower is better). Means \
             over cells are geometric, and over those that all systems have.",
            digest.rounds, digest.seed
        ),
        "The time of an operation is the wall time over the operations of all threads: with several \
         threads it tells how often one ends, not how long one takes, which is the latency."
            .to_owned(),
        format!(
            "A/A is what {reference} differs from itself by. \"slower\" and \"faster\" are said only if the \
             interval excludes 1 and the median lies outside of A/A; \"same\" only if the interval holds 1, \
             and it and A/A are no wider than x{SAME_WITHIN}. All else is \"unclear\": no difference was \
             shown, but one may hide in the interval or in A/A."
        ),
        "Requests are the daemon's own counters, read before and after the timed part. CPU time is that \
         of client and daemon. Absolute figures do not travel between machines, ratios do to some degree."
            .to_owned(),
    ]
}

/// What the daemon said was in force.
pub(super) fn in_force(system: &System) -> String {
    let told = |found| format!("{}; {}", text::in_force(found), found.profile);
    system.in_force.as_ref().map_or_else(|| "-".to_owned(), told)
}

/// Name and value of everything that is known of the machine.
pub(super) fn environment(environment: &Environment) -> Vec<(&'static str, String)> {
    let backing = &environment.backing;
    let known = |value: &Option<String>| value.clone().unwrap_or_default();
    let commit = environment.commit.as_ref().map_or_else(String::new, |c| format!(" ({c})"));
    let guest = if environment.virtual_machine { ", a virtual machine" } else { "" };
    let parameters: Vec<String> =
        environment.fuse_parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let facts = vec![
        ("began", environment.began.clone()),
        ("command", environment.command.join(" ")),
        ("fusewire", format!("{}{commit}", environment.fusewire)),
        ("kernel", environment.kernel.clone()),
        ("fuse module", parameters.join(" ")),
        ("backing", backing.description.clone()),
        ("mount options", backing.mount_options.clone()),
        ("mkfs options", known(&backing.mkfs_options)),
        ("scheduler", known(&backing.scheduler)),
        ("fio", environment.fio.clone()),
        ("O_DIRECT through", environment.direct_engine.clone()),
        (
            "machine",
            format!(
                "{}, {} CPUs, {} MiB{guest}",
                environment.cpu, environment.cpus, environment.memory_mib
            ),
        ),
        ("governor", known(&environment.governor)),
        (
            "noise",
            format!(
                "load {:.2} at the start, {:.1} % of CPU time stolen, {:.0} s in all",
                environment.load_average, environment.steal_percent, environment.duration_seconds
            ),
        ),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
