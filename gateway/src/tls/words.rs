//! What went wrong in a handshake, and what to do, in one sentence.

use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use super::Error;
use super::verify::VERSION_1;
use crate::config::ClientTls;

/// How the handshake with the database failed.
pub(super) fn of_database_io(error: io::Error, tls: &ClientTls) -> Error {
    match rustls_error(&error) {
        Some(error) => Error::Handshake(of_database(error, tls)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Handshake("the database closed the connection during the TLS handshake; its log says why".to_owned())
        }
        None => Error::Io(error),
    }
}

fn of_database(error: &rustls::Error, tls: &ClientTls) -> String {
    let secret = tls.secret.as_deref().unwrap_or("(none)");
    match error {
        rustls::Error::InvalidCertificate(problem) => of_certificate(problem, secret),
        rustls::Error::AlertReceived(alert) => of_alert(*alert, tls.secret.as_deref()),
        rustls::Error::InvalidMessage(_) => {
            "the database answers with something that is no TLS; is it PostgreSQL, and is \
                                             client.tls.negotiation right?"
                .to_owned()
        }
        rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => of_version(),
        rustls::Error::General(sentence) if sentence == VERSION_1 => sentence.clone(),
        error => format!("the TLS handshake with the database failed: {error}"),
    }
}

fn of_version() -> String {
    "the database speaks neither TLS 1.2 nor 1.3; update it, or its ssl_min_protocol_version and \
     ssl_max_protocol_version"
        .to_owned()
}

fn of_certificate(problem: &CertificateError, secret: &str) -> String {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the database's certificate has expired; renew it there, and look at the clocks".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the database's certificate is not valid yet; look at the clocks".to_owned()
        }
        CertificateError::UnknownIssuer => format!(
            "the database's certificate is of an authority that ca.crt of Secret {secret:?} does not have; put the \
             authority's certificate there, or have the database send the ones in between"
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            let expected = expected.to_str();
            format!(
                "the database's certificate is not for {expected:?} but for {names}; dial it by such a name, set \
                 client.tls.serverName, or use verify-ca"
            )
        }
        CertificateError::BadSignature => format!(
            "the database's certificate, or its handshake, bears a false signature; is ca.crt of Secret {secret:?} of this \
             authority, and is the database's key its own?"
        ),
        problem => format!("the database's certificate is of no use: {problem}"),
    }
}

/// How reading from the database failed: in TLS 1.3 it refuses our certificate only after the handshake.
pub(super) fn of_reading(error: io::Error) -> io::Error {
    match rustls_error(&error) {
        Some(rustls::Error::AlertReceived(alert)) => {
            io::Error::new(io::ErrorKind::ConnectionAborted, of_alert(*alert, None))
        }
        _ => error,
    }
}

fn of_alert(alert: AlertDescription, secret: Option<&str>) -> String {
    let ours = match secret {
        Some(secret) => format!("tls.crt and tls.key of Secret {secret:?}"),
        None => "tls.crt and tls.key of the Secret that client.tls.secretName names".to_owned(),
    };
    match alert {
        AlertDescription::CertificateRequired => {
            format!("the database asks for a client certificate; put one into {ours}")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            format!("the database refuses our client certificate ({alert:?}); renew {ours}")
        }
        AlertDescription::NoApplicationProtocol => {
            "the database does not speak PostgreSQL behind this TLS (ALPN)".to_owned()
        }
        AlertDescription::ProtocolVersion => of_version(),
        alert => format!("the database refuses the TLS handshake ({alert:?}); its log says why"),
    }
}

/// How the handshake with a peer failed.
pub(super) fn of_peer_io(error: io::Error) -> Error {
    match rustls_error(&error) {
        Some(error) => of_peer(error),
        None => Error::Io(error),
    }
}

/// The same, of what rustls says.
pub(super) fn of_peer(error: &rustls::Error) -> Error {
    Error::Handshake(match error {
        rustls::Error::AlertReceived(alert) => {
            format!("the peer refuses the TLS handshake ({alert:?}); does it know the authority of our certificate?")
        }
        rustls::Error::NoApplicationProtocol => "the peer asks for another protocol than PostgreSQL (ALPN)".to_owned(),
        rustls::Error::InvalidMessage(_) => "the peer sends something that is no TLS".to_owned(),
        error => format!("the TLS handshake with the peer failed: {error}"),
    })
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
