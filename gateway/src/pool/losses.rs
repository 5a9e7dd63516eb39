//! How fast warm clients are dialed that the database keeps closing. Pure but for the clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;

/// Warm clients that the database closed by itself: dialing for new ones gets slower each time.
#[derive(Default)]
pub(super) struct Losses {
    in_a_row: u32,
    last: Option<Instant>,
    pub(super) not_before: Option<Instant>,
}

/// The slowest pace at which warm clients are dialed that the database keeps closing.
const MOST_LOSS_PAUSE: Duration = Duration::from_secs(30);
/// After this long without a loss the next one is a first one again.
const LOSSES_FORGOTTEN: Duration = Duration::from_mins(2);

// === impl Losses ===

impl Losses {
    /// The first loss is made good at once, the next after 1 s, 2 s, 4 s, ... up to 30 s: a database that accepts and
    /// closes is not dialed without end.
    pub(super) fn count(&mut self, random: &Random) {
        let now = Instant::now();
        if self.last.is_none_or(|last| now - last > LOSSES_FORGOTTEN) {
            self.in_a_row = 0;
        }
        let pause = match self.in_a_row {
            0 => Duration::ZERO,
            losses => Duration::from_secs(1 << (losses - 1).min(5)).min(MOST_LOSS_PAUSE),
        };
        self.in_a_row += 1;
        self.last = Some(now);
        self.not_before = Some(now + random.part_of(pause, 0.75, 1.0));
    }
}
