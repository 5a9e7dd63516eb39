//! In which encodings the bytes of a text can be read as ASCII, wherever they stand. Pure.

/// How the names of those begin in which each byte of a longer character is above ASCII; others hide quotes, backslashes and
/// words within characters (PostgreSQL, chapter 23.3.1).
const PLAIN: [&[u8]; 15] = [
    b"utf8",
    b"unicode",
    b"sqlascii",
    b"latin",
    b"iso8859",
    b"win12",
    b"windows12",
    b"euc",
    b"koi8",
    b"win8",
    b"windows8",
    b"alt",
    b"abc",
    b"tcvn",
    b"vscii",
];

/// Whether each quote and each word of a text can be seen in the encoding with this name. Names are compared as PostgreSQL
/// does; of one that nobody knows it is not sure.
pub(super) fn is_plain(name: &[u8]) -> bool {
    let letters = || name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase);
    PLAIN.iter().any(|plain| letters().take(plain.len()).eq(plain.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_that_hide_ascii_within_characters_are_not_plain() {
        for name in ["SJIS", "SHIFT_JIS_2004", "Shift_JIS", "BIG5", "GBK", "GB18030", "UHC", "JOHAB", "", "ut", "else"]
        {
            assert!(!is_plain(name.as_bytes()), "{name}");
        }
        for name in
            ["UTF8", "utf-8", "Unicode", "SQL_ASCII", "LATIN1", "ISO_8859_5", "WIN1252", "KOI8R", "WIN866", "EUC_JP"]
        {
            assert!(is_plain(name.as_bytes()), "{name}");
        }
    }
}
