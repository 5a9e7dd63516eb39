//! Accepts peers, and hands them on. Running out of file descriptors turns peers away; it never spins, and never ends
//! the listener.

use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixListener;
use tracing::{debug, warn};

use crate::client::is_out_of_descriptors;
use crate::clock::{Instant, sleep, timeout};
use crate::net::{Endpoint, Stream, TcpListener, UdpSocket};

pub mod bind;

use bind::SocketFile;
pub use bind::{Bound, Place};

/// A listener of stream peers, in the runtime that accepts them.
#[derive(Debug)]
pub enum Listener {
    /// For TCP peers.
    Tcp(TcpListener),
    /// For peers in the same pod; the file goes with the listener.
    Unix(UnixListener, SocketFile),
}

/// A socket in the runtime that serves it.
#[derive(Clone, Debug)]
pub enum Socket {
    /// Peers connect to it.
    Streams(Rc<Listener>),
    /// Peers send datagrams to it.
    Datagrams(Rc<UdpSocket>),
}

/// A socket that a thread could not take over; it is closed.
#[derive(Debug)]
pub struct Unserved {
    /// Where it was.
    pub place: Place,
    /// What the system says.
    pub why: io::Error,
}

/// A file descriptor in reserve: with it a peer can be accepted that is to be turned away.
struct Reserve(Option<File>);

/// How long accepting rests after a failure that may come back at once.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a lack of file descriptors is logged, at most.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What a server does with those who come.
pub trait Reception {
    /// A peer has connected.
    fn admit(&self, peer: Stream, remote: Endpoint);

    /// A peer was turned away before it could be admitted.
    fn turned_away(&self, reason: &'static str);
}

/// Accepts peers for as long as it is polled.
pub async fn serve(listener: Rc<Listener>, reception: impl Reception) {
    let mut reserve = Reserve::new();
    let mut logged: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((peer, remote)) => reception.admit(peer, remote),
            Err(error) if is_out_of_descriptors(&error) => {
                if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                    logged = Some(Instant::now());
                    warn!(%error, "Peers are refused: no file descriptor is left; raise the limit (ulimit -n)");
                }
                if reserve.turn_one_away(&listener).await {
                    reception.turned_away("file_descriptors");
                } else {
                    sleep(PAUSE).await;
                }
            }
            Err(error) => {
                // The peer left before it was accepted, or the kernel is short of memory.
                debug!(%error, "Cannot accept a peer");
                sleep(PAUSE).await;
            }
        }
    }
}

// === impl Socket ===

impl Socket {
    /// Takes bound sockets into the runtime of this thread, beside those that are there; tells of those that cannot be
    /// watched.
    pub fn adopt_all(sockets: &mut Vec<(Place, Socket)>, opened: Vec<(Place, Bound)>) -> Vec<Unserved> {
        let mut unserved = Vec::new();
        for (place, bound) in opened {
            match Socket::adopt(bound) {
                Ok(socket) => sockets.push((place, socket)),
                Err(why) => unserved.push(Unserved { place, why }),
            }
        }
        unserved
    }

    fn adopt(bound: Bound) -> io::Result<Socket> {
        Ok(match bound {
            Bound::Tcp(listener) => Socket::Streams(Rc::new(Listener::Tcp(TcpListener::from_std(listener)?))),
            Bound::Unix(listener, file) => {
                Socket::Streams(Rc::new(Listener::Unix(UnixListener::from_std(listener)?, file)))
            }
            Bound::Udp(socket) => Socket::Datagrams(Rc::new(UdpSocket::from_std(socket)?)),
        })
    }
}

// === impl Listener ===

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, Endpoint)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                Ok((Stream::from_peer(stream, remote)?, Endpoint::Ip(remote)))
            }
            Listener::Unix(listener, _) => {
                let (stream, remote) = listener.accept().await?;
                Ok((Stream::Unix(stream), Ok(remote).into()))
            }
        }
    }
}

// === impl Reserve ===

impl Reserve {
    fn new() -> Reserve {
        Reserve(File::open("/dev/null").ok())
    }

    /// Gives the reserve up for a moment, so that one peer sees a reset instead of silence.
    async fn turn_one_away(&mut self, listener: &Listener) -> bool {
        if self.0.take().is_none() {
            *self = Reserve::new();
            return false;
        }
        let accepted = timeout(PAUSE, listener.accept()).await;
        let is_turned_away = match accepted {
            Ok(Ok((peer, _))) => {
                peer.reset_on_close();
                true
            }
            Ok(Err(_)) | Err(_) => false,
        };
        *self = Reserve::new();
        is_turned_away
    }
}
