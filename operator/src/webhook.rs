//! The HTTPS server that the API server calls for each pod that asked, or whose namespace did.
//!
//! It does not know who asks, so everything is bounded: connections, the time of a handshake and of each stage of a request,
//! the bytes of requests while they arrive and what they take once they are read. Where that does not suffice for all, who
//! has the most of it gives way: see `places`. At its end it goes on with what is under way.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::certificates::Current;
use crate::choose::Asker;
use crate::places::{Place, Places};
use crate::review::Review;

mod pace;
mod weight;

use pace::{Noticed, Pace};
use weight::weight;

/// Connections at one time. Three API servers make at most 600, one for each change that they work on; a process may often
/// have 1024 files.
const MOST_CONNECTIONS: usize = 768;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes of a request's head, and of its body that are read at one time.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes of one request: the API server takes objects up to 3 MiB, and sends them with what describes them.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Bytes by which room for a body that goes on is made, at least.
const STEP: usize = 64 * 1024;
/// Kibibytes that one request may take once it is read, by its [`weight`](mod@weight).
const MAX_WEIGHT: usize = 24 * 1024;
/// Kibibytes that all requests on which is decided may take together; more wait.
const WEIGHTS: usize = 64 * 1024;
/// How long what is under way may take after the end has come.
const END: Duration = Duration::from_secs(3);
/// How long to wait when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// When this ends.
#[derive(Clone, Debug)]
pub struct Stops {
    /// This replica leaves: each answer is the last of its connection, so that the next request goes elsewhere.
    pub leaving: CancellationToken,
    /// Nothing new is taken; what is under way is finished.
    pub closing: CancellationToken,
}

/// What all connections share.
struct Server {
    review: Review,
    places: Places,
    weights: Semaphore,
    stops: Stops,
}

/// Serves until `stops.closing`, and a moment more for what is under way.
///
/// # Errors
/// The cryptography is not what TLS needs: a defect of this program.
pub async fn serve(
    listener: TcpListener,
    certificate: Current,
    review: Review,
    stops: Stops,
) -> Result<(), rustls::Error> {
    let server = Server { review, places: Places::new(MOST_CONNECTIONS), weights: Semaphore::new(WEIGHTS), stops };
    Arc::new(server).serve(listener, TlsAcceptor::from(Arc::new(tls(certificate)?))).await;
    Ok(())
}

fn tls(certificate: Current) -> Result<ServerConfig, rustls::Error> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

// === impl Server ===

impl Server {
    async fn serve(self: Arc<Self>, listener: TcpListener, tls: TlsAcceptor) {
        let closing = &self.stops.closing;
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                () = closing.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, place) = match accepted {
                Ok((stream, peer)) => (stream, self.places.enter(peer.ip())),
                Err(error) => {
                    debug!(%error, "Cannot accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                () = self.places.make_room(&place) => {}
            }
            connections.spawn(self.clone().converse(stream, place, tls.clone()));
        }
        drop(listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        if timeout(END, rest).await.is_err() {
            warn!("Reviews were still under way at the end");
        }
    }

    /// Serves one connection until it ends, takes too long, is in the way, or we end.
    async fn converse(self: Arc<Self>, stream: TcpStream, taken: Place, tls: TlsAcceptor) {
        // Answers are small, and somebody waits for each.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "Cannot send small answers at once");
        }
        let shaken = tokio::select! {
            biased;
            () = taken.evicted() => return debug!("A connection gave way to another"),
            shaken = timeout(HANDSHAKE, tls.accept(stream)) => shaken,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(%error, "A TLS handshake failed"),
            Err(_) => return debug!("A TLS handshake took too long"),
        };
        let pace = Pace::new(taken);
        let answer = service_fn(|request| {
            let (server, pace) = (self.clone(), pace.clone());
            async move {
                let response = server.respond(request, &pace).await;
                pace.is_answered();
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        // The server's own bound of 30 s for a head would close idle connections as well.
        http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
        let stream = Noticed { stream, pace: pace.clone() };
        let connection = http.serve_connection(TokioIo::new(stream), answer);
        let mut connection = std::pin::pin!(connection);
        let mut ended = std::pin::pin!(pace.ended());
        let closing = self.stops.closing.clone();
        let mut is_closing = false;
        loop {
            tokio::select! {
                biased;
                why = &mut ended => return debug!("{why}"),
                done = connection.as_mut() => {
                    if let Err(error) = done {
                        debug!(%error, "A connection failed");
                    }
                    return;
                }
                () = closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn respond(&self, request: Request<Incoming>, pace: &Pace) -> Response<Full<Bytes>> {
        pace.has_begun();
        let called = match request.uri().path() {
            path if path == Asker::Pod.path() => Asker::Pod,
            path if path == Asker::Namespace.path() => Asker::Namespace,
            _ => return refuse(StatusCode::NOT_FOUND, "there are /inject/pod and /inject/namespace"),
        };
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is answered here");
        }
        let body = match read(request.into_body(), &pace.place).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        pace.has_arrived();
        let answer = self.decide(called, body).await;
        pace.place.give_back();
        answer
    }

    /// Decides on a body, as soon as there is memory for what it becomes.
    async fn decide(&self, called: Asker, body: Vec<u8>) -> Response<Full<Bytes>> {
        let kibibytes = weight(&body).div_ceil(1024);
        let weight = u32::try_from(kibibytes).ok().filter(|_| kibibytes <= MAX_WEIGHT);
        let Some(weight) = weight else {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "a review of so many values is not read");
        };
        let Ok(_weight) = self.weights.acquire_many(weight).await else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "the webhook ends");
        };
        match self.review.answer(called, &body).await {
            Ok(answer) => {
                let mut response = Response::new(Full::new(answer.into()));
                response.headers_mut().insert(CONTENT_TYPE, JSON);
                if self.stops.leaving.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, CLOSE);
                }
                response
            }
            Err(error) => {
                debug!(%error, "Refused a request");
                refuse(StatusCode::BAD_REQUEST, &error.to_string())
            }
        }
    }
}

/// Reads a body; what it takes is taken as it arrives, so that who announces much and sends little has little.
async fn read(mut body: Incoming, place: &Place) -> Result<Vec<u8>, Response<Full<Bytes>>> {
    let too_large = || refuse(StatusCode::PAYLOAD_TOO_LARGE, &format!("a review has at most {MAX_BODY} bytes"));
    let announced = body.size_hint().upper().and_then(|length| usize::try_from(length).ok()).unwrap_or(MAX_BODY);
    if announced > MAX_BODY {
        return Err(too_large());
    }
    // One piece, because each of many would cost more than what is in it.
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            debug!(%error, "A review broke off");
            refuse(StatusCode::BAD_REQUEST, "the review could not be read to its end")
        })?;
        // What comes behind the body is not looked at.
        let Ok(data) = frame.into_data() else { continue };
        let length = all.len() + data.len();
        if length > MAX_BODY {
            return Err(too_large());
        }
        if length > all.capacity() {
            let room = (all.capacity() + all.capacity() / 2).max(STEP).min(announced).max(length);
            let crowded = |_| refuse(StatusCode::SERVICE_UNAVAILABLE, "there is no memory for the review; try again");
            place.take(room - all.capacity()).await.map_err(crowded)?;
            all.reserve_exact(room - all.len());
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// A sentence, and the end of the connection.
fn refuse(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(format!("{sentence}\n").into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

#[cfg(test)]
mod tests;
