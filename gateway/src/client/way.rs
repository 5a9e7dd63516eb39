//! The way to the database: its addresses, those of their names, and on each of them TLS and the gateway's own login.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::UnixStream;

use super::{Client, Context, Error, Note, note, stagger};
use crate::config::{Address, ClientAuth, ClientConfig, ClientTls, HostPort, Target, TlsMode};
use crate::net::{self, Stream, TcpStream};
use crate::postgres::login::{self, Backend, Startup};
use crate::postgres::wire::Version;
use crate::route::Route;
use crate::tls;

/// What one dial needs to know; its attempts share it.
#[derive(Clone)]
pub(super) struct Way {
    config: ClientConfig,
    context: Context,
    route: Route,
    /// Which server will do.
    target: Target,
}

// === impl Way ===

impl Way {
    pub(super) fn new(config: &ClientConfig, context: &Context, route: &Route) -> Way {
        Way { config: config.clone(), context: context.clone(), route: route.clone(), target: config.target }
    }

    /// The same, to servers of another kind.
    pub(super) fn to(self, target: Target) -> Way {
        Way { target, ..self }
    }

    /// The client of the first address that will do.
    pub(super) async fn first_client(self) -> Result<Client, Error> {
        let way = Rc::new(self);
        let attempt = |address: Address| way.clone().try_address(address);
        stagger::first_of(way.config.addresses.clone(), attempt, Error::or_more_telling).await
    }

    async fn try_address(self: Rc<Self>, address: Address) -> Result<Client, Error> {
        match &address {
            Address::Unix(path) => self.greet(connect_unix(path).await?, &address).await,
            Address::Tcp(host) | Address::Udp(host) => {
                let addrs = self.context.resolver.resolve(host).await?;
                let attempt = |addr| self.clone().try_addr(addr, host.clone(), address.clone());
                stagger::first_of(addrs, attempt, Error::or_more_telling).await
            }
        }
    }

    /// Everything on one connection is part of its attempt, so that one that hangs there gets company.
    async fn try_addr(self: Rc<Self>, addr: SocketAddr, host: HostPort, address: Address) -> Result<Client, Error> {
        let stream = self.connect(addr, &host).await?;
        self.greet(stream, &address).await
    }

    /// Connects to one of the host's addresses, with TLS where that is asked for.
    pub(super) async fn connect(&self, addr: SocketAddr, host: &HostPort) -> Result<Stream, Error> {
        let tcp = connect_tcp(addr).await?;
        let failed = |error| Error::of(addr.to_string(), error);
        let Some(config) = &self.config.tls else {
            return Stream::to_database(tcp, &self.config).map_err(failed);
        };
        Stream::prepare(&tcp, &self.config).map_err(failed)?;
        self.encrypt(tcp, host, config).await.map_err(|error| Error::Tls(host.to_string(), error))
    }

    async fn encrypt(&self, mut tcp: TcpStream, host: &HostPort, config: &ClientTls) -> Result<Stream, tls::Error> {
        if !config.is_direct && tls::ask(&mut tcp).await? == tls::Answer::No {
            return if config.mode == TlsMode::Prefer { Ok(Stream::Tcp(tcp)) } else { Err(tls::Error::NotOffered) };
        }
        self.context.tls.connect(tcp, &host.host, (config, &self.context.secrets)).await
    }

    /// Makes a client of the connection: where the gateway logs in itself, once it is let in by a server that will do.
    async fn greet(&self, mut stream: Stream, address: &Address) -> Result<Client, Error> {
        let (backend, login) = match &self.config.auth {
            None => (None, None),
            Some(auth) => {
                let (backend, login) = self.log_in(&mut stream, address, auth).await?;
                (Some(Box::new(backend)), Some(Box::new(login)))
            }
        };
        let note = self.context.roll.enter(Note::new(self.context.numbers.next(), &stream, login));
        let (address, route) = (address.clone(), self.route.clone());
        Ok(Client { stream, address, early: Vec::new(), retires: None, most_rest: None, backend, route, note })
    }

    async fn log_in(
        &self,
        stream: &mut Stream,
        address: &Address,
        auth: &ClientAuth,
    ) -> Result<(Backend, note::Login), Error> {
        let failed = |error| match error {
            login::Error::Refused(said) | login::Error::Version(_, said) => {
                Error::Refused(address.to_string(), Box::new(said))
            }
            error => Error::Login(address.to_string(), Box::new(error)),
        };
        let secret = self.context.secrets.login(&auth.secret);
        let secret = secret.map_err(|error| Error::Secret(address.to_string(), error))?;
        let startup = self.startup(auth, &secret.username);
        let mut backend = login::login(stream, &startup, &secret.password).await.map_err(failed)?;
        if self.target != Target::Any && !login::will_do(stream, &mut backend, self.target).await.map_err(failed)? {
            return Err(Error::Unfit(address.to_string(), self.target));
        }
        let process = backend.key.as_ref().map(|key| key.process);
        Ok((backend, note::Login { user: startup.user, database: startup.database, process }))
    }

    fn startup(&self, auth: &ClientAuth, user: &Arc<str>) -> Startup {
        let database = self.route.database().or(auth.database.as_ref()).unwrap_or(user);
        Startup {
            // Every database speaks it, and every pooler before one.
            version: Version::V3_0,
            user: user.clone(),
            database: database.clone(),
            parameters: self.route.parameters().to_vec(),
        }
    }
}

async fn connect_tcp(addr: SocketAddr) -> Result<TcpStream, Error> {
    // A host without IPv6 has no address to dial one from: that says nothing about what we have run out of.
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrNotAvailable if addr.is_ipv6() => Error::Connect(addr.to_string(), error),
        _ => Error::of(addr.to_string(), error),
    };
    let stream = net::connect(addr).await.map_err(failed)?;
    // A kernel that picks the port that it dials connects a socket to itself, where no database listens.
    if stream.local_addr().map_err(failed)? == addr {
        return Err(failed(io::ErrorKind::ConnectionRefused.into()));
    }
    Ok(stream)
}

pub(super) async fn connect_unix(path: &Path) -> Result<Stream, Error> {
    let connected = UnixStream::connect(path).await;
    connected.map(Stream::Unix).map_err(|error| Error::of(path.display().to_string(), error))
}
