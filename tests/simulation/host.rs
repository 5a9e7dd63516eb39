//! A host of the database: it comes and goes, and may freeze. What it has done outlives it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use gateway::net::simulated::{TcpListener, UdpSocket};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::setting::{KINDS, Kind};
use crate::world::World;
use crate::{backend, datagrams, opaque};

/// A host of the database.
pub struct Host {
    /// Its address.
    pub ip: IpAddr,
    /// Its backends that speak SQL, by process.
    pub backends: RefCell<BTreeMap<u32, Rc<backend::Cancel>>>,
    /// What runs on it.
    running: RefCell<JoinSet<()>>,
    is_frozen: Cell<bool>,
    thawed: Notify,
}

/// What the database, on whichever host, has done.
#[derive(Default)]
pub struct Ledger {
    /// How often each write was executed.
    pub writes: RefCell<BTreeMap<String, u32>>,
    /// What peers were told about each of theirs: whether it was.
    pub told: RefCell<BTreeMap<String, bool>>,
    /// Opaque sessions that the database ended itself, in the middle and without a reset.
    pub broken_off: RefCell<Vec<u64>>,
    /// The number of the last process.
    pub last_process: Cell<u32>,
}

// === impl Host ===

impl Host {
    /// A host that does not run.
    pub fn new(ip: IpAddr) -> Rc<Host> {
        Rc::new(Host {
            ip,
            backends: RefCell::default(),
            running: RefCell::default(),
            is_frozen: Cell::new(false),
            thawed: Notify::new(),
        })
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        !self.running.borrow().is_empty()
    }

    /// Starts the database on it.
    pub fn start(self: &Rc<Self>, world: &Rc<World>) {
        for kind in KINDS {
            let addr = SocketAddr::new(self.ip, kind.port());
            let (host, world) = (self.clone(), world.clone());
            if kind == Kind::Datagrams {
                let socket = UdpSocket::open(addr).expect("a free address");
                self.run(async move { datagrams::answer(&world, &host, socket).await });
            } else {
                let listener = TcpListener::listen(addr).expect("a free address");
                self.run(host.accept(world, kind, listener));
            }
        }
    }

    /// Everything on it is gone at once, and whoever was connected hears so.
    pub fn crash(&self) {
        self.running.replace(JoinSet::new());
        self.backends.borrow_mut().clear();
        self.thaw();
    }

    /// Nothing on it goes on.
    pub fn freeze(&self) {
        self.is_frozen.set(true);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.is_frozen.set(false);
        self.thawed.notify_waiters();
    }

    /// Waits while it is frozen.
    pub async fn breathe(&self) {
        while self.is_frozen.get() {
            self.thawed.notified().await;
        }
    }

    fn run(&self, task: impl Future<Output = ()> + 'static) {
        self.running.borrow_mut().spawn_local(task);
    }

    async fn accept(self: Rc<Self>, world: Rc<World>, kind: Kind, listener: TcpListener) {
        loop {
            self.breathe().await;
            let Ok((stream, _)) = listener.accept().await else { return };
            let (host, world) = (self.clone(), world.clone());
            self.run(async move {
                if kind == Kind::Opaque {
                    opaque::answer(&world, &host, stream).await;
                } else {
                    backend::serve(&world, &host, kind, stream).await;
                }
            });
        }
    }
}
