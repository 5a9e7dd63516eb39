//! A review as anybody could send it to the webhook: refused, or answered for the very request, within bounds.
//!
//! There is no API server here, so no configuration is known; what becomes of pods is another target's.

use std::collections::BTreeMap;

use kube::{Client, Config};
use operator::caches::{Caches, Triggers};
use operator::choose::Asker;
use operator::events::Events;
use operator::inject::Defaults;
use operator::metrics::Metrics;
use operator::review::Review;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::input::Input;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";
/// What the API server hands on of warnings.
const MOST_WARNINGS: usize = 16;
/// An answer says what was asked, and some sentences.
const MOST_ADDED: usize = 8 * 1024;

thread_local! {
    static REPLICA: (Runtime, Review) = replica();
}

fn replica() -> (Runtime, Review) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let within = runtime.enter();
    let client = Client::try_from(Config::new(NOWHERE.parse().expect("an address"))).expect("plain HTTP needs nothing");
    let (metrics, stop) = (Metrics::new().expect("the names are fine"), CancellationToken::new());
    // Nothing is watched, and no event is written: that would need somebody to ask.
    let (caches, _) = Caches::new(&client, Triggers::default(), metrics.clone(), stop.clone());
    let (events, _) = Events::new(client.clone(), "operator-0".into(), metrics.clone(), stop);
    let defaults = Defaults {
        image: "gateway".into(),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: Vec::new(),
        requests: BTreeMap::default(),
        limits: BTreeMap::default(),
    };
    let review = Review::new(client, caches, (events, metrics), defaults);
    drop(within);
    (runtime, review)
}

/// Which webhook was called, then the body of the request.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let called = input.one_of(&[Asker::Pod, Asker::Namespace]);
    let body = input.rest();
    let answered = REPLICA.with(|(runtime, review)| runtime.block_on(review.answer(called, body)));
    let Ok(answer) = answered else { return };
    assert!(answer.len() <= 2 * body.len() + MOST_ADDED, "{} bytes in answer to {}", answer.len(), body.len());
    // What nobody looks at may be no JSON.
    let Ok(asked) = serde_json::from_slice::<Value>(body) else { return };
    let answer: Value = serde_json::from_slice(&answer).expect("it is JSON");
    assert_eq!((&answer["apiVersion"], &answer["kind"]), (&asked["apiVersion"], &asked["kind"]));
    let (request, response) = (&asked["request"], &answer["response"]);
    assert_eq!(response["uid"], request["uid"]);
    assert_eq!(response["allowed"] == true, response["status"].is_null(), "{response}");
    assert!(response["patch"].is_null(), "no configuration is known");
    assert!(response["warnings"].as_array().map_or(0, Vec::len) <= MOST_WARNINGS);
}
