//! One thread that serves peers: it owns its proxies, their pools and their sessions, and shares nothing with other
//! workers but metrics. The main thread tells it what to serve.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::clock::{self, Instant};
use crate::config::{Config, Listen, ProxyConfig};
use crate::console::{Console, Proxies, Victims};
use crate::hooks::Hooks;
use crate::metrics::Metrics;
use crate::net::{Endpoint, Stream, TcpStream, bare};
use crate::postgres::cancel::Cancels;
use crate::proxy::Proxy;
use crate::proxy::datagrams::Datagrams;
use crate::proxy::session::Surroundings;
use crate::random::Random;
use crate::roll::Numbers;
use crate::secrets::Secrets;
use crate::server::{self, Bound, Place, Reception, Socket, Unserved};
use crate::shutdown::Drain;
use crate::view::ProxyView;

mod orders;

/// What the main thread asks of a worker.
pub enum Command {
    /// Serve this from now on; answered when it is so, with the sockets that could not be taken over.
    Apply(Update, oneshot::Sender<Vec<Unserved>>),
    /// Serve this peer, which the main thread accepted.
    Admit(Arc<str>, Accepted),
    /// Answer, to show that the worker is alive.
    Ping(oneshot::Sender<()>),
    /// Answer as soon as no session is left.
    AwaitLast(oneshot::Sender<()>),
    /// Answer how many sessions there are.
    Count(oneshot::Sender<usize>),
    /// Answer what is to be told of the proxies.
    View(oneshot::Sender<Vec<ProxyView>>),
    /// Lend no clients of these proxies, and answer when none is lent; whoever stops waiting for that resumes them.
    Pause(Proxies, oneshot::Sender<()>),
    /// Lend clients of these proxies again.
    Resume(Proxies, oneshot::Sender<()>),
    /// Replace the clients of these proxies.
    Reconnect(Proxies, oneshot::Sender<()>),
    /// End these sessions; answered with how many there were.
    Kill(Victims, oneshot::Sender<usize>),
}

/// A complete configuration, and the sockets that it needs and the one before did not.
pub struct Update {
    /// What is to be served.
    pub config: Arc<Config>,
    /// New sockets; old ones that the configuration still needs are kept.
    pub opened: Vec<(Place, Bound)>,
}

/// A peer between two threads.
pub enum Accepted {
    /// Over TCP.
    Tcp(bare::TcpStream),
    /// Over a Unix socket.
    Unix(StdUnixStream),
}

/// What all workers have in common. Cheap to clone.
#[derive(Clone)]
pub struct Common {
    /// What they count.
    pub metrics: Metrics,
    /// Where the Secrets are that the configuration names.
    pub secrets: Secrets,
    /// The peers that can be cancelled.
    pub cancels: Cancels,
    /// The way to whoever answers consoles.
    pub console: Console,
    /// How many workers there are.
    pub workers: usize,
}

/// The main thread's side of a worker; dropping it ends the worker.
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    /// Its thread; none where it runs on the one that asks.
    thread: Option<thread::JoinHandle<()>>,
}

/// A way to a worker that does not keep it running.
#[derive(Clone)]
pub struct Commands(mpsc::WeakUnboundedSender<Command>);

struct Worker {
    metrics: Metrics,
    surroundings: Surroundings,
    hooks: Rc<Hooks>,
    proxies: Vec<(Arc<str>, Serving)>,
    servers: Vec<Server>,
}

/// A proxy by the kind of its peers.
#[derive(Clone)]
enum Serving {
    Streams(Rc<Proxy>),
    Datagrams(Rc<Datagrams>),
}

/// A socket that is being served.
struct Server {
    place: Place,
    socket: Socket,
    task: AbortHandle,
}

/// Threads for name look-ups that hang; more of them wait for one another.
const MOST_BLOCKING_THREADS: usize = 64;

/// Runs what serves peers on this thread, with a runtime and alarms for it alone.
///
/// # Errors
/// The system's, when it has no place for them.
pub fn run_here<T>(serve: impl AsyncFnOnce() -> T) -> io::Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .max_blocking_threads(MOST_BLOCKING_THREADS)
        .build_local(LocalOptions::default())?;
    let served = runtime.block_on(async {
        let _ringing = clock::start()?;
        Ok(serve().await)
    });
    // A look-up that hangs must not keep the process.
    runtime.shutdown_background();
    served
}

// === impl Handle ===

impl Handle {
    /// Starts the only worker on this thread: a process of one thread makes cheaper system calls, and nothing has to
    /// wake another thread up.
    pub fn start_here(common: Common, drain: &Drain) -> Handle {
        let (commands, received) = mpsc::unbounded_channel();
        tokio::task::spawn_local(Worker::new(0, common, drain.child()).run(received));
        Handle { commands, thread: None }
    }

