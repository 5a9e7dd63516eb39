//! Which query a CancelRequest ends: the keys that peers have, and the backends that serve them now.
//!
//! The workers share this. A peer's key stays the same however often its client changes; what it ends is looked up when
//! the request comes, and never anything of another peer: a client whose peer is being cancelled is not lent again. A peer
//! that waits for a client waits no longer then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, info};

use super::startup::Request;
use super::wire::CancelKey;
use crate::client::{self, Context};
use crate::clock::timeout;
use crate::config::{Address, ProxyConfig};
use crate::net::{Endpoint, Stream};
use crate::random;

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
pub struct Target(Mutex<Aim>);

#[derive(Debug, Default)]
enum Aim {
    /// The peer asks for nothing.
    #[default]
    Nothing,
    /// A backend serves it.
    Backend(Arc<Victim>),
    /// It waits for a client.
    Waiting(Waker),
    /// It shall wait no longer.
    GivenUp,
}

/// What became of a CancelRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The database was asked to end a query.
    Sent,
    /// A peer waits for a client no longer.
    WaitEnded,
    /// Nobody has the key, or whoever has it asks for nothing.
    Nothing,
    /// The database could not be asked.
    Failed,
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
    /// Cancels that are under way, or of which nobody knows whether they have come to their end.
    under_way: AtomicUsize,
    /// One cancel after the other, so that a storm of them is no storm of connections.
    turn: tokio::sync::Mutex<()>,
}

/// A peer's key, for as long as the peer stays.
#[derive(Debug)]
pub struct Registration {
    cancels: Cancels,
    key: CancelKey,
    target: Arc<Target>,
}

/// Counts a cancel that is under way.
struct UnderWay {
    victim: Arc<Victim>,
    /// Whether the database may have the request and not have heeded it: then the backend is never lent again.
    may_strike: bool,
}

