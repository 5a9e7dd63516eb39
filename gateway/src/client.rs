//! One connection of ours to the database: dialed over its addresses in order, then owned by the pool or a lease.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use crate::config::{Address, ClientAuth, ClientConfig, ClientTls, HostPort, Target, TlsMode};
use crate::net::{Endpoint, Stream};
use crate::postgres::login::{self, Backend, Startup};
use crate::postgres::wire::ErrorResponse;
use crate::route::Route;
use crate::secrets::{self, Secrets};
use crate::tls::{self, TlsToDatabase};

pub mod backoff;
mod resolver;
mod stagger;

pub(crate) use resolver::Resolver;

/// One connection to the database.
#[derive(Debug)]
pub struct Client {
    /// The connection itself.
    pub stream: Stream,
    /// Which of the configured addresses answered.
    pub address: Address,
    /// What the database sent before any session had the client; the first session gets it.
    pub early: Vec<u8>,
    /// When the database accepted it.
    pub since: Instant,
    /// When the pool closes it because of its age, at the latest when it is given back.
    pub(crate) retires: Option<Instant>,
    /// Where the gateway has logged in itself: what it knows of the backend.
    pub backend: Option<Box<Backend>>,
    /// Which route it was dialed for.
    pub route: Route,
}

/// What a failed dial says about the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is away, or takes no more: trying again heals it.
    Outage,
    /// It refused this login, or we cannot log in there; another route may do.
    OfTheRoute,
    /// Nothing: we ran out of something ourselves.
    Local,
}

/// What all dials of one pool share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    /// Finds the addresses of names.
    pub(crate) resolver: Resolver,
    /// Where the Secrets are that the configuration names.
    pub(crate) secrets: Secrets,
    /// Encrypts, where the configuration asks for it.
    pub(crate) tls: TlsToDatabase,
}

/// One way to the database: a host, by any of its addresses.
#[derive(Clone)]
struct Way {
    host: HostPort,
    config: ClientConfig,
    context: Context,
}

