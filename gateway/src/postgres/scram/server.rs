//! The server's end of SCRAM, towards peers. Pure.
//!
//! Whoever has no account is asked for a proof like everybody else, by a [`Verifier`] that no password satisfies, and with
//! a salt that is always the same: names cannot be found out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::password::Salting;
use super::{Attributes, Binding, Error, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, decode, is_nonce, readable, sign, xor};
use crate::postgres::wire::split_text;

/// What is to be known of a password in order to verify proofs of it; made once for each content of a Secret.
pub struct Verifier {
    salt: [u8; 16],
    iterations: u32,
    stored_key: Zeroizing<[u8; 32]>,
    server_key: Zeroizing<[u8; 32]>,
}

/// Gives each user name a salt, whether or not somebody has it: made once for each process.
pub struct Salts(hmac::Key);

/// The server of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Whose password it is.
    pub verifier: &'a Verifier,
    /// What peers can bind the exchange to: our certificate's hash, over TLS.
    pub end_point: Option<&'a [u8]>,
}

/// An exchange that waits for the peer's proof.
#[derive(Debug)]
pub struct Waiting {
    binding: Binding,
    nonce: String,
    /// All that both sides have said so far.
    said: String,
}

/// What PostgreSQL uses by default, too.
pub const ITERATIONS: u32 = 4096;

// === impl Salts ===

impl Salts {
    /// Of 32 random bytes, which nobody else knows.
    pub fn new(secret: [u8; 32]) -> Salts {
        Salts(hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }

    /// The salt of a user's password.
    pub fn of(&self, user: &str) -> [u8; 16] {
        let tag = hmac::sign(&self.0, user.as_bytes());
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// A mark by which a user name and password are known again, and of which neither can be told.
    pub fn mark(&self, user: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        // A name has no zero byte, so this is the salt of none.
        for part in [user.as_bytes(), b"\0", password.as_bytes()] {
            context.update(part);
        }
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }
}

impl std::fmt::Debug for Salts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Salts")
    }
}

// === impl Verifier ===

impl Verifier {
    /// Of a user's password; it costs [`ITERATIONS`] hashes.
    pub fn new(password: &str, salt: [u8; 16]) -> Verifier {
        Verifier::of(password, salt, ITERATIONS)
    }

    /// The same, by so many hashes.
    pub fn of(password: &str, salt: [u8; 16], iterations: u32) -> Verifier {
        let salted = Salting::new(password, &salt, iterations).finish();
        let client_key = sign(&*salted, b"Client Key");
        let mut verifier = Verifier { iterations, ..Verifier::of_nobody(salt) };
        verifier.stored_key.copy_from_slice(digest::digest(&digest::SHA256, client_key.as_ref()).as_ref());
        verifier.server_key.copy_from_slice(sign(&*salted, b"Server Key").as_ref());
        verifier
    }

    /// Of nobody: whatever is proved is wrong, as nobody knows what hashes to zeros, and that takes as long as with somebody's.
    pub fn of_nobody(salt: [u8; 16]) -> Verifier {
        let nothing = || Zeroizing::new([0; 32]);
        Verifier { salt, iterations: ITERATIONS, stored_key: nothing(), server_key: nothing() }
    }

    fn server_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*self.server_key)
    }

    /// Takes as long whatever the proof is.
    fn is_proved_by(&self, proof: [u8; 32], said: &str) -> bool {
        let signature = sign(&*self.stored_key, said.as_bytes());
        let shown = digest::digest(&digest::SHA256, &xor(proof, signature.as_ref()));
        // Hashes of both are compared, by what ring has for it, which does not stop at the first difference.
        let key = self.server_key();
        let expected = hmac::sign(&key, &*self.stored_key);
        hmac::verify(&key, shown.as_ref(), expected.as_ref()).is_ok()
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Verifier({} iterations)", self.iterations)
    }
}

// === impl Server ===

