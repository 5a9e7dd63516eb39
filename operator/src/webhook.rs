//! The HTTPS server that the API server calls for each pod that asked, or whose namespace did.
//!
//! Everything is bounded: connections, the time of a handshake, of the first word and of each request, and the memory that
//! requests take together. At its end it goes on with what is under way.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::certificates::Current;
use crate::choose::Asker;
use crate::review::Review;

/// Connections at one time; more wait. An API server keeps a few open and makes more as pods come.
const MOST_CONNECTIONS: usize = 256;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may take to its first request.
const FIRST: Duration = Duration::from_secs(10);
/// How long a request may take, from its head to its answer; the API server waits for half of that.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a connection may be idle: longer than the 90 s after which an API server closes it, so that it never sends a
/// request into a connection that we are closing.
const IDLE: Duration = Duration::from_mins(3);
/// Bytes of a request's head, and of its body that are read at one time.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes of one request: the API server takes objects up to 3 MiB, and sends them with what describes them.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Kibibytes that the bodies of all requests may take together; more wait. Once read, a body may take many times as much.
const MEMORY: usize = 6 * 1024;
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
    memory: Semaphore,
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
    let tls = TlsAcceptor::from(Arc::new(tls(certificate)?));
    let closing = stops.closing.clone();
    let server = Arc::new(Server { review, memory: Semaphore::new(MEMORY), stops });
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        if let Some((stream, place)) = accepted {
            let (tls, server) = (tls.clone(), server.clone());
            connections.spawn(async move {
                server.converse(stream, tls).await;
                drop(place);
            });
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(END, rest).await.is_err() {
        warn!("Reviews were still under way at the end");
    }
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

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            debug!(%error, "Cannot accept a connection");
            sleep(PAUSE).await;
            None
        }
    }
}

// === impl Server ===

impl Server {
    /// Serves one connection until it ends, is idle for too long, or we end.
    async fn converse(self: Arc<Self>, stream: TcpStream, tls: TlsAcceptor) {
        // Answers are small, and somebody waits for each.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "Cannot send small answers at once");
        }
        let stream = match timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(%error, "A TLS handshake failed"),
            Err(_) => return debug!("A TLS handshake took too long"),
        };
        let (deadline, mut changed) = watch::channel(Instant::now() + FIRST);
        let answer = service_fn(|request| {
            let (server, deadline) = (self.clone(), &deadline);
            async move {
                deadline.send_replace(Instant::now() + REQUEST);
                let response = server.respond(request).await;
                deadline.send_replace(Instant::now() + IDLE);
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        // The server's own bound of 30 s for a head would close idle connections as well.
        http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
        let connection = http.serve_connection(TokioIo::new(stream), answer);
        let mut connection = std::pin::pin!(connection);
        let closing = self.stops.closing.clone();
        let mut is_closing = false;
        loop {
            let end = *changed.borrow_and_update();
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%error, "A connection failed");
                    }
                    return;
                }
                () = closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = changed.changed() => {}
                () = sleep_until(end) => return debug!("A connection had nothing to say for too long"),
            }
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let called = match request.uri().path() {
            path if path == Asker::Pod.path() => Asker::Pod,
            path if path == Asker::Namespace.path() => Asker::Namespace,
            _ => return refuse(StatusCode::NOT_FOUND, "there are /inject/pod and /inject/namespace"),
        };
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is answered here");
        }
        // The memory is given back when the answer is there.
        let (_memory, body) = match self.read(request.into_body()).await {
            Ok(read) => read,
            Err(refusal) => return refusal,
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

    /// Reads a body, as soon as there is memory for it.
    async fn read(&self, body: Incoming) -> Result<(SemaphorePermit<'_>, Bytes), Response<Full<Bytes>>> {
        let too_large = || refuse(StatusCode::PAYLOAD_TOO_LARGE, &format!("a review has at most {MAX_BODY} bytes"));
        let length = body.size_hint().upper().and_then(|length| usize::try_from(length).ok()).unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return Err(too_large());
        }
        let kibibytes = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        let reading = async {
            let memory = self.memory.acquire_many(kibibytes).await;
            (memory, Limited::new(body, MAX_BODY).collect().await)
        };
        match timeout(REQUEST, reading).await {
            Ok((Ok(memory), Ok(body))) => Ok((memory, body.to_bytes())),
            Ok((_, Err(error))) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(_) => Err(refuse(StatusCode::BAD_REQUEST, "the review could not be read to its end")),
            Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the review took too long to arrive")),
        }
    }
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
