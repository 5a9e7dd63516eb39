//! The webhook's certificate: made here, kept in one Secret, followed live by every replica, and believed by the API server
//! because the authority stands in the webhook configuration's caBundle.
//!
//! Every replica does the same: it looks at the Secret and the time, plans what is next, and writes it with the
//! version that it has seen, so that of two that write at one time one wins and the other follows it. What is deleted or
//! made unreadable is made again, by an authority that leaves the one before trusted for as long as anybody needs it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::settings::Settings;

mod contents;
mod plan;
mod issue;
mod bundle;
mod keeper;

pub use keeper::Keeper;

use contents::Moment;
use plan::Plan;

/// Clocks differ by at most this: certificates are valid from this long ago.
const SKEW: Duration = Duration::from_mins(5);

/// The names by which the API server calls the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
}

/// How long what we make is valid; it is renewed after two thirds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An authority.
    pub authority: Duration,
    /// A certificate.
    pub certificate: Duration,
}

/// The certificate that is served now; it follows the Secret, and every connection gets the newest.
#[derive(Clone, Default)]
pub struct Current(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

// === impl Names ===

impl Names {
    fn all(&self) -> [String; 4] {
        let Self { service, namespace } = self;
        [
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]
    }
}

impl From<&Settings> for Names {
    fn from(settings: &Settings) -> Self {
        Self { service: settings.service.clone(), namespace: settings.namespace.clone() }
    }
}

// === impl Lifetimes ===

impl Lifetimes {
    fn skew(self) -> Duration {
        SKEW.min(self.authority / 10).min(self.certificate / 10)
    }
}

impl From<&Settings> for Lifetimes {
    fn from(settings: &Settings) -> Self {
        Self { authority: settings.authority_lifetime, certificate: settings.certificate_lifetime }
    }
}

// === impl Current ===

impl Current {
    fn set(&self, certified: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
    }

    #[cfg(test)]
    fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}

impl fmt::Debug for Current {
    /// Without the key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Current").field("is_there", &self.get().is_some()).finish()
    }
}

/// Says what time it is.
type Clock = Box<dyn Fn() -> Moment + Send + Sync>;

fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod day;
