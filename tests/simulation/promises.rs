//! What must hold at every step, and what at the end.

use std::sync::Arc;
use std::time::Duration;

use gateway::metrics::{Metrics, PoolMetrics};
use gateway::net::simulated::GATEWAY;
use prometheus::IntGauge;

use crate::setting::{KINDS, Kind, Setting};
use crate::world::{POD, World};

/// What is known of the gateway's proxies.
pub struct Promises {
    proxies: Vec<Proxy>,
    metrics: Metrics,
}

struct Proxy {
    kind: Kind,
    metrics: PoolMetrics,
    /// No more clients than this; after a change to fewer, no more than there were.
    most: i64,
    size: i64,
    /// No more peers wait than this, after a change likewise.
    most_waiting: i64,
    /// So many steps in a row it had peers that wait and places for their clients.
    unserved: usize,
    /// For how many of them nobody has been dialed either.
    undialed: usize,
}

/// A client's place may stay empty for so many steps before somebody dials.
const MOST_UNSERVED: usize = 15;
/// And for so many while one is dialed for it after another: several may have been lost at about the same time.
const MOST_DIALING: usize = 60;
/// How much later than it was served a session may be heard of.
const LATE: Duration = Duration::from_millis(150);

// === impl Promises ===

impl Promises {
    /// Those of a gateway that begins with `setting`.
    pub fn of(setting: &Setting, metrics: &Metrics) -> Promises {
        let proxies = KINDS.into_iter().map(|kind| Proxy {
            kind,
            metrics: metrics.proxy(&Arc::from(kind.name())).pool,
            most: 0,
            size: 0,
            most_waiting: 0,
            unserved: 0,
            undialed: 0,
        });
        let mut promises = Promises { proxies: proxies.collect(), metrics: metrics.clone() };
        promises.change(setting);
        promises
    }

    /// From now on `setting` holds.
    pub fn change(&mut self, setting: &Setting) {
        for (proxy, config) in self.proxies.iter_mut().zip(&setting.config.proxies) {
            let limit = |number: usize| i64::try_from(number).expect("it is small");
            proxy.size = limit(config.pool.size.get());
            proxy.most = match proxy.kind {
                // A session of datagrams that looks a name up is there already, and counts as a client later.
                Kind::Datagrams => proxy.most.max(proxy.size),
                _ => proxy.size.max(proxy.clients()),
            };
            // Those for whom a client is being dialed are not counted.
            let waiting = limit(config.pool.max_waiting) + proxy.most;
            proxy.most_waiting = waiting.max(proxy.metrics.waiting.get());
        }
    }

    /// At every step.
    pub fn check(&mut self, world: &World) {
        for proxy in &mut self.proxies {
            let (name, clients, waiting) = (proxy.kind.name(), proxy.clients(), proxy.metrics.waiting.get());
            if clients > proxy.most {
                world.record.broken(format_args!("{name} has {clients} clients of at most {}", proxy.most));
            }
            if proxy.kind != Kind::Datagrams {
                proxy.most = proxy.most.min(clients.max(proxy.size));
            }
            if waiting > proxy.most_waiting {
                world.record.broken(format_args!("{name} lets {waiting} peers wait of {}", proxy.most_waiting));
            }
            let parts = [&proxy.metrics.idle, &proxy.metrics.lent, &proxy.metrics.dialing, &proxy.metrics.waiting];
            if parts.iter().any(|gauge| gauge.get() < 0) {
                world.record.broken(format_args!("a gauge of {name} is below zero"));
            }
        }
        let clients: i64 = self.proxies.iter().map(Proxy::clients).sum();
        let open = i64::try_from(world.network.open(GATEWAY)).expect("it is small");
        // A dial has no socket while it looks a name up, and a request to cancel has one of its own.
        let dialing = self.dialing();
        if open < clients - dialing {
            world.record.broken(format_args!("{clients} clients, {dialing} of them being dialed, on {open} sockets"));
        }
    }

