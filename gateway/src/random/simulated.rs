//! Randomness of a simulation: the same in each run of the same seed.

use std::cell::RefCell;
use std::io;

use super::Random;

thread_local! {
    static SOURCE: RefCell<Random> = RefCell::new(Random::from_seed(0));
}

/// From now on all randomness of this thread follows from `seed`.
pub fn begin(seed: u64) {
    SOURCE.set(Random::from_seed(seed));
}

/// Fills `bytes`.
#[expect(clippy::unnecessary_wraps, reason = "the system's may fail")]
pub(super) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&seed().to_ne_bytes()[..chunk.len()]);
    }
    Ok(())
}

/// Differs between calls.
pub(super) fn seed() -> u64 {
    SOURCE.with_borrow(Random::bits)
}
