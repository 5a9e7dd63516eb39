//! What may happen in storms, and must not fill the log.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::Instant;

/// When something was said last, and how often it has happened since.
#[derive(Debug, Default)]
pub struct Sparse {
    said: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

// === impl Sparse ===

impl Sparse {
    /// Whether it may be said again, and how often it has happened since it was said last.
    pub fn may_say(&self) -> Option<u64> {
        if self.said.get().is_some_and(|at| at.elapsed() < INTERVAL) {
            self.unsaid.set(self.unsaid.get() + 1);
            return None;
        }
        self.said.set(Some(Instant::now()));
        Some(self.unsaid.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_one_line_a_second_that_says_how_many_there_were() {
        let sparse = Sparse::default();
        assert_eq!([sparse.may_say(), sparse.may_say(), sparse.may_say()], [Some(0), None, None]);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(sparse.may_say(), Some(2));
    }
}
