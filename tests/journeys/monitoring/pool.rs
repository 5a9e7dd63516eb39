//! Faults of the pool, and of limits.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use cast::frontend::{V3_0, query};
use cast::{Folder, Frontend, Gateway, Peer, Postgres, Proxy, Scripted};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::modes;
use crate::pace::Pace;
use crate::site::{self, Site};

/// The mode of all pools here.
const MODE: &str = "transaction";

struct Exhausted {
    gateway: Gateway,
    keeper: Option<Frontend>,
    _postgres: Postgres,
    _secrets: Folder,
}

struct Waits {
    gateway: Gateway,
    peers: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    _postgres: Postgres,
    _secrets: Folder,
}

/// Peers that stay, and others that come in vain.
struct Full {
    gateway: Gateway,
    most: usize,
    peers: Vec<Peer>,
    _database: Scripted,
}

// === the only connection is kept ===

pub(crate) fn exhausted() -> Box<dyn Site> {
    let (gateway, postgres, secrets) = pool_of_one(|proxy| proxy.set("pool.acquireTimeout", "300ms"));
    Box::new(Exhausted { gateway, keeper: None, _postgres: postgres, _secrets: secrets })
}

impl Site for Exhausted {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.gateway.admin()]
    }

    fn begin(&mut self) {
        let mut keeper = Frontend::login(&self.gateway.address_of(MODE));
        keeper.send(&query("begin"));
        keeper.until_ready(1);
        self.keeper = Some(keeper);
    }

    fn go_on(&mut self, _: Pace) {
        ask(&self.gateway, "select 1");
    }

    fn end(&mut self) {
        self.keeper = None;
    }
}

// === all wait for it ===

pub(crate) fn waits() -> Box<dyn Site> {
    let (gateway, postgres, secrets) = pool_of_one(|proxy| proxy);
    let (peers, is_over) = (Vec::new(), Arc::default());
    Box::new(Waits { gateway, peers, is_over, _postgres: postgres, _secrets: secrets })
}

impl Site for Waits {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.gateway.admin()]
    }

    fn begin(&mut self) {
        for _ in 0..4 {
            let (address, is_over) = (self.gateway.address_of(MODE), self.is_over.clone());
            self.peers.push(std::thread::spawn(move || {
                let mut peer = Frontend::login(&address);
                while !is_over.load(Ordering::SeqCst) {
                    peer.send(&query("select pg_sleep(1)"));
                    peer.until_ready(1);
                }
            }));
        }
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for peer in self.peers.drain(..) {
            peer.join().expect("a peer is served in the end");
        }
    }
}

// === as many as there may be ===

pub(crate) fn full() -> Box<dyn Site> {
    let database = Scripted::echo();
    let gateway = Gateway::start(Proxy::to(database.address()).set("server.maxPeers", 2));
    Box::new(Full { gateway, most: 2, peers: Vec::new(), _database: database })
}

/// 64 files are enough for a few peers and for whoever asks for metrics.
pub(crate) fn no_descriptors() -> Box<dyn Site> {
    let database = Scripted::echo();
    let gateway = Gateway::with(Proxy::to(database.address())).limited_to_open_files(64).start();
    Box::new(Full { gateway, most: 100, peers: Vec::new(), _database: database })
}

impl Site for Full {
    fn gateways(&self) -> Vec<SocketAddr> {
        vec![self.gateway.admin()]
    }

    fn begin(&mut self) {
        let address = self.gateway.address();
        self.peers.extend((0..self.most).filter_map(|_| Peer::try_dial(&address).ok()));
    }

    fn go_on(&mut self, _: Pace) {
        // One more, which is reset.
        drop(Peer::try_dial(&self.gateway.address()));
    }

    fn end(&mut self) {
        self.peers.clear();
    }
}

// === what they have in common ===

fn pool_of_one(more: impl Fn(Proxy) -> Proxy) -> (Gateway, Postgres, Folder) {
    let (postgres, secrets) = (Postgres::start(), modes::secrets());
    let proxy = more(modes::proxy(MODE, &postgres.address()).set("pool.size", 1));
    let gateway = site::gateway(proxy, &secrets);
    gateway.expect_metric("postern_database_up", &[], 1.0);
    (gateway, postgres, secrets)
}

/// A peer asks, and hears an answer or why there is none.
fn ask(gateway: &Gateway, sql: &str) {
    let parameters = [("user", "postgres"), ("database", "postgres")];
    let (mut peer, _) = Frontend::login_as(&gateway.address_of(MODE), V3_0, &parameters);
    peer.send(&query(sql));
    peer.until_ready(1);
}
