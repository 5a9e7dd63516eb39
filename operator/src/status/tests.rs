//! What was found, and what the status says of it.

use super::*;
use crate::events::Severity;
use crds::{FailingPod, GatewayConfig};
use serde_json::{Value, json};

fn now(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn observed<'a>(delivery: Delivery, pods: &'a Summary, previous: &'a GatewayConfigStatus) -> Observed<'a> {
    Observed {
        generation: Some(3),
        delivery,
        hash: Some("aa".into()),
        per_pod: Some(5),
        pods,
        uninjected: 0,
        previous,
        now: now(100),
    }
}

fn said(status: &GatewayConfigStatus) -> Vec<String> {
    let one = |condition: &Condition| {
        format!("{}={} {}: {}", condition.type_, condition.status, condition.reason, condition.message)
    };
    status.conditions.iter().map(one).collect()
}

fn of(delivery: Delivery, pods: &Summary) -> Vec<String> {
    said(&status(&observed(delivery, pods, &GatewayConfigStatus::default())))
}

fn serving(count: usize) -> Summary {
    Summary { injected: count, up_to_date: count, ready: count, ..Summary::default() }
}

fn failing() -> Summary {
    let failing = vec![FailingPod { name: "app-1".into(), reason: "spec.x: no".into() }];
    Summary { injected: 3, up_to_date: 1, failed: 2, failing, ..Summary::default() }
}

#[test]
fn when_every_pod_serves_it_all_is_well() {
    assert_eq!(
        of(Delivery::Done, &serving(3)),
        [
            "Accepted=True Valid: the configuration can be served",
            "Programmed=True Delivered: the newest configuration is delivered",
            "Ready=True UpToDate: 3 pods serve the newest configuration",
            "Degraded=False AsExpected: there is nothing to complain of",
            "RestartRequired=False AsExpected: all of it is in effect",
        ]
    );
}

#[test]
fn readiness_is_about_the_pods_that_can_be_asked() {
    let unreachable = Some("app-9: 10.0.0.9:19187 does not answer".to_owned());
    for (pods, ready) in [
        (Summary::default(), "Ready=True NoPods: no pod has the sidecar with this configuration yet"),
        (
            Summary { injected: 1, starting: 1, ..Summary::default() },
            "Ready=True PodsStarting: 1 pod is about to start",
        ),
        (serving(1), "Ready=True UpToDate: 1 pod serves the newest configuration"),
        (
            Summary { injected: 4, starting: 1, unasked: 1, ..serving(2) },
            "Ready=True UpToDate: 2 of 4 pods serve the newest configuration, 2 about to start",
        ),
        (
            Summary { injected: 2, stale: 1, up_to_date: 1, ..Summary::default() },
            "Ready=False WaitingForPods: 1 of 2 pods do not serve the newest configuration yet",
        ),
        (
            Summary { injected: 1, stale: 1, ..Summary::default() },
            "Ready=False WaitingForPods: 1 of 1 pod does not serve the newest configuration yet",
        ),
        (
            Summary { injected: 3, unknown: 1, unreachable: unreachable.clone(), ..serving(2) },
            "Ready=True UpToDate: 2 of 3 pods serve the newest configuration; \
             1 cannot be asked, the first is app-9: 10.0.0.9:19187 does not answer",
        ),
        (
            Summary { injected: 1, unknown: 1, unreachable, ..Summary::default() },
            "Ready=True PodsUnknown: 1 pod cannot be asked: app-9: 10.0.0.9:19187 does not answer",
        ),
        (failing(), "Ready=False PodsFailing: 2 of 3 pods fail, the first is app-1: spec.x: no"),
    ] {
        assert_eq!(of(Delivery::Done, &pods)[2], ready);
    }
}

#[test]
fn an_invalid_configuration_says_everything_that_is_wrong_with_it() {
    assert_eq!(
        of(Delivery::Invalid("spec.a: no; spec.b: no".into()), &serving(1))[..3],
        [
            "Accepted=False Invalid: spec.a: no; spec.b: no",
            "Programmed=False NotAccepted: the configuration is invalid; the last good one stays delivered",
            "Ready=False NotAccepted: the configuration is invalid; see Accepted",
        ]
    );
}

#[test]
fn what_cannot_be_delivered_is_not_programmed() {
    for (delivery, reason) in
        [(Delivery::Taken("it is taken".into()), "ConfigMapTaken"), (Delivery::Failed("no".into()), "DeliveryFailed")]
    {
        let said = of(delivery, &serving(1));
        assert!(said[0].starts_with("Accepted=True"), "{said:?}");
        assert!(said[1].starts_with(&format!("Programmed=False {reason}: ")), "{said:?}");
        assert!(said[2].starts_with(&format!("Ready=False {reason}: ")), "{said:?}");
    }
}

#[test]
fn what_is_wrong_with_pods_degrades() {
    let previous = GatewayConfigStatus::default();
    assert!(of(Delivery::Done, &failing())[3].starts_with("Degraded=True PodsFailing: 2 of 3 pods fail"));
    let pods = serving(1);
    let found = Observed { uninjected: 2, ..observed(Delivery::Done, &pods, &previous) };
    let status = status(&found);
    assert_eq!(
        said(&status)[3],
        "Degraded=True NotInjected: 2 pods that asked for the sidecar run without it, created while the operator was away; \
         restart them"
    );
    assert_eq!((status.pods.matched, status.pods.injected), (3, 1));
}

#[test]
fn what_waits_for_a_restart_is_listed() {
    let restarts = (1..=7).map(|index| (format!("setting {index}"), 1)).collect();
    let pods = Summary { to_restart: 2, restarts, ..serving(2) };
    assert_eq!(
        of(Delivery::Done, &pods)[4],
        "RestartRequired=True PodsOutdated: restart 2 pods: setting 1; setting 2; setting 3; setting 4; setting 5; \
         and 2 more"
    );
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_change() {
    let (well, ill) = (serving(1), failing());
    let first = status(&observed(Delivery::Done, &well, &GatewayConfigStatus::default()));
    let second = status(&Observed { now: now(200), ..observed(Delivery::Done, &well, &first) });
    assert_eq!(first, second, "nothing has changed, so nothing is written");
    let third = status(&Observed { now: now(300), ..observed(Delivery::Done, &ill, &second) });
    let time = |name| find(&third, name).expect("it is there").last_transition_time.0.as_second();
    assert_eq!((time(ACCEPTED), time(READY), time(DEGRADED)), (100, 300, 300));
}

#[test]
fn what_the_api_server_gives_back_is_what_was_written() {
    let written = status(&observed(Delivery::Done, &failing(), &GatewayConfigStatus::default()));
    let back: GatewayConfigStatus =
        serde_json::from_str(&serde_json::to_string(&written).expect("JSON")).expect("a status");
    assert_eq!(back, written);
}

#[test]
fn connections_are_counted_over_proxies_workers_and_pods() {
    let document = json!({
        "metadata": { "name": "a" },
        "spec": { "workers": 2, "proxies": [
            { "name": "a", "client": { "addresses": ["db:1"] }, "pool": { "size": 5 } },
            { "name": "b", "client": { "addresses": ["db:2"] } }
        ] }
    });
    let config: GatewayConfig = serde_json::from_value(document).expect("a resource");
    assert_eq!(connections(&config.spec), 210);
    let pods = serving(3);
    let previous = GatewayConfigStatus::default();
    let found = Observed { per_pod: Some(210), ..observed(Delivery::Done, &pods, &previous) };
    assert_eq!(status(&found).connections, Connections { per_pod: 210, total: 630 });
}

#[test]
fn every_reason_is_documented_and_fits_the_schema() {
    for (reason, meaning) in REASONS {
        assert!(reason.chars().all(|c| c.is_ascii_alphanumeric()) && reason.starts_with(char::is_uppercase));
        assert!(!meaning.is_empty());
    }
    let every = [
        of(Delivery::Done, &failing()),
        of(Delivery::Done, &Summary::default()),
        of(Delivery::Invalid("x".into()), &Summary::default()),
        of(Delivery::Done, &Summary { injected: 1, starting: 1, ..Summary::default() }),
        of(Delivery::Taken("x".into()), &Summary::default()),
        of(Delivery::Failed("x".into()), &Summary { to_restart: 1, ..serving(1) }),
    ];
    for said in every.iter().flatten() {
        let reason = said.split([' ', ':']).nth(1).expect("a reason");
        assert!(REASONS.iter().any(|(known, _)| *known == reason), "{reason} is not documented");
    }
}

#[test]
fn a_status_is_one_that_the_schema_takes() {
    let mut long = failing();
    long.failing[0].reason = "x".repeat(5000);
    let status = status(&observed(Delivery::Invalid("y".repeat(9000)), &long, &GatewayConfigStatus::default()));
    assert_eq!(status.failing[0].reason.chars().count(), MAX_REASON);
    let value: Value = serde_json::to_value(&status).expect("JSON");
    assert_eq!(value["conditions"][0]["message"].as_str().map(str::len), Some(MAX_MESSAGE));
    assert_eq!(value["conditions"][0]["lastTransitionTime"], "1970-01-01T00:01:40Z");
}

fn told(before: &GatewayConfigStatus, now: &GatewayConfigStatus) -> Vec<&'static str> {
    news(before, now).iter().map(|news| news.reason).collect()
}

#[test]
fn an_edit_is_told_when_it_is_delivered_and_when_it_is_served() {
    let (none, waiting, all) =
        (GatewayConfigStatus::default(), Summary { injected: 2, stale: 2, ..Summary::default() }, serving(2));
    let first = status(&observed(Delivery::Done, &waiting, &none));
    assert_eq!(told(&none, &first), ["Delivered"]);
    let second = status(&observed(Delivery::Done, &all, &first));
    assert_eq!(told(&first, &second), ["UpToDate"]);
    assert_eq!(told(&second, &second), [""; 0]);
    let edited = status(&Observed { hash: Some("bb".into()), ..observed(Delivery::Done, &waiting, &second) });
    assert_eq!(told(&second, &edited), ["Delivered"]);
}

#[test]
fn trouble_is_told_once_and_not_again_for_each_pod() {
    let (well, ill) = (serving(3), failing());
    let first = status(&observed(Delivery::Done, &well, &GatewayConfigStatus::default()));
    let second = status(&observed(Delivery::Done, &ill, &first));
    let news = news(&first, &second);
    assert_eq!((news[0].severity, news[0].reason), (Severity::Warning, "PodsFailing"));
    assert!(news[0].sentence.contains("app-1: spec.x: no"), "{news:?}");
    let worse = Summary { failed: 3, ..failing() };
    assert_eq!(told(&second, &status(&observed(Delivery::Done, &worse, &second))), [""; 0]);
}

#[test]
fn each_way_of_being_invalid_is_told() {
    let pods = serving(1);
    let none = GatewayConfigStatus::default();
    let first = status(&observed(Delivery::Invalid("spec.a: no".into()), &pods, &none));
    assert_eq!(told(&none, &first), ["Invalid"]);
    let second = status(&observed(Delivery::Invalid("spec.b: no".into()), &pods, &first));
    assert_eq!(told(&first, &second), ["Invalid"]);
    assert_eq!(told(&second, &second), [""; 0]);
}
