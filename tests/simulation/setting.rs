//! Configurations at random: small pools, short times, so that every limit is met.

use std::fmt::Write;
use std::time::Duration;

use gateway::config::{self, Config};
use gateway::random::Random;

/// What a proxy serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any bytes.
    Opaque,
    /// PostgreSQL, where the database itself lets peers in.
    Passthrough,
    /// PostgreSQL, lent for a session.
    Session,
    /// PostgreSQL, lent for a transaction.
    Transaction,
    /// Datagrams.
    Datagrams,
}

/// One configuration.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As a document.
    pub document: String,
    /// Understood.
    pub config: Config,
}

/// All kinds.
pub const KINDS: [Kind; 5] = [Kind::Opaque, Kind::Passthrough, Kind::Session, Kind::Transaction, Kind::Datagrams];
/// The longest that a peer may wait for a client.
pub const LONGEST_ACQUIRE: Duration = Duration::from_secs(8);
/// The longest that a dial may take.
pub const LONGEST_DIAL: Duration = Duration::from_secs(4);
/// The longest between two probes.
pub const LONGEST_PROBE: Duration = Duration::from_secs(1);
/// The longest drain.
pub const LONGEST_DRAIN: Duration = Duration::from_secs(15);

/// Draws with words.
pub trait Draw {
    /// A number from `least` to `most`.
    fn between(&self, least: u64, most: u64) -> u64;

    /// One time in `many`.
    fn once_in(&self, many: u64) -> bool {
        self.between(1, many) == 1
    }

    /// From `least` to `most` milliseconds.
    fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }
}

impl Draw for Random {
    fn between(&self, least: u64, most: u64) -> u64 {
        least + self.bits() % (most - least + 1)
    }
}

// === impl Kind ===

impl Kind {
    /// The proxy's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Opaque => "opaque",
            Kind::Passthrough => "passthrough",
            Kind::Session => "session",
            Kind::Transaction => "transaction",
            Kind::Datagrams => "datagrams",
        }
    }

    /// The port on which the gateway, and the database behind it, listens.
    pub fn port(self) -> u16 {
        match self {
            Kind::Opaque => 7001,
            Kind::Session => 7002,
            Kind::Transaction => 7003,
            Kind::Datagrams => 7004,
            Kind::Passthrough => 7005,
        }
    }

    /// Whether the gateway logs in itself.
    pub fn is_managed(self) -> bool {
        matches!(self, Kind::Session | Kind::Transaction)
    }
}

// === impl Setting ===

impl Setting {
    /// Any configuration.
    pub fn random(random: &Random) -> Setting {
        let drain = random.between(6, LONGEST_DRAIN.as_secs());
        let mut document = format!(
            "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nspec:\n  drainTimeout: {drain}s\n  proxies:\n"
        );
        for kind in KINDS {
            write_proxy(&mut document, kind, random);
        }
        let config = config::load(document.as_bytes());
        Setting { config: config.unwrap_or_else(|problems| panic!("{problems}\n{document}")), document }
    }
}

fn write_proxy(out: &mut String, kind: Kind, random: &Random) {
    let (name, port) = (kind.name(), kind.port());
    let mut line = |text: String| writeln!(out, "{text}").expect("memory");
    line(format!("  - name: {name}"));
    if kind == Kind::Datagrams {
        line(format!(
            "    server: {{address: '127.0.0.1:{port}', network: udp, idleTimeout: {}s}}",
            random.between(1, 5)
        ));
        line(format!("    client: {{addresses: ['db.test:{port}'], network: udp}}"));
        line(format!("    pool: {{size: {}}}", random.between(1, 6)));
        return;
    }
    let idle = if random.once_in(3) { random.between(2, 10) } else { 0 };
    line(format!(
        "    server: {{address: '127.0.0.1:{port}', maxPeers: {}, idleTimeout: {idle}s}}",
        random.between(2, 12)
    ));
    let size = random.between(1, 4);
    line("    pool:".to_owned());
    line(format!("      size: {size}"));
    line(format!("      minIdle: {}", random.between(0, size)));
    line(format!("      maxWaiting: {}", random.between(1, 12)));
    line(format!("      acquireTimeout: {}ms", random.between(0, LONGEST_ACQUIRE.as_secs()) * 1000));
    line(format!("      maxIdle: {}s", random.between(1, 20)));
    line(format!("      maxAge: {}s", random.between(2, 30)));
    if kind.is_managed() {
        line(format!("      mode: {name}"));
        if random.once_in(2) {
            line(format!("      idleTransactionTimeout: {}s", random.between(1, 4)));
        }
    }
    if kind != Kind::Opaque {
        line("    protocol: postgres".to_owned());
    }
    let names = if random.once_in(2) { "'db.test:PORT'" } else { "'a.test:PORT', 'b.test:PORT'" };
    line("    client:".to_owned());
    line(format!("      addresses: [{}]", names.replace("PORT", &port.to_string())));
    line(format!("      dialTimeout: {}ms", random.between(200, millis(LONGEST_DIAL))));
    line(format!("      probe: {}ms", random.between(100, millis(LONGEST_PROBE))));
    line(format!("      retries: {}", random.between(0, 4)));
    line(format!("      backoff: {}ms", random.between(10, 2000)));
    line(format!("      jitter: {}", if random.once_in(2) { "0.5" } else { "0" }));
    line(format!(
        "      receiveChunkSize: {}",
        [7, 512, 20_000][usize::try_from(random.between(0, 2)).expect("it is small")]
    ));
    if random.once_in(3) {
        line(format!("      receiveDeadline: {}s", random.between(1, 6)));
    }
    if kind.is_managed() {
        line("      auth: {secretName: login}".to_owned());
        line("      tls: {mode: disable}".to_owned());
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a short time")
}
