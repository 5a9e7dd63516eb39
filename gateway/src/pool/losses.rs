//! How fast warm clients are dialed that the database keeps closing. Pure but for the clock.

use std::time::Duration;

use crate::clock::Instant;
use crate::random::Random;

/// Warm clients that the database closed by itself: dialing for new ones gets slower each time.
#[derive(Default)]
pub(super) struct Losses {
    in_a_row: u32,
    last: Option<Instant>,
    pub(super) not_before: Option<Instant>,
}

/// The pause after the first loss. A database that shuts down ends its clients first and accepts new ones until it is
/// down; PostgreSQL then waits up to a minute for one that does not log in. So none is dialed for nobody meanwhile.
const FIRST_LOSS_PAUSE: Duration = Duration::from_secs(5);
/// The slowest pace at which warm clients are dialed that the database keeps closing.
const MOST_LOSS_PAUSE: Duration = Duration::from_secs(30);
/// After this long without a loss the next one is a first one again.
const LOSSES_FORGOTTEN: Duration = Duration::from_mins(2);

// === impl Losses ===

impl Losses {
    /// The database closed a client that a session had, or has just come back: no reason to count, but to wait. One that
    /// starts may take connections before it is ready, and says no to each of them whenever it is asked (PostgreSQL does:
    /// "the database system is starting up"); only a login tells.
    pub(super) fn hold(&mut self, random: &Random) {
        let until = Instant::now() + random.part_of(FIRST_LOSS_PAUSE, 0.75, 1.0);
        self.not_before = Some(self.not_before.map_or(until, |at| at.max(until)));
    }

    /// A loss is made good after 5 s, the next after 10 s, 20 s, up to 30 s: a database that accepts and closes is not
    /// dialed without end. A peer that comes meanwhile has its client dialed at once.
    pub(super) fn count(&mut self, random: &Random) {
        let now = Instant::now();
        if self.last.is_none_or(|last| now - last > LOSSES_FORGOTTEN) {
            self.in_a_row = 0;
        }
        let pause = (FIRST_LOSS_PAUSE * (1 << self.in_a_row.min(3))).min(MOST_LOSS_PAUSE);
        self.in_a_row += 1;
        self.last = Some(now);
        self.not_before = Some(now + random.part_of(pause, 0.75, 1.0));
    }
}
