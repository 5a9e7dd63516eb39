//! The operator's life: it connects, asks whether it may do what it must, starts everything, and ends it in order.
//!
//! At SIGTERM this replica is ready no more, its controllers end and the lease is given back, while the webhook goes on
//! until nobody asks it any longer; then the rest ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::caches::{Caches, Triggers};
use crate::certificates::{Current, Keeper};
use crate::events::Events;
use crate::inject::Defaults;
use crate::lease::{Candidate, Lost};
use crate::metrics::Metrics;
use crate::probes::{self, Latch, Readiness};
use crate::reconcile::{self, Reconciler};
use crate::review::Review;
use crate::settings::Settings;
use crate::sidecars::Sidecars;
use crate::sidecars::uninjected::Uninjected;
use crate::webhook;

mod connect;
pub(crate) mod preflight;

/// How long everything may take to end, once nobody asks the webhook any more.
const END: Duration = Duration::from_secs(4);

/// Why the operator cannot begin, or go on.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no cluster.
    #[error("{0}")]
    NoCluster(String),
    /// There is, and it does not let us do what we must.
    #[error("{0}")]
    NotAllowed(String),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// A metric is wrong: a defect of this program.
    #[error("cannot define a metric: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The system does not tell us of its signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// Another replica may lead now, so this one must not go on.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// TLS cannot be offered: a defect of this program.
    #[error("cannot offer TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// A part of the operator has ended by itself: a defect of this program.
    #[error("{0} has ended by itself")]
    Part(&'static str),
}

/// What ends the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// When what ends.
#[derive(Clone, Default)]
struct Stops {
    /// The signal has come: controllers end.
    ending: CancellationToken,
    /// Nobody asks the webhook any more: everything ends.
    closing: CancellationToken,
}

/// What all parts share.
#[derive(Clone)]
struct Shared {
    settings: Arc<Settings>,
    client: Client,
    metrics: Metrics,
    readiness: Readiness,
    events: Events,
    caches: Caches,
    triggers: Triggers,
    stops: Stops,
}

/// The parts that run, each with its name.
type Parts = JoinSet<Ended>;

/// A part that has ended, with its name.
type Ended = (&'static str, Result<(), Error>);

/// Runs the operator until a signal.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut signals = Signals::new().map_err(Error::Signals)?;
    let (metrics, readiness) = (Metrics::new()?, Readiness::default());
    let (listeners, stops, mut parts) = (Listeners::open(&settings).await?, Stops::default(), Parts::new());
    // The kubelet is answered from the first moment on, however long the API server takes.
    let operator = readiness.latch("operator");
    let probes = probes::serve(listeners.http, readiness.clone(), metrics.clone(), stops.closing.clone());
    parts.spawn(named("the probes", probes));
    let begun = tokio::select! {
        biased;
        () = signals.next() => return Ok(()),
        begun = begin(settings, metrics, readiness, stops) => begun,
    };
    let (shared, own) = begun?;
    start(&shared, listeners.webhook, own, &mut parts);
    operator.ready();
    info!(version = env!("CARGO_PKG_VERSION"), "The operator has started");
    tokio::select! {
        biased;
        () = signals.next() => {}
        ended = parts.join_next() => return Err(failure(ended)),
    }
    end(&shared, &operator, &mut signals, parts).await;
    Ok(())
}

/// Connects, and makes what everything else needs.
async fn begin(
    settings: Settings,
    metrics: Metrics,
    readiness: Readiness,
    stops: Stops,
) -> Result<(Shared, Own), Error> {
    let client = connect::connect().await.map_err(Error::NoCluster)?;
    preflight::check(&client, &settings).await.map_err(Error::NotAllowed)?;
    let (triggers, closing) = (Triggers::default(), &stops.closing);
    let (instance, counts) = (settings.pod_name.clone(), metrics.clone());
    let (events, write) = Events::new(client.clone(), instance, counts.clone(), closing.clone());
    let (caches, follow) = Caches::new(&client, triggers.clone(), counts, closing.clone());
    let own = Own { write: write.boxed(), follow: follow.boxed() };
    let settings = Arc::new(settings);
    Ok((Shared { settings, client, metrics, readiness, events, caches, triggers, stops }, own))
}

/// What keeps the shared things going.
struct Own {
    write: BoxFuture<'static, ()>,
    follow: BoxFuture<'static, ()>,
}

/// Where the operator listens.
struct Listeners {
    http: TcpListener,
    webhook: TcpListener,
}

/// Starts what serves, and what leads if this replica does.
fn start(shared: &Shared, webhook: TcpListener, own: Own, parts: &mut Parts) {
    parts.spawn(named("the writer of events", own.write));
    parts.spawn(named("the caches", own.follow));
    let (caches, synced, closing) =
        (shared.caches.clone(), shared.readiness.latch("caches"), shared.stops.closing.clone());
    parts.spawn(named("the caches' readiness", async move {
        caches.synced().await;
        synced.ready();
        closing.cancelled().await;
    }));
    start_webhook(shared, webhook, parts);
    parts.spawn(lead(shared.clone()));
}

