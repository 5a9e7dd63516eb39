//! How a password is proved to the database: SCRAM-SHA-256 (RFC 5802, RFC 7677), with channel binding where the
//! connection is encrypted (RFC 5929), and md5. Pure.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use thiserror::Error;
use zeroize::Zeroizing;

/// The mechanism with channel binding.
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The mechanism without.
pub const PLAIN: &str = "SCRAM-SHA-256";

/// A proof that has begun: what the client said first.
pub struct Scram {
    header: String,
    binding: Vec<u8>,
    /// `n=user,r=nonce`.
    first_bare: String,
    nonce: String,
    password: Zeroizing<Vec<u8>>,
}

/// A proof that was given: the database must prove now that it knows the password, too.
pub struct Proved {
    server_signature: hmac::Tag,
}

/// Why the database is not believed, or not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// It offers none of the mechanisms.
    #[error("the database offers {0:?}, and SCRAM-SHA-256 is not among them")]
    Mechanisms(Vec<String>),
    /// Its message is malformed.
    #[error("the database's SCRAM message is malformed")]
    Malformed,
    /// It asks for more work than a login is worth.
    #[error("the database asks for {0} SCRAM iterations, and at most {MOST_ITERATIONS} are made")]
    Iterations(u64),
    /// It does not know the password itself, so that it is not the database that it should be.
    #[error("the database could not prove that it knows the password: is it another server?")]
    Impostor,
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Randomness,
}

/// PostgreSQL's default is 4,096; a million takes a second.
const MOST_ITERATIONS: u64 = 1_000_000;
/// Longer messages prove nothing.
const MOST_MESSAGE: usize = 4096;

// === impl Scram ===

impl Scram {
    /// Chooses among the mechanisms that the database offers: its name, and the proof's beginning. `binding` is what the
    /// database's certificate comes to, where the connection is encrypted.
    ///
    /// # Errors
    /// None of them is known.
    pub fn begin(offered: &[&str], binding: Option<&[u8]>, password: &str) -> Result<(&'static str, Scram), Error> {
        let mut nonce = [0; 18];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Error::Randomness)?;
        // PostgreSQL takes the user from the startup packet.
        Scram::begin_with(offered, binding, password, ("", BASE64.encode(nonce)))
    }

    fn begin_with(
        offered: &[&str],
        binding: Option<&[u8]>,
        password: &str,
        (user, nonce): (&str, String),
    ) -> Result<(&'static str, Scram), Error> {
        let (mechanism, header, binding) = match binding {
            Some(binding) if offered.contains(&PLUS) => (PLUS, "p=tls-server-end-point,,", binding),
            _ if !offered.contains(&PLAIN) => {
                return Err(Error::Mechanisms(offered.iter().map(ToString::to_string).collect()));
            }
            // We could, and the database says that it cannot: if that was somebody in between, it will notice.
            Some(_) => (PLAIN, "y,,", &[][..]),
            None => (PLAIN, "n,,", &[][..]),
        };
        // As PostgreSQL does: what cannot be prepared counts as it is.
        let prepared = stringprep::saslprep(password).map_or_else(|_| password.into(), std::borrow::Cow::into_owned);
        let password = Zeroizing::new(prepared.into_bytes());
        let first_bare = format!("n={user},r={nonce}");
        Ok((mechanism, Scram { header: header.to_owned(), binding: binding.to_vec(), first_bare, nonce, password }))
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.header, self.first_bare)
    }

    /// The answer to the database's first message, and what its last one must show.
    ///
    /// # Errors
    /// It is malformed, or asks for too much.
    pub fn answer(&self, challenge: &[u8]) -> Result<(String, Proved), Error> {
        let (nonce, salt, iterations) = self.read(challenge)?;
        let challenge = std::str::from_utf8(challenge).map_err(|_| Error::Malformed)?;
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, &self.password, &mut *salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*salted);
        let client_key = hmac::sign(&key, b"Client Key");
        let stored = digest::digest(&digest::SHA256, client_key.as_ref());
        let server_key = hmac::sign(&key, b"Server Key");

        let binding = BASE64.encode([self.header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={binding},r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.first_bare);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref()), signed.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, server_key.as_ref()), signed.as_bytes());
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)), Proved { server_signature }))
    }

    /// Nonce, salt and iterations of `r=...,s=...,i=...`.
    fn read<'a>(&self, challenge: &'a [u8]) -> Result<(&'a str, Vec<u8>, NonZeroU32), Error> {
        if challenge.len() > MOST_MESSAGE {
            return Err(Error::Malformed);
        }
        let text = std::str::from_utf8(challenge).map_err(|_| Error::Malformed)?;
        let mut parts = text.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(Error::Malformed);
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Error::Malformed);
        }
        let salt = BASE64.decode(salt).map_err(|_| Error::Malformed)?;
        let iterations: u64 = iterations.parse().map_err(|_| Error::Malformed)?;
        let wanted = u32::try_from(iterations).ok().filter(|_| iterations <= MOST_ITERATIONS);
        let wanted = wanted.and_then(NonZeroU32::new).ok_or(Error::Iterations(iterations))?;
        Ok((nonce, salt, wanted))
    }
}

