//! Faults of the database.

use std::net::SocketAddr;

use cast::frontend::{V3_0, bind, cancel_request, execute, parse, query, startup, sync};
use cast::{Folder, Frontend, Gateway, Postgres, Proxy, Scripted, within};

use crate::pace::{Pace, Strikes};
use crate::site::{self, Site};
use crate::{PATIENCE, modes};

/// A database, gateways before it, and peers that ask.
struct Served {
    postgres: Postgres,
    gateways: Vec<Gateway>,
    secrets: Folder,
}

/// The same with a peer that asks all the time.
struct Sound(Served);

struct Killed(Served);

struct PartlyAway {
    relay: Scripted,
    served: Served,
}

struct Flaps {
    served: Served,
    strikes: Strikes,
}

struct Silent(Served);

struct LoginFails(Served);

// === impl Served ===

impl Served {
    /// With so many gateways.
    #[track_caller]
    fn by(count: usize, more: impl Fn(Proxy) -> Proxy) -> Self {
        let (postgres, secrets) = (Postgres::start(), modes::secrets());
        let proxy = || more(modes::proxy("transaction", &postgres.address()));
        let gateways: Vec<_> = (0..count).map(|_| site::gateway(proxy(), &secrets)).collect();
        for gateway in &gateways {
            gateway.expect_metric("postern_database_up", &[], 1.0);
        }
        Self { postgres, gateways, secrets }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(Gateway::admin).collect()
    }

    /// A peer of the first gateway asks this, if it is let in.
    fn ask(&self, sql: &str) {
        let address = self.gateways[0].address_of("transaction");
        let parameters = [("user", "postgres"), ("database", "postgres")];
        let (mut peer, welcome) = Frontend::login_as(&address, V3_0, &parameters);
        if welcome.last().is_some_and(|last| last.tag == b'Z') {
            peer.send(&query(sql));
            // What is answered is not what this is about.
            peer.until_ready(1);
        }
    }
}

// === a gateway without a fault ===

pub(crate) fn sound() -> Box<dyn Site> {
    Box::new(Sound(Served::by(1, |proxy| proxy)))
}

impl Site for Sound {
    fn gateways(&self) -> Vec<SocketAddr> {
        self.0.addresses()
    }

    /// All that a peer does which is counted apart: a prepared statement, a setting that keeps the connection, a cancel.
    fn go_on(&mut self, _: Pace) {
        let address = self.0.gateways[0].address_of("transaction");
        let parameters = [("user", "postgres"), ("database", "postgres")];
        let mut first = Frontend::login(&address);
        let (mut peer, welcome) = Frontend::login_as(&address, V3_0, &parameters);
        // The second peer's is the same, and is answered by the gateway.
        for peer in [&mut first, &mut peer] {
            peer.send(&[parse("one", "select 1"), bind("", "one", &[]), execute("", 0), sync()].concat());
            peer.until_ready(1);
        }
        peer.send(&query("set statement_timeout = '1min'"));
        peer.until_ready(1);
        let key = welcome.iter().find(|message| message.tag == b'K').expect("a peer has a key to cancel with");
        Frontend::dial(&address).send(&cancel_request(&key.body));
    }
}

// === it is killed ===

pub(crate) fn killed() -> Box<dyn Site> {
    Box::new(Killed(Served::by(2, |proxy| proxy)))
}

impl Site for Killed {
    fn gateways(&self) -> Vec<SocketAddr> {
        self.0.addresses()
    }

    fn begin(&mut self) {
        self.0.postgres.kill();
    }

    fn end(&mut self) {
        self.0.postgres.start_again();
    }
}

// === one gateway does not reach it ===

pub(crate) fn partly_away() -> Box<dyn Site> {
    let mut served = Served::by(1, |proxy| proxy);
    let relay = site::relay(served.postgres.address());
    let proxy = modes::proxy("transaction", relay.address());
    let gateway = site::gateway(proxy, &served.secrets);
    gateway.expect_metric("postern_database_up", &[], 1.0);
    served.gateways.push(gateway);
    Box::new(PartlyAway { relay, served })
}

impl Site for PartlyAway {
    fn gateways(&self) -> Vec<SocketAddr> {
        self.served.addresses()
    }

    fn begin(&mut self) {
        self.relay.stop();
    }

    fn end(&mut self) {
        self.relay.start();
    }
}

// === it goes and comes ===

pub(crate) fn flaps() -> Box<dyn Site> {
    let served = Served::by(1, |proxy| proxy.set("client.backoff", "100ms"));
    Box::new(Flaps { served, strikes: Strikes::default() })
}

impl Site for Flaps {
    fn gateways(&self) -> Vec<SocketAddr> {
        self.served.addresses()
    }

    fn go_on(&mut self, pace: Pace) {
        if !self.strikes.is_due(pace) {
            return;
        }
        let (postgres, gateway) = (&mut self.served.postgres, &self.served.gateways[0]);
        let up = |value: f64| (gateway.metric("postern_database_up", &[]) - value).abs() < f64::EPSILON;
        postgres.kill();
        // A gateway dials at once for who asks, and takes its time for nobody.
        let mut peer = Frontend::dial(&gateway.address_of("transaction"));
        peer.send(&startup(V3_0, &[("user", "postgres"), ("database", "postgres")]));
        within(PATIENCE, "the gateway misses the database", || up(0.0));
        postgres.start_again();
        within(PATIENCE, "the gateway has the database again", || up(1.0));
    }
}

// === it does not answer ===

pub(crate) fn silent() -> Box<dyn Site> {
    Box::new(Silent(Served::by(1, |proxy| proxy.set("client.receiveTimeout", "300ms"))))
}

impl Site for Silent {
    fn gateways(&self) -> Vec<SocketAddr> {
        self.0.addresses()
    }

    fn go_on(&mut self, _: Pace) {
        self.0.ask("select pg_sleep(1)");
    }
}

// === it lets nobody in ===

pub(crate) fn login_fails() -> Box<dyn Site> {
    let served = Served::by(1, |proxy| proxy);
    served.postgres.query("alter role postgres password 'correct'");
    served.postgres.admit(&["host all all all scram-sha-256"]);
    Box::new(LoginFails(served))
}

impl Site for LoginFails {
    fn gateways(&self) -> Vec<SocketAddr> {
        self.0.addresses()
    }

    fn begin(&mut self) {
        self.0.postgres.query("alter role postgres password 'another'");
        self.0.postgres.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and client_addr is not null",
        );
    }

    fn go_on(&mut self, _: Pace) {
        self.0.ask("select 1");
    }

    fn end(&mut self) {
        self.0.postgres.query("alter role postgres password 'correct'");
    }
}