    /// Starts worker number `index` on a thread of its own.
    ///
    /// # Errors
    /// The system's, when no thread can be had.
    pub fn start(index: usize, common: Common, drain: &Drain) -> io::Result<Handle> {
        let (commands, received) = mpsc::unbounded_channel();
        let drain = drain.child();
        let (started, is_started) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let has_started = started.clone();
            let served = run_here(async move || {
                // The main thread waits for this message, so it is there.
                let _ = has_started.send(Ok(()));
                Worker::new(index, common, drain).run(received).await;
            });
            if let Err(error) = served {
                drop(started.send(Err(error)));
            }
        })?;
        is_started.recv().unwrap_or_else(|_| Err(io::Error::other("the worker ended at once")))?;
        Ok(Handle { commands, thread: Some(thread) })
    }

    /// A worker that does what a test says.
    #[cfg(test)]
    pub(crate) fn scripted() -> (Handle, mpsc::UnboundedReceiver<Command>) {
        let (commands, received) = mpsc::unbounded_channel();
        (Handle { commands, thread: None }, received)
    }

    /// Asks the worker; `false` when it is gone.
    pub fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Another way to the worker.
    pub fn commands(&self) -> Commands {
        Commands(self.commands.downgrade())
    }

    /// Ends the worker, and waits until its sockets are closed.
    pub fn stop(self) {
        drop(self.commands);
        if self.thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("A worker panicked; please report this");
        }
    }
}

// === impl Commands ===

impl Commands {
    /// Asks the worker; `false` when it is gone.
    pub fn send(&self, command: Command) -> bool {
        self.0.upgrade().is_some_and(|commands| commands.send(command).is_ok())
    }
}

// === impl Worker ===

impl Worker {
    fn new(index: usize, common: Common, drain: Drain) -> Worker {
        let Common { metrics, secrets, cancels, console, workers } = common;
        let [sessions, clients] = [(); 2].map(|()| Numbers::of_worker(index, workers));
        let tracker = TaskTracker::new();
        let surroundings = Surroundings { drain, tracker, sessions, clients, secrets, cancels, console };
        Worker { metrics, surroundings, hooks: Rc::default(), proxies: Vec::new(), servers: Vec::new() }
    }

    /// Does what the main thread asks, until it goes away.
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        while let Some(command) = commands.recv().await {
            // Whoever asked may have stopped waiting for the answer.
            let _ = match command {
                Command::Apply(update, done) => done.send(self.apply(update)).map_err(drop),
                Command::Ping(answer) => answer.send(()),
                Command::AwaitLast(answer) => {
                    let tracker = self.surroundings.tracker.clone();
                    tracker.close();
                    tokio::task::spawn_local(async move {
                        tracker.wait().await;
                        answer.send(())
                    });
                    Ok(())
                }
                Command::Count(answer) => answer.send(self.surroundings.tracker.len()).map_err(drop),
                Command::View(answer) => answer.send(self.view()).map_err(drop),
                Command::Pause(which, answer) => {
                    self.pause(&which, answer);
                    Ok(())
                }
                Command::Resume(which, answer) => {
                    self.resume(&which);
                    answer.send(())
                }
                Command::Reconnect(which, answer) => {
                    self.reconnect(&which);
                    answer.send(())
                }
                Command::Kill(victims, answer) => answer.send(self.kill(&victims)).map_err(drop),
                Command::Admit(name, accepted) => {
                    self.admit(&name, accepted);
                    Ok(())
                }
            };
        }
    }

    /// Serves another configuration: everything is bound already. Which sockets could not be taken over all the same.
    fn apply(&mut self, update: Update) -> Vec<Unserved> {
        let Update { config, opened } = update;
        match Hooks::new(&config.hooks, &Random::from_system()) {
            Ok(hooks) => self.hooks = Rc::new(hooks),
            Err(error) => debug!(%error, "The main thread has checked the hooks"),
        }
        let before = std::mem::take(&mut self.proxies);
        self.proxies = config.proxies.iter().map(|proxy| (proxy.name.clone(), self.proxy(proxy, &before))).collect();
        self.close_removed(&before);
        self.serve(&config, opened)
    }

    /// The proxy for `config`: the one of that name, reconfigured, or a new one.
    fn proxy(&self, config: &Arc<ProxyConfig>, before: &[(Arc<str>, Serving)]) -> Serving {
        let hooks = self.hooks.clone();
        let is_datagrams = matches!(config.server.listen, Listen::Udp(_));
        match before.iter().find(|(name, _)| *name == config.name) {
            Some((_, Serving::Streams(proxy))) if !is_datagrams => {
                proxy.reconfigure(config.clone(), hooks);
                return Serving::Streams(proxy.clone());
            }
            Some((_, Serving::Datagrams(proxy))) if is_datagrams => {
                proxy.reconfigure(config.clone(), hooks);
                return Serving::Datagrams(proxy.clone());
            }
            _ => {}
        }
        let metrics = Rc::new(self.metrics.proxy(&config.name));
        let surroundings = self.surroundings.clone();
        if is_datagrams {
            Serving::Datagrams(Datagrams::new(config.clone(), hooks, metrics, surroundings))
        } else {
            Serving::Streams(Proxy::new(config.clone(), hooks, metrics, surroundings))
        }
    }

    /// Proxies that are gone, or that serve another kind of peer now, take nobody any more; their sessions go on.
    fn close_removed(&self, before: &[(Arc<str>, Serving)]) {
        for (_, serving) in before {
            let is_kept = self.proxies.iter().any(|(_, kept)| kept.is(serving));
            match serving {
                Serving::Streams(proxy) if !is_kept => proxy.close(),
                Serving::Datagrams(proxy) if !is_kept => proxy.close(),
                Serving::Streams(_) | Serving::Datagrams(_) => {}
            }
        }
    }

    /// Has each socket served by the proxy that the configuration gives it to; sockets that nobody needs close.
    fn serve(&mut self, config: &Config, opened: Vec<(Place, Bound)>) -> Vec<Unserved> {
        let mut sockets: Vec<(Place, Socket)> = Vec::new();
        for server in self.servers.drain(..) {
            server.task.abort();
            sockets.push((server.place, server.socket));
        }
        let unserved = Socket::adopt_all(&mut sockets, opened);
        for proxy in &config.proxies {
            let place = Place::of(proxy);
            let Some((_, socket)) = sockets.iter().find(|(known, _)| *known == place) else { continue };
            let Some((_, serving)) = self.proxies.iter().find(|(name, _)| *name == proxy.name) else { continue };
            let Some(task) = serving.start(socket.clone()) else { continue };
            self.servers.push(Server { place, socket: socket.clone(), task });
        }
        unserved
    }

    fn admit(&self, name: &Arc<str>, accepted: Accepted) {
        let found = self.proxies.iter().find(|(known, _)| known == name);
        // The proxy may have been removed while the peer was on its way.
        let Some((_, Serving::Streams(proxy))) = found else { return };
        match accepted.adopt() {
            Ok((peer, remote)) => proxy.admit(peer, remote),
            Err(error) => debug!(%error, "A peer left before it was served"),
        }
    }
}

