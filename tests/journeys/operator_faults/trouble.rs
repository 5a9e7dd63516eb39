//! One trouble after the other, each with what users do while it lasts.

use std::time::Duration;

use cast::cluster::{Component, Frozen};

use crate::replicas::{self, CONTAINER};
use crate::users;
use crate::world::World;
use crate::writers;

/// Between two troubles at most so much time passes; the operator's own periods are of this size.
const REST: Duration = Duration::from_secs(4);

/// A container that dies more often is started again only after so long that the series would be over.
const RESTARTS: i64 = 2;

/// What goes on until it is ended.
enum Lasting {
    Nothing,
    Replica(#[expect(dead_code, reason = "it is there to be dropped")] Frozen),
    ApiServerAway,
    ApiServerFrozen,
}

/// Does something to the operator.
type Begin = fn(&mut World<'_>) -> Lasting;

/// All that can happen, each as often as it stands here.
const TROUBLES: [(&str, Begin); 13] = [
    ("a replica is killed", |world| kill(world, false)),
    ("the leader is killed", |world| kill(world, true)),
    ("a replica's pod is deleted", delete),
    ("a replica stands still", |world| freeze(world, false)),
    ("a replica stands still", |world| freeze(world, false)),
    ("the leader stands still", |world| freeze(world, true)),
    ("the API server restarts", |world| stop(world, Component::ApiServer)),
    ("the API server stands still", stand_still),
    ("somebody takes the lease", |world| written(writers::take_lease, world)),
    ("somebody writes a ConfigMap", |world| written(writers::write_map, world)),
    ("somebody writes the Secret", |world| written(writers::write_secret, world)),
    ("somebody writes the caBundle", |world| written(writers::write_bundle, world)),
    ("somebody writes a status", |world| written(writers::write_status, world)),
];

/// One trouble from its beginning to its end.
pub(crate) fn next(world: &mut World<'_>) {
    let (name, begin) = world.one_of(&TROUBLES);
    world.say(name);
    let lasting = begin(world);
    if !matches!(lasting, Lasting::ApiServerAway | Lasting::ApiServerFrozen) {
        users::create_bystander(world);
    }
    for _ in 0..=world.random.below(2) {
        users::act(world);
    }
    world.rest(REST);
    match lasting {
        Lasting::ApiServerAway => world.cluster.node().start(Component::ApiServer),
        Lasting::ApiServerFrozen => world.cluster.node().thaw(Component::ApiServer),
        Lasting::Nothing | Lasting::Replica(_) => {}
    }
}

fn kill(world: &mut World<'_>, leader: bool) -> Lasting {
    let Some(replica) = replicas::choose(world, leader) else { return Lasting::Nothing };
    if replica.restarts > RESTARTS {
        return delete(world);
    }
    if !world.cluster.node().try_end_container(&world.system, &replica.name, CONTAINER) {
        world.say("    it has ended by itself");
    }
    Lasting::Nothing
}

fn delete(world: &mut World<'_>) -> Lasting {
    if let Some(replica) = replicas::choose(world, false) {
        world.system.try_kubectl(["delete", "pod", &replica.name, "--grace-period=0", "--force"]);
    }
    Lasting::Nothing
}

fn freeze(world: &mut World<'_>, leader: bool) -> Lasting {
    let Some(replica) = replicas::choose(world, leader) else { return Lasting::Nothing };
    let frozen = world.cluster.node().freeze_container(&world.system, &replica.name, CONTAINER);
    frozen.map_or(Lasting::Nothing, Lasting::Replica)
}

fn stop(world: &mut World<'_>, component: Component) -> Lasting {
    if world.random.below(2) == 0 {
        world.cluster.node().stop(component);
    } else {
        world.cluster.node().kill(component);
    }
    Lasting::ApiServerAway
}

fn stand_still(world: &mut World<'_>) -> Lasting {
    world.cluster.node().freeze(Component::ApiServer);
    Lasting::ApiServerFrozen
}

/// Somebody writes two or three times, because once is what the operator puts right at once.
fn written(write: fn(&mut World<'_>), world: &mut World<'_>) -> Lasting {
    for _ in 0..=world.random.below(3) {
        write(world);
        world.rest(Duration::from_secs(1));
    }
    Lasting::Nothing
}
