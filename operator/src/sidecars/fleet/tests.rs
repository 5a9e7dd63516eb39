//! The schedule of pokes and questions, in simulated time.

use super::*;
use crate::sidecars::ask::{Refused, State};

const OLD: &str = "00";
const NEW: &str = "11";

/// A fleet with a clock and a kubelet that a test moves.
struct World {
    fleet: Fleet,
    start: Instant,
    now: Instant,
    /// What was done, when, in milliseconds.
    done: Vec<(u128, String)>,
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn key(name: &str) -> PodKey {
    PodKey { namespace: "shop".into(), name: name.into() }
}

fn config() -> ConfigKey {
    ConfigKey::new("shop", "orders")
}

fn pod(name: &str) -> Seen {
    Seen {
        key: key(name),
        config: config(),
        run: Run { uid: format!("{name}-uid"), restarts: 0 },
        address: Some("10.0.0.1:19187".parse().expect("an address")),
        is_ready: true,
        trouble: None,
        poked: None,
        sidecar_hash: None,
        secrets: Vec::new(),
    }
}

type Answer = Result<Report, String>;

fn applied(hash: &str) -> Report {
    Report { hash: hash.into(), ..Report::default() }
}

fn refused(serves: &str, hash: &str, reason: &str) -> Report {
    let refused = Some(Refused { hash: hash.into(), reason: reason.into() });
    Report { hash: serves.into(), state: State::Refused, refused, ..Report::default() }
}

fn silent(_: &PodKey, _: u128) -> Answer {
    Err("it does not answer".into())
}

// === impl World ===

impl World {
    fn new() -> World {
        let now = Instant::now();
        World { fleet: Fleet::default(), start: now, now, done: Vec::new() }
    }

    /// One pod that serves `OLD`, which is what it shall.
    fn settled() -> World {
        let mut world = World::new();
        world.fleet.see(pod("a"), world.now);
        world.fleet.want(&config(), OLD, world.now);
        world.run(seconds(0), |_, _| Ok(applied(OLD)));
        world.start = world.now;
        world.done.clear();
        world
    }

    /// Lets this much time pass; sidecars answer as `answer` says, given the milliseconds since the start, and the API
    /// server takes every poke.
    fn run(&mut self, time: Duration, answer: impl Fn(&PodKey, u128) -> Answer) {
        let end = self.now + time;
        loop {
            let at = self.now.duration_since(self.start).as_millis();
            for job in self.fleet.jobs(self.now) {
                match &job.what {
                    What::Poke(value) => {
                        self.done.push((at, format!("poke {} {value}", job.pod.name)));
                        self.fleet.poked(&job, true, self.now);
                    }
                    What::Ask(_) | What::AskAgain(_) => {
                        self.done.push((at, format!("ask {}", job.pod.name)));
                        self.fleet.heard(&job, answer(&job.pod, at), self.now);
                    }
                }
            }
            self.fleet.news(self.now);
            match self.fleet.next().filter(|next| *next <= end) {
                Some(next) => self.now = next.max(self.now),
                None => break,
            }
        }
        self.now = end;
    }

    fn summary(&self) -> Summary {
        self.fleet.summary(&config(), None)
    }

    fn times(&self, what: &str) -> Vec<u128> {
        self.done.iter().filter(|(_, done)| done.starts_with(what)).map(|(at, _)| *at).collect()
    }
}

#[test]
fn an_edit_pokes_each_pod_once_and_asks_soon_until_it_has_followed() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    assert_eq!(world.summary().stale, 1);
    world.run(seconds(10), |_, at| Ok(applied(if at < 300 { OLD } else { NEW })));
    assert_eq!(world.times("poke"), [0]);
    assert_eq!(world.times("ask"), [100, 200, 300]);
    assert_eq!(world.summary().up_to_date, 1);
    assert_eq!(world.fleet.acknowledged(), [Duration::from_millis(300)]);
}

#[test]
fn a_pod_that_does_not_follow_is_poked_again_after_two_seconds_and_not_for_ever() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    world.run(seconds(300), |_, _| Ok(applied(OLD)));
    assert_eq!(world.times("poke"), [0, 2000, 6000, 14_000, 30_000]);
    let pokes: Vec<&String> = world.done.iter().map(|(_, done)| done).filter(|done| done.starts_with("poke")).collect();
    assert_eq!(pokes[..3], ["poke a 11", "poke a 11.2", "poke a 11.3"]);
    let last = world.times("ask");
    assert_eq!(last[last.len() - 1] - last[last.len() - 2], 15_000);
}

