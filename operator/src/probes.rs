//! What the kubelet and Prometheus ask, over plain HTTP: `/livez`, `/readyz`, `/metrics`. Whoever else reaches the address keeps
//! no probe from being answered: who has the most connections gives way.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::Metrics;
use crate::places::Places;

/// Connections at one time.
const MOST_CONNECTIONS: usize = 32;
/// How long one connection may last: nobody needs more, and nobody may keep a place.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long a request's head may take to arrive.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Bytes of a request's head: those of a probe or a scrape are some hundred.
const MOST_HEAD: usize = 8 * 1024;
/// How long to wait when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Whether this replica can serve, and if not, everything that hinders.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

/// One thing without which this replica is not ready.
#[derive(Clone)]
pub struct Latch {
    readiness: Readiness,
    name: &'static str,
}

// === impl Readiness ===

impl Readiness {
    /// One more thing that is needed; it is missing until it says otherwise.
    pub fn latch(&self, name: &'static str) -> Latch {
        let latch = Latch { readiness: self.clone(), name };
        latch.not_ready("not yet");
        latch
    }

    /// What hinders, a line each; nothing if this replica is ready.
    pub fn hindrances(&self) -> Vec<String> {
        let hindrances = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hindrances.iter().map(|(name, sentence)| format!("{name}: {sentence}")).collect()
    }
}

// === impl Latch ===

impl Latch {
    /// This is there now.
    pub fn ready(&self) {
        self.readiness.0.lock().unwrap_or_else(PoisonError::into_inner).remove(self.name);
    }

    /// This is missing, for the reason that `sentence` says.
    pub fn not_ready(&self, sentence: impl Into<String>) {
        self.readiness.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name, sentence.into());
    }
}

/// Opens an address; where all of IPv6 is asked for and the host has none, all of IPv4 instead.
///
/// # Errors
/// One sentence that says which `flag` to change.
pub async fn bind(addr: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    let bound = match TcpListener::bind(addr).await {
        Err(_) if addr.ip().is_unspecified() && addr.is_ipv6() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
        }
        bound => bound,
    };
    bound.map_err(|error| format!("cannot listen on {addr}: {error}; free it, or give another {flag}"))
}

/// Answers until `stop`.
pub async fn serve(listener: TcpListener, readiness: Readiness, metrics: Metrics, stop: CancellationToken) {
    let places = Places::new(MOST_CONNECTIONS);
    let mut talks = JoinSet::new();
    loop {
        while talks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, place) = match accepted {
            Ok((stream, peer)) => (stream, places.enter(peer.ip())),
            Err(error) => {
                debug!(%error, "Cannot accept a probe");
                sleep(PAUSE).await;
                continue;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = places.make_room(&place) => {}
        }
        let (readiness, metrics) = (readiness.clone(), metrics.clone());
        talks.spawn(async move {
            tokio::select! {
                biased;
                () = place.evicted() => debug!("A probe's connection gave way to another"),
                talked = timeout(CONNECTION_TIME, converse(stream, readiness, metrics)) => if talked.is_err() {
                    debug!("A probe's connection lasted too long");
                }
            }
        });
    }
}

async fn converse(stream: TcpStream, readiness: Readiness, metrics: Metrics) {
    let reply = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &readiness, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), reply)
        .await;
    if let Err(error) = served {
        debug!(%error, "A probe's connection failed");
    }
}

fn answer(method: &Method, path: &str, readiness: &Readiness, metrics: &Metrics) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered here\n");
    }
    match path {
        // Who answers this has a runtime that turns; whoever loses the lease or a task ends by itself.
        "/livez" => respond(StatusCode::OK, TEXT, "alive\n"),
        "/readyz" => match readiness.hindrances() {
            none if none.is_empty() => respond(StatusCode::OK, TEXT, "ready\n"),
            some => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, some.join("\n") + "\n"),
        },
        "/metrics" => match metrics.encode() {
            Ok(text) => respond(StatusCode::OK, PROMETHEUS, text),
            Err(error) => {
                respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot write the metrics: {error}\n"))
            }
        },
        _ => respond(StatusCode::NOT_FOUND, TEXT, "there are /livez /readyz /metrics\n"),
    }
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn ask(path: &str, readiness: &Readiness) -> StatusCode {
        answer(&Method::GET, path, readiness, &Metrics::new().expect("the names are fine")).status()
    }

    #[test]
    fn a_replica_is_ready_when_nothing_is_missing() {
        let readiness = Readiness::default();
        let (caches, certificate) = (readiness.latch("caches"), readiness.latch("certificate"));
        assert_eq!(ask("/readyz", &readiness), StatusCode::SERVICE_UNAVAILABLE);
        caches.ready();
        certificate.not_ready("the Secret \"x\" has none");
        assert_eq!(readiness.hindrances(), ["certificate: the Secret \"x\" has none"]);
        certificate.ready();
        assert_eq!(ask("/readyz", &readiness), StatusCode::OK);
    }

    #[tokio::test]
    async fn who_keeps_every_place_keeps_no_probe_from_being_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let (metrics, stop) = (Metrics::new().expect("the names are fine"), CancellationToken::new());
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Readiness::default(), metrics, stop.clone()));
        let mut kept = Vec::new();
        for number in 0..200 {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            // Some say nothing, and some begin.
            if number % 2 == 0 {
                stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").await.expect("it listens");
            }
            kept.push(stream);
        }
        let probe = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        };
        let answer = timeout(Duration::from_secs(2), probe).await.expect("in time").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stop.cancel();
        assert!(serving.join_next().await.is_some_and(|ended| ended.is_ok()));
    }

    #[test]
    fn only_what_exists_is_answered() {
        let readiness = Readiness::default();
        assert_eq!(ask("/livez", &readiness), StatusCode::OK);
        assert_eq!(ask("/metrics", &readiness), StatusCode::OK);
        assert_eq!(ask("/", &readiness), StatusCode::NOT_FOUND);
    }
}
