//! Which query a CancelRequest ends: the keys that peers have, and the backends that serve them now.
//!
//! The workers share this. A peer's key stays the same however often its client changes; what it ends is looked up when
//! the request comes, and never anything of another peer: a client whose peer is being cancelled is not lent again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::{debug, info};

use super::startup::Request;
use super::wire::CancelKey;
use crate::client::{self, Context};
use crate::config::{Address, ProxyConfig};
use crate::net::{Endpoint, Stream};

/// All peers that can be cancelled; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cancels(Arc<Keys>);

#[derive(Debug, Default)]
struct Keys {
    by_process: Mutex<HashMap<u32, Vec<Entry>>>,
    /// The number of the next key of ours: two are the same only after two billion sessions.
    next: AtomicU32,
}

#[derive(Debug)]
struct Entry {
    key: CancelKey,
    target: Arc<Target>,
}

/// What a peer's key ends now.
#[derive(Debug, Default)]
pub struct Target {
    victim: Mutex<Option<Arc<Victim>>>,
    under_way: AtomicUsize,
}

/// A backend, and the way to it.
#[derive(Debug)]
pub struct Victim {
    /// What the database wants to see.
    pub key: CancelKey,
    /// By which address it was dialed.
    pub address: Address,
    /// Where it is: a name may lead elsewhere by now.
    pub remote: Endpoint,
    /// How it is reached.
    pub config: Arc<ProxyConfig>,
}

/// A peer's key, for as long as the peer stays.
#[derive(Debug)]
pub struct Registration {
    cancels: Cancels,
    key: CancelKey,
    target: Arc<Target>,
}

/// Counts a cancel that is under way.
struct UnderWay(Arc<Target>);

/// How long a cancel may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Secrets in protocol 3.0 have this length, and no other.
const SHORT_SECRET: usize = 4;
/// Ours in protocol 3.2.
const LONG_SECRET: usize = 32;

// === impl Cancels ===

impl Cancels {
    /// A key of ours for a peer; `is_long` where its protocol allows it.
    pub fn register(&self, is_long: bool) -> Registration {
        let mut secret = vec![0; if is_long { LONG_SECRET } else { SHORT_SECRET }];
        if SystemRandom::new().fill(&mut secret).is_err() {
            // The system has no randomness yet: what the hash maps are seeded with is secret as well.
            for chunk in secret.chunks_mut(8) {
                chunk.copy_from_slice(&RandomState::new().hash_one(0).to_ne_bytes()[..chunk.len()]);
            }
        }
        let process = (self.0.next.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff) + 1;
        self.adopt(CancelKey { process, secret: secret.into() })
    }

    /// A key that the database gave to a peer.
    pub fn adopt(&self, key: CancelKey) -> Registration {
        let target = Arc::new(Target::default());
        let entry = Entry { key: key.clone(), target: target.clone() };
        self.entries().entry(key.process).or_default().push(entry);
        Registration { cancels: self.clone(), key, target }
    }

