//! Peers that get no session are told why in their own protocol, where there is one: an error with a code, a sentence and
//! what to do. A CancelRequest needs no session, and is heeded however many there are.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Proxy;
use super::ended::Ended;
use crate::clock::timeout;
use crate::config::Protocol;
use crate::limits;
use crate::net::{Endpoint, Stream};
use crate::pool;
use crate::postgres::startup::StartupMessage;
use crate::postgres::welcome::{self, Guest, Wish};
use crate::postgres::wire::ErrorResponse;
use crate::server::Reception;

/// Why a peer has no session, and what it is told.
pub(super) type Refused = (Ended, Option<Box<ErrorResponse>>);

/// Why a newcomer cannot stay.
#[derive(Clone, Copy, Debug)]
pub(super) enum Objection {
    /// So many peers are here already, and no more may be.
    MaxPeers(usize),
    /// No file descriptor would be left for its client.
    FileDescriptors,
}

/// Places for peers that cannot stay while they hear why; who finds none meets a reset.
pub(super) struct Hearing(Arc<Semaphore>);

/// How many may hear why at one time.
const MOST_HEARING: usize = 64;
/// How long a peer that cannot stay may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a peer may take to hear why it has no session.
const FAREWELL: Duration = Duration::from_secs(1);

// === impl Proxy ===

impl Proxy {
    /// Why the newcomer cannot stay, if it cannot.
    pub(super) fn objection(&self, peer: &Stream) -> Option<Objection> {
        let limit = self.config.borrow().server.max_peers;
        if self.sessions.open() >= limit {
            return Some(Objection::MaxPeers(limit));
        }
        // Each peer has a client or is owed one.
        let unserved = (self.sessions.open() + 1).saturating_sub(self.pool.ready()).min(self.pool.missing());
        limits::leave_no_client_for(peer.taken_descriptors(), unserved).then_some(Objection::FileDescriptors)
    }

    /// Turns a newcomer away, with words where it can understand them and they cost nothing that is scarce.
    pub(super) fn refuse(self: &Rc<Self>, peer: Stream, remote: &Endpoint, objection: Objection) {
        let hearing = match objection {
            Objection::MaxPeers(_) if self.config.borrow().protocol == Protocol::Postgres => self.hearing.place(),
            Objection::MaxPeers(_) | Objection::FileDescriptors => None,
        };
        let Some(hearing) = hearing else {
            self.note_refusal(remote, objection);
            peer.reset_on_close();
            return;
        };
        let (proxy, remote) = (self.clone(), remote.clone());
        self.sessions.surroundings.tracker.spawn_local(async move {
            let drain = proxy.sessions.surroundings.drain.clone();
            tokio::select! {
                biased;
                () = proxy.hear_out(peer, &remote, objection) => {}
                () = drain.over() => {}
            }
            drop(hearing);
        });
    }

    /// Hears what a peer wants that cannot stay: to cancel it need not stay, else it is told why it cannot.
    async fn hear_out(self: &Rc<Self>, peer: Stream, remote: &Endpoint, objection: Objection) {
        let config = self.config.borrow().clone();
        match timeout(PATIENCE, self.welcome(peer, &config)).await {
            Ok(Ok(Guest { wish: Wish::Cancel(key), .. })) => return self.cancel(key).await,
            Ok(Ok(Guest { mut stream, wish: Wish::Session(startup, early) }))
                if Proxy::is_for_console(&startup, &config) =>
            {
                // Who wants to see why it is so full must be let in.
                return Box::pin(self.extra_console(&mut stream, remote, (&startup, early))).await;
            }
            Ok(Ok(Guest { mut stream, wish: Wish::Session(..) })) => {
                self.note_refusal(remote, objection);
                return tell(&mut stream, &objection.response()).await;
            }
            Ok(Err((Some(mut stream), error))) => tell(&mut stream, &error.response()).await,
            Ok(Err((None, _))) | Err(_) => {}
        }
        self.note_refusal(remote, objection);
    }

    /// A console beyond `maxPeers`, which has a place of its own.
    async fn extra_console(&self, peer: &mut Stream, remote: &Endpoint, (startup, early): (&StartupMessage, Vec<u8>)) {
        let _open = self.sessions.metrics.session.open();
        let chain = self.sessions.chain(self.config.borrow().name.clone(), remote.clone());
        self.sessions.identify(&chain, startup);
        let ended = self.console(&chain, peer, (startup, early)).await;
        self.sessions.closed(&chain, &ended).await;
    }

