//! What happens to the database and to the connections to it while peers talk.

use std::fmt;
use std::time::Duration;

use cast::time::pause;
use cast::{Postgres, Random};

use super::bridge::Bridge;

/// Between two faults.
const PACE: Duration = Duration::from_millis(100);

/// Faults in the order in which a seed brings them, and how many there were.
pub(super) struct Faults {
    random: Random,
    terminated: u32,
    resets: u32,
    restarts: u32,
    since_restart: u32,
}

// === impl Faults ===

impl Faults {
    pub(super) fn new(seed: u64) -> Faults {
        Faults { random: Random::seeded(seed), terminated: 0, resets: 0, restarts: 0, since_restart: 0 }
    }

    /// Brings the next one.
    pub(super) fn one_more(&mut self, postgres: &mut Postgres, bridge: &Bridge) {
        pause(PACE);
        self.since_restart += 1;
        match self.random.below(100) {
            0..3 if self.since_restart > 20 => {
                if self.random.below(2) == 0 {
                    postgres.stop();
                } else {
                    postgres.stop_immediately();
                }
                postgres.start_again();
                self.restarts += 1;
                self.since_restart = 0;
            }
            0..50 => {
                bridge.cut(&mut self.random);
                self.resets += 1;
            }
            _ => {
                postgres.query(
                    "select pg_terminate_backend(pid) from pg_stat_activity where client_addr is not null \
                     order by random() limit 1",
                );
                self.terminated += 1;
            }
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { terminated, resets, restarts, .. } = self;
        write!(out, "{terminated} backends terminated, {resets} connections reset, {restarts} restarts")
    }
}
