//! What the kubelet, Prometheus and the operator ask: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/config`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use crate::config::{Listen, ProxyConfig, Readiness};
use crate::gateway::{Gateway, Pulse};
use crate::metrics::{Metrics, ReconnectMetrics};
use crate::shutdown::Drain;

/// Requests that are answered at one time; more wait.
const MOST_CONNECTIONS: usize = 32;
/// How long one connection may last: nobody needs more, and nobody may keep a place.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long a request's head may take to arrive.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// What `/config` says.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The resource's name.
    pub name: String,
    /// The SHA-256 of the configuration that is served.
    pub hash: String,
    /// How many configurations have been applied.
    pub generation: u64,
    /// Whether the file's last change is served.
    pub state: State,
    /// The change that is not served, and why.
    pub refused: Option<Refused>,
    /// Each proxy with the address that peers dial.
    pub proxies: Vec<Listening>,
}

/// Whether the file's last change is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is.
    Applied,
    /// It was refused; what came before it is served.
    Refused,
}

/// A change that is not served.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// The SHA-256 of the file.
    pub hash: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A proxy with the address that peers dial.
#[derive(Clone, Debug, Serialize)]
pub struct Listening {
    /// The proxy's name.
    pub name: String,
    /// The address, with the actual port.
    pub address: String,
}

/// What the endpoints tell of, kept up to date by the main thread.
pub struct Admin {
    metrics: Metrics,
    pulse: Pulse,
    drain: Drain,
    status: RefCell<Status>,
    /// The databases that readiness follows; empty where it does not.
    databases: RefCell<Vec<ReconnectMetrics>>,
}

// === impl Admin ===

impl Admin {
    /// Tells of `gateway`, which has just applied the configuration with this hash.
    pub fn new(gateway: &Gateway, metrics: Metrics, hash: String) -> Rc<Admin> {
        let status = Status {
            name: String::new(),
            hash: String::new(),
            generation: 0,
            state: State::Applied,
            refused: None,
            proxies: Vec::new(),
        };
        let (status, databases) = (RefCell::new(status), RefCell::default());
        let (pulse, drain) = (gateway.pulse(), gateway.drain().clone());
        let admin = Rc::new(Admin { metrics, pulse, drain, status, databases });
        admin.applied(gateway, hash);
        admin
    }

    /// The file with this hash is served now.
    pub fn applied(&self, gateway: &Gateway, hash: String) {
        self.metrics.config_applied();
        let config = gateway.config();
        let listening = |(name, address): (Arc<str>, String)| Listening { name: name.to_string(), address };
        let mut status = self.status.borrow_mut();
        status.name.clone_from(&config.name);
        status.hash = hash;
        status.generation += 1;
        (status.state, status.refused) = (State::Applied, None);
        status.proxies = gateway.addresses().into_iter().map(listening).collect();
        // Of a UDP database nothing is known.
        let is_followed = |proxy: &&Arc<ProxyConfig>| !matches!(proxy.server.listen, Listen::Udp(_));
        let databases = config.proxies.iter().filter(|_| config.readiness == Readiness::Database).filter(is_followed);
        *self.databases.borrow_mut() = databases.map(|proxy| self.metrics.proxy(&proxy.name).reconnect).collect();
    }

    /// The file with this hash is not served, for this reason.
    pub fn refused(&self, hash: String, reason: String) {
        self.metrics.config_refused();
        let mut status = self.status.borrow_mut();
        (status.state, status.refused) = (State::Refused, Some(Refused { hash, reason }));
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/livez" if self.pulse.is_alive().await => text(StatusCode::OK, "alive\n"),
            "/livez" => text(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer\n"),
            "/readyz" => self.readiness(),
            // Everything was bound before this began to answer.
            "/startupz" => text(StatusCode::OK, "started\n"),
            "/metrics" => self.metrics(),
            "/config" => self.config(),
            _ => text(StatusCode::NOT_FOUND, "there are /livez /readyz /startupz /metrics /config\n"),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        if self.drain.has_begun() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        if !self.databases.borrow().iter().all(ReconnectMetrics::is_up) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the database is away\n");
        }
        text(StatusCode::OK, "ready\n")
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.encode() {
            Ok(metrics) => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot write the metrics: {error}\n")),
        }
    }

    fn config(&self) -> Response<Full<Bytes>> {
        match serde_json::to_string(&*self.status.borrow()) {
            Ok(status) => respond(StatusCode::OK, "application/json", status + "\n"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot write the status: {error}\n")),
        }
    }
}

/// Opens the admin address; where all of IPv6 is asked for and the host has none, all of IPv4 instead.
///
/// # Errors
/// One sentence that says what is wrong with the address, and what to do.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, String> {
    let bound = match TcpListener::bind(addr).await {
        Err(_) if addr.ip().is_unspecified() && addr.is_ipv6() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
        }
        bound => bound,
    };
    let listener = bound
        .map_err(|error| format!("cannot serve admin on {addr}: {error}; free it, or change spec.admin.address"))?;
    let address = listener.local_addr().map_or_else(|error| error.to_string(), |addr| addr.to_string());
    info!(%address, "Serving admin");
    Ok(listener)
}

/// Answers for as long as it is polled.
pub async fn serve(listener: TcpListener, admin: Rc<Admin>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                tokio::task::spawn_local(async move {
                    if timeout(CONNECTION_TIME, converse(stream, admin)).await.is_err() {
                        debug!("An admin connection lasted too long");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!(%error, "Cannot accept an admin connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, admin: Rc<Admin>) {
    let answer = service_fn(|request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        debug!(%error, "An admin connection failed");
    }
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let response =
        Response::builder().status(status).header(CONTENT_TYPE, content_type).header(CACHE_CONTROL, "no-store");
    response.body(Full::new(body.into())).expect("the headers are constants, and valid")
}
