//! What to do next about the certificates: decided by what there is and the time alone.

use std::time::Duration;

use super::contents::{Contents, Moment, validity};
use super::issue::can_sign;
use super::{Lifetimes, Names};

/// After this the API server trusts a new authority for certain, and certificates by it may be served.
const SETTLE: Duration = Duration::from_mins(1);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing until then.
    Keep(Moment),
    /// Make a certificate, by the authority that there is.
    NewCertificate,
    /// Make an authority; the certificate stays as long as the authority before is trusted too.
    NewAuthority,
}

// === impl Plan ===

impl Plan {
    /// What to do about `contents`.
    pub(super) fn of(contents: &Contents, names: &Names, lifetimes: Lifetimes, now: Moment) -> Self {
        let is_usable = contents.authority.is_usable(now) && can_sign(&contents.authority);
        let authority = contents.authority.validity().filter(|_| is_usable);
        let Some(authority) = authority.filter(|validity| now < validity.two_thirds()) else {
            return Plan::NewAuthority;
        };
        let own = contents.authority.certificate.as_str();
        let served = contents.served.validity();
        let Some(served) = served.filter(|_| contents.is_trusted_by(&[own, &contents.previous], names, now)) else {
            return Plan::NewCertificate;
        };
        let settled = authority.from.saturating_add(lifetimes.skew()).saturating_add(settle(lifetimes));
        let due = if contents.is_trusted_by(&[own], names, now) {
            served.two_thirds()
        } else {
            // By the authority before: as soon as the new one is trusted everywhere.
            settled
        };
        if due <= now {
            // A certificate that is nearly over cannot wait for that.
            return if settled <= now || served.until <= settled { Plan::NewCertificate } else { Plan::Keep(settled) };
        }
        Plan::Keep(due.min(authority.two_thirds()))
    }
}

/// For how long an authority has been trusted when it is trusted everywhere.
pub(super) fn settle(lifetimes: Lifetimes) -> Duration {
    SETTLE.min(lifetimes.authority / 10)
}

/// `previous`, if it is worth keeping: the authority before, as long as it is valid.
pub(super) fn worth_keeping(previous: &str, now: Moment) -> bool {
    validity(previous).is_some_and(|validity| validity.holds(now))
}
