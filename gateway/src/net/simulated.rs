//! A network in memory, for simulations: sockets that behave as the system's do, with latency, partitions, refusals and
//! resets as a simulation wants them. It lives in one thread, in the time of its runtime, and the same seed gives the same
//! run. Unix sockets are not simulated.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::UnixStream;

use super::Connection;
use crate::clock::sleep;
use crate::random::Random;

mod listener;
mod tcp;
mod udp;

pub use listener::TcpListener;
pub use tcp::TcpStream;
pub(crate) use tcp::{keep_alive, reset_on_close, set_user_timeout};
pub use udp::UdpSocket;

/// Sockets between two threads; here they are the same.
pub mod bare {
    pub use super::{TcpListener, TcpStream, UdpSocket};
}

/// From where the gateway dials.
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// What is simulated in this thread.
pub struct Network {
    random: Random,
    links: RefCell<BTreeMap<IpAddr, Arc<Link>>>,
    names: RefCell<BTreeMap<String, Name>>,
    /// Who waits until a name is answered differently.
    askers: RefCell<Vec<Waker>>,
    /// What look-ups hold that nobody waits for any more.
    abandoned: RefCell<Vec<Box<dyn Any>>>,
    listeners: RefCell<BTreeMap<SocketAddr, Arc<Mutex<listener::Backlog>>>>,
    mailboxes: RefCell<BTreeMap<SocketAddr, Arc<Mutex<udp::Mailbox>>>>,
    /// Open sockets, by their own address.
    open: RefCell<BTreeMap<IpAddr, usize>>,
    next_port: Cell<u16>,
}

/// The simulation's end of the network; it ends with it.
#[must_use = "the network is gone with it"]
pub struct Installed(Rc<Network>);

/// All that leads to one address.
#[derive(Debug)]
pub struct Link(Mutex<LinkState>);

#[derive(Debug)]
struct LinkState {
    reach: Reach,
    latency: Duration,
    /// Of a thousand datagrams so many are lost, and as many come twice.
    loss: u64,
    wakers: Vec<Waker>,
    wires: Vec<std::sync::Weak<Mutex<tcp::Wire>>>,
}

/// What becomes of what is sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It arrives.
    Open,
    /// New connections are refused.
    Refusing,
    /// Nothing arrives, in either direction, before the link is open again.
    Dark,
}

/// How a name is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// With these addresses.
    Is(Vec<IpAddr>),
    /// With an error.
    Unknown,
    /// Not at all.
    Hangs,
}

/// How long a look-up takes.
const LOOK_UP_TIME: Duration = Duration::from_millis(1);
/// Where the ports begin that nobody asked for.
const FIRST_PORT: u16 = 32_768;

thread_local! {
    static NETWORK: RefCell<Option<Rc<Network>>> = const { RefCell::new(None) };
}

/// The network of this thread.
fn network() -> Rc<Network> {
    NETWORK.with_borrow(|network| network.clone().expect("a simulation has installed a network"))
}

/// The network of this thread, if it is still there.
fn is_network() -> Option<Rc<Network>> {
    NETWORK.try_with(|network| network.borrow().clone()).ok().flatten()
}

/// A socket that peers can dial.
///
/// # Errors
/// The address is in use.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::listen(addr)
}

/// A socket that takes datagrams.
///
/// # Errors
/// The address is in use.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::open(addr)
}

/// Connects the gateway to `addr`.
///
/// # Errors
/// Nobody listens there.
pub(crate) async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_from(GATEWAY, addr).await
}

/// The addresses of `name`; `running` is dropped when it is answered, whether somebody still waits or not.
///
/// # Errors
/// The name is unknown.
pub(crate) async fn look_up(name: &str, port: u16, running: impl Send + 'static) -> io::Result<Vec<SocketAddr>> {
    /// Keeps what a look-up holds when nobody waits for it any more.
    struct LookUp(Option<Box<dyn Any>>);
    impl Drop for LookUp {
        fn drop(&mut self) {
            if let (Some(running), Some(network)) = (self.0.take(), is_network()) {
                network.abandoned.borrow_mut().push(running);
            }
        }
    }
    let mut held = LookUp(Some(Box::new(running)));
    sleep(LOOK_UP_TIME).await;
    let network = network();
    let answer = poll_fn(|cx| match network.names.borrow().get(name) {
        Some(Name::Hangs) => {
            network.askers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        }
        Some(Name::Is(ips)) => Poll::Ready(Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect())),
        Some(Name::Unknown) | None => Poll::Ready(Err(io::Error::new(io::ErrorKind::NotFound, "no such name"))),
    });
    let answer = answer.await;
    held.0 = None;
    answer
}

