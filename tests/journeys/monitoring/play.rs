//! Where a story stands, and what its sites do meanwhile.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cast::time::pause;

use crate::pace::Pace;
use crate::site::Site;

/// Where a story stands; its sites follow it.
#[derive(Debug, Default)]
pub(crate) struct Play(AtomicU8);

/// Says in the end that the story is over.
pub(crate) struct Over<'a>(&'a Play);

const DURING: u8 = 1;
const AFTER: u8 = 2;
const OVER: u8 = 3;

/// Between two looks at the story, and between two things that a site does.
const BEAT: Duration = Duration::from_millis(400);

// === impl Play ===

impl Play {
    /// The faults begin.
    pub(crate) fn begin(&self) {
        self.0.store(DURING, Ordering::SeqCst);
    }

    /// The faults end.
    pub(crate) fn end(&self) {
        self.0.store(AFTER, Ordering::SeqCst);
    }

    /// The story is over when what is returned is dropped.
    pub(crate) fn over_in_the_end(&self) -> Over<'_> {
        Over(self)
    }

    /// Has a site play its part until the story is over. What it starts lives as long as the thread that this is called on.
    pub(crate) fn run(&self, site: &mut dyn Site, pace: Pace) {
        self.reach(DURING);
        if self.stands() == DURING {
            site.begin();
        }
        while self.stands() == DURING {
            site.go_on(pace);
            pause(BEAT);
        }
        if self.stands() == AFTER {
            site.end();
        }
        self.reach(OVER);
    }

    fn stands(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }

    fn reach(&self, place: u8) {
        while self.stands() < place {
            pause(BEAT);
        }
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.0.store(OVER, Ordering::SeqCst);
    }
}
