//! A day in the life of the certificates, in simulated time: two replicas that look after them at once, with clocks that
//! differ, watches that lag and writes that fail. At no moment does the API server meet a certificate that it does not
//! believe.

use std::collections::VecDeque;
use std::sync::Arc;

use clap::Parser;
use k8s_openapi::api::core::v1::Secret;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::contents::{Contents, Validity};
use super::*;
use crate::metrics::Metrics;
use crate::probes::Readiness;

mod server;

use server::{CONFIGURATIONS, SECRETS, Server};

const DAY: Duration = Duration::from_hours(24);
const BEGIN: Moment = Duration::from_hours(24 * 365 * 55);

/// From one look at what is served and what is trusted to the next; right after a write, nothing that changes lasts less.
const GLANCES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// What is right after a write.
const SOON: Duration = Duration::from_secs(5);
/// And from one handshake to the next where neither has changed.
const BETWEEN: Duration = Duration::from_mins(1);
/// API servers learn of a new caBundle within this.
const HEARD: Duration = Duration::from_secs(10);
/// Writes fail for at most this, in seconds.
const TROUBLE: u64 = 400;
/// From one trouble to the next, at most, in seconds.
const PEACE: u64 = 3_000;
/// Clocks differ by at most this, in seconds.
const DRIFT: u64 = 60;

/// The operator's command line, as far as it concerns certificates.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
}

fn settings() -> Settings {
    let words = ["operator", "--authority-lifetime=3h", "--certificate-lifetime=1h"];
    CommandLine::parse_from(words).settings
}

/// One replica: what it serves, and whether it says that it is ready.
struct Replica {
    current: Current,
    readiness: Readiness,
}

impl Replica {
    /// Whether the API server's connections are led to it.
    fn is_asked(&self) -> bool {
        self.readiness.hindrances().is_empty()
    }
}

/// A replica that lives for `life`, and is killed then.
async fn live(server: &Server, replica: &Replica, began: Instant, life: Duration) {
    let metrics = Metrics::new().expect("the names are fine");
    let latches = [replica.readiness.latch("certificate"), replica.readiness.latch("caBundle")];
    let mut keeper = Keeper::new(&server.client(), &settings(), (replica.current.clone(), metrics), latches);
    let drift = Duration::from_secs(server.below(2 * DRIFT));
    keeper.clock = Box::new(move || (BEGIN + began.elapsed() + drift).saturating_sub(Duration::from_secs(DRIFT)));
    tokio::select! {
        () = keeper.keep(CancellationToken::new()) => panic!("it ends when it is told to"),
        () = sleep(life) => {}
    }
    replica.readiness.latch("process");
    replica.current.forget();
}

/// Replicas are killed and started again, a while later.
async fn live_on(server: Server, replica: Arc<Replica>, began: Instant) {
    loop {
        let life = Duration::from_secs(1_800 + server.below(5 * 3_600));
        Box::pin(live(&server, &replica, began, life)).await;
        sleep(Duration::from_secs(server.below(60))).await;
        replica.readiness.latch("process").ready();
    }
}

/// Now and then writes fail, for a while: some of them, or all, of one kind or of both.
async fn trouble(server: Server) {
    loop {
        sleep(Duration::from_secs(60 + server.below(PEACE))).await;
        let kinds = [&[SECRETS, CONFIGURATIONS][..], &[SECRETS], &[CONFIGURATIONS]];
        let kinds = kinds[usize::try_from(server.below(3)).expect("it is small")];
        let of_thousand = if server.below(2) == 0 { 1000 } else { 100 + server.below(800) };
        for kind in kinds {
            server.fail(kind, of_thousand);
        }
        sleep(Duration::from_secs(server.below(TROUBLE))).await;
        for kind in kinds {
            server.fail(kind, 0);
        }
    }
}

/// What the API server trusts, as it was written.
fn bundle(server: &Server) -> String {
    let configuration = server.object(CONFIGURATIONS).unwrap_or_default();
    let bundle = serde_json::from_value::<k8s_openapi::ByteString>(
        configuration["webhooks"][0]["clientConfig"]["caBundle"].clone(),
    );
    bundle.ok().and_then(|bytes| String::from_utf8(bytes.0).ok()).unwrap_or_default()
}

/// What the API server says of this certificate at this moment.
fn handshake(served: &CertifiedKey, bundle: &str, now: Moment) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok));
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let name = ServerName::try_from("postern-webhook.postern-system.svc").map_err(|error| error.to_string())?;
    let said = verifier.verify_server_cert(&served.cert[0], &[], &name, &[], UnixTime::since_unix_epoch(now));
    said.map(drop).map_err(|error| error.to_string())
}

/// What was there on a day.
#[derive(Default)]
struct Seen {
    certificates: Vec<CertificateDer<'static>>,
    bundles: Vec<String>,
    /// What is trusted, and what was until then.
    trusted: VecDeque<(Instant, String)>,
}

