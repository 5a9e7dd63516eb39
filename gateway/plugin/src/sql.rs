//! Statements, as far as a plugin has to understand them: where words, literals and comments are, and what a statement is
//! when its literals do not count.
//!
//! It reads what PostgreSQL reads, but decides nothing: what is no statement at all has words as well.

use std::fmt::Write as _;

/// Of a fingerprint's text this many bytes are kept.
const MAX_TEXT: usize = 2048;

/// A part of a statement; blanks and comments are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A key word, or a name without quotes.
    Word(&'a str),
    /// A name in double quotes, without them.
    Quoted(&'a str),
    /// A string, a number, or a parameter such as `$1`.
    Literal(&'a str),
    /// Any other character.
    Mark(char),
}

/// The parts of a text, one after the other.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a str,
}

/// A statement without its literals, and a short name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The same for all statements that differ in nothing but literals, blanks, comments, and the case of words.
    pub hash: u64,
    /// What it stands for, shortened if it is long.
    pub text: String,
}

/// The parts of `text`.
pub fn tokens(text: &str) -> Tokens<'_> {
    Tokens { rest: text }
}

/// The parts of each statement of `text`.
pub fn statements(text: &str) -> Vec<Vec<Token<'_>>> {
    let all: Vec<Token<'_>> = tokens(text).collect();
    all.split(|token| *token == Token::Mark(';')).filter(|part| !part.is_empty()).map(<[_]>::to_vec).collect()
}

// === impl Token ===

impl Token<'_> {
    /// Whether it is this key word, in whatever case.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(found) if found.eq_ignore_ascii_case(word))
    }
}

// === impl Tokens ===

impl<'a> Tokens<'a> {
    /// Takes the first `length` bytes, of which there may be fewer.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Takes everything up to and with `end`, or all there is.
    fn take_through(&mut self, end: &str) -> &'a str {
        self.take(self.rest.find(end).map_or(self.rest.len(), |at| at + end.len()))
    }

    fn skip_blanks(&mut self) {
        loop {
            let before = self.rest.len();
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("--") {
                self.take_through("\n");
            } else if self.rest.starts_with("/*") {
                self.skip_comment();
            }
            if self.rest.len() == before {
                return;
            }
        }
    }

    /// Comments nest.
    fn skip_comment(&mut self) {
        let mut depth = 0;
        loop {
            let (length, deeper) = match (self.rest.find("/*"), self.rest.find("*/")) {
                (Some(begin), Some(end)) if begin < end => (begin + 2, 1),
                (_, Some(end)) => (end + 2, -1),
                (_, None) => (self.rest.len(), -depth),
            };
            self.take(length);
            depth += deeper;
            if depth == 0 {
                return;
            }
        }
    }

    /// The length of what begins and ends with `quote`, which counts as one inside when it is doubled, or escaped where that
    /// is possible.
    fn quoted(&self, from: usize, quote: u8, has_escapes: bool) -> usize {
        let bytes = self.rest.as_bytes();
        let mut at = from + 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if has_escapes => at += 2,
                found if found == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
                found if found == quote => return at + 1,
                _ => at += 1,
            }
        }
        bytes.len()
    }

    fn word(&mut self) -> Token<'a> {
        let length = self.rest.find(|c: char| !is_inner(c)).unwrap_or(self.rest.len());
        let is_prefix = matches!(&self.rest[..length], "e" | "E" | "b" | "B" | "x" | "X" | "n" | "N");
        if is_prefix && self.rest[length..].starts_with('\'') {
            let has_escapes = self.rest.starts_with(['e', 'E']);
            return Token::Literal(self.take(self.quoted(length, b'\'', has_escapes)));
        }
        Token::Word(self.take(length))
    }

    /// `$1`, `$tag$ ... $tag$`, or a mark.
    fn dollar(&mut self) -> Token<'a> {
        let inner = self.rest[1..].find(|c: char| !is_inner(c) || c == '$').map_or(self.rest.len(), |end| end + 1);
        let name = &self.rest[1..inner];
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
            return Token::Literal(self.take(inner));
        }
        if self.rest[inner..].starts_with('$') && !name.starts_with(|c: char| c.is_ascii_digit()) {
            let tag = &self.rest[..=inner];
            let end = self.rest[tag.len()..].find(tag).map_or(self.rest.len(), |end| end + 2 * tag.len());
            return Token::Literal(self.take(end));
        }
        self.take(1);
        Token::Mark('$')
    }

    fn number(&mut self) -> Token<'a> {
        let mut length = 0;
        let mut last = '0';
        for c in self.rest.chars() {
            let is_sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || is_sign) {
                break;
            }
            (length, last) = (length + c.len_utf8(), c);
        }
        Token::Literal(self.take(length))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let first = self.rest.chars().next()?;
        Some(match first {
            '\'' => Token::Literal(self.take(self.quoted(0, b'\'', false))),
            '"' => {
                let quoted = self.take(self.quoted(0, b'"', false));
                Token::Quoted(quoted.trim_matches('"'))
            }
            '$' => self.dollar(),
            '0'..='9' => self.number(),
            first if is_inner(first) => self.word(),
            first => {
                self.take(first.len_utf8());
                Token::Mark(first)
            }
        })
    }
}

