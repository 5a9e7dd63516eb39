//! What the kubelet, Prometheus and the operator ask: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/config`; and what
//! whoever is in the pod may see as well: the page at `/`, `/state`, `/settings`.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::rt::Timer;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local};
use tracing::{debug, info};

use crate::clock::{self, Instant, sleep, timeout};
use crate::config::{Config, Listen, ProxyConfig, Readiness};
use crate::gateway::{Gateway, Pulse};
use crate::log::Events;
use crate::metrics::{Metrics, ReconnectMetrics};
use crate::shutdown::Drain;

mod near;
mod page;
mod state;
mod settings;

/// Connections at one time.
const MOST_CONNECTIONS: usize = 32;
/// How long one connection may last: nobody needs more, and nobody may keep a place.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head: those of a probe or a scrape are some hundred.
const MOST_HEAD: usize = 8 * 1024;
/// How long a request's head may take to arrive.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// What there is to ask for.
const PATHS: &str = "there are / /livez /readyz /startupz /metrics /config /state /settings\n";

/// What `/config` says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of this gateway.
    pub version: &'static str,
    /// The resource's name.
    pub name: String,
    /// The SHA-256 of the last configuration that every worker has served; empty before the first.
    pub hash: String,
    /// How many configurations have been applied.
    pub generation: u64,
    /// Whether the file's last change is served.
    pub state: State,
    /// The change that is not served, and why.
    pub refused: Option<Refused>,
    /// Each proxy with the address that peers dial.
    pub proxies: Vec<Listening>,
    /// What of the configuration needs a restart, one sentence each; the rest of it is served.
    pub restart_required: Vec<String>,
}

/// Whether the file's last change is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is.
    Applied,
    /// It was refused, or not every worker serves it yet, or there is none; what came before it is served.
    Refused,
}

/// A change that is not served.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// The SHA-256 of the file; empty where there is none.
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

/// Who is connected, the oldest first: from where, and what ends it.
#[derive(Default)]
struct Places(VecDeque<(IpAddr, AbortHandle)>);

/// What is served, and the document that says so.
struct Served {
    config: Arc<Config>,
    document: Rc<[u8]>,
}

/// What the endpoints tell of, kept up to date by the main thread.
pub struct Admin {
    began: Instant,
    metrics: Metrics,
    pulse: RefCell<Pulse>,
    drain: Drain,
    events: Events,
    status: RefCell<Status>,
    /// What is served; nothing before the first configuration.
    served: RefCell<Option<Served>>,
    /// The databases that readiness follows; empty where it does not.
    databases: RefCell<Vec<ReconnectMetrics>>,
}

// === impl Admin ===

