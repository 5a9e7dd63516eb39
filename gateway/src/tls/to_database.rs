//! Encryption towards the database, with libpq's `sslmode` in mind.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::verify::{Authorities, Verifier};
use super::{ALPN, Built, Digest, Error, Identity, TlsStream, certificates, digest, of_no_use, provider, words};
use crate::config::{ClientTls, TlsMode};
use crate::net::{Stream, TcpStream};
use crate::secrets::Secrets;

/// Our side of handshakes with the database; remembers what it built from a Secret. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct TlsToDatabase(Built<ClientConfig>);

/// What a Secret has for the way to the database.
#[derive(Default)]
struct Material {
    authorities: Option<Zeroizing<Vec<u8>>>,
    identity: Option<Identity>,
}

// === impl TlsToDatabase ===

impl TlsToDatabase {
    /// Shakes hands with the database, which was dialed as `host`.
    ///
    /// # Errors
    /// The Secret is of no use, or the database is not who it should be.
    pub(crate) async fn connect(
        &self,
        tcp: TcpStream,
        host: &str,
        (tls, secrets): (&ClientTls, &Secrets),
    ) -> Result<Stream, Error> {
        let name = tls.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.to_owned()))?;
        let config = self.config(tls, secrets)?;
        let connected = TlsConnector::from(config).connect(name, tcp).await;
        let connected = connected.map_err(|error| words::of_database_io(error, tls))?;
        if tls.is_direct && connected.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(Error::NoAlpn(
                "the database does not say that it speaks PostgreSQL (ALPN), as PostgreSQL 17 does; set \
                 client.tls.negotiation to postgres for older ones",
            ));
        }
        Ok(Stream::Tls(Box::new(TlsStream::to_database(connected))))
    }

    pub(super) fn config(&self, tls: &ClientTls, secrets: &Secrets) -> Result<Arc<ClientConfig>, Error> {
        let material = Material::read(tls, secrets)?;
        self.0.get_or_build(material.digest(tls.mode), || material.config(tls))
    }
}

// === impl Material ===

impl Material {
    fn read(tls: &ClientTls, secrets: &Secrets) -> Result<Material, Error> {
        let Some(secret) = &tls.secret else { return Ok(Material::default()) };
        let verifies = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        let authorities = if verifies { Some(secrets.read(secret, "ca.crt")?) } else { None };
        // A Secret for verifying may have no certificate of ours; one half of it is a mistake.
        let has_any = secrets.read_if_present(secret, "tls.crt")?.is_some()
            || secrets.read_if_present(secret, "tls.key")?.is_some();
        let identity = if has_any { Some(Identity::read(secrets, secret)?) } else { None };
        Ok(Material { authorities, identity })
    }

    fn digest(&self, mode: TlsMode) -> Digest {
        let empty: &[u8] = &[];
        let authorities = self.authorities.as_ref().map_or(empty, |pem| pem);
        let (certificates, key) = self.identity.as_ref().map_or((empty, empty), |ours| (&ours.certificates, &ours.key));
        digest(&[&[mode as u8], authorities, certificates, key])
    }

    fn config(&self, tls: &ClientTls) -> Result<ClientConfig, Error> {
        let secret = tls.secret.as_deref().unwrap_or_default();
        let authorities = match (&self.authorities, tls.mode) {
            (_, TlsMode::Prefer | TlsMode::Require) => None,
            (pem, _) => {
                let pem = pem.as_ref().map_or(&[][..], |pem| pem);
                Some(Authorities::new(certificates(pem, secret, "ca.crt")?, secret)?)
            }
        };
        let verifier = Verifier::new(authorities, tls.mode == TlsMode::VerifyFull);
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| of_no_use(&error, secret))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.parse(secret)?)))
            }
        };
        // Harmless where TLS was asked for: PostgreSQL before 17 does not look at it.
        config.alpn_protocols = vec![ALPN.to_vec()];
        // PostgreSQL resumes nothing, and each handshake looks at the certificate anew.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}