#[test]
fn a_pod_that_was_poked_less_than_a_second_ago_waits_for_the_rest_of_it() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    world.run(Duration::from_millis(250), |_, _| Ok(applied(OLD)));
    world.fleet.want(&config(), "22", world.now);
    world.run(seconds(3), |_, at| Ok(applied(if at < 1100 { OLD } else { "22" })));
    assert_eq!(world.times("poke"), [0, 1000]);
    assert_eq!(world.summary().up_to_date, 1);
}

#[test]
fn a_pod_that_serves_it_already_is_not_poked() {
    let mut world = World::new();
    world.fleet.want(&config(), NEW, world.now);
    world.fleet.see(pod("a"), world.now);
    world.run(seconds(130), |_, _| Ok(applied(NEW)));
    assert_eq!(world.times("poke"), [0_u128; 0]);
    assert_eq!(world.times("ask").len(), 3, "at the start, and once a minute");
}

#[test]
fn a_pod_that_somebody_has_poked_for_it_is_given_two_seconds() {
    let mut world = World::new();
    world.fleet.want(&config(), NEW, world.now);
    world.fleet.see(Seen { poked: Some(NEW.into()), ..pod("a") }, world.now);
    world.run(seconds(1), |_, _| Ok(applied(OLD)));
    assert_eq!(world.times("poke"), [0_u128; 0]);
    world.run(seconds(2), |_, _| Ok(applied(OLD)));
    assert_eq!(world.done.iter().filter(|(_, done)| done == "poke a 11.2").count(), 1);
}

#[test]
fn what_cannot_be_asked_is_unknown_and_never_failed() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    world.run(seconds(20), silent);
    let summary = world.summary();
    assert_eq!((summary.unknown, summary.failed, summary.stale), (1, 0, 0));
    assert_eq!(summary.unreachable.as_deref(), Some("a: it does not answer"));
    assert_eq!(world.times("poke").len(), 2, "of what cannot be asked it is not known whether a third would help");
    world.run(seconds(60), |_, _| Ok(applied(NEW)));
    assert_eq!(world.summary().up_to_date, 1);
}

#[test]
fn a_pod_that_could_not_be_asked_for_a_while_is_poked_again_when_it_can() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    world.run(seconds(20), silent);
    let before = world.times("poke").len();
    let back = world.now.duration_since(world.start).as_millis();
    world.run(seconds(60), |_, at| Ok(applied(if at < back + 10_000 { OLD } else { NEW })));
    let again = world.times("poke").split_off(before);
    assert!(again.first().is_some_and(|at| *at < back + 10_000), "when it says that it has not followed: {again:?}");
    assert_eq!(world.summary().up_to_date, 1);
}

#[test]
fn a_pod_that_answers_now_and_then_is_not_poked_for_ever() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    world.run(seconds(600), |key, at| if at / 3000 % 2 == 0 { silent(key, at) } else { Ok(applied(OLD)) });
    let pokes = world.times("poke");
    assert_eq!(pokes.len(), 5, "{pokes:?}");
    assert!(pokes.windows(2).zip([2000, 4000, 8000, 16_000]).all(|(two, least)| two[1] - two[0] >= least), "{pokes:?}");
}

#[test]
fn pods_that_do_not_answer_do_not_keep_others_waiting() {
    let mut world = World::new();
    world.fleet.want(&config(), NEW, world.now);
    for index in 0..200 {
        world.fleet.see(pod(&format!("mute-{index}")), world.now);
    }
    world.run(seconds(20), silent);
    world.now += seconds(100);
    world.fleet.see(pod("new"), world.now);
    let jobs = world.fleet.jobs(world.now);
    let again = jobs.iter().filter(|job| matches!(job.what, What::AskAgain(_))).count();
    assert_eq!(again, MAX_SUSPECTS);
    assert!(jobs.iter().any(|job| &*job.pod.name == "new" && matches!(job.what, What::Ask(_))));
}

