//! SQL, piece by piece: literals, comments, names and marks. This is no parser. Pure.

/// One piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// A keyword or a name without quotes.
    Plain(&'a [u8]),
    /// A name in double quotes, without them.
    Quoted(&'a [u8]),
    /// A name in double quotes with Unicode escapes, `U&"..."`, which is not read.
    Escaped,
    /// A literal of any kind.
    Literal,
    /// Any other character.
    Mark(u8),
}

/// Reads SQL piece by piece.
#[derive(Clone)]
pub(super) struct Words<'a> {
    /// What has not been read.
    pub(super) rest: &'a [u8],
}

// === impl Word ===

impl Word<'_> {
    /// Whether it is this keyword, or this name.
    pub(super) fn is(&self, keyword: &str) -> bool {
        match self {
            Word::Plain(word) => word.eq_ignore_ascii_case(keyword.as_bytes()),
            Word::Quoted(name) => *name == keyword.as_bytes(),
            Word::Escaped | Word::Literal | Word::Mark(_) => false,
        }
    }

    /// Whether it is this keyword, which no name in quotes is.
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self, Word::Plain(_)) && self.is(keyword)
    }

    /// The name that it is, folded as PostgreSQL folds it.
    pub(super) fn name(&self) -> Option<Vec<u8>> {
        match self {
            Word::Plain(word) => Some(word.to_ascii_lowercase()),
            Word::Quoted(name) => Some(unquoted(name)),
            Word::Escaped | Word::Literal | Word::Mark(_) => None,
        }
    }
}

// === impl Words ===

impl<'a> Words<'a> {
    /// At the beginning of `sql`.
    pub(super) fn new(sql: &'a [u8]) -> Words<'a> {
        Words { rest: sql }
    }

    /// Skips what stands between two statements: the first word of the next one.
    pub(super) fn begin_statement(&mut self) -> Option<Word<'a>> {
        loop {
            match self.next()? {
                Word::Mark(b';') => {}
                first => return Some(first),
            }
        }
    }

    /// The next piece, which stays.
    pub(super) fn peek(&self) -> Option<Word<'a>> {
        self.clone().next()
    }

    /// The next piece.
    pub(super) fn next(&mut self) -> Option<Word<'a>> {
        self.skip_blanks();
        let (&first, after) = self.rest.split_first()?;
        match first {
            b'\'' => Some(self.literal(after, false)),
            b'"' => Some(self.quoted(after)),
            b'$' if self.dollar().is_some() => {
                self.rest = self.dollar()?;
                Some(Word::Literal)
            }
            _ if is_name_start(first) => Some(self.plain()),
            _ if first.is_ascii_digit() => {
                // A word may follow at once: until PostgreSQL 14 `1into` is two.
                let end = self.rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
                Some(Word::Literal)
            }
            _ => {
                self.rest = after;
                Some(Word::Mark(first))
            }
        }
    }

    /// The text of the literal that comes next, where it is one in quotes and nothing in it stands for anything else.
    pub(super) fn plain_literal(&mut self) -> Option<&'a [u8]> {
        self.skip_blanks();
        let literal = self.rest.strip_prefix(b"'")?;
        let end = literal.iter().position(|byte| *byte == b'\'')?;
        self.next();
        // Two quotes are one, and the literal goes on.
        (self.rest.len() + end + 1 == literal.len()).then(|| &literal[..end])
    }

    fn plain(&mut self) -> Word<'a> {
        let is_part = |byte: &u8| is_name_start(*byte) || byte.is_ascii_digit() || *byte == b'$';
        let end = self.rest.iter().position(|byte| !is_part(byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if let Some(after) = rest.strip_prefix(b"'") {
            match word {
                b"e" | b"E" => return self.literal(after, true),
                b"b" | b"B" | b"x" | b"X" | b"n" | b"N" => return self.literal(after, false),
                _ => {}
            }
        }
        if let (b"u" | b"U", Some(after)) = (word, rest.strip_prefix(b"&\"")) {
            self.quoted(after);
            return Word::Escaped;
        }
        Word::Plain(word)
    }

    /// A literal whose quote was read; with `has_escapes` a backslash takes the next character along.
    fn literal(&mut self, mut rest: &'a [u8], has_escapes: bool) -> Word<'a> {
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'\\' if has_escapes => rest = rest.get(1..).unwrap_or_default(),
                b'\'' => match rest.strip_prefix(b"'") {
                    Some(after) => rest = after,
                    None => break,
                },
                _ => {}
            }
        }
        self.rest = rest;
        Word::Literal
    }

    fn quoted(&mut self, name: &'a [u8]) -> Word<'a> {
        let mut end = 0;
        loop {
            match name[end..].iter().position(|byte| *byte == b'"') {
                Some(at) if name.get(end + at + 1) == Some(&b'"') => end += at + 2,
                Some(at) => {
                    end += at;
                    break;
                }
                None => {
                    end = name.len();
                    break;
                }
            }
        }
        self.rest = name.get(end + 1..).unwrap_or_default();
        Word::Quoted(&name[..end])
    }

    /// What follows a literal in dollars that begins here.
    fn dollar(&self) -> Option<&'a [u8]> {
        let inner = &self.rest[1..];
        let end = inner.iter().position(|byte| *byte == b'$')?;
        let name = &inner[..end];
        let is_tag = name.iter().all(|byte| is_name_start(*byte) || byte.is_ascii_digit())
            && name.first().is_none_or(|first| !first.is_ascii_digit());
        if !is_tag {
            return None;
        }
        let (mark, body) = self.rest.split_at(end + 2);
        let closes = body.windows(mark.len()).position(|window| window == mark);
        Some(closes.map_or(&[][..], |at| &body[at + mark.len()..]))
    }

    /// Skips blanks and comments.
    pub(super) fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b && *byte != 0);
            self.rest = &self.rest[blanks.unwrap_or(self.rest.len())..];
            if self.rest.starts_with(b"--") {
                let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
            } else if self.rest.starts_with(b"/*") {
                self.skip_comment();
            } else {
                return;
            }
        }
    }

    /// Comments of this kind nest.
    fn skip_comment(&mut self) {
        let mut depth = 0_usize;
        while !self.rest.is_empty() {
            if self.rest.starts_with(b"/*") {
                depth += 1;
                self.rest = &self.rest[2..];
            } else if self.rest.starts_with(b"*/") {
                depth -= 1;
                self.rest = &self.rest[2..];
                if depth == 0 {
                    return;
                }
            } else {
                self.rest = &self.rest[1..];
            }
        }
    }
}

/// A name that stood in quotes: each two quotes within are one.
fn unquoted(mut name: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(name.len());
    while let Some((&byte, rest)) = name.split_first() {
        whole.push(byte);
        name = if byte == b'"' { rest.strip_prefix(b"\"").unwrap_or(rest) } else { rest };
    }
    whole
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(sql in "[a-z'\"$;/*\\- \\\\()\n,.]{0,80}") {
            let mut words = Words::new(sql.as_bytes());
            let mut count = 0;
            while words.next().is_some() {
                count += 1;
                prop_assert!(count <= sql.len());
            }
        }
    }
}
