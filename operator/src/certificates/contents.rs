//! What the Secret holds, and how much of it can be believed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::Names;

/// The certificate authority, and its key.
const AUTHORITY: (&str, &str) = ("ca.crt", "ca.key");
/// The authority before it, which the API server goes on to trust.
const PREVIOUS: &str = "previous-ca.crt";
/// The webhook's certificate, and its key.
const SERVED: (&str, &str) = ("tls.crt", "tls.key");

/// A moment, as the time since 1970.
pub(super) type Moment = Duration;

/// A certificate and its key, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What the Secret holds; what is missing is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) authority: Pair,
    pub(super) previous: String,
    pub(super) served: Pair,
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Moment,
    pub(super) until: Moment,
}

// === impl Contents ===

impl Contents {
    /// Reads a Secret.
    pub(super) fn of(secret: &Secret) -> Self {
        let data = secret.data.as_ref();
        let data = |key: &str| data.and_then(|data| data.get(key));
        let text = |key: &str| data(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).unwrap_or_default();
        let pair = |(certificate, key)| Pair { certificate: text(certificate), key: text(key) };
        Self { authority: pair(AUTHORITY), previous: text(PREVIOUS), served: pair(SERVED) }
    }

    /// The data of a Secret.
    pub(super) fn write(&self) -> BTreeMap<String, ByteString> {
        let values = [
            (AUTHORITY.0, &self.authority.certificate),
            (AUTHORITY.1, &self.authority.key),
            (PREVIOUS, &self.previous),
            (SERVED.0, &self.served.certificate),
            (SERVED.1, &self.served.key),
        ];
        let present = values.into_iter().filter(|(_, text)| !text.is_empty());
        present.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes()))).collect()
    }

    /// What the API server shall trust: this authority, and the one before it.
    pub(super) fn bundle(&self) -> String {
        let parts = [&self.authority.certificate, &self.previous].map(|pem| pem.trim());
        let parts = parts.into_iter().filter(|pem| !pem.is_empty());
        parts.flat_map(|pem| [pem, "\n"]).collect()
    }

    /// Whether the API server, trusting `authorities`, would believe the webhook's certificate at this moment.
    pub(super) fn is_trusted_by(&self, authorities: &[&str], names: &Names, now: Moment) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().filter_map(|pem| certificate(pem)));
        let Some(served) = certificate(&self.served.certificate) else { return false };
        let Ok(served) = ParsedCertificate::try_from(&served) else { return false };
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let now = UnixTime::since_unix_epoch(now);
        let is_for =
            |name: String| ServerName::try_from(name).is_ok_and(|name| verify_server_name(&served, &name).is_ok());
        verify_server_cert_signed_by_trust_anchor(&served, &roots, &[], now, algorithms).is_ok()
            && self.served.certified().is_ok()
            && names.all().into_iter().all(is_for)
    }
}

// === impl Pair ===

impl Pair {
    /// The certificate and its key, ready to be served; the sentence says which of the two is wrong.
    pub(super) fn certified(&self) -> Result<CertifiedKey, String> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("its certificate is none")?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| "its key is none")?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        certified.map_err(|_| "its certificate and its key do not belong together".to_owned())
    }

    /// From when until when it is valid.
    pub(super) fn validity(&self) -> Option<Validity> {
        validity(&self.certificate)
    }

    /// Whether it is an authority's.
    pub(super) fn is_authority(&self) -> bool {
        certificate(&self.certificate).is_some_and(|der| {
            x509_parser::parse_x509_certificate(&der).is_ok_and(|(_, certificate)| certificate.is_ca())
        })
    }

    /// Whether it is valid at this moment, and its key is its own.
    pub(super) fn is_usable(&self, now: Moment) -> bool {
        self.certified().is_ok() && self.validity().is_some_and(|validity| validity.holds(now))
    }
}

impl fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pair").field("validity", &self.validity()).finish_non_exhaustive()
    }
}

// === impl Validity ===

impl Validity {
    pub(super) fn holds(self, now: Moment) -> bool {
        self.from <= now && now < self.until
    }

    /// When two thirds of it are over.
    pub(super) fn two_thirds(self) -> Moment {
        self.until.saturating_sub(self.until.saturating_sub(self.from) / 3)
    }
}

/// From when until when the first certificate of `pem` is valid.
pub(super) fn validity(pem: &str) -> Option<Validity> {
    let der = certificate(pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let moment = |time: i64| Moment::from_secs(u64::try_from(time).unwrap_or_default());
    let validity = certificate.validity();
    Some(Validity { from: moment(validity.not_before.timestamp()), until: moment(validity.not_after.timestamp()) })
}

fn certificate(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}