#[test]
fn a_refusal_is_told_in_the_gateways_words_and_not_poked_at() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    world.run(seconds(60), |_, _| Ok(refused(OLD, NEW, "spec.x: it is wrong")));
    let summary = world.summary();
    assert_eq!((summary.failed, summary.failing[0].reason.as_str()), (1, "spec.x: it is wrong"));
    assert_eq!(world.times("poke"), [0]);
    // The refusal of something older says nothing about what is wanted now.
    world.fleet.want(&config(), "22", world.now);
    assert_eq!((world.summary().failed, world.summary().stale), (0, 1));
}

#[test]
fn a_container_that_was_restarted_is_asked_anew() {
    let mut world = World::settled();
    let run = Run { restarts: 1, ..pod("a").run };
    world.fleet.see(Seen { run: run.clone(), address: None, ..pod("a") }, world.now);
    assert_eq!(world.summary().starting, 1);
    world.fleet.see(Seen { run, ..pod("a") }, world.now);
    assert_eq!(world.summary().unasked, 1);
    world.run(seconds(1), |_, _| Ok(applied(OLD)));
    assert_eq!((world.times("ask"), world.summary().up_to_date), (vec![0], 1));
}

#[test]
fn an_answer_of_the_run_before_is_nobodys() {
    let mut world = World::settled();
    world.now += seconds(120);
    let late = world.fleet.jobs(world.now).remove(0);
    world.fleet.see(Seen { run: Run { restarts: 1, ..pod("a").run }, ..pod("a") }, world.now);
    assert_eq!(world.fleet.heard(&late, Ok(applied(NEW)), world.now), "gone");
    assert_eq!(world.summary().unasked, 1);
    world.run(seconds(1), |_, _| Ok(applied(OLD)));
    assert_eq!(world.summary().up_to_date, 1);
}

#[test]
fn never_more_pokes_at_one_time_than_the_api_server_likes() {
    let mut world = World::new();
    world.fleet.want(&config(), OLD, world.now);
    for index in 0..100 {
        world.fleet.see(pod(&format!("pod-{index}")), world.now);
    }
    world.run(seconds(1), |_, _| Ok(applied(OLD)));
    world.fleet.want(&config(), NEW, world.now);
    let jobs = world.fleet.jobs(world.now);
    assert_eq!(jobs.iter().filter(|job| matches!(job.what, What::Poke(_))).count(), MAX_POKES);
    for job in &jobs {
        world.fleet.poked(job, true, world.now);
    }
    assert_eq!(world.fleet.jobs(world.now).len(), MAX_POKES);
}

#[test]
fn a_poke_that_the_api_server_does_not_take_is_tried_again_with_growing_pauses() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    let mut times = Vec::new();
    while times.len() < 4 {
        for job in world.fleet.jobs(world.now) {
            if let What::Poke(_) = job.what {
                times.push(world.now.duration_since(world.start).as_secs());
                world.fleet.poked(&job, false, world.now);
            } else {
                world.fleet.heard(&job, Ok(applied(OLD)), world.now);
            }
        }
        world.fleet.news(world.now);
        world.now = world.fleet.next().expect("there is more to do").max(world.now);
    }
    assert_eq!(times, [0, 1, 3, 7]);
}

#[test]
fn what_a_new_watch_does_not_show_is_gone() {
    let mut world = World::settled();
    world.fleet.see(pod("b"), world.now);
    world.fleet.begin();
    world.fleet.see(pod("b"), world.now);
    assert_eq!(world.summary().injected, 2, "until all has been shown");
    world.fleet.end(world.now);
    assert_eq!(world.summary().injected, 1);
    assert_eq!(world.fleet.counts().starting, 1);
}

#[test]
fn a_configuration_that_is_gone_leaves_its_pods_alone() {
    let mut world = World::settled();
    world.fleet.forget(&config(), world.now);
    world.run(seconds(300), |_, _| Ok(applied(OLD)));
    assert_eq!(world.done, []);
    world.fleet.want(&config(), NEW, world.now);
    world.run(seconds(5), |_, _| Ok(applied(NEW)));
    assert_eq!(world.summary().up_to_date, 1);
    assert!(world.fleet.acknowledged().is_empty(), "nobody edited anything");
}

