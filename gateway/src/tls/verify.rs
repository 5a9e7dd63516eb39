//! Who the database is, as far as libpq's `sslmode` asks: anybody, somebody of a known authority, or this very host.
//! Whatever is asked, the handshake must be signed by the certificate's own key.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::provider;

/// Decides about the database's certificate.
#[derive(Debug)]
pub struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None: whatever the certificate.
    authorities: Option<Authorities>,
    is_for_host: bool,
}

/// The certificates of `ca.crt`.
#[derive(Debug)]
pub struct Authorities {
    roots: RootCertStore,
    /// As they were written: a database's own certificate, self-signed, may be among them.
    written: Vec<CertificateDer<'static>>,
}

/// What rustls cannot verify.
pub(super) const VERSION_1: &str = "the database's certificate is of X.509 version 1, which cannot be verified; issue it with \
                                    a subjectAltName, which makes it version 3";
/// Names of a certificate that an error shows, at most.
const MOST_NAMES: usize = 16;

// === impl Authorities ===

impl Authorities {
    /// Those of a Secret's `ca.crt`.
    ///
    /// # Errors
    /// One of them is none.
    pub fn new(written: Vec<CertificateDer<'static>>, secret: &str) -> Result<Authorities, super::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &written {
            roots.add(certificate.clone()).map_err(|_| super::Error::Material {
                secret: secret.to_owned(),
                key: "ca.crt",
                problem: "holds a certificate that cannot be understood; replace it".to_owned(),
            })?;
        }
        Ok(Authorities { roots, written })
    }

    fn verify(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        if self.written.iter().any(|known| known == shown) {
            return is_valid_at(shown, now);
        }
        if is_self_issued(shown) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        if key_of_version_1(shown).is_some() {
            return Err(Error::General(VERSION_1.to_owned()));
        }
        let parsed = ParsedCertificate::try_from(shown)?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)
    }
}

/// A certificate that is trusted as such still ends.
fn is_valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let (not_before, not_after) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if seconds > not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

// === impl Verifier ===

impl Verifier {
    /// By these authorities, or whoever vouches for it; and whether it must be for the host that was dialed.
    pub fn new(authorities: Option<Authorities>, is_for_host: bool) -> Verifier {
        Verifier { provider: provider(), authorities, is_for_host }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            authorities.verify(shown, intermediates, now, &self.provider)?;
        }
        if self.is_for_host {
            verify_name(shown, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match key_of_version_1(certificate) {
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, signed, algorithms),
            None => verify_tls12_signature(message, certificate, signed, algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match key_of_version_1(certificate) {
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, signed, algorithms),
            None => verify_tls13_signature(message, certificate, signed, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether it names itself as its authority.
fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, parsed)| parsed.issuer().as_raw() == parsed.subject().as_raw())
}

/// The key of a certificate of X.509 version 1, as `openssl x509 -req` writes them where it is told no extensions. rustls
/// reads no such certificate, and where anyone will do, nothing but its key matters.
pub(super) fn key_of_version_1(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    (parsed.version() == X509Version::V1).then(|| parsed.public_key().raw.to_vec().into())
}

/// The certificate's alternative names count; only where it has none, its common name does, as with libpq.
fn verify_name(shown: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    if ParsedCertificate::try_from(shown).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok()) {
        return Ok(());
    }
    let (_, certificate) = X509Certificate::from_der(shown).map_err(|_| CertificateError::BadEncoding)?;
    let mut presented = alternative_names(&certificate);
    if presented.is_empty() {
        presented =
            certificate.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).map(str::to_owned).collect();
        if presented.iter().take(1).any(|common| matches(common, &name.to_str())) {
            return Ok(());
        }
    }
    presented.truncate(MOST_NAMES);
    Err(CertificateError::NotValidForNameContext { expected: name.to_owned(), presented }.into())
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten().map(|found| &found.value.general_names);
    names
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            },
            _ => None,
        })
        .collect()
}

/// libpq's rule for a common name: the same, or a `*` in place of the whole first label of a name.
fn matches(common: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    if common.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(suffix) = common.strip_prefix("*.") else { return false };
    let is_name = host.parse::<IpAddr>().is_err();
    is_name && host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_whole_label() {
        for (common, host) in
            [("db.test", "DB.test"), ("db.test", "db.test."), ("*.test", "db.test"), ("10.0.0.1", "10.0.0.1")]
        {
            assert!(matches(common, host), "{common} for {host}");
        }
        let strangers = [
            ("*.test", "a.b.test"),
            ("*.test", ".test"),
            ("*.test", "test"),
            ("d*.test", "db.test"),
            ("*", "db"),
            ("*.0.0.1", "10.0.0.1"),
            ("", "db"),
        ];
        for (common, host) in strangers {
            assert!(!matches(common, host), "{common} for {host}");
        }
    }
}