// === impl Proved ===

impl Proved {
    /// Looks at the database's last message.
    ///
    /// # Errors
    /// It proves nothing.
    pub fn verify(&self, last: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(last).map_err(|_| Error::Malformed)?;
        let proof = text.split(',').next().and_then(|part| part.strip_prefix("v=")).ok_or(Error::Malformed)?;
        let proof = BASE64.decode(proof).map_err(|_| Error::Malformed)?;
        let expected = self.server_signature.as_ref();
        let differing = proof.iter().zip(expected).fold(0, |differing, (a, b)| differing | (a ^ b));
        if proof.len() == expected.len() && differing == 0 { Ok(()) } else { Err(Error::Impostor) }
    }
}

/// What old accounts want to see: `md5` and the hash of password, user and salt.
pub fn md5(user: &str, password: &str, salt: [u8; 4]) -> String {
    let inner = hex(&Md5::new().chain_update(password).chain_update(user).finalize());
    format!("md5{}", hex(&Md5::new().chain_update(inner).chain_update(salt).finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn scram(offered: &[&str], binding: Option<&[u8]>) -> (&'static str, Scram) {
        Scram::begin_with(offered, binding, "pencil", ("user", NONCE.into())).expect("a mechanism is known")
    }

    /// RFC 7677, section 3.
    #[test]
    fn the_proof_is_the_one_of_the_rfc() {
        let (mechanism, scram) = scram(&[PLAIN], None);
        assert_eq!((mechanism, scram.first().as_str()), (PLAIN, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
        let (answer, proved) = scram.answer(CHALLENGE.as_bytes()).expect("a challenge");
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(answer, expected);
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proved.verify(last), Ok(()));
        for end in 0..last.len() {
            assert!(proved.verify(&last[..end]).is_err(), "{end}");
        }
        let other = proved.verify(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(other, Err(Error::Impostor));
    }

    #[test]
    fn the_connection_is_bound_where_both_sides_can() {
        let begins = |offered: &[&str], binding: Option<&[u8]>| {
            let (mechanism, scram) = scram(offered, binding);
            format!("{mechanism} {}", &scram.first()[..2])
        };
        assert_eq!(begins(&[PLUS, PLAIN], Some(b"hash")), "SCRAM-SHA-256-PLUS p=");
        assert_eq!(begins(&[PLUS, PLAIN], None), "SCRAM-SHA-256 n,");
        assert_eq!(begins(&[PLAIN], Some(b"hash")), "SCRAM-SHA-256 y,");
        let none = Scram::begin(&["OAUTHBEARER"], None, "pencil").err();
        assert_eq!(none, Some(Error::Mechanisms(vec!["OAUTHBEARER".into()])));
    }

    #[test]
    fn challenges_that_are_none_are_refused() {
        let (_, scram) = scram(&[PLAIN], None);
        let refused = |challenge: &str| scram.answer(challenge.as_bytes()).err();
        for end in 0..CHALLENGE.len() - 4 {
            assert!(refused(&CHALLENGE[..end]).is_some(), "{end}");
        }
        assert_eq!(refused(&CHALLENGE.replace("4096", "0")), Some(Error::Iterations(0)));
        assert_eq!(refused(&CHALLENGE.replace("4096", "99999999999")), Some(Error::Iterations(99_999_999_999)));
        assert_eq!(refused(&CHALLENGE.replace("4096", "-1")), Some(Error::Malformed));
        assert_eq!(refused(&CHALLENGE.replace("r=rO", "r=xO")), Some(Error::Malformed));
        assert_eq!(refused(&"r=".repeat(MOST_MESSAGE)), Some(Error::Malformed));
    }

    #[test]
    fn md5_is_what_postgresql_computes() {
        assert_eq!(md5("user", "password", [1, 2, 3, 4]).len(), 35);
        assert_eq!(hex(&Md5::digest(b"abc")), "900150983cd24fb0d6963f7d28e17f72");
    }
}
