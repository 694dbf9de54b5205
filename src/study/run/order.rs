//! Who runs when: seeded, interleaved. Pure; knows nothing of what a cell does.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Place in the whole study, from 0.
    pub(crate) sequence: usize,
    /// Round, from 0.
    pub(crate) round: u32,
    /// Index of the cell.
    pub(crate) cell: usize,
    /// Index of the system.
    pub(crate) system: usize,
}

/// The order of all turns: in each round the cells in a random order, and the systems of a cell one
/// after the other in a random order of their own, so that neither a drift of the machine nor what one
/// leaves in a cache favours another. `takes_part[cell]` are the systems of a cell.
pub(crate) fn order(takes_part: &[Vec<usize>], rounds: u32, seed: u64) -> Vec<Turn> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut turns = Vec::new();
    for round in 0..rounds {
        let mut cells: Vec<usize> = (0..takes_part.len()).collect();
        cells.shuffle(&mut random);
        for cell in cells {
            let mut systems = takes_part[cell].clone();
            systems.shuffle(&mut random);
            for system in systems {
                turns.push(Turn { sequence: turns.len(), round, cell, system });
            }
        }
    }
    turns
}

/// How many of the first `taken` turns make whole cells: what was cut off in the middle of a cell's
/// turns is taken again, so that its systems meet the same machine.
pub(crate) fn whole_cells(turns: &[Turn], taken: usize) -> usize {
    let of = |turn: &Turn| (turn.round, turn.cell);
    let Some(next) = turns.get(taken).map(of) else { return turns.len() };
    turns[..taken].iter().rposition(|turn| of(turn) != next).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(cells: usize, systems: usize) -> Vec<Vec<usize>> {
        vec![(0..systems).collect(); cells]
    }

    #[test]
    fn every_round_has_every_cell_with_its_systems_in_a_row() {
        let takes_part = vec![vec![0, 1, 2, 3], vec![0, 1], vec![0, 1, 3]];
        let turns = order(&takes_part, 4, 1);
        assert_eq!(turns.len(), 9 * 4);
        for (sequence, turn) in turns.iter().enumerate() {
            assert_eq!(turn.sequence, sequence);
        }
        for (round, turns) in (0..).zip(turns.chunks(9)) {
            let groups: Vec<&[Turn]> = turns.chunk_by(|a, b| a.cell == b.cell).collect();
            assert_eq!(groups.len(), 3, "the systems of a cell are not torn apart");
            for group in groups {
                assert!(group.iter().all(|turn| turn.round == round));
                let systems: BTreeSet<usize> = group.iter().map(|turn| turn.system).collect();
                assert_eq!(systems.into_iter().collect::<Vec<_>>(), takes_part[group[0].cell]);
            }
        }
    }

    #[test]
    fn the_seed_decides_the_order_and_nothing_else_does() {
        assert_eq!(order(&all(6, 4), 3, 42), order(&all(6, 4), 3, 42));
        assert_ne!(order(&all(6, 4), 3, 42), order(&all(6, 4), 3, 43));
        let more = order(&all(6, 4), 5, 42);
        assert_eq!(order(&all(6, 4), 3, 42), more[..6 * 4 * 3], "more rounds only add");
    }

    #[test]
    fn every_system_takes_every_place() {
        let turns = order(&all(20, 3), 10, 9);
        for system in 0..3 {
            for place in 0..3 {
                let count = turns.chunks(3).filter(|row| row[place].system == system).count();
                assert!((40..95).contains(&count), "system {system} at {place}: {count} of 200");
            }
        }
    }

    #[test]
    fn a_cell_that_was_cut_off_is_taken_again_from_its_first_turn() {
        let turns = order(&all(2, 3), 2, 1);
        for (taken, whole) in [(0, 0), (1, 0), (2, 0), (3, 3), (5, 3), (6, 6), (11, 9), (12, 12)] {
            assert_eq!(whole_cells(&turns, taken), whole, "after {taken}");
        }
    }
}
