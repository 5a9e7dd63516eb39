//! Bytes that look random and can be told apart: each session carries a stream of its own.

/// An endless stream of pseudo-random bytes; the same seed gives the same stream, in pieces of any size.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Random {
    /// The stream of `seed`.
    pub fn seeded(seed: u64) -> Self {
        // Neighbouring seeds must not give similar streams, and the state must not be zero.
        let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self { state: (state ^ (state >> 31)) | 1, word: [0; 8], used: 8 }
    }

    /// The next number.
    pub fn next_word(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_word() % limit.max(1)
    }

    /// Fills `bytes` with what comes next in the stream.
    pub fn fill(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if self.used == 8 && bytes.len() >= 8 {
                let (words, rest) = bytes.split_at_mut(bytes.len() & !7);
                for word in words.chunks_exact_mut(8) {
                    word.copy_from_slice(&self.next_word().to_le_bytes());
                }
                bytes = rest;
                continue;
            }
            if self.used == 8 {
                self.word = self.next_word().to_le_bytes();
                self.used = 0;
            }
            let length = bytes.len().min(8 - self.used);
            bytes[..length].copy_from_slice(&self.word[self.used..self.used + length]);
            self.used += length;
            bytes = &mut bytes[length..];
        }
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }

    /// Whether `bytes` are what comes next in the stream.
    pub fn matches(&mut self, bytes: &[u8]) -> bool {
        let mut expected = [0; 4096];
        bytes.chunks(expected.len()).all(|chunk| {
            let expected = &mut expected[..chunk.len()];
            self.fill(expected);
            expected == chunk
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_does_not_depend_on_the_pieces_it_is_taken_in() {
        let whole = Random::seeded(7).bytes(10_000);
        let mut pieces = Random::seeded(7);
        let mut sizes = Random::seeded(1);
        let mut at = 0;
        while at < whole.len() {
            let length = usize::try_from(sizes.below(50)).unwrap().min(whole.len() - at);
            assert!(pieces.matches(&whole[at..at + length]));
            at += length;
        }
    }

    #[test]
    fn neighbouring_seeds_give_different_streams() {
        assert!(!Random::seeded(2).matches(&Random::seeded(3).bytes(8)));
    }
}
