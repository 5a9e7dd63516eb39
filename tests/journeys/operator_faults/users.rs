//! Users go on meanwhile: they edit configurations, and create and delete pods.

use std::time::Duration;

use cast::cluster::Outcome;
use cast::time::Stopwatch;
use serde_json::json;

use crate::stage::{App, config};
use crate::world::{CONFIGS, PASSING, World};

/// Pods without an owner, at most.
const PODS: u64 = 4;

/// The API server may stand still; nobody waits for it for longer.
const TIMEOUT: &str = "--request-timeout=10s";

/// One thing that a user does.
pub(crate) fn act(world: &mut World<'_>) {
    match world.random.below(8) {
        0..=2 => edit(world),
        3 | 4 => create(world),
        5 => delete(world),
        6 => scale(world),
        _ => pass(world),
    }
}

/// Edits a configuration, once or some times in a row.
pub(crate) fn edit(world: &mut World<'_>) {
    let config = world.one_of(&CONFIGS);
    for _ in 0..=world.random.below(3) {
        let number = 2 + world.random.below(60);
        let change = match world.random.below(3) {
            0 => json!({"op": "add", "path": "/spec/proxies/0/pool", "value": {"size": number}}),
            1 => json!({"op": "add", "path": "/spec/proxies/0/client/backoff", "value": format!("{number}s")}),
            _ => json!({"op": "add", "path": "/spec/drainTimeout", "value": format!("{number}s")}),
        };
        let patch = json!([change]).to_string();
        let words = ["patch", "gatewayconfig", config, TIMEOUT, "--type=json", "-p", &patch];
        world.told.edits += u32::from(world.stage.try_kubectl(words).ok);
    }
}

/// Creates a pod that asks for a sidecar.
fn create(world: &mut World<'_>) {
    let app = App::waiting(&format!("pod-{}", world.random.below(PODS)));
    let wanted = world.one_of(&["orders", "billing", "orders"]);
    let pod = app.annotated("postern.dev/inject", wanted).pod();
    let (outcome, took) = create_as(world, &pod, &[]);
    if outcome.ok {
        world.told.created += 1;
    } else if !outcome.err.contains("AlreadyExists") {
        world.told.refused += 1;
        world.say(&format!("    a pod was refused after {took:.1?}: {}", outcome.err.trim()));
    }
    world.told.slowest = world.told.slowest.max(took);
}

/// Creates a pod that does not ask: nothing that happens to the operator may hinder it.
pub(crate) fn create_bystander(world: &mut World<'_>) {
    let pod = App::waiting("bystander").unasked().pod();
    let (outcome, took) = create_as(world, &pod, &["--dry-run=server"]);
    assert!(outcome.ok, "a pod that did not ask was refused: {}", outcome.err);
    world.told.bystanders += 1;
    world.told.slowest_bystander = world.told.slowest_bystander.max(took);
}

fn create_as(world: &World<'_>, pod: &str, more: &[&str]) -> (Outcome, Duration) {
    let watch = Stopwatch::start();
    let outcome = world.stage.with_input([&["create", TIMEOUT, "--validate=false", "-f", "-"], more].concat(), pod);
    (outcome, watch.elapsed())
}

fn delete(world: &mut World<'_>) {
    let pod = format!("pod-{}", world.random.below(PODS));
    world.stage.try_kubectl(["delete", "pod", &pod, TIMEOUT, "--wait=false", "--grace-period=1"]);
}

fn scale(world: &mut World<'_>) {
    let replicas = format!("--replicas={}", 1 + world.random.below(3));
    world.stage.try_kubectl(["scale", "deployment/shop", TIMEOUT, &replicas]);
}

/// The configuration that comes and goes comes, or goes; sometimes it is another one of the same name at once.
fn pass(world: &mut World<'_>) {
    if world.random.below(2) == 0 {
        world.stage.try_kubectl(["delete", "gatewayconfig", PASSING, TIMEOUT, "--wait=false", "--ignore-not-found"]);
    }
    if world.random.below(3) > 0 {
        let size = 1 + world.random.below(9);
        let yaml = config(PASSING, &format!("pool: {{size: {size}}}, server: {{address: \"127.0.0.1:6001\"}}"));
        world.stage.with_input(["apply", TIMEOUT, "-f", "-"], &yaml);
    }
}