/// Whether a name may have it inside.
fn is_inner(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

// === impl Fingerprint ===

impl Fingerprint {
    /// The fingerprint of `text`.
    pub fn of(text: &str) -> Self {
        let mut parts: Vec<String> = Vec::new();
        for token in tokens(text) {
            parts.push(match token {
                Token::Word(word) => word.to_lowercase(),
                Token::Quoted(name) => format!("\"{name}\""),
                Token::Literal(_) => "?".into(),
                Token::Mark(mark) => mark.into(),
            });
            fold(&mut parts);
        }
        let mut text = String::new();
        for part in &parts {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{part}", if needs_blank(&text, part) { " " } else { "" });
        }
        let hash = hash(text.as_bytes());
        if let Some((cut, _)) = text.char_indices().find(|(at, _)| *at >= MAX_TEXT) {
            text.truncate(cut);
        }
        Self { hash, text }
    }
}

/// However long a list of literals is, or a list of such lists, it counts as one.
fn fold(parts: &mut Vec<String>) {
    for list in [&["?", ",", "?"][..], &["(", "?", ")", ",", "(", "?", ")"]] {
        if parts.len() >= list.len() && parts[parts.len() - list.len()..].iter().eq(list) {
            parts.truncate(parts.len() - list.len() / 2 - 1);
        }
    }
}

/// Whether a blank makes `part` behind `text` easier to read.
fn needs_blank(text: &str, part: &str) -> bool {
    let tight = |c: char| "(.[:".contains(c);
    !text.is_empty() && !text.ends_with(tight) && !part.starts_with(|c| ",;).]:[".contains(c) || c == '.')
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text)
            .filter_map(|token| if let Token::Word(word) = token { Some(word.to_owned()) } else { None })
            .collect()
    }

    #[test]
    fn words_in_strings_comments_and_names_are_none() {
        for text in [
            "select 1 -- drop\n from t",
            "select /* drop /* drop */ drop */ 'drop '' drop' from t",
            "select E'\\' drop' from t",
            "select $$ drop $$ from t",
            "select $a$ drop $$ drop $a$ from t",
            "select \"drop\" from t",
            "select $1 from t",
            "select 1e-7 from t",
        ] {
            assert_eq!(words(text), ["select", "from", "t"], "{text}");
        }
    }

    #[test]
    fn whatever_does_not_end_ends_with_the_text() {
        for text in ["'", "\"", "/*", "/* /* */", "--", "$a$", "$", "E'\\", "é'ü", "$é", "1e"] {
            assert!(tokens(text).count() <= 3, "{text}");
        }
    }

    #[test]
    fn statements_end_with_semicolons_and_nothing_else() {
        let found = statements("select ';'; ; drop table a /* ; */; ");
        let first: Vec<Token<'_>> = found.iter().map(|statement| statement[0]).collect();
        assert_eq!(first, [Token::Word("select"), Token::Word("drop")]);
    }

    #[test]
    fn literals_blanks_comments_and_case_make_no_difference() {
        let one = Fingerprint::of("SELECT a.b FROM \"T\" AS a WHERE id IN (1, 2, 3) AND name = 'x' -- why");
        let other = Fingerprint::of("select a.b\n from \"T\" as a where id in ($1) and name = $2");
        assert_eq!(one, other);
        assert_eq!(one.text, "select a.b from \"T\" as a where id in (?) and name = ?");
        assert_ne!(one.hash, Fingerprint::of("select a.b from \"t\" as a where id in (?) and name = ?").hash);
        let rows = Fingerprint::of("insert into t (a, b) values (1, 2), (3, 4), (5, 6)");
        assert_eq!(rows.text, "insert into t (a, b) values (?)");
    }

    #[test]
    fn a_long_text_is_shortened_and_its_fingerprint_is_of_all_of_it() {
        let long = |end: &str| Fingerprint::of(&format!("select {} {end}", "ä, ".repeat(2000)));
        assert!(long("a").text.len() <= MAX_TEXT + 4);
        assert_ne!(long("a").hash, long("b").hash);
    }
}