#[test]
fn what_changes_is_told_at_once_and_then_not_all_the_time() {
    let mut world = World::new();
    world.fleet.want(&config(), NEW, world.now);
    world.fleet.see(pod("a"), world.now);
    assert_eq!(world.fleet.news(world.now), [config()]);
    world.fleet.see(pod("b"), world.now);
    assert_eq!(world.fleet.news(world.now), []);
    assert_eq!(world.fleet.news(world.now + between_reports(2)), [config()]);
}

#[test]
fn our_own_poke_is_no_news() {
    let mut world = World::settled();
    world.now += seconds(1);
    world.fleet.news(world.now);
    world.fleet.see(Seen { poked: Some(NEW.into()), ..pod("a") }, world.now);
    assert_eq!(world.fleet.news(world.now), []);
}

#[test]
fn what_only_a_new_pod_gets_is_said() {
    let mut world = World::new();
    world.fleet.want(&config(), OLD, world.now);
    let secrets = vec!["ca".to_owned()];
    world.fleet.see(Seen { secrets, sidecar_hash: Some("x".into()), ..pod("a") }, world.now);
    world.run(seconds(1), |_, _| {
        Ok(Report { hash: OLD.into(), restart_required: vec!["spec.workers: 2".into()], ..Report::default() })
    });
    let same = Fixed { secrets: vec!["ca".into()], sidecar_hash: "x".into() };
    let other = Fixed { secrets: vec!["ca".into(), "db".into()], sidecar_hash: "y".into() };
    assert_eq!(world.fleet.summary(&config(), Some(&same)).restarts.len(), 1);
    let summary = world.fleet.summary(&config(), Some(&other));
    assert_eq!(summary.to_restart, 1);
    assert_eq!(
        summary.restarts.into_keys().collect::<Vec<_>>(),
        [
            "spec.sidecar was changed, only new pods get it",
            "spec.workers: 2",
            "the Secret \"db\" is not mounted, only new pods get it"
        ]
    );
}

#[test]
fn that_all_have_followed_is_told_at_once() {
    let mut world = World::settled();
    world.now += seconds(10);
    world.fleet.want(&config(), NEW, world.now);
    world.fleet.see(pod("b"), world.now);
    assert_eq!(world.fleet.news(world.now), [config()]);
    for name in ["a", "b"] {
        let job =
            Job { pod: key(name), run: pod(name).run, what: What::Ask("10.0.0.1:1".parse().expect("an address")) };
        world.fleet.heard(&job, Ok(applied(NEW)), world.now);
    }
    assert_eq!(world.fleet.news(world.now), [config()]);
}

#[test]
fn a_pod_that_waits_for_its_poke_is_not_pressed() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    let poke = world.fleet.jobs(world.now).remove(0);
    world.run(seconds(14), |_, _| Ok(applied(OLD)));
    assert_eq!(world.times("ask"), [0_u128; 0]);
    world.fleet.poked(&poke, true, world.now);
    world.run(seconds(1), |_, _| Ok(applied(NEW)));
    assert_eq!(world.times("ask"), [14_100]);
}

#[test]
fn a_poke_that_was_under_way_during_an_edit_does_not_count_for_it() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    let early = world.fleet.jobs(world.now).into_iter().find(|job| matches!(job.what, What::Poke(_))).expect("a poke");
    world.fleet.want(&config(), "22", world.now);
    world.fleet.poked(&early, true, world.now);
    world.run(seconds(1), |_, at| Ok(applied(if at < 1000 { OLD } else { "22" })));
    assert_eq!(world.times("poke a 22"), [1000], "as soon as its kubelet looks again");
}

#[test]
fn an_answer_that_comes_after_its_configuration_is_gone_plans_nothing() {
    let mut world = World::settled();
    world.fleet.want(&config(), NEW, world.now);
    let jobs = loop {
        let jobs = world.fleet.jobs(world.now);
        if jobs.iter().any(|job| matches!(job.what, What::Ask(_))) {
            break jobs;
        }
        for job in &jobs {
            world.fleet.poked(job, true, world.now);
        }
        world.now = world.fleet.next().expect("it is asked in the end");
    };
    world.fleet.forget(&config(), world.now);
    for job in jobs.iter().filter(|job| matches!(job.what, What::Ask(_))) {
        world.fleet.heard(job, Ok(applied(NEW)), world.now);
    }
    world.fleet.news(world.now);
    assert_eq!(world.fleet.next(), None);
}