// === impl Serving ===

impl Serving {
    fn is(&self, other: &Serving) -> bool {
        match (self, other) {
            (Serving::Streams(this), Serving::Streams(other)) => Rc::ptr_eq(this, other),
            (Serving::Datagrams(this), Serving::Datagrams(other)) => Rc::ptr_eq(this, other),
            _ => false,
        }
    }

    /// How many sessions and clients it has.
    fn present(&self) -> (usize, usize) {
        match self {
            Serving::Streams(proxy) => proxy.present(),
            Serving::Datagrams(proxy) => (proxy.present(), 0),
        }
    }

    /// What is to be told of it, with at most so many of its sessions and clients.
    fn view(&self, most: (usize, usize), now: Instant) -> ProxyView {
        match self {
            Serving::Streams(proxy) => proxy.view(most, now),
            Serving::Datagrams(proxy) => proxy.view(most.0, now),
        }
    }

    /// Ends the session of this number, or all; how many there were.
    fn kill(&self, number: Option<u64>) -> usize {
        match self {
            Serving::Streams(proxy) => proxy.kill(number),
            Serving::Datagrams(proxy) => proxy.kill(number),
        }
    }

    fn start(&self, socket: Socket) -> Option<AbortHandle> {
        let task = match (self, socket) {
            (Serving::Streams(proxy), Socket::Streams(listener)) => {
                tokio::task::spawn_local(server::serve(listener, proxy.clone()))
            }
            (Serving::Datagrams(proxy), Socket::Datagrams(socket)) => {
                tokio::task::spawn_local(proxy.clone().serve(socket))
            }
            _ => return None,
        };
        Some(task.abort_handle())
    }
}

// === impl Accepted ===

impl Accepted {
    /// Takes a peer out of the runtime that accepted it.
    ///
    /// # Errors
    /// The system's, when the peer has left.
    pub fn new(peer: Stream) -> io::Result<Accepted> {
        Ok(match peer {
            Stream::Tcp(stream) => Accepted::Tcp(stream.into_std()?),
            Stream::Unix(stream) => Accepted::Unix(stream.into_std()?),
            // A peer is handed over before it says anything, and encrypts afterwards.
            Stream::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    fn adopt(self) -> io::Result<(Stream, Endpoint)> {
        let stream = match self {
            Accepted::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Accepted::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        let remote = stream.remote();
        Ok((stream, remote))
    }
}

#[cfg(test)]
mod tests;
