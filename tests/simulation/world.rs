//! One run, from its beginning to its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use gateway::config::LogFormat;
use gateway::config::pins::Pins;
use gateway::console::Console;
use gateway::gateway::{Fixed, Gateway};
use gateway::metrics::Metrics;
use gateway::net::simulated::{Installed, Network};
use gateway::random::{self, Random};
use gateway::secrets::Secrets;
use gateway::shutdown::Drain;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::faults;
use crate::host::{Host, Ledger};
use crate::promises::{self, Promises};
use crate::record::{Record, Tally};
use crate::setting::{Draw, KINDS, Kind, LONGEST_ACQUIRE, LONGEST_DIAL, LONGEST_DRAIN, LONGEST_PROBE, Setting};
use crate::{datagrams, opaque, sql};

/// Everything that a run's tasks share.
pub struct World {
    /// The network.
    pub network: Installed,
    /// What happens at random.
    pub random: Random,
    /// What happened.
    pub record: Record,
    /// The hosts of the database.
    pub hosts: Vec<Rc<Host>>,
    /// What the database has done.
    pub ledger: Ledger,
    /// Who waited since when, and who was served when.
    pub order: RefCell<BTreeMap<u64, opaque::Turn>>,
    /// Whether faults are over.
    pub is_calm: Cell<bool>,
    /// Whether nobody comes any more.
    pub is_over: Cell<bool>,
    /// Whether the gateway was asked to end.
    pub is_ending: Cell<bool>,
    next_session: Cell<u64>,
}

/// What came of a run.
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What happened, line by line.
    pub record: String,
    /// The promises that were broken.
    pub broken: Vec<String>,
    /// How often things happened.
    pub tally: Tally,
}

/// Where peers are: in the gateway's pod.
pub const POD: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// From where peers dial.
pub const PEERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// Where the database is, or was, or will be.
pub const HOSTS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2))];

/// A moment that is nobody's business.
const STEP: Duration = Duration::from_millis(20);
/// How long all is well.
const CALM: Duration = Duration::from_secs(10);
/// After the last session, until all that it left is gone: sockets for datagrams last longest.
const SWEEP: Duration = Duration::from_secs(7);

/// The Secrets that all runs share; nothing in them is random.
static SECRETS: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("secrets");
    std::fs::create_dir_all(folder.join("login")).expect("a folder");
    std::fs::write(folder.join("login/username"), "app").expect("a file");
    std::fs::write(folder.join("login/password"), "secret").expect("a file");
    folder
});

