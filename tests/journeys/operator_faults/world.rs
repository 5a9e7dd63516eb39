//! What is there when the trouble begins, and what was seen of it since.

use std::fmt;
use std::time::Duration;

use cast::Random;
use cast::cluster::{Cluster, Kubectl};
use cast::time::{Stopwatch, pause};

use crate::stage::{App, Stage, chart, config};

/// The operator's namespace.
pub(crate) const SYSTEM: &str = "postern-system";

/// The configurations that are always there; a third, [`PASSING`], comes and goes.
pub(crate) const CONFIGS: [&str; 2] = ["orders", "billing"];
/// The configuration that comes and goes.
pub(crate) const PASSING: &str = "passing";

/// The pod whose application has one session all the time.
const STEADY: &str = "steady";

/// A cluster with Postern and its users.
pub(crate) struct World<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) stage: Stage,
    /// The tools for the operator's own namespace.
    pub(crate) system: Kubectl,
    pub(crate) random: Random,
    /// Whether pods that ask start without a sidecar while no replica answers.
    pub(crate) ignores: bool,
    pub(crate) told: Told,
    begun: Stopwatch,
}

/// What users saw.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) created: u32,
    pub(crate) refused: u32,
    pub(crate) slowest: Duration,
    pub(crate) bystanders: u32,
    pub(crate) slowest_bystander: Duration,
    pub(crate) edits: u32,
    pub(crate) settled: Duration,
}

// === impl World ===

impl<'a> World<'a> {
    /// Two configurations, a Deployment, and an application with one session that it keeps.
    pub(crate) fn begin(cluster: &'a Cluster, seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let ignores = random.below(3) == 0;
        let policy = format!("webhook.failurePolicy={}", if ignores { "Ignore" } else { "Fail" });
        let words = ["upgrade", "postern", chart(), "--namespace", SYSTEM, "--reset-then-reuse-values", "--wait"];
        cluster.helm([&words[..], &["--set", &policy]].concat());
        let (stage, system) = (Stage::on(cluster, "faults"), cluster.in_namespace(SYSTEM));
        stage.configure("");
        stage.apply(&config(CONFIGS[1], "server: {address: \"127.0.0.1:6000\"}"));
        // What is executed from outside goes through the API server, so it writes to its container's log.
        let ask = "while sleep 0.1; do echo 'select pg_backend_pid();'; done | psql -XAtq -U postgres";
        stage.apply(&App::running(STEADY, ask).pod());
        stage.apply(&App::waiting("shop").deployment(2));
        stage.wait_for(&format!("pod/{STEADY}"), "condition=Ready");
        stage.wait_for("deployment/shop", "condition=Available");
        stage.acknowledged(3);
        let world = Self { cluster, stage, system, random, ignores, told: Told::default(), begun: Stopwatch::start() };
        world.say(&policy);
        world
    }

    /// What happens now, for who reads of a failure; the test harness shows it then.
    pub(crate) fn say(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, things: &[T]) -> T {
        let index = self.random.below(things.len() as u64);
        things[usize::try_from(index).expect("there are not so many")]
    }

    /// Lets time pass, up to this much.
    pub(crate) fn rest(&mut self, most: Duration) {
        let most = u64::try_from(most.as_millis()).expect("it is no age of the world");
        pause(Duration::from_millis(self.random.below(most)));
    }

    /// The backends that have answered the steady application, one after the other: one, if its session never ended.
    pub(crate) fn backends(&self) -> Vec<String> {
        let said = self.stage.try_kubectl(["logs", STEADY, "-c", "app"]).out;
        let mut backends: Vec<_> = said.lines().map(str::to_owned).collect();
        backends.dedup();
        backends
    }
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, refused, slowest, bystanders, slowest_bystander, edits, settled } = self;
        write!(
            out,
            "{created} pods that asked created, {refused} refused, the slowest answer after {slowest:.1?}; \
             {bystanders} that did not ask created, the slowest after {slowest_bystander:.1?}; \
             {edits} edits; all settled after {settled:.1?}"
        )
    }
}