impl Server<'_> {
    /// What is offered, the best first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        if self.end_point.is_some() { &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256] } else { &[SCRAM_SHA_256] }
    }

    /// Reads the peer's first message, and answers it; `nonce` is printable and never used twice.
    ///
    /// # Errors
    /// It is malformed, or what it says of channel binding cannot be.
    pub fn challenge(&self, mechanism: &str, message: &[u8], nonce: &str) -> Result<(Waiting, String), Error> {
        let message = readable(message)?;
        let (binding, bare) = self.binding(mechanism, message)?;
        let mut attributes = Attributes::of(bare);
        attributes.take("n", "there is no user name, or an extension that is not known here")?;
        let theirs = attributes.take("r", "there is no nonce")?;
        if !is_nonce(theirs) {
            return Err(Error::Malformed("the nonce is not printable"));
        }
        if !attributes.are_optional() {
            return Err(Error::Malformed("what follows is no attribute"));
        }
        let nonce = format!("{theirs}{nonce}");
        let challenge = format!("r={nonce},s={},i={}", STANDARD.encode(self.verifier.salt), self.verifier.iterations);
        Ok((Waiting { binding, nonce, said: format!("{bare},{challenge}") }, challenge))
    }

    /// What the first message's header says of channel binding, and what follows the header.
    fn binding<'m>(&self, mechanism: &str, message: &'m str) -> Result<(Binding, &'m str), Error> {
        let (flag, rest) = message.split_once(',').ok_or(Error::Malformed("there is no header"))?;
        // An authorization identity, which would stand between the commas, is another user's name: PostgreSQL has none either.
        let bare = rest.strip_prefix(',').ok_or(Error::Malformed("there is an authorization identity"))?;
        let binding = match (mechanism, flag, self.end_point) {
            (SCRAM_SHA_256_PLUS, _, None) => return Err(Error::Mechanism),
            (SCRAM_SHA_256_PLUS, "p=tls-server-end-point", Some(hash)) => Binding::EndPoint(hash.to_vec()),
            (SCRAM_SHA_256_PLUS, _, _) => return Err(Error::Binding),
            (SCRAM_SHA_256, "n", _) => Binding::Unable,
            (SCRAM_SHA_256, "y", None) => Binding::Unoffered,
            (SCRAM_SHA_256, "y", Some(_)) => return Err(Error::Downgrade),
            (SCRAM_SHA_256, _, _) => return Err(Error::Malformed("it binds the channel without saying so")),
            _ => return Err(Error::Mechanism),
        };
        Ok((binding, bare))
    }

    /// Reads the peer's last message, and answers it with the proof that we know the password, too.
    ///
    /// # Errors
    /// It is malformed, its channel is another than ours, or it proves nothing.
    pub fn verify(&self, waiting: Waiting, message: &[u8]) -> Result<String, Error> {
        let Waiting { binding, nonce, said } = waiting;
        let message = readable(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Error::Malformed("there is no proof"))?;
        let mut attributes = Attributes::of(without_proof);
        let repeated = attributes.take("c", "there is no channel binding")?;
        let answered = attributes.take("r", "there is no nonce")?;
        let proof = decode::<32>(proof).ok_or(Error::Malformed("the proof is none"))?;
        if !attributes.are_optional() {
            return Err(Error::Malformed("what follows is no attribute"));
        }
        if answered != nonce {
            return Err(Error::Malformed("it answers another nonce"));
        }
        if repeated != binding.repeated() {
            return Err(Error::Binding);
        }
        let said = format!("{said},{without_proof}");
        if !self.verifier.is_proved_by(proof, &said) {
            return Err(Error::Password);
        }
        Ok(format!("v={}", STANDARD.encode(hmac::sign(&self.verifier.server_key(), said.as_bytes()))))
    }
}

/// Reads the body of a SASLInitialResponse: the mechanism, and the first message unless that comes later.
pub fn initial(body: &[u8]) -> Result<(&str, Option<&[u8]>), Error> {
    const MALFORMED: Error = Error::Malformed("it is no SASLInitialResponse");
    let (mechanism, rest) = split_text(body).ok_or(MALFORMED)?;
    let mechanism = std::str::from_utf8(mechanism).map_err(|_| MALFORMED)?;
    let (length, message) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
    match i32::from_be_bytes(*length) {
        -1 if message.is_empty() => Ok((mechanism, None)),
        length if usize::try_from(length) == Ok(message.len()) => Ok((mechanism, Some(message))),
        _ => Err(MALFORMED),
    }
}
