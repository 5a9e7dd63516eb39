//! The system's randomness.

use std::hash::{BuildHasher, RandomState};
use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// Fills `bytes` with what nobody can guess.
///
/// # Errors
/// The system has none.
pub(super) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| io::Error::other("the system has no randomness"))
}

/// Differs between processes and calls.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
