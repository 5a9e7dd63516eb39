//! What goes wrong, and what changes.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use gateway::net::simulated::{Name, Reach};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::host::Host;
use crate::setting::{Draw, Setting};
use crate::world::{HOSTS, World};

/// The names of the two hosts, and the one that moves between them.
const NAMES: [&str; 3] = ["a.test", "b.test", "db.test"];

/// Each name as it is when all is well.
pub fn answer_names(world: &World) {
    for (name, ip) in NAMES.into_iter().zip([HOSTS[0], HOSTS[1], HOSTS[0]]) {
        world.network.answer(name, Name::Is(vec![ip]));
    }
}

/// Ends all trouble.
pub fn heal(world: &Rc<World>) {
    answer_names(world);
    for host in &world.hosts {
        host.thaw();
        let link = world.network.link(host.ip);
        link.set_loss(0);
        link.set_reach(Reach::Open);
        if !host.is_up() {
            host.start(world);
        }
    }
}

/// One trouble after another.
pub async fn trouble(world: Rc<World>, settings: mpsc::UnboundedSender<Setting>) {
    loop {
        sleep(world.random.millis(50, 4000)).await;
        let host = &world.hosts[usize::from(world.random.once_in(2))];
        let while_it_lasts = world.random.millis(10, if world.random.once_in(3) { 8000 } else { 800 });
        match world.random.between(0, 8) {
            0 => crash(&world, host, while_it_lasts).await,
            1 => darken(&world, host, Reach::Refusing, while_it_lasts).await,
            2 => darken(&world, host, Reach::Dark, while_it_lasts).await,
            3 => cut(&world, host),
            4 => freeze(&world, host, while_it_lasts).await,
            5 => rename(&world, while_it_lasts).await,
            6 => world.network.link(host.ip).set_latency(world.random.millis(0, 30)),
            7 => world.network.link(host.ip).set_loss(world.random.between(0, 200)),
            // Whoever follows it may have gone.
            _ => drop(settings.send(Setting::random(&world.random))),
        }
    }
}

async fn crash(world: &Rc<World>, host: &Rc<Host>, time: Duration) {
    world.record.note(format_args!("{} crashes for {time:?}", host.ip));
    world.record.count("host crashed");
    host.crash();
    sleep(time).await;
    if !host.is_up() {
        host.start(world);
        world.record.note(format_args!("{} is back", host.ip));
    }
}

async fn darken(world: &World, host: &Host, reach: Reach, time: Duration) {
    world.record.note(format_args!("{} is {reach:?} for {time:?}", host.ip));
    world.record.count(if reach == Reach::Dark { "link dark" } else { "link refused" });
    let link = world.network.link(host.ip);
    link.set_reach(reach);
    sleep(time).await;
    if world.random.once_in(3) {
        link.cut(io::ErrorKind::TimedOut);
    }
    link.set_reach(Reach::Open);
}

fn cut(world: &World, host: &Host) {
    world.record.note(format_args!("all connections to {} are cut", host.ip));
    world.record.count("link cut");
    world.network.link(host.ip).cut(io::ErrorKind::ConnectionReset);
}

async fn freeze(world: &World, host: &Host, time: Duration) {
    world.record.note(format_args!("{} freezes for {time:?}", host.ip));
    world.record.count("host froze");
    host.freeze();
    sleep(time).await;
    host.thaw();
}

async fn rename(world: &World, time: Duration) {
    let name = NAMES[usize::try_from(world.random.between(0, 2)).expect("it is small")];
    let answer = match world.random.between(0, 3) {
        0 => Name::Unknown,
        1 => Name::Hangs,
        2 => Name::Is(HOSTS.to_vec()),
        _ => Name::Is(vec![HOSTS[1]]),
    };
    world.record.note(format_args!("{name} is answered with {answer:?} for {time:?}"));
    let is_silent = matches!(answer, Name::Hangs);
    world.record.count(if is_silent { "name silent" } else { "name moved" });
    world.network.answer(name, answer);
    sleep(time).await;
    answer_names(world);
}
