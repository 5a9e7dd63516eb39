//! What is written, how often, and what is dropped.

use super::*;
use crate::fake::{FakeApi, refusal};
use serde_json::Value;

fn about(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("ReplicaSet".into()),
        namespace: Some("shop".into()),
        name: Some(name.into()),
        ..ObjectReference::default()
    }
}

/// Writes all of this, and ends.
async fn say(api: &FakeApi, notes: &[(&str, &str)]) -> String {
    let (metrics, stop) = (Metrics::new().expect("the names are fine"), CancellationToken::new());
    let (events, write) = Events::new(api.client.clone(), "operator-1".into(), metrics.clone(), stop.clone());
    for (name, sentence) in notes {
        events.note(about(name), Severity::Warning, "NoConfig", sentence);
    }
    stop.cancel();
    write.await;
    metrics.encode().expect("it can be written")
}

#[tokio::test]
async fn an_event_says_who_is_meant_and_why() {
    let api = FakeApi::new(|asked| (201, asked.body.clone())).await;
    say(&api, &[("app", "there is no configuration")]).await;
    assert_eq!(api.asked(), ["POST /apis/events.k8s.io/v1/namespaces/shop/events"]);
    let event = &api.requests()[0].body;
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        [text("type"), text("reason"), text("action"), text("note"), text("reportingController")],
        ["Warning", "NoConfig", "NoConfig", "there is no configuration", "postern.dev/operator"]
    );
    assert_eq!(event["regarding"]["name"], "app");
    assert!(event["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("app.")));
}

#[tokio::test]
async fn the_same_sentence_is_not_written_again_and_again() {
    let api = FakeApi::new(|asked| (201, asked.body.clone())).await;
    say(&api, &[("app", "a"), ("app", "a"), ("app", "b"), ("other", "a"), ("app", "a")]).await;
    assert_eq!(api.asked().len(), 3, "{:?}", api.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_that_is_said_again_later_is_counted() {
    let api = FakeApi::new(|asked| (201, asked.body.clone())).await;
    let metrics = Metrics::new().expect("the names are fine");
    let mut writer =
        Writer { client: api.client.clone(), instance: "operator-1".into(), metrics, said: HashMap::new() };
    let note = Note { about: about("app"), severity: Severity::Normal, reason: "NoConfig", sentence: "no".into() };
    writer.write(note.clone()).await;
    for said in writer.said.values_mut() {
        said.written = said.written.checked_sub(RECOUNT).expect("the clock began earlier");
    }
    writer.write(note).await;
    let requests = api.requests();
    let name = requests[0].body["metadata"]["name"].as_str().expect("it has a name");
    assert_eq!(requests[1].path, format!("/apis/events.k8s.io/v1/namespaces/shop/events/{name}"));
    assert_eq!(requests[1].body["series"]["count"], 2);
}

#[tokio::test]
async fn what_cannot_be_written_is_counted_and_forgotten() {
    let api = FakeApi::new(|_| refusal(403, "the namespace ends")).await;
    let metrics = say(&api, &[("app", "a")]).await;
    assert!(metrics.contains("postern_operator_events_total{result=\"failed\"} 1"), "{metrics}");
}

#[tokio::test]
async fn more_than_fits_is_dropped_and_nobody_waits() {
    let api = FakeApi::new(|asked| (201, asked.body.clone())).await;
    let metrics = Metrics::new().expect("the names are fine");
    let (events, _write) = Events::new(api.client.clone(), "o".into(), metrics.clone(), CancellationToken::new());
    for index in 0..QUEUE + 3 {
        events.note(about("app"), Severity::Normal, "NoConfig", index.to_string());
    }
    let text = metrics.encode().expect("it can be written");
    assert!(text.contains("postern_operator_events_total{result=\"dropped\"} 3"), "{text}");
}

#[test]
fn an_event_fits_the_api_server() {
    let long = Note {
        about: about(&"x".repeat(253)),
        severity: Severity::Normal,
        reason: "NoConfig",
        sentence: cut(&"y".repeat(5000), MAX_SENTENCE),
    };
    let event: Value = serde_json::to_value(event(&long, &"z".repeat(500), Timestamp::now())).expect("JSON");
    assert!(event["metadata"]["name"].as_str().is_some_and(|name| name.len() <= 253));
    assert_eq!(event["note"].as_str().map(str::len), Some(1024));
    assert_eq!(event["reportingInstance"].as_str().map(str::len), Some(128));
}