    /// Some time after the last trouble: whoever still waits does so because all clients are lent, or will be at once.
    pub fn check_served(&mut self, world: &World) {
        for proxy in self.proxies.iter_mut().filter(|proxy| proxy.kind != Kind::Datagrams) {
            let (waiting, lent) = (proxy.metrics.waiting.get(), proxy.metrics.lent.get());
            let is_dialing = lent + proxy.metrics.dialing.get() >= proxy.size;
            proxy.unserved = if waiting > 0 && lent < proxy.size { proxy.unserved + 1 } else { 0 };
            proxy.undialed = if proxy.unserved > 0 && !is_dialing { proxy.undialed + 1 } else { 0 };
            if proxy.unserved == MOST_DIALING || proxy.undialed == MOST_UNSERVED {
                let name = proxy.kind.name();
                world.record.broken(format_args!("{waiting} peers of {name} wait beside {lent} of {}", proxy.size));
            }
        }
    }

    /// Nobody is here, and nothing is on its way.
    pub fn check_quiet(&self, world: &World) {
        let mut clients = 0;
        for proxy in &self.proxies {
            let (name, metrics) = (proxy.kind.name(), &proxy.metrics);
            clients += proxy.clients();
            for (what, gauge) in [("lent", &metrics.lent), ("waiting", &metrics.waiting)] {
                if gauge.get() != 0 {
                    world.record.broken(format_args!("nobody is here, and {name} counts {} {what}", gauge.get()));
                }
            }
        }
        let (open, dialing) = (i64::try_from(world.network.open(GATEWAY)).expect("it is small"), self.dialing());
        if !(clients - dialing..=clients).contains(&open) {
            world.record.broken(format_args!("{clients} clients, {dialing} of them being dialed, on {open} sockets"));
        }
        // One socket for each proxy, on which peers come.
        let open = world.network.open(POD);
        if open != KINDS.len() {
            world.record.broken(format_args!("nobody is here, and {open} sockets are open towards peers"));
        }
        self.check_sessions(world);
    }

    /// The gateway has drained.
    pub fn check_drained(&self, world: &World) {
        for proxy in &self.proxies {
            let left = [&proxy.metrics.lent, &proxy.metrics.waiting].map(IntGauge::get);
            if left != [0; 2] {
                world.record.broken(format_args!("{} leaves {left:?} behind", proxy.kind.name()));
            }
        }
        self.check_sessions(world);
    }

    /// Its threads have ended.
    pub fn check_gone(&self, world: &World) {
        for proxy in &self.proxies {
            let metrics = &proxy.metrics;
            let left = [&metrics.idle, &metrics.lent, &metrics.dialing, &metrics.waiting].map(IntGauge::get);
            if left != [0; 4] {
                world.record.broken(format_args!("{} counts {left:?} after the end", proxy.kind.name()));
            }
        }
        let open = (world.network.open(GATEWAY), world.network.open(POD));
        if open != (0, 0) {
            world.record.broken(format_args!("{open:?} sockets are open after the end"));
        }
    }

    fn dialing(&self) -> i64 {
        self.proxies.iter().map(|proxy| proxy.metrics.dialing.get()).sum()
    }

    fn check_sessions(&self, world: &World) {
        let text = self.metrics.encode().expect("metrics");
        for line in text.lines().filter(|line| line.starts_with("postern_sessions{")) {
            if !line.ends_with(" 0") {
                world.record.broken(format_args!("nobody is here: {line}"));
            }
        }
    }
}

/// Who came first was served first. It is known while all is well: otherwise who was served first may be heard late.
pub fn check_order(world: &World) {
    let turns = world.order.borrow();
    let turns = turns.iter().filter(|(_, turn)| turn.is_calm);
    let turns: Vec<_> = turns.filter_map(|(session, turn)| Some((session, turn.came, turn.served?))).collect();
    for (session, came, served) in &turns {
        if let Some((other, ..)) = turns.iter().find(|(_, other, at)| came < other && *served > *at + LATE) {
            world.record.broken(format_args!("session {other} was served before {session}, which had come before"));
        } else if *served > *came + LATE {
            world.record.count("waited in order");
        }
    }
}

/// What was answered was done once; what was not, once at most.
pub fn check_ledger(world: &World) {
    let writes = world.ledger.writes.borrow();
    for (token, was_told) in world.ledger.told.borrow().iter() {
        let times = writes.get(token).copied().unwrap_or(0);
        if times > 1 || *was_told && times == 0 {
            world
                .record
                .broken(format_args!("write {token} was done {times} times, and its peer was told so: {was_told}"));
        }
    }
}

// === impl Proxy ===

impl Proxy {
    fn clients(&self) -> i64 {
        self.metrics.idle.get() + self.metrics.lent.get() + self.metrics.dialing.get()
    }
}
