//! What becomes of one piece of a stream: most of it goes on as it is, and then nothing is copied. Pure.

/// Decides over one piece that was read, from its beginning to its end.
pub struct Passage<'a> {
    piece: &'a [u8],
    /// How far it has been decided.
    at: usize,
    /// From where on everything decided goes on and is not in `onward` yet.
    from: usize,
    onward: &'a mut Vec<u8>,
    is_rewritten: bool,
}

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// So many bytes of the piece, as they are; the few behind them were kept for the next piece.
    AsItIs(usize),
    /// What was written, instead of the piece.
    Rewritten,
}

// === impl Passage ===

impl<'a> Passage<'a> {
    /// At the beginning of `piece`; what is rewritten is appended to `onward`.
    pub fn new(piece: &'a [u8], onward: &'a mut Vec<u8>) -> Passage<'a> {
        Passage { piece, at: 0, from: 0, onward, is_rewritten: false }
    }

    /// What has not been decided.
    pub fn rest(&self) -> &'a [u8] {
        &self.piece[self.at..]
    }

    /// The next bytes go on as they are.
    pub fn keep(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// The next bytes do not go on.
    pub fn drop(&mut self, bytes: usize) {
        self.write(|_| ());
        self.at += bytes;
        self.from = self.at;
    }

    /// Here goes on what `write` appends.
    pub fn write<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.onward.extend_from_slice(&self.piece[self.from..self.at]);
        self.from = self.at;
        self.is_rewritten = true;
        write(self.onward)
    }

    /// All is decided.
    pub fn finish(mut self) -> Onward {
        if self.is_rewritten {
            self.write(|_| ());
            Onward::Rewritten
        } else {
            Onward::AsItIs(self.at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_throughout_is_not_copied() {
        let mut onward = Vec::new();
        let mut passage = Passage::new(b"abcdef", &mut onward);
        passage.keep(4);
        assert_eq!((passage.rest(), passage.finish()), (&b"ef"[..], Onward::AsItIs(4)));
        assert!(onward.is_empty());
    }

    #[test]
    fn what_is_written_stands_where_it_was_written() {
        let mut onward = Vec::new();
        let mut passage = Passage::new(b"abcdef", &mut onward);
        passage.keep(1);
        passage.write(|out| out.extend_from_slice(b"1"));
        passage.keep(1);
        passage.drop(2);
        passage.write(|out| out.extend_from_slice(b"2"));
        passage.keep(1);
        assert_eq!(passage.finish(), Onward::Rewritten);
        assert_eq!(onward, b"a1b2e");
    }
}
