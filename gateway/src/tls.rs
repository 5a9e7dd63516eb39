//! Encryption towards peers and towards the database.
//!
//! Certificates and keys are read from their Secret at each handshake, and understood anew only where they have changed:
//! a rotated Secret is used by the next connection, without a restart.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secrets::{self, Secrets};

mod ask;
mod to_database;
mod to_peers;
mod verify;
mod stream;
mod words;

pub(crate) use ask::{Answer, ask};
pub use stream::{TlsStream, end_point};
pub(crate) use to_database::TlsToDatabase;
pub use to_peers::TlsToPeers;
pub use verify::{Authorities, Verifier};

/// Why there is no encrypted connection.
#[derive(Debug, Error)]
pub enum Error {
    /// A Secret's key is missing or cannot be read.
    #[error(transparent)]
    Secret(#[from] secrets::Error),
    /// What a Secret has is of no use.
    #[error("{key} of Secret {secret:?} {problem}")]
    Material {
        /// The Secret.
        secret: String,
        /// Its key.
        key: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A name that no certificate can bear.
    #[error("{0:?} is no host name that a certificate could bear; set client.tls.serverName")]
    Name(String),
    /// The database has no TLS.
    #[error(
        "the database does not offer TLS; set ssl = on there, or client.tls.mode to prefer or disable if the way to it \
         is trusted"
    )]
    NotOffered,
    /// The answer to SSLRequest makes no sense.
    #[error("{0}")]
    Answer(String),
    /// The other side does not say that it speaks PostgreSQL, as it must where TLS comes first.
    #[error("{0}")]
    NoAlpn(&'static str),
    /// The handshake failed; the sentence says why, and what to do.
    #[error("{0}")]
    Handshake(String),
    /// The connection broke.
    #[error("the connection broke during the TLS handshake: {0}")]
    Io(#[from] io::Error),
}

/// How PostgreSQL is called in ALPN (RFC 7301).
const ALPN: &[u8] = b"postgresql";

/// What was built last, and the hash of all that it was built from.
struct Built<T>(Rc<RefCell<Option<Kept<T>>>>);

/// What was built, and from what.
type Kept<T> = (Digest, Arc<T>);

/// The hash of all that something was built from.
type Digest = [u8; 32];

/// A certificate, those that lead to its authority, and its key, as a Secret has them.
struct Identity {
    certificates: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn digest(parts: &[&[u8]]) -> Digest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn certificates(pem: &[u8], secret: &str, key: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let problem = |problem: String| Error::Material { secret: secret.to_owned(), key, problem };
    let parsed = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    // What the parser says could quote what it read.
    let parsed = parsed.map_err(|_| problem("is no PEM; give it certificates".to_owned()))?;
    if parsed.is_empty() {
        return Err(problem("holds no certificate in PEM; give it one".to_owned()));
    }
    Ok(parsed)
}

// === impl Built ===

impl<T> Built<T> {
    /// What was built from the same bytes before, else what `build` makes of them.
    fn get_or_build(&self, from: Digest, build: impl FnOnce() -> Result<T, Error>) -> Result<Arc<T>, Error> {
        if let Some((known, kept)) = &*self.0.borrow()
            && *known == from
        {
            return Ok(kept.clone());
        }
        let fresh = Arc::new(build()?);
        self.0.replace(Some((from, fresh.clone())));
        Ok(fresh)
    }
}

impl<T> Default for Built<T> {
    fn default() -> Self {
        Built(Rc::default())
    }
}

impl<T> Clone for Built<T> {
    fn clone(&self) -> Self {
        Built(self.0.clone())
    }
}

// === impl Identity ===

impl Identity {
    fn read(secrets: &Secrets, secret: &str) -> Result<Identity, Error> {
        Ok(Identity { certificates: secrets.read(secret, "tls.crt")?, key: secrets.read(secret, "tls.key")? })
    }

    fn parse(&self, secret: &str) -> Result<CertifiedKey, Error> {
        let chain = certificates(&self.certificates, secret, "tls.crt")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| Error::Material {
            secret: secret.to_owned(),
            key: "tls.key",
            problem: "holds no private key in PEM that is not encrypted; give it one".to_owned(),
        })?;
        let key = provider().key_provider.load_private_key(key).map_err(|error| of_no_use(&error, secret))?;
        let is_version_1 = chain.first().is_some_and(|certificate| verify::key_of_version_1(certificate).is_some());
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // rustls cannot compare them; whoever is shown them can.
            Err(rustls::Error::InvalidCertificate(_)) if is_version_1 => Ok(certified),
            matching => matching.map(|()| certified).map_err(|error| of_no_use(&error, secret)),
        }
    }
}

/// What rustls has against a certificate and its key.
fn of_no_use(error: &rustls::Error, secret: &str) -> Error {
    let problem = match error {
        rustls::Error::InconsistentKeys(_) => "is not the key of the certificate in tls.crt; replace both together",
        _ => {
            "and tls.crt are of no use: the key must be RSA, ECDSA (P-256, P-384) or Ed25519, and the certificate X.509"
        }
    };
    Error::Material { secret: secret.to_owned(), key: "tls.key", problem: problem.to_owned() }
}

#[cfg(test)]
mod tests;
