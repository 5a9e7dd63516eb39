//! Makes authorities and certificates.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::contents::{Contents, Moment, Pair};
use super::plan::{Plan, worth_keeping};
use super::{Lifetimes, Names};

/// What `plan` makes of `contents`.
pub(super) fn carry_out(
    plan: Plan,
    mut contents: Contents,
    (names, lifetimes): (&Names, Lifetimes),
    now: Moment,
) -> Result<Contents, rcgen::Error> {
    if let Plan::Keep(_) = plan {
        return Ok(contents);
    }
    if plan == Plan::NewAuthority {
        if worth_keeping(&contents.authority.certificate, now) {
            contents.previous = contents.authority.certificate;
        } else if !worth_keeping(&contents.previous, now) {
            contents.previous.clear();
        }
        contents.authority = authority(lifetimes, now)?;
    }
    let trusted = [contents.authority.certificate.as_str(), &contents.previous];
    if plan == Plan::NewCertificate || !contents.is_trusted_by(&trusted, names, now) {
        contents.served = certificate(&contents.authority, names, lifetimes, now)?;
    }
    Ok(contents)
}

fn authority(lifetimes: Lifetimes, now: Moment) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = params(&format!("postern webhook authority {}", now.as_secs()), &[])?;
    let (from, until) = (now.saturating_sub(lifetimes.skew()), now.saturating_add(lifetimes.authority));
    set_validity(&mut params, from, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Who signs with `authority`, if it may sign at all.
fn issuer(authority: &Pair) -> Result<Issuer<'static, KeyPair>, rcgen::Error> {
    Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)
}

/// Whether certificates can be made by `authority`.
pub(super) fn can_sign(authority: &Pair) -> bool {
    authority.is_authority() && issuer(authority).is_ok()
}

fn certificate(authority: &Pair, names: &Names, lifetimes: Lifetimes, now: Moment) -> Result<Pair, rcgen::Error> {
    let end = now.saturating_add(lifetimes.certificate);
    // What outlives its authority is worth nothing.
    let end = authority.validity().map_or(end, |validity| end.min(validity.until));
    let issuer = issuer(authority)?;
    let key = KeyPair::generate()?;
    let mut params = params("postern webhook", &names.all())?;
    set_validity(&mut params, now.saturating_sub(lifetimes.skew()), end);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(name: &str, alternatives: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(alternatives)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// The year 9999 is the last that certificates can write.
fn set_validity(params: &mut CertificateParams, from: Moment, until: Moment) {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let date = |moment: Moment| date_time_ymd(1970, 1, 1) + moment.min(LAST);
    (params.not_before, params.not_after) = (date(from), date(until));
}