/// Why a dial led to no client; one for each address that was tried.
#[derive(Debug, Error)]
pub enum Error {
    /// The name has no address, or nobody answered for it.
    #[error("cannot resolve {0}: {1}")]
    Resolve(HostPort, #[source] io::Error),
    /// The address did not take the connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, #[source] io::Error),
    /// No address answered in time.
    #[error("no answer from {0} within {1:?}")]
    Timeout(String, Duration),
    /// There is no encrypted connection to the address.
    #[error("cannot encrypt the connection to {0}: {1}")]
    Tls(String, #[source] tls::Error),
    /// The database refused the login.
    #[error("{0} refused the login: {1}")]
    Refused(String, #[source] ErrorResponse),
    /// The server is not in the state that `targetSessionAttrs` asks for.
    #[error("{0} is no server that will do: {1:?} is asked for")]
    Unfit(String, Target),
    /// The Secret for the login cannot be had.
    #[error("cannot log in to {0}: {1}")]
    Secret(String, #[source] secrets::Error),
    /// The login failed before the database decided.
    #[error("cannot log in to {0}: {1}")]
    Login(String, #[source] login::Error),
    /// We ran out of something ourselves: it says nothing about the database.
    #[error("cannot open a connection to the database: {0}")]
    Local(#[source] io::Error),
}

/// What a database may say before a session has the client; more is a doubt, and the client is destroyed.
const MOST_EARLY_BYTES: usize = 64 * 1024;

/// What happened to a client that waits for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Watched {
    /// The database spoke first; what it said is kept.
    Spoke,
    /// Nothing happened after all.
    Quiet,
    /// The database closed it, or said more than is kept.
    Closed,
}

/// Dials the database's addresses in order: the next one as soon as one fails, or beside it after a second without
/// an answer; the first that answers is taken.
///
/// # Errors
/// The last address's error, when none answered, or a timeout after `dialTimeout`.
pub(crate) async fn dial(config: &ClientConfig, context: &Context, route: &Route) -> Result<Client, Error> {
    let dialed = dial_once(config, context, route).await;
    if config.target == Target::PreferStandby && dialed.is_err() {
        // No standby can be had: any server will do.
        let any = ClientConfig { target: Target::Any, ..config.clone() };
        return dial_once(&any, context, route).await;
    }
    dialed
}

async fn dial_once(config: &ClientConfig, context: &Context, route: &Route) -> Result<Client, Error> {
    let dialing = stagger::first_of(config.addresses.iter().cloned(), |address| {
        let (config, context, route) = (config.clone(), context.clone(), route.clone());
        async move { connect(&address, &config, &context, route).await }
    });
    match config.dial_timeout {
        None => dialing.await,
        Some(limit) => timeout(limit, dialing).await.unwrap_or_else(|_| {
            let addresses: Vec<_> = config.addresses.iter().map(ToString::to_string).collect();
            Err(Error::Timeout(addresses.join(", "), limit))
        }),
    }
}

async fn connect(address: &Address, config: &ClientConfig, context: &Context, route: Route) -> Result<Client, Error> {
    let stream = match address {
        Address::Unix(path) => connect_unix(path).await?,
        Address::Tcp(host) | Address::Udp(host) => {
            let way = Way { host: host.clone(), config: config.clone(), context: context.clone() };
            stagger::first_of(context.resolver.resolve(host).await?, move |addr| {
                let way = way.clone();
                async move { way.connect(addr).await }
            })
            .await?
        }
    };
    let (address, since) = (address.clone(), Instant::now());
    let mut client = Client { stream, address, early: Vec::new(), since, retires: None, backend: None, route };
    if let Some(auth) = &config.auth {
        client.backend = Some(Box::new(client.log_in(auth, (config, context)).await?));
    }
    Ok(client)
}

/// Connects to the very server to which a client is connected, for a request about that client.
///
/// # Errors
/// It does not take the connection.
pub(crate) async fn connect_again(
    address: &Address,
    remote: &Endpoint,
    (config, context): (&ClientConfig, &Context),
) -> Result<Stream, Error> {
    match (address, remote) {
        (Address::Tcp(host), Endpoint::Ip(addr)) => {
            let way = Way { host: host.clone(), config: config.clone(), context: context.clone() };
            way.connect(*addr).await
        }
        (Address::Unix(path), _) => connect_unix(path).await,
        (address, _) => Err(Error::Connect(address.to_string(), io::ErrorKind::NotConnected.into())),
    }
}

async fn connect_unix(path: &Path) -> Result<Stream, Error> {
    let connected = UnixStream::connect(path).await;
    connected.map(Stream::Unix).map_err(|error| Error::of(path.display().to_string(), error))
}

// === impl Context ===

impl Context {
    /// What all dials of a pool share, with the Secrets that the configuration names.
    pub(crate) fn new(secrets: Secrets) -> Context {
        Context { resolver: Resolver::default(), secrets, tls: TlsToDatabase::default() }
    }
}

// === impl Way ===

impl Way {
    /// Connects to one of the host's addresses; TLS over it is part of it, so that one that hangs there gets company.
    async fn connect(&self, addr: SocketAddr) -> Result<Stream, Error> {
        let tcp = connect_tcp(addr).await?;
        let failed = |error| Error::of(addr.to_string(), error);
        let Some(config) = &self.config.tls else {
            return Stream::to_database(tcp, &self.config).map_err(failed);
        };
        Stream::prepare(&tcp, &self.config).map_err(failed)?;
        self.encrypt(tcp, config).await.map_err(|error| Error::Tls(self.host.to_string(), error))
    }

    async fn encrypt(&self, mut tcp: TcpStream, config: &ClientTls) -> Result<Stream, tls::Error> {
        if !config.is_direct && tls::ask(&mut tcp).await? == tls::Answer::No {
            return if config.mode == TlsMode::Prefer { Ok(Stream::Tcp(tcp)) } else { Err(tls::Error::NotOffered) };
        }
        self.context.tls.connect(tcp, &self.host.host, (config, &self.context.secrets)).await
    }
}

async fn connect_tcp(addr: SocketAddr) -> Result<TcpStream, Error> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    // A host without IPv6 has no address to dial one from: that says nothing about what we have run out of.
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrNotAvailable if addr.is_ipv6() => Error::Connect(addr.to_string(), error),
        _ => Error::of(addr.to_string(), error),
    };
    let stream = socket.map_err(failed)?.connect(addr).await.map_err(failed)?;
    // A kernel that picks the port that it dials connects a socket to itself, where no database listens.
    if stream.local_addr().map_err(failed)? == addr {
        return Err(failed(io::ErrorKind::ConnectionRefused.into()));
    }
    Ok(stream)
}

// === impl Client ===

impl Client {
    /// Logs in, and looks whether the server is one that will do.
    async fn log_in(
        &mut self,
        auth: &ClientAuth,
        (config, context): (&ClientConfig, &Context),
    ) -> Result<Backend, Error> {
        let address = self.address.to_string();
        let known = context.secrets.login(&auth.secret).map_err(|error| Error::Secret(address.clone(), error))?;
        let database = self.route.database().or(auth.database.as_ref()).unwrap_or(&known.username).clone();
        let parameters = self.route.parameters().to_vec();
        let startup = Startup { user: known.username.clone(), database, parameters };
        let failed = |error| match error {
            login::Error::Refused(said) => Error::Refused(address.clone(), said),
            error => Error::Login(address.clone(), error),
        };
        let backend = login::login(&mut self.stream, &startup, &known.password).await.map_err(failed)?;
        if login::will_do(&mut self.stream, &backend, config.target).await.map_err(failed)? {
            Ok(backend)
        } else {
            Err(Error::Unfit(address, config.target))
        }
    }

    /// Looks what made a warm client readable, and keeps what the database said.
    pub(crate) fn look(&mut self) -> Watched {
        let mut spoke = Watched::Quiet;
        let mut bytes = [0; 4096];
        loop {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Watched::Closed,
                Ok(n) if self.early.len() + n > MOST_EARLY_BYTES => return Watched::Closed,
                Ok(n) => {
                    self.early.extend_from_slice(&bytes[..n]);
                    spoke = Watched::Spoke;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return spoke,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Watched::Closed,
            }
        }
    }
}

/// Whether a refusal with this SQLSTATE is one of user, database or startup parameters. Whatever else the database says
/// (too many clients, starting up, shutting down) trying again heals.
fn is_of_the_route(code: &str) -> bool {
    code.starts_with("28") || matches!(code, "3D000" | "42501" | "0A000" | "22023" | "42704" | "08P01")
}

// === impl Error ===

/// `EMFILE` and `ENFILE`: the process, or the machine, has no file descriptor left.
const NO_DESCRIPTOR: [i32; 2] = [24, 23];

/// Whether `error` says that we ran out of file descriptors.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_DESCRIPTOR.contains(&code))
}

impl Error {
    fn of(address: String, error: io::Error) -> Error {
        if is_out_of_descriptors(&error) || error.kind() == io::ErrorKind::AddrNotAvailable {
            return Error::Local(error);
        }
        Error::Connect(address, error)
    }

    /// What the failure says about the database.
    pub fn verdict(&self) -> Verdict {
        match self {
            Error::Local(_) => Verdict::Local,
            Error::Refused(_, said) if is_of_the_route(&said.code) => Verdict::OfTheRoute,
            Error::Secret(..) | Error::Login(_, login::Error::Unsupported(_) | login::Error::Scram(_)) => {
                Verdict::OfTheRoute
            }
            _ => Verdict::Outage,
        }
    }

    /// The failure as peers are told it: the database's own words, where it said any.
    pub fn response(&self) -> ErrorResponse {
        match self {
            Error::Refused(_, said) => said.clone(),
            error => ErrorResponse::fatal("08006", error.to_string()),
        }
    }

    /// The failure as a metric's label.
    pub fn result(&self) -> &'static str {
        match self {
            Error::Resolve(..) => "unresolved",
            Error::Timeout(..) => "timeout",
            Error::Refused(..) => "refused_login",
            Error::Unfit(..) => "unfit",
            Error::Login(..) => "login",
            Error::Secret(..) => "secret",
            Error::Local(_) => "local",
            Error::Tls(..) => "tls",
            Error::Connect(_, error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::TimedOut => "timeout",
                io::ErrorKind::NotFound => "no_socket",
                io::ErrorKind::PermissionDenied => "denied",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                _ => "error",
            },
        }
    }
}
