//! Who runs when: seeded, interleaved, native twice. Pure; knows nothing of what a cell does.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::sample::Role;

/// One turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Round, from 0.
    pub round: u32,
    /// Index of the cell in the matrix.
    pub cell: usize,
    /// Who runs.
    pub role: Role,
}

/// The order of all turns: in each round the cells in a random order, each cell's three turns one
/// after the other. Fusewire's place among the three goes through first, middle and last in any
/// three consecutive rounds (in an order of the cell's own), so that neither a drift of the
/// machine nor what the first of three leaves in a cache favours one side.
pub fn plan(cells: usize, rounds: u32, seed: u64) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut places: Vec<[usize; 3]> = vec![[0, 1, 2]; cells];
    let mut steps = Vec::new();
    for round in 0..rounds {
        let turn = (round % 3) as usize;
        if turn == 0 {
            places.iter_mut().for_each(|places| places.shuffle(&mut rng));
        }
        let mut order: Vec<usize> = (0..cells).collect();
        order.shuffle(&mut rng);
        for cell in order {
            let mut roles = vec![Role::NativeA, Role::NativeB];
            roles.shuffle(&mut rng);
            roles.insert(places[cell][turn], Role::Fusewire);
            steps.extend(roles.into_iter().map(|role| Step { round, cell, role }));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_round_has_every_cell_in_all_three_roles_and_a_row() {
        let steps = plan(5, 4, 1);
        assert_eq!(steps.len(), 5 * 4 * 3);
        for (index, turns) in steps.chunks(3).enumerate() {
            let round = u32::try_from(index / 5).expect("small");
            assert!(turns.iter().all(|step| step.round == round && step.cell == turns[0].cell));
            let roles: BTreeSet<Role> = turns.iter().map(|step| step.role).collect();
            assert_eq!(roles.len(), 3);
        }
        for round in steps.chunks(15) {
            let cells: BTreeSet<usize> = round.iter().map(|step| step.cell).collect();
            assert_eq!(cells.len(), 5);
        }
    }

    #[test]
    fn fusewire_takes_each_place_once_in_three_rounds() {
        let steps = plan(7, 6, 3);
        for cell in 0..7 {
            for rounds in [0..3, 3..6] {
                let places: BTreeSet<usize> = rounds
                    .map(|round| {
                        steps
                            .iter()
                            .filter(|step| step.cell == cell && step.round == round)
                            .position(|step| step.role == Role::Fusewire)
                            .expect("fusewire runs in each round")
                    })
                    .collect();
                assert_eq!(places, BTreeSet::from([0, 1, 2]));
            }
        }
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(plan(6, 3, 42), plan(6, 3, 42));
        assert_ne!(plan(6, 3, 42), plan(6, 3, 43));
    }

    #[test]
    fn neither_native_run_is_always_first() {
        let steps = plan(18, 4, 9);
        let first_a = steps
            .chunks(3)
            .filter(|turns| {
                let at = |role| turns.iter().position(|step| step.role == role);
                at(Role::NativeA) < at(Role::NativeB)
            })
            .count();
        assert!((18..=54).contains(&first_a), "{first_a} of 72");
    }
}
