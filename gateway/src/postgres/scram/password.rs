//! What becomes of a password before anything is sent. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;

use md5::{Digest, Md5};
use ring::hmac;
use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// The salted password (`Hi` in RFC 5802) on its way: it costs thousands of hashes, and they come in steps, so that one
/// thread can do something else in between.
pub struct Salting {
    key: hmac::Key,
    last: hmac::Tag,
    sum: Zeroizing<[u8; 32]>,
    left: u32,
}

/// Hashes of one step: a millisecond or two, and all that PostgreSQL asks for by default.
const STEP: u32 = 4096;

/// What answers the md5 request of the database: `md5` and 32 hexadecimal digits.
pub fn md5(user: &str, password: &str, salt: [u8; 4]) -> Zeroizing<String> {
    let known = hexadecimal(&Md5::new().chain_update(password).chain_update(user).finalize());
    let proof = hexadecimal(&Md5::new().chain_update(known.as_bytes()).chain_update(salt).finalize());
    Zeroizing::new(format!("md5{}", *proof))
}

fn hexadecimal(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        // A String takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The password as SCRAM hashes it: prepared by `SASLprep` (RFC 4013) where that allows it, else as it is.
///
/// PostgreSQL looks for forbidden characters before it normalizes, where the RFC does so afterwards. A few characters
/// come out otherwise that way, and whoever has them in a password must be able to log in.
pub fn prepared(password: &str) -> Zeroizing<String> {
    let prepared = prepare(password).unwrap_or(Cow::Borrowed(password));
    Zeroizing::new(prepared.into_owned())
}

fn prepare(password: &str) -> Option<Cow<'_, str>> {
    if password.is_ascii() {
        return Some(Cow::Borrowed(password));
    }
    let mut mapped = Zeroizing::new(String::with_capacity(password.len()));
    for character in password.chars() {
        if tables::non_ascii_space_character(character) {
            mapped.push(' ');
        } else if !tables::commonly_mapped_to_nothing(character) {
            mapped.push(character);
        }
    }
    let is_allowed = !mapped.is_empty() && !mapped.contains(is_forbidden) && is_of_one_direction(&mapped);
    is_allowed.then(|| Cow::Owned(mapped.nfkc().collect()))
}

/// What RFC 4013 prohibits, and what Unicode 3.2 did not know.
fn is_forbidden(character: char) -> bool {
    [
        tables::non_ascii_space_character,
        tables::ascii_control_character,
        tables::non_ascii_control_character,
        tables::private_use,
        tables::non_character_code_point,
        tables::surrogate_code,
        tables::inappropriate_for_plain_text,
        tables::inappropriate_for_canonical_representation,
        tables::change_display_properties_or_deprecated,
        tables::tagging_character,
        tables::unassigned_code_point,
    ]
    .iter()
    .any(|is_in| is_in(character))
}

/// Section 6 of RFC 3454: what is written from the right begins and ends so, and has nothing that is written from the left.
fn is_of_one_direction(text: &str) -> bool {
    let is_right_to_left = tables::bidi_r_or_al;
    !text.contains(is_right_to_left)
        || (text.starts_with(is_right_to_left) && text.ends_with(is_right_to_left) && !text.contains(tables::bidi_l))
}

// === impl Salting ===

impl Salting {
    /// Begins; the caller has bounded the number of iterations.
    pub fn new(password: &str, salt: &[u8], iterations: u32) -> Salting {
        let key = hmac::Key::new(hmac::HMAC_SHA256, prepared(password).as_bytes());
        let mut first = hmac::Context::with_key(&key);
        first.update(salt);
        first.update(&1_u32.to_be_bytes());
        let last = first.sign();
        let mut sum = Zeroizing::new([0; 32]);
        sum.copy_from_slice(last.as_ref());
        Salting { key, last, sum, left: iterations.saturating_sub(1) }
    }

    /// Goes on for a step; whether there is more to do.
    #[must_use]
    pub fn step(&mut self) -> bool {
        let step = self.left.min(STEP);
        for _ in 0..step {
            self.last = hmac::sign(&self.key, self.last.as_ref());
            self.sum.iter_mut().zip(self.last.as_ref()).for_each(|(sum, last)| *sum ^= last);
        }
        self.left -= step;
        self.left > 0
    }

    /// The salted password; whatever steps are missing are taken now.
    pub fn finish(mut self) -> Zeroizing<[u8; 32]> {
        while self.step() {}
        std::mem::take(&mut self.sum)
    }
}

impl std::fmt::Debug for Salting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Salting({} iterations to go)", self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use ring::pbkdf2;

    use super::*;

    #[test]
    fn md5_is_what_postgresql_computes() {
        // md5('secretapp') is what pg_authid keeps; the rest is md5 of that and of the salt.
        assert_eq!(*md5("app", "secret", [1, 2, 3, 4]), "md5911f527656472583a006e7727877b33e");
    }

    #[test]
    fn a_password_is_prepared_as_postgresql_prepares_it() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("a\tb", "a\tb"),
            ("I\u{ad}X", "IX"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            ("a\u{3000}b", "a b"),
            ("e\u{301}", "\u{e9}"),
            // Both a space and nothing: a space.
            ("a\u{200b}b", "a b"),
            // Nothing would be left.
            ("\u{ad}", "\u{ad}"),
            // Control characters beside others.
            ("\u{e9}\u{7}", "\u{e9}\u{7}"),
            ("\u{e9}\u{85}", "\u{e9}\u{85}"),
            // Not known to Unicode 3.2.
            ("\u{2168}\u{1f600}", "\u{2168}\u{1f600}"),
            // Forbidden, though its normal form is not.
            ("\u{2168}\u{340}", "\u{2168}\u{340}"),
            // From the right: alone, and mixed.
            ("\u{627}1\u{628}", "\u{627}1\u{628}"),
            ("\u{627}\u{2168}\u{628}", "\u{627}\u{2168}\u{628}"),
            ("\u{627}\u{2168}", "\u{627}\u{2168}"),
        ];
        for (password, expected) in cases {
            assert_eq!(*prepared(password), expected, "{password:?}");
        }
    }

    proptest! {
        #[test]
        fn salting_in_steps_is_pbkdf2(password in "[ -~]{0,80}", salt in any::<[u8; 16]>(), iterations in 1_u32..9000) {
            let mut expected = [0; 32];
            let rounds = NonZeroU32::new(iterations).expect("at least one");
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut expected);
            prop_assert_eq!(*Salting::new(&password, &salt, iterations).finish(), expected);
        }

        #[test]
        fn any_password_is_prepared_or_left_alone(password in any::<String>()) {
            let once = prepared(&password);
            prop_assert!(!once.is_empty() || password.is_empty());
        }
    }

    #[test]
    fn a_thread_is_never_busy_for_longer_than_a_step() {
        let mut salting = Salting::new("secret", b"salt", 3 * STEP);
        assert_eq!([salting.step(), salting.step(), salting.step(), salting.step()], [true, true, false, false]);
        assert_eq!(format!("{salting:?}"), "Salting(0 iterations to go)");
    }
}
