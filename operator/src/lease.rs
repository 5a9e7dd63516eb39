//! Which replica leads: the one that holds a Lease, written with the version that was read, so that two never both win.
//!
//! Clocks of other machines are not believed: a lease has run out when it has not been renewed for its duration since we
//! first saw it as it is. Who cannot renew stops leading well before others can think so.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::{ApiError, within};

/// How long a call to the API server may take, at most.
const CALL: Duration = Duration::from_secs(5);
/// How long giving the lease back may take: the process is about to end.
const RELEASE: Duration = Duration::from_secs(2);
/// A renewal that failed is tried again after this part of the duration.
const RETRIES: u32 = 15;

/// A Lease, and who wants it.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
}

/// Why this replica leads no more.
#[derive(Debug, Error)]
pub enum Lost {
    /// Another replica holds the lease.
    #[error("the lease {0:?} is held by {1:?} now")]
    Taken(String, String),
    /// It could not be renewed in time.
    #[error("the lease {0:?} could not be renewed for {1:.0?}: {2}")]
    NotRenewed(String, Duration, ApiError),
}

/// What was last seen of the lease, and since when it looks like that.
struct Sighting {
    version: Option<String>,
    since: Instant,
}

/// The lease, and since when it counts as ours.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    since: Instant,
}

// === impl Candidate ===

impl Candidate {
    /// Wants the lease `name` of `namespace`, as `identity`; it lasts for `duration` without being renewed.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, duration: Duration) -> Candidate {
        let api = Api::namespaced(client, namespace);
        Candidate { api, name: name.into(), identity: identity.into(), duration }
    }

    /// Waits until this replica holds the lease.
    pub async fn acquire(&self) -> Held {
        let mut sighting: Option<Sighting> = None;
        loop {
            // Others count from the moment in which it is written, which is later than this.
            let since = Instant::now();
            match self.attempt(&mut sighting).await {
                Ok(Some(lease)) => {
                    info!(lease = self.name, identity = self.identity, "This replica leads");
                    return Held { lease, since };
                }
                Ok(None) => {}
                Err(error) if error.is_conflict() => debug!(%error, "Another replica was faster"),
                Err(error) => warn!(%error, lease = self.name, "Cannot ask for the lease; it is tried again"),
            }
            sleep(self.period()).await;
        }
    }

    /// Renews the lease for as long as that succeeds; gives it back at `stop`.
    pub async fn hold(&self, held: Held, stop: CancellationToken) -> Result<(), Lost> {
        let Held { mut lease, since: mut renewed } = held;
        let mut pause = self.period().saturating_sub(renewed.elapsed());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.release(lease).await;
                    return Ok(());
                }
                () = sleep(pause) => {}
            }
            let begun = Instant::now();
            // Others count from the last renewal; a third is left for ending what we do.
            let left = (self.duration * 2 / 3).saturating_sub(renewed.elapsed());
            match self.write(&lease, self.spec(&lease, true), left).await {
                Ok(written) => (lease, renewed, pause) = (written, begun, self.period()),
                Err(error) => {
                    debug!(%error, lease = self.name, "Cannot renew the lease");
                    lease = self.look(lease).await?;
                    pause = self.duration / RETRIES;
                    if renewed.elapsed() + pause >= self.duration * 2 / 3 {
                        return Err(Lost::NotRenewed(self.name.clone(), renewed.elapsed(), error));
                    }
                }
            }
        }
    }

    /// Tries once; the lease, if it is ours now.
    async fn attempt(&self, sighting: &mut Option<Sighting>) -> Result<Option<Lease>, ApiError> {
        let Some(lease) = within(CALL, self.api.get_opt(&self.name)).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let blank = Lease { metadata, spec: None };
            let lease = Lease { spec: Some(self.spec(&blank, true)), ..blank };
            return within(CALL, self.api.create(&PostParams::default(), &lease)).await.map(Some);
        };
        let version = lease.resource_version();
        let since = match sighting {
            Some(seen) if seen.version == version => seen.since,
            _ => sighting.insert(Sighting { version, since: Instant::now() }).since,
        };
        let holder = holder(&lease);
        if !holder.is_empty() && holder != self.identity && since.elapsed() < lasts(&lease, self.duration) {
            return Ok(None);
        }
        self.write(&lease, self.spec(&lease, true), CALL).await.map(Some)
    }

    /// The lease as it is now, after a write that failed; an error if somebody else holds it.
    async fn look(&self, lease: Lease) -> Result<Lease, Lost> {
        match within(self.duration / RETRIES, self.api.get(&self.name)).await {
            Ok(there) if holder(&there) == self.identity => Ok(there),
            Ok(there) => Err(Lost::Taken(self.name.clone(), holder(&there).into())),
            Err(_) => Ok(lease),
        }
    }

    /// Gives the lease back, so that another replica need not wait until it has run out.
    async fn release(&self, lease: Lease) {
        let spec = self.spec(&lease, false);
        match self.write(&lease, spec, RELEASE).await {
            Ok(_) => info!(lease = self.name, "The lease is given back"),
            Err(error) => debug!(%error, lease = self.name, "Cannot give the lease back; it runs out by itself"),
        }
    }

    async fn write(&self, lease: &Lease, spec: LeaseSpec, limit: Duration) -> Result<Lease, ApiError> {
        // With the version that was read: who was faster than we makes this fail.
        let lease = Lease { metadata: lease.metadata.clone(), spec: Some(spec) };
        within(limit.min(CALL), self.api.replace(&self.name, &PostParams::default(), &lease)).await
    }

    /// What the lease says when we hold it, or no more.
    fn spec(&self, lease: &Lease, is_held: bool) -> LeaseSpec {
        let before = lease.spec.clone().unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let is_new = holder(lease) != self.identity;
        let transitions = before.lease_transitions.unwrap_or_default();
        let seconds = if is_held { self.duration.as_secs().max(1) } else { 1 };
        LeaseSpec {
            holder_identity: Some(if is_held { self.identity.clone() } else { String::new() }),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: if is_new { Some(now.clone()) } else { before.acquire_time },
            lease_transitions: Some(if is_new { transitions.saturating_add(1) } else { transitions }),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    /// From one renewal, or attempt, to the next.
    fn period(&self) -> Duration {
        self.duration / 3
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// How long the lease lasts without being renewed, by its holder's word.
fn lasts(lease: &Lease, otherwise: Duration) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(otherwise, Duration::from_secs)
}

#[cfg(test)]
mod tests;
