//! How the bytes of an input become decisions: each takes some from the front, and what is missing counts as zero, so that
//! every input means something and a byte more changes little.

/// What of an input has not been taken.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

// === impl Input ===

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *byte
    }

    /// A number below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// One of `choices`.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Eight bytes, as a number.
    pub fn number(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// As many bytes as the next two say, or all that are left.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        piece
    }

    /// `message` as somebody in between hands it on: as it is where the input says nothing of it; else with some bytes
    /// replaced, put in or taken out; or another one altogether.
    pub fn changed(&mut self, message: &[u8]) -> Vec<u8> {
        let mut edits = Input::new(self.piece());
        let mut changed = message.to_vec();
        while !edits.is_empty() {
            let what = edits.byte();
            let place = usize::from(u16::from_be_bytes([edits.byte(), edits.byte()])) % (changed.len() + 1);
            match what % 4 {
                0 if place < changed.len() => changed[place] = edits.byte(),
                1 => changed.insert(place, edits.byte()),
                2 if place < changed.len() => drop(changed.remove(place)),
                3 => changed = edits.rest().to_vec(),
                _ => {}
            }
        }
        changed
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// `stream` in pieces of `size` bytes; of one byte, where that is 0.
pub fn pieces(stream: &[u8], size: u8) -> std::slice::Chunks<'_, u8> {
    stream.chunks(usize::from(size.max(1)))
}
