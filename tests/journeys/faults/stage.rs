//! A real PostgreSQL behind the real gateway, with a load on it in each of two modes.

use std::collections::HashSet;
use std::sync::RwLockWriteGuard;
use std::time::Duration;

use cast::gateway::Launch;
use cast::time::within;
use cast::wire::Address;
use cast::{Folder, Gateway, Manifest, Postgres, Proxy};

use crate::amid::Amid;
use crate::load::{Load, Seen, TABLE};
use crate::modes;
use crate::sight::seen_by;

/// The modes, by the names of their proxies: one that knows where an exchange ends, and one that knows nothing.
pub(crate) const MODES: [&str; 2] = ["transaction", "opaque"];

/// Peers of each mode that ask all the time.
const PEERS: usize = 3;

/// How long a fault may last after its end before it counts as one of the gateway's.
const PATIENCE: Duration = Duration::from_secs(50);

/// The whole stage.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) postgres: Postgres,
    pub(crate) loads: Loads,
    /// Of the gateway's sockets.
    _folder: Folder,
    secrets: Folder,
    manifest: Manifest,
}

/// The load of each mode.
pub(crate) struct Loads([Load; 2]);

// === impl Stage ===

impl Stage {
    /// All with its defaults.
    #[track_caller]
    pub(crate) fn plain() -> Self {
        Self::with(|proxy| proxy)
    }

    /// The same with proxies as `more` makes them.
    #[track_caller]
    pub(crate) fn with(more: impl Fn(Proxy) -> Proxy) -> Self {
        Self::of(Postgres::start(), more, |launch| launch)
    }

    /// A gateway that is started as `launched` says, before `postgres`.
    #[track_caller]
    pub(crate) fn of(
        postgres: Postgres,
        more: impl Fn(Proxy) -> Proxy,
        launched: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let (folder, secrets) = (Folder::new("sockets"), modes::secrets());
        let proxies = MODES.map(|mode| {
            let proxy = match mode {
                "opaque" => Proxy::to(&postgres.address()).named(mode),
                pooling => modes::proxy(pooling, &postgres.address()),
            };
            more(proxy.listening_on(&Address::Unix(folder.join(mode))))
        });
        let manifest = Manifest::of(proxies);
        postgres.query(TABLE);
        let gateway = launched(launch(&manifest, &secrets)).start();
        let loads = Loads(MODES.map(|mode| Load::start(&gateway.address_of(mode), PEERS)));
        let stage = Self { gateway, postgres, loads, _folder: folder, secrets, manifest };
        stage.goes_on();
        stage
    }

    /// Another gateway with the same configuration.
    pub(crate) fn another(&self) -> Launch {
        launch(&self.manifest, &self.secrets)
    }

    /// Changes the configuration to one that says the same in other words.
    pub(crate) fn edit(&mut self, generation: u64) {
        self.gateway.edit(&self.manifest.clone().set("drainTimeout", format!("{}s", 10 + generation)));
    }

    /// Peers of transaction pooling that hold a connection.
    #[track_caller]
    pub(crate) fn amid(&self) -> Amid {
        Amid::begin(&self.gateway.address_of(MODES[0]), &self.postgres)
    }

    /// Waits until every load is answered again.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        for (mode, load) in MODES.iter().zip(&self.loads.0) {
            let before = load.answered();
            within(PATIENCE, &format!("peers are answered ({mode})"), || load.answered() >= before + 30);
        }
    }

    /// Ends all of it and looks whether every promise was kept: what the peers of each mode saw of an outage that lasted so
    /// long.
    #[track_caller]
    pub(crate) fn end(self, outage: Duration) -> [String; 2] {
        let seen = self.loads.0.map(Load::end);
        expect_each_once(&self.postgres, &seen);
        for mode in MODES {
            self.gateway.expect_quiet(mode);
        }
        self.gateway.expect_metric("postern_desync_total", &[], 0.0);
        self.gateway.ends_well();
        let [transaction, opaque] = seen;
        [seen_by(MODES[0], &transaction, outage), seen_by(MODES[1], &opaque, outage)]
    }
}

/// Every acknowledged write is there, none is there twice, and nobody was given an answer that was another's.
#[track_caller]
fn expect_each_once(postgres: &Postgres, seen: &[Vec<Seen>; 2]) {
    let twice = postgres.query("select token from tokens group by token having count(*) > 1");
    assert_eq!(twice, "", "written twice");
    let found = postgres.query("select token from tokens");
    let found: HashSet<_> = found.lines().collect();
    let seen = || seen.iter().flatten();
    let lost: Vec<_> = seen().flat_map(|seen| &seen.acknowledged).filter(|token| !found.contains(&***token)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let foreign: Vec<_> = seen().flat_map(|seen| &seen.foreign).collect();
    assert!(foreign.is_empty(), "answers of others: {foreign:?}");
}

fn launch(manifest: &Manifest, secrets: &Folder) -> Launch {
    Gateway::with(manifest.clone()).told(&["--secrets", &secrets.display().to_string()])
}

// === impl Loads ===

impl Loads {
    /// Waits until no peer is in the middle of an exchange; none begins one while the guards live.
    pub(crate) fn between_exchanges(&self) -> [RwLockWriteGuard<'_, ()>; 2] {
        self.0.each_ref().map(Load::between_exchanges)
    }
}
