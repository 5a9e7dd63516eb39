//! The operator in trouble: replicas that die or stand still, an API server that goes and comes back, and others who write
//! what the operator keeps, while people edit configurations and create pods. Then the trouble ends, and nothing may be
//! left of it.
//!
//! A seed decides what happens; how long each thing takes it does not, because all of this is real. The seed is printed:
//! `POSTERN_FIRST_SEED=7` runs it again, and `POSTERN_SEEDS=5` runs so many, one after the other on one cluster.

#[path = "../operator/stage.rs"]
#[allow(dead_code, reason = "the other journeys of the operator use all of it")]
mod stage;
mod world;
mod trouble;
mod writers;
mod users;
mod replicas;
mod settled;

use cast::Cluster;

use crate::world::World;

/// How many troubles there are in one series; with what users do meanwhile they take two to three minutes.
const TROUBLES: usize = 16;

#[test]
fn whatever_happens_to_the_operator_when_it_is_over_all_is_as_the_resources_say() {
    let cluster = Cluster::fresh();
    stage::install(&cluster);
    let first = asked("POSTERN_FIRST_SEED").unwrap_or_else(|| std::process::id().into());
    for seed in first..first + asked("POSTERN_SEEDS").unwrap_or(1) {
        eprintln!("seed {seed}: POSTERN_FIRST_SEED={seed} cargo verify -- operator-faults");
        let mut world = World::begin(&cluster, seed);
        for _ in 0..TROUBLES {
            trouble::next(&mut world);
        }
        settled::check(&mut world);
        eprintln!("seed {seed}: {}", world.told);
    }
}

/// A number that the environment names.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}