    fn note_refusal(self: &Rc<Self>, remote: &Endpoint, objection: Objection) {
        self.turned_away(objection.reason());
        self.sessions.refused(&self.config.borrow().name, remote, objection.reason(), &objection);
    }

    /// Tells a peer that has not said well what it wants.
    pub(super) async fn turn_away(&self, peer: Option<Stream>, error: &welcome::Error) -> Ended {
        if let Some(mut peer) = peer {
            tell(&mut peer, &error.response()).await;
        }
        match error {
            welcome::Error::Left => Ended::GaveUp,
            error => {
                self.sessions.metrics.session.refused(error.reason());
                Ended::Unwelcome(error.reason(), error.to_string())
            }
        }
    }
}

/// Tells a peer why it has no session.
pub(super) async fn tell(peer: &mut Stream, response: &ErrorResponse) {
    let mut out = Vec::new();
    response.write(&mut out);
    let said = async {
        peer.write_all(&out).await?;
        peer.flush().await?;
        peer.shutdown().await
    };
    // Whoever does not listen is not told.
    let _ = timeout(FAREWELL, said).await;
}

/// Tells a peer that got no client how that came, or lets it see a reset where it needs no words.
pub(super) async fn tell_how(peer: &mut Stream, ended: &Ended) {
    match words_for(ended) {
        Some(response) => tell(peer, &response).await,
        None => peer.reset_on_close(),
    }
}

/// The end of a peer that got no client, with what it is told.
pub(super) fn with_words(ended: Ended) -> Refused {
    let response = words_for(&ended).map(Box::new);
    (ended, response)
}

/// A peer that is not let in for what it said of itself, or for what its proxy lacks.
pub(super) fn unwelcome(reason: &'static str, response: ErrorResponse) -> Refused {
    (Ended::Unwelcome(reason, response.message.to_string()), Some(Box::new(response)))
}

fn words_for(ended: &Ended) -> Option<ErrorResponse> {
    match ended {
        Ended::Refused(error) => Some(words_of(error)),
        Ended::Cut | Ended::Drain => Some(shutting_down()),
        Ended::Killed => Some(killed()),
        Ended::Hook => Some(
            ErrorResponse::fatal("08004", "a hook of the gateway does not let the session begin")
                .hint("Its log says which hook, and why."),
        ),
        // It has left, or has been told.
        _ => None,
    }
}

/// Why a peer got no client, as PostgreSQL would say it.
pub(super) fn words_of(error: &pool::Error) -> ErrorResponse {
    match error {
        pool::Error::Refused(said) => ErrorResponse { severity: "FATAL".into(), ..ErrorResponse::clone(said) },
        pool::Error::Away { .. } | pool::Error::Dialing { .. } => ErrorResponse::fatal("57P03", error.to_string())
            .hint("Try again; pool.acquireTimeout says how long a peer waits for the database."),
        pool::Error::Busy { .. } | pool::Error::TooManyWaiting(_) => ErrorResponse::fatal("53300", error.to_string()),
        pool::Error::Paused { .. } => ErrorResponse::fatal("57P03", error.to_string())
            .hint("Somebody has paused it from the gateway's console; RESUME there ends that."),
        pool::Error::Closed => ErrorResponse::fatal("57P01", error.to_string()),
    }
}

/// What peers are told whose session somebody ends, as PostgreSQL says it.
pub(super) fn killed() -> ErrorResponse {
    ErrorResponse::fatal("57P01", "terminating connection due to administrator command")
        .hint("Somebody has ended the session from the gateway's console.")
}

/// What peers are told whose session the shutdown ends.
pub(super) fn shutting_down() -> ErrorResponse {
    ErrorResponse::fatal("57P01", "terminating connection: the gateway is shutting down")
}

// === impl Objection ===

impl Objection {
    /// The refusal as a metric's label.
    fn reason(self) -> &'static str {
        match self {
            Objection::MaxPeers(_) => "max_peers",
            Objection::FileDescriptors => "file_descriptors",
        }
    }

    fn response(self) -> ErrorResponse {
        ErrorResponse::fatal("53300", format!("too many peers: {self}"))
            .hint("Close connections that are not needed, or raise server.maxPeers.")
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::MaxPeers(limit) => {
                write!(out, "{limit} are here already, and server.maxPeers allows no more")
            }
            Objection::FileDescriptors => {
                out.write_str("no file descriptor is left for its connection to the database; raise ulimit -n")
            }
        }
    }
}

// === impl Hearing ===

impl Hearing {
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

impl Default for Hearing {
    fn default() -> Hearing {
        Hearing(Arc::new(Semaphore::new(MOST_HEARING)))
    }
}