impl Admin {
    /// Nothing is served yet.
    pub fn new(metrics: Metrics, drain: Drain, events: Events) -> Rc<Admin> {
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            name: String::new(),
            hash: String::new(),
            generation: 0,
            state: State::Refused,
            refused: None,
            proxies: Vec::new(),
            restart_required: Vec::new(),
        };
        let (began, pulse) = (Instant::now(), RefCell::default());
        let (status, served, databases) = (RefCell::new(status), RefCell::default(), RefCell::default());
        Rc::new(Admin { began, metrics, pulse, drain, events, status, served, databases })
    }

    /// These workers are there from now on.
    pub fn follow(&self, pulse: Pulse) {
        *self.pulse.borrow_mut() = pulse;
    }

    /// The file with this hash is served now, by every worker.
    pub fn applied(&self, gateway: &Gateway, hash: String, document: Rc<[u8]>) {
        self.metrics.config_applied();
        let config = gateway.config();
        *self.served.borrow_mut() = Some(Served { config: config.clone(), document });
        let listening = |(name, address): (Arc<str>, String)| Listening { name: name.to_string(), address };
        let mut status = self.status.borrow_mut();
        status.name.clone_from(&config.name);
        status.hash = hash;
        status.generation += 1;
        (status.state, status.refused) = (State::Applied, None);
        status.restart_required = gateway.restart_required().to_vec();
        status.proxies = gateway.addresses().into_iter().map(listening).collect();
        // Of a UDP database nothing is known.
        let is_followed = |proxy: &&Arc<ProxyConfig>| !matches!(proxy.server.listen, Listen::Udp(_));
        let databases = config.proxies.iter().filter(|_| config.readiness == Readiness::Database).filter(is_followed);
        *self.databases.borrow_mut() = databases.map(|proxy| self.metrics.proxy(&proxy.name).reconnect).collect();
    }

    /// The file with this hash is not served, for this reason.
    pub fn refused(&self, hash: String, reason: String) {
        self.metrics.config_refused();
        self.waits(hash, reason);
    }

    /// The file with this hash, empty where there is none, is not served yet, for this reason.
    pub fn waits(&self, hash: String, reason: String) {
        let mut status = self.status.borrow_mut();
        (status.state, status.refused) = (State::Refused, Some(Refused { hash, reason }));
    }

    /// What `/config` says.
    #[cfg(test)]
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    async fn answer(&self, request: &Request<Incoming>, remote: IpAddr) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/livez" => self.liveness().await,
            "/readyz" => self.objection().unwrap_or_else(|| self.readiness()),
            "/startupz" => self.objection().unwrap_or_else(|| text(StatusCode::OK, "started\n")),
            "/metrics" => self.metrics(),
            "/config" => json(&*self.status.borrow()),
            path @ ("/" | "/state" | "/settings") => match near::objection(remote, request) {
                Some(objection) => text(StatusCode::FORBIDDEN, objection),
                None if path == "/state" => json(&self.view().await),
                None if path == "/settings" => settings::answer(&self.document()),
                None => page::answer(),
            },
            _ => text(StatusCode::NOT_FOUND, PATHS),
        }
    }

    async fn liveness(&self) -> Response<Full<Bytes>> {
        let pulse = self.pulse.borrow().clone();
        if pulse.is_alive().await {
            return text(StatusCode::OK, "alive\n");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer\n")
    }

    /// Why nothing is served yet; once something is, everything was bound before.
    fn objection(&self) -> Option<Response<Full<Bytes>>> {
        let status = self.status.borrow();
        if status.generation > 0 {
            return None;
        }
        let reason = status.refused.as_ref().map_or("it has not been read", |refused| &refused.reason);
        Some(text(StatusCode::SERVICE_UNAVAILABLE, &format!("there is no configuration to serve yet: {reason}\n")))
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

/// The same, for who would rather wait for the address than do without: tries again every `pause`, and does not say each
/// time why.
pub async fn bind_at_last(addr: SocketAddr, pause: Duration) -> TcpListener {
    loop {
        sleep(pause).await;
        match bind(addr).await {
            Ok(listener) => return listener,
            Err(sentence) => debug!("{sentence}"),
        }
    }
}

/// Answers for as long as it is polled.
pub async fn serve(listener: TcpListener, admin: Rc<Admin>) {
    let mut places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                places.make_room();
                let admin = admin.clone();
                let conversing = spawn_local(async move {
                    if timeout(CONNECTION_TIME, converse(stream, remote.ip(), admin)).await.is_err() {
                        debug!("An admin connection lasted too long");
                    }
                });
                places.0.push_back((remote.ip().to_canonical(), conversing.abort_handle()));
            }
            Err(error) => {
                debug!(%error, "Cannot accept an admin connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

// === impl Places ===

impl Places {
    /// Ends a connection where there is no place for one more: the oldest one of whoever has the most. A probe takes a
    /// moment, so it is served however many others stay.
    fn make_room(&mut self) {
        self.0.retain(|(_, conversing)| !conversing.is_finished());
        if self.0.len() < MOST_CONNECTIONS {
            return;
        }
        let count = |from: IpAddr| self.0.iter().filter(|(other, _)| *other == from).count();
        let places = self.0.iter().enumerate();
        let least_missed = places.max_by_key(|(place, (from, _))| (count(*from), Reverse(*place)));
        if let Some((_, conversing)) = least_missed.map(|(place, _)| place).and_then(|place| self.0.remove(place)) {
            conversing.abort();
        }
    }
}

/// Limits the times of a connection.
#[derive(Clone, Copy, Debug)]
struct OurClock;

async fn converse(stream: TcpStream, remote: IpAddr, admin: Rc<Admin>) {
    let answer = service_fn(|request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(&request, remote).await) }
    });
    let served = http1::Builder::new()
        .timer(OurClock)
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        debug!(%error, "An admin connection failed");
    }
}

// === impl OurClock ===

impl Timer for OurClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(clock::sleep(duration))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(clock::sleep_until(deadline.into()))
    }
}

impl hyper::rt::Sleep for clock::Sleep {}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(json) => respond(StatusCode::OK, "application/json", json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot write the answer: {error}\n")),
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