impl Seen {
    /// Takes a new caBundle into account; API servers go on with the one before for a moment.
    fn hear(&mut self, bundle: String) {
        let now = Instant::now();
        while self.trusted.back().is_some_and(|(until, _)| now.duration_since(*until) > HEARD) && self.trusted.len() > 1
        {
            self.trusted.pop_back();
        }
        if let Some((until, newest)) = self.trusted.front_mut()
            && *newest == bundle
        {
            *until = now;
            return;
        }
        // The one before the first trusted nobody.
        if !bundle.is_empty() {
            self.bundles.push(bundle.clone());
            self.trusted.push_front((now, bundle));
        }
    }

    /// The API servers call a replica.
    fn shake_hands(&mut self, replica: &Replica, now: Moment) -> Result<(), String> {
        let Some(current) = replica.current.get().filter(|_| replica.is_asked()) else { return Ok(()) };
        for (_, bundle) in &self.trusted {
            handshake(&current, bundle, now)?;
        }
        if !self.certificates.contains(&current.cert[0]) {
            self.certificates.push(current.cert[0].clone());
        }
        Ok(())
    }
}

/// All handshakes of the day.
async fn shake_hands(server: &Server, replicas: &[Arc<Replica>; 2], began: Instant) -> Seen {
    let (mut seen, mut before, mut shaken) = (Seen::default(), None, began);
    let (mut writes, mut written) = (0, began);
    while began.elapsed() < DAY {
        sleep(GLANCES[usize::from(written.elapsed() > SOON)]).await;
        if server.writes() != writes {
            (writes, written) = (server.writes(), Instant::now());
        }
        let shown = replicas.each_ref().map(|replica| (replica.is_asked(), replica.current.get()));
        let now = Some((writes, shown.map(|(is_asked, current)| (is_asked, current.map(|it| it.cert[0].clone())))));
        if now == before && shaken.elapsed() < BETWEEN {
            continue;
        }
        (before, shaken) = (now, Instant::now());
        seen.hear(bundle(server));
        for (number, replica) in replicas.iter().enumerate() {
            let said = seen.shake_hands(replica, BEGIN + began.elapsed());
            assert_eq!(said, Ok(()), "replica {number} after {:?}", began.elapsed());
        }
    }
    seen
}

fn configuration() -> Value {
    let webhook = |name: &str| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"name": "postern-webhook", "namespace": "postern-system"}},
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "zz-postern"}, "webhooks": [webhook("pod"), webhook("namespace")],
    })
}

/// Two replicas from nothing on, for a day, with this trouble.
async fn day(server: &Server, trouble: impl Future<Output = ()> + Send + 'static) -> Seen {
    let began = Instant::now();
    let replica = || Arc::new(Replica { current: Current::default(), readiness: Readiness::default() });
    let (replicas, mut tasks) = ([replica(), replica()], JoinSet::new());
    for replica in &replicas {
        tasks.spawn(live_on(server.clone(), replica.clone(), began));
    }
    let mut troubles = JoinSet::new();
    troubles.spawn(trouble);
    let seen = shake_hands(server, &replicas, began).await;
    assert!(tasks.try_join_next().is_none(), "a replica has failed");
    seen
}

/// `POSTERN_FIRST_SEED` gives another seed, and `POSTERN_SEEDS` takes that many.
#[tokio::test(start_paused = true)]
async fn for_a_day_two_replicas_serve_nothing_that_the_api_server_does_not_believe() {
    let asked = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = asked("POSTERN_FIRST_SEED").unwrap_or(1);
    for seed in first..first + asked("POSTERN_SEEDS").unwrap_or(1) {
        let server = Server::new(seed, configuration());
        let seen = day(&server, trouble(server.clone())).await;
        let (certificates, bundles, writes) = (seen.certificates.len(), seen.bundles.len(), server.writes());
        // A certificate is renewed after forty minutes, an authority after two hours.
        assert!((30..60).contains(&certificates), "seed {seed}: {certificates} certificates");
        assert!((11..20).contains(&bundles), "seed {seed}: {bundles} bundles");
        assert!(writes < 200, "seed {seed}: {writes} writes");
    }
}

/// The Secret can be written all day, but the webhook configuration cannot for ten minutes after an authority was due.
#[tokio::test(start_paused = true)]
async fn a_new_authority_signs_nothing_that_is_served_before_the_api_server_was_told_of_it() {
    let server = Server::new(1, configuration());
    let (failing, began) = (server.clone(), Instant::now());
    let trouble = async move {
        loop {
            sleep(Duration::from_secs(10)).await;
            let authority = failing.object(SECRETS).and_then(|secret| serde_json::from_value::<Secret>(secret).ok());
            let until =
                authority.and_then(|secret| Contents::of(&secret).authority.validity()).map(Validity::two_thirds);
            let is_due = until.is_some_and(|until| until < BEGIN + began.elapsed() + Duration::from_mins(3));
            failing.fail(CONFIGURATIONS, if is_due { 1000 } else { 0 });
            if is_due {
                sleep(Duration::from_mins(13)).await;
            }
        }
    };
    let seen = day(&server, trouble).await;
    assert!(seen.bundles.len() > 10, "{} bundles", seen.bundles.len());
}