enum Seized {
    Backend(UnderWay),
    Waiting,
    Nothing,
}

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
        let secret = random::key(if is_long { LONG_SECRET } else { SHORT_SECRET });
        let process = (self.0.next.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff) + 1;
        self.adopt(CancelKey { process, secret })
    }

    /// A key that the database gave to a peer.
    pub fn adopt(&self, key: CancelKey) -> Registration {
        let target = Arc::new(Target::default());
        let entry = Entry { key: key.clone(), target: target.clone() };
        self.entries().entry(key.process).or_default().push(entry);
        Registration { cancels: self.clone(), key, target }
    }

    /// Ends the query of whoever has `key`, if anybody has, or its waiting for a client. The database is asked over a
    /// connection of its own, and whoever asked us waits until it has been heard.
    pub(crate) async fn cancel(&self, key: &CancelKey, context: &Context) -> Outcome {
        let Some(target) = self.find(key) else {
            debug!(process = key.process, "A CancelRequest with a key that nobody has");
            return Outcome::Nothing;
        };
        let mut under_way = match target.seize() {
            Seized::Backend(under_way) => under_way,
            Seized::Waiting => return Outcome::WaitEnded,
            Seized::Nothing => return Outcome::Nothing,
        };
        let victim = under_way.victim.clone();
        let address = &victim.address;
        let cancelling = async {
            let _turn = victim.turn.lock().await;
            // What it was asked to end may be over by now.
            if target.is_aimed_at(&victim) { under_way.strike(context).await } else { Ok(Outcome::Nothing) }
        };
        match timeout(LIMIT, cancelling).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                info!(%address, %error, side = "database", "A query could not be cancelled");
                Outcome::Failed
            }
            Err(_) => {
                info!(%address, limit = ?LIMIT, side = "database", "A query could not be cancelled in time");
                Outcome::Failed
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
        *self.lock() = victim.map_or(Aim::Nothing, Aim::Backend);
    }

    /// No backend serves the peer from now on. `false`: a cancel is under way to the one that did, so that nobody else
    /// may have it.
    #[must_use]
    pub fn release(&self) -> bool {
        match std::mem::take(&mut *self.lock()) {
            Aim::Backend(victim) => victim.under_way.load(Ordering::Acquire) == 0,
            _ => true,
        }
    }

    /// The peer waits for a client; ready when somebody cancels that.
    pub fn poll_given_up(&self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut aim = self.lock();
        match &mut *aim {
            Aim::GivenUp => {
                *aim = Aim::Nothing;
                return Poll::Ready(());
            }
            Aim::Waiting(waker) => waker.clone_from(cx.waker()),
            Aim::Nothing | Aim::Backend(_) => *aim = Aim::Waiting(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn seize(&self) -> Seized {
        let mut aim = self.lock();
        match std::mem::take(&mut *aim) {
            Aim::Backend(victim) => {
                // Counted while the lock is held: whoever releases the backend afterwards sees it.
                victim.under_way.fetch_add(1, Ordering::AcqRel);
                *aim = Aim::Backend(victim.clone());
                Seized::Backend(UnderWay { victim, may_strike: false })
            }
            Aim::Waiting(waker) => {
                *aim = Aim::GivenUp;
                waker.wake();
                Seized::Waiting
            }
            before => {
                *aim = before;
                Seized::Nothing
            }
        }
    }

    fn is_aimed_at(&self, victim: &Arc<Victim>) -> bool {
        matches!(&*self.lock(), Aim::Backend(now) if Arc::ptr_eq(now, victim))
    }

    fn lock(&self) -> MutexGuard<'_, Aim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl UnderWay ===

impl UnderWay {
    async fn strike(&mut self, context: &Context) -> Result<Outcome, client::Error> {
        let victim = &self.victim;
        let mut stream =
            client::connect_again(&victim.address, &victim.remote, (&victim.config.client, context)).await?;
        let failed = |error| client::Error::Connect(victim.address.to_string(), error);
        let mut request = Vec::new();
        Request::Cancel(victim.key.clone()).write(&mut request);
        self.may_strike = true;
        stream.write_all(&request).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        self.may_strike = !is_heeded(&mut stream).await;
        Ok(Outcome::Sent)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.may_strike {
            self.victim.under_way.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// As a metric's label.
    pub fn result(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::WaitEnded => "wait_ended",
            Outcome::Nothing => "nothing_to_cancel",
            Outcome::Failed => "failed",
        }
    }
}

// === impl Victim ===

impl Victim {
    /// The backend that has this key, at `address`, which is `remote`.
    pub fn new(key: CancelKey, (address, remote): (Address, Endpoint), config: Arc<ProxyConfig>) -> Victim {
        Victim { key, address, remote, config, under_way: AtomicUsize::new(0), turn: tokio::sync::Mutex::default() }
    }
}

/// The database closes the connection once it has told the backend. A connection that fails says nothing: the request may
/// still be on its way.
async fn is_heeded(stream: &mut Stream) -> bool {
    let mut rest = [0; 64];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
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
        Arc::new(Victim::new(key, (config.client.addresses[0].clone(), Endpoint::Unnamed), config))
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
        let (target, victim) = (Target::default(), victim());
        assert!(matches!(target.seize(), Seized::Nothing), "nobody serves the peer");
        target.aim(Some(victim.clone()));
        let Seized::Backend(under_way) = target.seize() else { panic!("a backend serves it") };
        assert!(!target.release());
        target.aim(Some(victim.clone()));
        drop(under_way);
        assert!(target.release() && matches!(target.seize(), Seized::Nothing));
        target.aim(Some(victim));
        let Seized::Backend(mut under_way) = target.seize() else { panic!("a backend serves it") };
        under_way.may_strike = true;
        drop(under_way);
        assert!(!target.release(), "nobody knows when the request is heeded");
    }

    #[test]
    fn a_peer_that_waits_is_told_once_to_wait_no_longer() {
        let target = Target::default();
        let mut cx = TaskContext::from_waker(Waker::noop());
        assert!(target.poll_given_up(&mut cx).is_pending());
        assert!(matches!(target.seize(), Seized::Waiting) && matches!(target.seize(), Seized::Nothing));
        assert!(target.poll_given_up(&mut cx).is_ready() && target.poll_given_up(&mut cx).is_pending());
        target.aim(Some(victim()));
        assert!(matches!(target.seize(), Seized::Backend(_)), "it waits no longer");
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
