//! The client's end of SCRAM: three messages of ours, of which each is only there once the one before was answered. Pure.
//!
//! [`Client`] has the first; what the database answers makes it a [`Challenged`], whose salting costs time; that makes the
//! last message, and an [`Answered`] that knows what the database has to prove.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};

use super::password::Salting;
use super::{Attributes, Binding, Error, MOST_ITERATIONS, decode, is_nonce, readable, sign, xor};

/// An exchange that begins.
#[derive(Debug)]
pub struct Client {
    binding: Binding,
    /// The first message without its header. PostgreSQL knows the user already, and ignores the name.
    bare: String,
    nonce: String,
}

/// The database has answered, and the password has to be salted.
#[derive(Debug)]
pub struct Challenged {
    /// Takes its steps while the thread has time for them.
    pub salting: Salting,
    without_proof: String,
    /// All that both sides have said so far.
    said: String,
}

/// The proof is on its way.
pub struct Answered {
    server_key: hmac::Key,
    said: String,
}

// === impl Client ===

impl Client {
    /// Begins an exchange; `nonce` is printable and never used twice.
    pub fn new(binding: Binding, nonce: &str) -> Client {
        Client::named(binding, "", nonce)
    }

    pub(super) fn named(binding: Binding, user: &str, nonce: &str) -> Client {
        Client { binding, bare: format!("n={user},r={nonce}"), nonce: nonce.to_owned() }
    }

    /// The mechanism that is to be named with the first message.
    pub fn mechanism(&self) -> &'static str {
        self.binding.mechanism()
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare)
    }

    /// Reads the database's first message.
    ///
    /// # Errors
    /// It is malformed, answers somebody else, or asks for too much.
    pub fn challenged(self, message: &[u8], password: &str) -> Result<Challenged, Error> {
        let message = readable(message)?;
        let mut attributes = Attributes::of(message);
        let nonce = attributes.take("r", "there is no nonce")?;
        let ours = nonce.strip_prefix(&self.nonce).ok_or(Error::Malformed("it answers another nonce"))?;
        if !is_nonce(ours) {
            return Err(Error::Malformed("the nonce adds nothing"));
        }
        let salt = attributes.take("s", "there is no salt")?;
        let salt = STANDARD.decode(salt).map_err(|_| Error::Malformed("the salt is not base64"))?;
        let iterations = iterations(attributes.take("i", "there is no number of iterations")?)?;
        if attributes.0.next().is_some() {
            return Err(Error::Malformed("something follows"));
        }
        let without_proof = format!("c={},r={nonce}", self.binding.repeated());
        let said = format!("{},{message},{without_proof}", self.bare);
        Ok(Challenged { salting: Salting::new(password, &salt, iterations), without_proof, said })
    }
}

fn iterations(text: &str) -> Result<u32, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Malformed("the number of iterations is none"));
    }
    // More digits than fit are more iterations than anybody computes.
    let asked = text.parse().unwrap_or(u64::MAX);
    match u32::try_from(asked) {
        Ok(0) => Err(Error::Malformed("there are no iterations")),
        Ok(iterations) if iterations <= MOST_ITERATIONS => Ok(iterations),
        _ => Err(Error::Iterations(asked)),
    }
}

// === impl Challenged ===

impl Challenged {
    /// The last message, with our proof in it.
    pub fn answer(self) -> (String, Answered) {
        let salted = self.salting.finish();
        let mut client_key = [0; 32];
        client_key.copy_from_slice(sign(&*salted, b"Client Key").as_ref());
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = sign(stored_key.as_ref(), self.said.as_bytes());
        let proof = xor(client_key, signature.as_ref());
        let server_key = hmac::Key::new(hmac::HMAC_SHA256, sign(&*salted, b"Server Key").as_ref());
        let last = format!("{},p={}", self.without_proof, STANDARD.encode(proof));
        (last, Answered { server_key, said: self.said })
    }
}

// === impl Answered ===

impl Answered {
    /// Reads the database's last message, and with it the proof that it knows the password.
    ///
    /// # Errors
    /// It ended the exchange, or could not prove it.
    pub fn verify(self, message: &[u8]) -> Result<(), Error> {
        let message = readable(message)?;
        if let Some(words) = message.strip_prefix("e=") {
            return Err(Error::Ended(words.chars().filter(|character| !character.is_control()).take(200).collect()));
        }
        let mut attributes = Attributes::of(message);
        let signature = attributes.take("v", "there is no proof of the database")?;
        let signature = decode::<32>(signature).ok_or(Error::Malformed("the proof of the database is none"))?;
        if attributes.0.next().is_some() {
            return Err(Error::Malformed("something follows"));
        }
        hmac::verify(&self.server_key, self.said.as_bytes(), &signature).map_err(|_| Error::Unproved)
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Answered")
    }
}