    /// Ends the query of whoever has `key`, if anybody has; returns whether a request was sent. The database is asked over
    /// a connection of its own, and whoever asked us waits until it has been heard.
    pub(crate) async fn cancel(&self, key: &CancelKey, context: &Context) -> bool {
        let Some(target) = self.find(key) else {
            debug!(process = key.process, "A CancelRequest with a key that nobody has");
            return false;
        };
        let Some((victim, _under_way)) = target.seize() else { return false };
        match timeout(LIMIT, victim.cancel(context)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                info!(address = %victim.address, %error, side = "database", "A query could not be cancelled");
                false
            }
            Err(_) => {
                info!(address = %victim.address, limit = ?LIMIT, side = "database", "A query could not be cancelled in time");
                false
            }
        }
    }

    fn find(&self, key: &CancelKey) -> Option<Arc<Target>> {
        let entries = self.entries();
        let found = entries.get(&key.process)?.iter().find(|entry| is_same(&entry.key.secret, &key.secret))?;
        Some(found.target.clone())
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u32, Vec<Entry>>> {
        // Nothing panics while it is held.
        self.0.by_process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares without telling by its time where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

// === impl Target ===

impl Target {
    /// From now on this backend serves the peer.
    pub fn aim(&self, victim: Option<Arc<Victim>>) {
        *self.victim() = victim;
    }

    /// No backend serves the peer from now on. `false`: a cancel is under way to the one that did, so that nobody else
    /// may have it.
    #[must_use]
    pub fn release(&self) -> bool {
        let mut victim = self.victim();
        *victim = None;
        self.under_way.load(Ordering::Acquire) == 0
    }

    fn seize(self: &Arc<Self>) -> Option<(Arc<Victim>, UnderWay)> {
        let victim = self.victim();
        let seized = victim.clone()?;
        // Counted while the lock is held: whoever releases the backend afterwards sees it.
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Some((seized, UnderWay(self.clone())))
    }

    fn victim(&self) -> MutexGuard<'_, Option<Arc<Victim>>> {
        self.victim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Victim ===

impl Victim {
    async fn cancel(&self, context: &Context) -> Result<(), client::Error> {
        let mut stream = client::connect_again(&self.address, &self.remote, (&self.config.client, context)).await?;
        let failed = |error| client::Error::Connect(self.address.to_string(), error);
        let mut request = Vec::new();
        Request::Cancel(self.key.clone()).write(&mut request);
        stream.write_all(&request).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        heard(&mut stream).await;
        Ok(())
    }
}

/// The database closes the connection once it has told the backend.
async fn heard(stream: &mut Stream) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

// === impl Registration ===

impl Registration {
    /// What the peer must show.
    pub fn key(&self) -> &CancelKey {
        &self.key
    }

    /// What it ends.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut entries = self.cancels.entries();
        if let Some(same) = entries.get_mut(&self.key.process) {
            same.retain(|entry| !Arc::ptr_eq(&entry.target, &self.target));
            if same.is_empty() {
                entries.remove(&self.key.process);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn victim() -> Arc<Victim> {
        let config = crate::config::load(
            b"apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nspec: {proxies: [{name: a, client: {addresses: ['db:1']}}]}",
        );
        let config = config.expect("it is valid").proxies[0].clone();
        let key = CancelKey { process: 1, secret: [1; 4].into() };
        Arc::new(Victim { key, address: config.client.addresses[0].clone(), remote: Endpoint::Unnamed, config })
    }

    #[test]
    fn a_key_finds_its_own_peer_and_only_while_the_peer_is_here() {
        let cancels = Cancels::default();
        let (one, other) = (cancels.register(false), cancels.register(true));
        assert_eq!((one.key().secret.len(), other.key().secret.len()), (4, 32));
        assert!(Arc::ptr_eq(&cancels.find(one.key()).expect("it is here"), one.target()));
        let mut guessed = one.key().clone();
        guessed.secret[0] ^= 1;
        assert!(cancels.find(&guessed).is_none());
        let key = one.key().clone();
        drop(one);
        assert!(cancels.find(&key).is_none() && cancels.find(other.key()).is_some());
        drop(other);
        assert!(cancels.entries().is_empty());
    }

    #[test]
    fn a_backend_that_is_being_cancelled_is_not_released() {
        let target = Arc::new(Target::default());
        assert!(target.seize().is_none(), "nobody serves the peer");
        target.aim(Some(victim()));
        let (_, under_way) = target.seize().expect("a backend serves it");
        assert!(!target.release());
        drop(under_way);
        assert!(target.release() && target.seize().is_none());
    }

    #[test]
    fn keys_of_two_databases_may_have_one_number() {
        let cancels = Cancels::default();
        let key = |byte| CancelKey { process: 7, secret: [byte; 4].into() };
        let (one, other) = (cancels.adopt(key(1)), cancels.adopt(key(2)));
        assert!(Arc::ptr_eq(&cancels.find(&key(2)).expect("it is here"), other.target()));
        drop(one);
        assert!(cancels.find(&key(1)).is_none() && cancels.find(&key(2)).is_some());
    }
}
