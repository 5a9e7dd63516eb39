//! One connection of ours to the database: dialed over its addresses in order, then owned by the pool or a lease.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Instant, timeout};
use crate::config::{Address, ClientConfig, Target};
use crate::net::{Endpoint, Stream};
use crate::postgres::login::Backend;
use crate::roll::{Enrolled, Numbers, Roll};
use crate::route::Route;
use crate::secrets::Secrets;
use crate::tls::TlsToDatabase;

pub mod backoff;
mod error;
mod note;
mod resolver;
mod stagger;
mod way;

pub(crate) use error::is_out_of_descriptors;
pub use error::{Error, Verdict};
pub(crate) use note::Note;
pub(crate) use resolver::Resolver;
use way::Way;

/// One connection to the database.
#[derive(Debug)]
pub struct Client {
    /// The connection itself.
    pub stream: Stream,
    /// Which of the configured addresses answered.
    pub address: Address,
    /// What the database sent before any session had the client; the first session gets it.
    pub early: Vec<u8>,
    /// When the pool closes it because of its age, at the latest when it is given back.
    pub(crate) retires: Option<Instant>,
    /// How long the pool keeps it while nobody has it.
    pub(crate) most_rest: Option<Duration>,
    /// Where the gateway has logged in itself: what it knows of the backend.
    pub backend: Option<Box<Backend>>,
    /// Which route it was dialed for.
    pub route: Route,
    /// What is told of it, wherever it is.
    pub(crate) note: Enrolled<Note>,
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
    /// The clients that are connected.
    pub(crate) roll: Rc<Roll<Note>>,
    /// Their numbers.
    pub(crate) numbers: Numbers,
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
/// an answer; the first that answers is taken, where the gateway logs in itself: that lets it in and is what
/// `targetSessionAttrs` asks for.
///
/// # Errors
/// The most telling of the addresses' errors, when none will do, or a timeout after `dialTimeout`.
pub(crate) async fn dial(config: &ClientConfig, context: &Context, route: &Route) -> Result<Client, Error> {
    let first_of = |target| Way::new(config, context, route).to(target).first_client();
    let dialing = async {
        match config.target {
            // Servers that are no standby will do once it is known that none is one.
            Target::PreferStandby => match first_of(Target::Standby).await {
                Err(error) if error.verdict() == Verdict::Outage => first_of(Target::Any).await,
                dialed => dialed,
            },
            target => first_of(target).await,
        }
    };
    match config.dial_timeout {
        None => dialing.await,
        Some(limit) => timeout(limit, dialing).await.unwrap_or_else(|_| {
            let addresses: Vec<_> = config.addresses.iter().map(ToString::to_string).collect();
            Err(Error::Timeout(addresses.join(", "), limit))
        }),
    }
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
            Way::new(config, context, &Route::default()).connect(*addr, host).await
        }
        (Address::Unix(path), _) => way::connect_unix(path).await,
        (address, _) => Err(Error::Connect(address.to_string(), io::ErrorKind::NotConnected.into())),
    }
}

// === impl Context ===

impl Context {
    /// What all dials of a pool share, with the Secrets that the configuration names and the numbers of its clients.
    pub(crate) fn new(secrets: Secrets, numbers: Numbers) -> Context {
        let (resolver, tls, roll) = (Resolver::default(), TlsToDatabase::default(), Rc::default());
        Context { resolver, secrets, tls, roll, numbers }
    }
}

// === impl Client ===

impl Client {
    /// When the database accepted it.
    pub fn since(&self) -> Instant {
        self.note.since
    }

    /// When it is to be recycled if it is idle since `idle`.
    pub(crate) fn expiry(&self, idle: Instant) -> Option<Instant> {
        let rested = self.most_rest.and_then(|rest| idle.checked_add(rest));
        rested.into_iter().chain(self.retires).min()
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