/// Unix sockets are not simulated, and not used in a simulation.
impl Connection for UnixStream {
    fn has_hung_up(&self) -> bool {
        false
    }

    fn is_silent(&self) -> bool {
        true
    }

    fn peek(&self) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn taken_descriptors(&self) -> usize {
        0
    }
}

// === impl Network ===

impl Network {
    /// Gives this thread a network of its own.
    ///
    /// # Panics
    /// It has one.
    pub fn install(seed: u64) -> Installed {
        let network = Rc::new(Network {
            random: Random::from_seed(seed),
            links: RefCell::default(),
            names: RefCell::default(),
            askers: RefCell::default(),
            abandoned: RefCell::default(),
            listeners: RefCell::default(),
            mailboxes: RefCell::default(),
            open: RefCell::default(),
            next_port: Cell::new(FIRST_PORT),
        });
        let before = NETWORK.replace(Some(network.clone()));
        assert!(before.is_none(), "one network for each thread");
        Installed(network)
    }

    /// All that leads to `ip`.
    pub fn link(&self, ip: IpAddr) -> Arc<Link> {
        self.links.borrow_mut().entry(ip).or_default().clone()
    }

    /// How `name` is answered from now on.
    pub fn answer(&self, name: &str, answer: Name) {
        if answer != Name::Hangs {
            self.abandoned.borrow_mut().clear();
        }
        self.names.borrow_mut().insert(name.to_owned(), answer);
        self.askers.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// How many sockets are open whose own address is `ip`: those that listen, those that are connected, and those that
    /// wait to be accepted.
    pub fn open(&self, ip: IpAddr) -> usize {
        self.open.borrow().get(&ip).copied().unwrap_or(0)
    }

    fn count(&self, ip: IpAddr, opened: bool) {
        let mut open = self.open.borrow_mut();
        let count = open.entry(ip).or_default();
        *count = if opened { *count + 1 } else { count.saturating_sub(1) };
    }

    fn port(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port.set(port.checked_add(1).unwrap_or(FIRST_PORT));
        port
    }

    /// A number below `limit`, which is not 0.
    fn below(&self, limit: u64) -> u64 {
        self.random.bits() % limit
    }

    /// At most `most`, and mostly that.
    fn part(&self, most: usize) -> usize {
        if most > 1 && self.below(4) == 0 { 1 + usize::try_from(self.below(most as u64)).unwrap_or(0) } else { most }
    }
}

impl std::ops::Deref for Installed {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.0
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // What look-ups hold may ask for the network.
        let abandoned = self.0.abandoned.take();
        drop(abandoned);
        NETWORK.set(None);
    }
}

// === impl Link ===

impl Default for Link {
    fn default() -> Self {
        let state =
            LinkState { reach: Reach::Open, latency: Duration::ZERO, loss: 0, wakers: Vec::new(), wires: Vec::new() };
        Link(Mutex::new(state))
    }
}

impl Link {
    /// What becomes of what is sent from now on, and of what is on its way.
    pub fn set_reach(&self, reach: Reach) {
        let wakers = {
            let mut state = self.state();
            state.reach = reach;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How long it takes for what is sent from now on, in each direction.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// How long it takes in each direction.
    pub fn latency(&self) -> Duration {
        self.state().latency
    }

    /// Of a thousand datagrams so many are lost from now on, and as many come twice.
    pub fn set_loss(&self, per_thousand: u64) {
        self.state().loss = per_thousand;
    }

    /// Ends all connections there are, on both sides, as the network would: `error` is what those hear who read or write.
    pub fn cut(&self, error: io::ErrorKind) {
        let wires = std::mem::take(&mut self.state().wires);
        wires.iter().filter_map(std::sync::Weak::upgrade).for_each(|wire| tcp::cut(&wire, error));
    }

    fn reach(&self) -> Reach {
        self.state().reach
    }

    /// Ready when something arrives.
    fn poll_lit(&self, cx: &mut Context<'_>) -> Poll<Reach> {
        let mut state = self.state();
        if state.reach != Reach::Dark {
            return Poll::Ready(state.reach);
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn adopt(&self, wire: &Arc<Mutex<tcp::Wire>>) {
        let mut state = self.state();
        state.wires.retain(|wire| wire.strong_count() > 0);
        state.wires.push(Arc::downgrade(wire));
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        lock(&self.0)
    }
}

/// Nothing panics while it is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
