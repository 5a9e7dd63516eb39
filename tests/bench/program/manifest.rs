//! The gateway's file.

use cast::loopback::free_address;
use cast::wire::Address;
use cast::{Manifest, Proxy};

use super::POOL;
use crate::kind::Kind;
use crate::stage::SECRET;
use crate::target::Room;

/// The defaults, but for what there shall be room for.
pub(super) fn manifest(kind: Kind, listen: &Address, databases: &[Address], room: Room) -> String {
    let first = sized(proxy(kind, listen, databases), kind, room);
    let others = if let Room::Proxies(count) = room { 1..count } else { 1..1 };
    let others = others.map(|number| proxy(kind, &free_address().into(), databases).named(&format!("db-{number}")));
    Manifest::of([first].into_iter().chain(others)).text()
}

/// A proxy of this kind; of several databases the one that takes writes.
fn proxy(kind: Kind, listen: &Address, databases: &[Address]) -> Proxy {
    let mut proxy = Proxy::to(&databases[0]).listening_on(listen);
    if databases.len() > 1 {
        let addresses: Vec<_> = databases.iter().map(Address::to_string).collect();
        proxy = proxy.set("client.addresses", addresses).set("client.targetSessionAttrs", "read-write");
    }
    if kind == Kind::Passthrough || kind.is_managed() {
        proxy = proxy.set("protocol", "postgres");
    }
    if !kind.is_managed() {
        return proxy;
    }
    let mode = if kind == Kind::Session { "session" } else { "transaction" };
    proxy = proxy.set("client.auth.secretName", SECRET).set("client.auth.database", "postgres").set("pool.mode", mode);
    if kind == Kind::Scram {
        proxy = proxy.set("server.auth.mode", "scram").set("server.auth.secretName", SECRET);
    }
    proxy
}

/// The same with so much room.
fn sized(proxy: Proxy, kind: Kind, room: Room) -> Proxy {
    match room {
        Room::Clients(clients) => proxy.set("pool.size", clients).set("pool.minIdle", clients),
        Room::Default | Room::For(_) if kind.is_managed() => {
            proxy.set("pool.size", POOL).set("server.maxPeers", room.peers())
        }
        Room::For(sessions) => proxy.set("pool.size", sessions).set("server.maxPeers", sessions),
        Room::Default | Room::Proxies(_) => proxy,
    }
}
