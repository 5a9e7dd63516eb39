//! Waiting for something to become true, with a deadline; and how long it took.

use std::time::{Duration, Instant};

/// How long [`eventually`] waits: generous, because a busy machine is slow and a broken gateway waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// Measures the wall clock from its start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the cast lives among real processes, whose time cannot be paused")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Lets the thread rest; only for pacing a load or a look, never to wait for something to have happened.
#[expect(clippy::disallowed_methods, reason = "threads of the cast are plain threads")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Waits until `condition` holds and fails the test, naming `what`, when it does not come true in time.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits up to `patience` until `condition` holds; fails the test, naming `what`, when it does not.
#[track_caller]
pub fn within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    assert!(comes_true(patience, &mut condition), "{what}: not within {patience:?}");
}

/// Whether `condition` comes true within `patience`.
pub fn comes_true(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let watch = Stopwatch::start();
    loop {
        if condition() {
            return true;
        }
        if watch.elapsed() > patience {
            return false;
        }
        pause(GLANCE);
    }
}

/// Waits until `look` finds something, and returns it.
#[track_caller]
pub fn found<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut thing = None;
    eventually(what, || {
        thing = look();
        thing.is_some()
    });
    thing.expect("the condition held, so there is something")
}
