//! Randomness: for jitter and sampling a [`Random`], injected so that a test can fix it, and no secret; and what must be
//! one, from the system. In a simulation all of it comes from one seed.

use std::cell::Cell;
use std::io;
use std::time::Duration;

#[cfg(feature = "simulation")]
pub mod simulated;
#[cfg(not(feature = "simulation"))]
mod system;

#[cfg(feature = "simulation")]
use simulated as system;

/// A small generator (`SplitMix64`) of one worker.
#[derive(Debug)]
pub struct Random(Cell<u64>);

/// Bytes that nobody can guess.
///
/// # Errors
/// The system has none.
pub fn secret<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    system::fill(&mut bytes)?;
    Ok(bytes)
}

/// A secret of `length` bytes that is had in any case: where the system has no randomness yet, from what the hash maps are
/// seeded with, which is secret as well.
pub fn key(length: usize) -> Box<[u8]> {
    let mut key = vec![0; length];
    if system::fill(&mut key).is_err() {
        for chunk in key.chunks_mut(8) {
            chunk.copy_from_slice(&system::seed().to_ne_bytes()[..chunk.len()]);
        }
    }
    key.into()
}

// === impl Random ===

impl Random {
    /// Differs between processes and workers.
    pub fn from_system() -> Random {
        Random::from_seed(system::seed())
    }

    /// Always the same sequence.
    pub fn from_seed(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    /// The next 64 bits.
    pub fn bits(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    pub fn fraction(&self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time from `least` x `whole` to `most` x `whole`, of which neither is more than 1.
    pub fn part_of(&self, whole: Duration, least: f64, most: f64) -> Duration {
        let factor = least + (most - least) * self.fraction();
        if factor >= 1.0 {
            return whole;
        }
        Duration::try_from_secs_f64(whole.as_secs_f64() * factor).unwrap_or(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stays_between_its_bounds() {
        let random = Random::from_seed(7);
        for _ in 0..1000 {
            let part = random.part_of(Duration::from_secs(10), 0.5, 0.9);
            assert!((Duration::from_secs(5)..=Duration::from_secs(9)).contains(&part), "{part:?}");
        }
        assert_eq!(random.part_of(Duration::MAX, 1.0, 1.0), Duration::MAX);
        assert!(random.part_of(Duration::MAX, 0.0, 1.0) <= Duration::MAX);
    }
}
