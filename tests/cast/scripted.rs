//! A database that does what a test tells it, so that every byte can be checked.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::folder::Folder;
use crate::loopback::free_address;
use crate::peer::Exchange;
use crate::random::Random;
use crate::time::eventually;
use crate::wire::{Address, Wire};

/// What the database does with each of its connections.
type Script = Arc<dyn Fn(Wire) + Send + Sync>;

/// A scripted database: a listener whose connections each run the same script on a thread of their own.
pub struct Scripted {
    address: Address,
    script: Script,
    shared: Arc<Shared>,
    listening: Option<(Listener, JoinHandle<()>)>,
    _folder: Option<Folder>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    open: Mutex<HashMap<usize, Wire>>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

// === impl Scripted ===

impl Scripted {
    /// Runs `script` for each connection to a TCP address of its own.
    pub fn tcp(script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        Self::at(free_address().into(), None, script)
    }

    /// Runs `script` for each connection to a Unix socket in a folder of its own.
    pub fn unix(script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let folder = Folder::new("scripted");
        let path = folder.join("database.sock");
        Self::at(Address::Unix(path), Some(folder), script)
    }

    /// Serves [`Exchange`]s over TCP: streams of any length in both directions, each checked byte by byte.
    pub fn exchanging() -> Self {
        Self::tcp(|wire| drop(Exchange::serve(wire)))
    }

    /// Serves [`Exchange`]s over a Unix socket.
    pub fn exchanging_over_unix() -> Self {
        Self::unix(|wire| drop(Exchange::serve(wire)))
    }

    /// Sends everything back.
    pub fn echo() -> Self {
        Self::tcp(|mut wire| {
            let mut bytes = [0; 16 * 1024];
            while let Ok(length @ 1..) = wire.read(&mut bytes) {
                if wire.write_all(&bytes[..length]).is_err() {
                    break;
                }
            }
        })
    }

    /// Sends as much as it can of the stream of `seed`, whether or not it is asked.
    pub fn source(seed: u64) -> Self {
        Self::tcp(move |mut wire| {
            let mut random = Random::seeded(seed);
            let mut bytes = [0; 16 * 1024];
            loop {
                random.fill(&mut bytes);
                if wire.write_all(&bytes).is_err() {
                    break;
                }
            }
        })
    }

    /// Accepts and then neither reads nor writes until the other side leaves.
    pub fn silent() -> Self {
        Self::tcp(|wire| {
            let _ = wire.read_within(None);
            // Waiting without reading: the thread sleeps until the database is stopped.
            eventually_closed(&wire);
        })
    }

    fn at(address: Address, folder: Option<Folder>, script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let mut database =
            Self { address, script: Arc::new(script), shared: Arc::default(), listening: None, _folder: folder };
        database.start();
        database
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How many connections it has accepted in its life.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.open.lock().expect("no script panics while it holds the list").len()
    }

    /// Listens again after a stop, at the same address.
    pub fn start(&mut self) {
        let listener = match &self.address {
            Address::Tcp(address) => Listener::Tcp(bind(*address)),
            Address::Unix(path) => Listener::Unix(bind_unix(path)),
        };
        let second = listener.second();
        let (shared, script) = (Arc::clone(&self.shared), Arc::clone(&self.script));
        let thread = std::thread::spawn(move || {
            while let Some(wire) = second.accept() {
                shared.serve(wire, &script);
            }
        });
        self.listening = Some((listener, thread));
    }

    /// Stops listening, so that dials are refused; connections stay.
    pub fn refuse(&mut self) {
        if let Some((listener, thread)) = self.listening.take() {
            listener.wake();
            thread.join().expect("the accepting thread does not panic");
        }
        if let Address::Unix(path) = &self.address {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Stops listening and closes every connection, as a server that is shut down does.
    pub fn stop(&mut self) {
        self.refuse();
        self.close_all();
    }

    /// Closes every connection and goes on listening.
    pub fn close_all(&self) {
        for wire in self.shared.open.lock().expect("no script panics while it holds the list").values() {
            // The other side may have closed it already.
            let _ = wire.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Shared ===

impl Shared {
    fn serve(self: &Arc<Self>, wire: Wire, script: &Script) {
        let number = self.accepted.fetch_add(1, Ordering::SeqCst);
        let Ok(second) = wire.second() else { return };
        self.open.lock().expect("no script panics while it holds the list").insert(number, second);
        let (shared, script) = (Arc::clone(self), Arc::clone(script));
        let thread = std::thread::Builder::new().stack_size(256 * 1024);
        thread
            .spawn(move || {
                script(wire);
                let closed = shared.open.lock().expect("no script panics while it holds the list").remove(&number);
                if let Some(wire) = closed {
                    // The other side may have closed it already.
                    let _ = wire.shutdown(Shutdown::Both);
                }
            })
            .expect("a thread for each connection");
    }
}

// === impl Listener ===

impl Listener {
    fn second(&self) -> Self {
        match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone().expect("a listener has a second handle")),
            Self::Unix(listener) => Self::Unix(listener.try_clone().expect("a listener has a second handle")),
        }
    }

    /// The next connection; none once it has been woken.
    fn accept(&self) -> Option<Wire> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().ok()?;
                stream.set_nodelay(true).ok()?;
                Some(Wire::Tcp(stream))
            }
            Self::Unix(listener) => listener.accept().ok().map(|(stream, _)| Wire::Unix(stream)),
        }
    }

    fn wake(&self) {
        let fd = match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        };
        // On Linux this ends a blocked accept, and nothing else does.
        let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
    }
}

fn bind(address: SocketAddr) -> TcpListener {
    let mut listener = None;
    eventually(&format!("{address} is free"), || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.expect("the condition held, so there is a listener")
}

fn bind_unix(path: &PathBuf) -> UnixListener {
    UnixListener::bind(path).unwrap_or_else(|error| panic!("cannot listen at {}: {error}", path.display()))
}

/// Blocks until both directions of `wire` are closed, without taking a byte from it.
fn eventually_closed(wire: &Wire) {
    use rustix::event::{PollFd, PollFlags, poll};
    let fd = match wire {
        Wire::Tcp(stream) => stream.as_fd(),
        Wire::Unix(stream) => stream.as_fd(),
    };
    // No events are asked for, so only a hang-up or an error ends the wait.
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    let _ = poll(&mut fds, None);
}