/// Starts what every replica does for pods that are created.
fn start_webhook(shared: &Shared, listener: TcpListener, parts: &mut Parts) {
    let Shared { settings, client, metrics, readiness, events, caches, stops, .. } = shared.clone();
    let current = Current::default();
    let latches = [readiness.latch("certificate"), readiness.latch("caBundle")];
    let keeper = Keeper::new(&client, &settings, (current.clone(), metrics.clone()), latches);
    parts.spawn(named("the keeper of certificates", keeper.keep(stops.closing.clone())));
    let review = Review::new(client, caches, (events, metrics), Defaults::from(&settings.sidecars));
    let stops = webhook::Stops { leaving: stops.ending, closing: stops.closing };
    parts.spawn(async move {
        let served = webhook::serve(listener, current, review, stops).await;
        ("the webhook", served.map_err(Error::Tls))
    });
}

async fn named(name: &'static str, part: impl Future<Output = ()>) -> Ended {
    part.await;
    (name, Ok(()))
}

/// Waits until this replica leads, and then runs the controllers until the signal.
async fn lead(shared: Shared) -> Ended {
    let result = lead_until_lost(&shared).await;
    if result.is_ok() {
        shared.stops.closing.cancelled().await;
    }
    ("the leader", result)
}

async fn lead_until_lost(shared: &Shared) -> Result<(), Error> {
    let Settings { namespace, lease, pod_name, lease_duration, .. } = &*shared.settings;
    let candidate = Candidate::new(shared.client.clone(), namespace, lease, pod_name, *lease_duration);
    let ending = &shared.stops.ending;
    let lease = tokio::select! {
        biased;
        () = ending.cancelled() => return Ok(()),
        lease = candidate.acquire() => lease,
    };
    shared.metrics.set_leader(true);
    let ended = CancellationToken::new();
    let mut controllers = controllers(shared);
    let hold = candidate.hold(lease, ended.clone());
    let work = async {
        let first = controllers.join_next().await;
        if !ending.is_cancelled() {
            return Err(failure(first));
        }
        while controllers.join_next().await.is_some() {}
        ended.cancel();
        Ok(())
    };
    let hold = async { hold.await.map_err(Error::from) };
    let result = futures::future::try_join(work, hold).await.map(drop);
    shared.metrics.set_leader(false);
    result
}

/// What only one replica may do.
fn controllers(shared: &Shared) -> Parts {
    let Shared { settings, client, metrics, events, caches, triggers, stops, .. } = shared.clone();
    let ending = stops.ending;
    let uninjected =
        Uninjected::new(client.clone(), caches.clone(), triggers.clone(), metrics.clone(), &settings.namespace);
    let sidecars = Sidecars::new(client.clone(), metrics.clone(), triggers.clone());
    let reconciler = Reconciler {
        client,
        caches,
        sidecars: sidecars.clone(),
        uninjected: uninjected.clone(),
        events,
        metrics,
        turns: reconcile::Turns::default(),
    };
    let mut parts = Parts::new();
    let stop = ending.clone();
    parts.spawn(named("the watch on pods", async move { sidecars.run(stop).await }));
    let stop = ending.clone();
    let count = async move { uninjected.run(stop).await };
    parts.spawn(named("the count of pods without sidecar", count));
    parts.spawn(named("the controller", reconcile::run(Arc::new(reconciler), triggers, ending)));
    parts
}

/// Ends everything in order; a second signal ends it at once.
async fn end(shared: &Shared, ready: &Latch, signals: &mut Signals, mut parts: Parts) {
    info!("The operator ends");
    ready.not_ready("it ends");
    shared.stops.ending.cancel();
    // What was told of this replica before is still used by others for a moment.
    tokio::select! {
        biased;
        () = signals.next() => {}
        () = sleep(shared.settings.shutdown_delay) => {}
    }
    shared.stops.closing.cancel();
    let rest = async { while parts.join_next().await.is_some() {} };
    if timeout(END, rest).await.is_err() {
        warn!("Not everything has ended in time");
    }
}

/// What to say of a part that has ended while nobody wanted it to.
fn failure(ended: Option<Result<Ended, JoinError>>) -> Error {
    match ended {
        Some(Ok((_, Err(error)))) => error,
        Some(Ok((name, Ok(())))) => Error::Part(name),
        Some(Err(_)) | None => Error::Part("a part of the operator"),
    }
}

// === impl Listeners ===

impl Listeners {
    async fn open(settings: &Settings) -> Result<Listeners, Error> {
        let http = probes::bind(settings.http_address, "--http-address").await.map_err(Error::Listen)?;
        let webhook = probes::bind(settings.webhook_address, "--webhook-address").await.map_err(Error::Listen)?;
        Ok(Listeners { http, webhook })
    }
}

// === impl Signals ===

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
