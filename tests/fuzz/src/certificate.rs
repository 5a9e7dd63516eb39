//! The certificate that a database shows: whatever it is, it is understood or refused, and the authority's word counts only for
//! the very bytes that it has signed.

use std::sync::Arc;
use std::time::Duration;

use gateway::tls::{Authorities, Verifier, end_point};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::input::Input;

/// An authority, and what it has signed for `db.example`.
const AUTHORITY: &[u8] = include_bytes!("certificate/authority.der");
const SIGNED: &[u8] = include_bytes!("certificate/db.example.der");
/// The year 2030, when both are valid.
const NOW: Duration = Duration::from_hours(525_960);

thread_local! {
    static VERIFIERS: [Arc<Verifier>; 3] = [
        Arc::new(Verifier::new(Some(authorities()), true)),
        Arc::new(Verifier::new(Some(authorities()), false)),
        Arc::new(Verifier::new(None, true)),
    ];
}

fn authorities() -> Authorities {
    Authorities::new(vec![AUTHORITY.into()], "db").unwrap_or_else(|error| panic!("{error}"))
}

/// Whether what follows is a certificate, or is done to the one that was signed.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let shown = if input.byte() & 1 == 0 { input.rest().to_vec() } else { input.changed(SIGNED) };
    if let Some(hash) = end_point(&shown) {
        assert!(matches!(hash.len(), 32 | 48 | 64));
    }
    let is_true = shown == SIGNED;
    let certificate = CertificateDer::from(shown);
    let name = ServerName::try_from("db.example").expect("it is a name");
    let verified = VERIFIERS.with(|verifiers| {
        verifiers.each_ref().map(|verifier| {
            let verified = verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::since_unix_epoch(NOW));
            verified.map_err(|error| error.to_string())
        })
    });
    let [full, signed, named] = verified.map(|verified| verified.map(|_| ()));
    assert!(!is_true || [&full, &signed, &named].iter().all(|it| it.is_ok()), "{full:?} {signed:?} {named:?}");
    let is_authority = *certificate == *AUTHORITY;
    assert!(full.is_err() || is_true, "another certificate is believed");
    assert!(signed.is_err() || is_true || is_authority, "another certificate is believed to be signed");
}