/// Runs `seed` to its end.
pub fn run(seed: u64) -> Outcome {
    random::simulated::begin(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build_local(LocalOptions::default());
    let runtime = runtime.expect("a runtime");
    let (world, promises) = runtime.block_on(async {
        let world = World::begin(seed);
        let promises = world.clone().live().await;
        world.record.stop();
        (world, promises)
    });
    drop(runtime);
    promises.check_gone(&world);
    let (record, broken, tally) = world.record.finish();
    Outcome { seed, record, broken, tally }
}

// === impl World ===

impl World {
    fn begin(seed: u64) -> Rc<World> {
        let random = Random::from_seed(seed);
        let world = Rc::new(World {
            network: Network::install(random.bits()),
            record: Record::begin(),
            hosts: HOSTS.into_iter().map(Host::new).collect(),
            ledger: Ledger::default(),
            order: RefCell::default(),
            is_calm: Cell::new(false),
            is_over: Cell::new(false),
            is_ending: Cell::new(false),
            next_session: Cell::new(1),
            random,
        });
        for host in &world.hosts {
            world.network.link(host.ip).set_latency(world.random.millis(0, 5));
            host.start(&world);
        }
        faults::answer_names(&world);
        world
    }

    /// A number that no other session has.
    pub fn session(&self) -> u64 {
        self.next_session.replace(self.next_session.get() + 1)
    }

    async fn live(self: Rc<Self>) -> Promises {
        let setting = Setting::random(&self.random);
        self.record.note(format_args!("begins with\n{}", setting.document));
        let (metrics, drain) = (Metrics::new().expect("metrics"), Drain::default());
        let fixed = Fixed {
            pins: Pins::default(),
            admin: SocketAddr::new(POD, 19187),
            log_format: LogFormat::Json,
            secrets: Secrets::in_folder(&SECRETS),
            console: Console::unanswered(),
            is_sidecar: self.random.once_in(3),
        };
        let mut promises = Promises::of(&setting, &metrics);
        let gateway = Gateway::start(setting.config, fixed, metrics.clone(), drain).await;
        let gateway = gateway.unwrap_or_else(|error| panic!("{error}"));
        let (settings, wanted) = mpsc::unbounded_channel();
        let mut peers = JoinSet::new();
        for number in 0..usize::try_from(self.random.between(4, 24)).expect("it is small") {
            let world = self.clone();
            peers.spawn_local(async move {
                sleep(world.random.millis(0, 2000)).await;
                match KINDS[number % KINDS.len()] {
                    Kind::Opaque => opaque::live(&world).await,
                    Kind::Datagrams => datagrams::live(&world).await,
                    kind => sql::live(&world, kind).await,
                }
            });
        }
        let mut troubles = JoinSet::new();
        for _ in 0..self.random.between(1, 3) {
            troubles.spawn_local(faults::trouble(self.clone(), settings.clone()));
        }
        let gateway = self.follow(gateway, wanted, &mut promises).await;
        if self.random.once_in(3) {
            self.record.count("drained in trouble");
        } else {
            troubles.shutdown().await;
            self.calm_down(&mut promises, &mut peers).await;
        }
        self.end(gateway, &mut peers, &promises).await;
        troubles.shutdown().await;
        promises
    }

    /// Serves while peers and troubles come, until it is time to end.
    async fn follow(
        &self,
        mut gateway: Gateway,
        mut wanted: mpsc::UnboundedReceiver<Setting>,
        promises: &mut Promises,
    ) -> Gateway {
        let end = Instant::now() + self.random.millis(5_000, 30_000);
        loop {
            tokio::select! {
                biased;
                () = sleep_until(end) => return gateway,
                Some(setting) = wanted.recv() => {
                    self.record.count("reconfigured");
                    self.record.note(format_args!("is configured anew\n{}", setting.document));
                    if let Err(error) = gateway.apply(setting.config.clone()).await {
                        self.record.broken(format_args!("a valid configuration was refused: {error}"));
                    }
                    promises.change(&setting);
                    if let Some(reason) = gateway.shortfall() {
                        self.record.broken(format_args!("a configuration is not served: {reason}"));
                    }
                }
                () = sleep(STEP) => {}
            }
            promises.check(self);
        }
    }

    /// Ends all trouble: whoever waits is served or told why not, and nothing is out of place.
    async fn calm_down(self: &Rc<Self>, promises: &mut Promises, peers: &mut JoinSet<()>) {
        self.record.note("all trouble is over");
        faults::heal(self);
        self.is_calm.set(true);
        let begin = Instant::now();
        let back = LONGEST_PROBE + LONGEST_DIAL + Duration::from_millis(100);
        while begin.elapsed() < back + CALM {
            sleep(STEP).await;
            promises.check(self);
            if begin.elapsed() > back {
                promises.check_served(self);
            }
        }
        self.is_over.set(true);
        let limit = LONGEST_ACQUIRE + LONGEST_DIAL + sql::LONGEST_STAY;
        let ended = timeout(limit, async { while peers.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            self.record.broken(format_args!("{} peers still wait {limit:?} after the last trouble", peers.len()));
        }
        sleep(SWEEP).await;
        promises::check_order(self);
        promises.check_quiet(self);
    }

    async fn end(self: &Rc<Self>, gateway: Gateway, peers: &mut JoinSet<()>, promises: &Promises) {
        self.is_over.set(true);
        // Some never go by themselves.
        for _ in 0..self.random.between(0, 3) {
            peers.spawn_local(opaque::stay(self.clone()));
        }
        sleep(STEP).await;
        self.record.note("it is asked to end");
        self.is_ending.set(true);
        self.record.count("drained");
        let finished = spawn_local(gateway.finish());
        if timeout(LONGEST_DRAIN + SWEEP, finished).await.is_err() {
            self.record.broken("the drain takes longer than it may");
        }
        sleep(SWEEP).await;
        promises.check_drained(self);
        promises::check_ledger(self);
        peers.shutdown().await;
    }
}
