//! Who leads, against an API server that keeps one Lease and its version.

use super::*;
use crate::fake::{Asked, FakeApi, refusal};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// The one Lease, as the API server keeps it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(Option<Value>, u32)>>);

impl Kept {
    fn answer(&self, asked: &Asked) -> (u16, Value) {
        let (kept, version) = &mut *self.0.lock().expect("nobody panics here");
        let is_stale =
            |there: &Value| asked.body["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"];
        match (asked.method.as_str(), kept.as_ref()) {
            ("GET", Some(there)) => return (200, there.clone()),
            ("GET" | "PUT", None) => return refusal(404, "NotFound"),
            ("POST", Some(_)) => return refusal(409, "AlreadyExists"),
            ("PUT", Some(there)) if is_stale(there) => return refusal(409, "Conflict"),
            _ => {}
        }
        *version += 1;
        let mut written = asked.body.clone();
        written["metadata"]["resourceVersion"] = json!(version.to_string());
        (200, kept.insert(written).clone())
    }

    fn holder(&self) -> String {
        let (kept, _) = &*self.0.lock().expect("nobody panics here");
        let holder = kept.as_ref().map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned());
        holder.unwrap_or_default()
    }

    async fn api(&self) -> FakeApi {
        let kept = self.clone();
        FakeApi::new(move |asked| kept.answer(asked)).await
    }
}

fn candidate(api: &FakeApi, identity: &str, duration: Duration) -> Candidate {
    Candidate::new(api.client.clone(), "postern-system", "postern-operator", identity, duration)
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_first_leads_and_gives_the_lease_back_when_it_ends() {
    let kept = Kept::default();
    let api = kept.api().await;
    let first = candidate(&api, "first", LONG);
    let lease = first.acquire().await;
    assert_eq!(kept.holder(), "first");
    let second = candidate(&api, "second", LONG);
    assert!(second.attempt(&mut None).await.expect("the server answers").is_none());
    let stop = CancellationToken::new();
    stop.cancel();
    first.hold(lease, stop).await.expect("it was not lost");
    assert_eq!(kept.holder(), "");
    let lease = second.attempt(&mut None).await.expect("the server answers").expect("it is free");
    assert_eq!(lease.spec.and_then(|spec| spec.lease_transitions), Some(2));
}

#[tokio::test]
async fn two_that_want_it_at_one_time_do_not_both_get_it() {
    let kept = Kept::default();
    let api = kept.api().await;
    let (first, second) = (candidate(&api, "first", LONG), candidate(&api, "second", LONG));
    let (mut a, mut b) = (None, None);
    let (a, b) = futures::future::join(first.attempt(&mut a), second.attempt(&mut b)).await;
    let wins = [a, b].into_iter().filter(|attempt| matches!(attempt, Ok(Some(_)))).count();
    assert_eq!(wins, 1);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_is_taken_after_its_duration_by_our_own_clock() {
    let kept = Kept::default();
    let api = kept.api().await;
    candidate(&api, "dead", LONG).acquire().await;
    let heir = candidate(&api, "heir", LONG);
    let mut sighting = None;
    assert!(heir.attempt(&mut sighting).await.expect("the server answers").is_none());
    let seen = sighting.as_mut().expect("it was seen");
    seen.since = seen.since.checked_sub(LONG).expect("the clock began earlier");
    assert!(heir.attempt(&mut sighting).await.expect("the server answers").is_some());
    assert_eq!(kept.holder(), "heir");
}

#[tokio::test]
async fn who_was_replaced_ends() {
    let kept = Kept::default();
    let api = kept.api().await;
    let first = candidate(&api, "first", Duration::from_millis(300));
    let lease = first.acquire().await;
    let taken = json!({ "metadata": { "resourceVersion": "9" }, "spec": { "holderIdentity": "second" } });
    kept.0.lock().expect("nobody panics here").0 = Some(taken);
    let lost = first.hold(lease, CancellationToken::new()).await.expect_err("another holds it");
    assert_eq!(lost.to_string(), "the lease \"postern-operator\" is held by \"second\" now");
}

#[tokio::test]
async fn who_cannot_renew_ends_before_another_can_lead() {
    let kept = Kept::default();
    let (keeping, broken) = (kept.clone(), Arc::new(Mutex::new(false)));
    let is_broken = broken.clone();
    let api = FakeApi::new(move |asked| {
        let is_broken = *is_broken.lock().expect("nobody panics here");
        if is_broken { refusal(500, "etcd is away") } else { keeping.answer(asked) }
    })
    .await;
    let duration = Duration::from_secs(3);
    let first = candidate(&api, "first", duration);
    let lease = first.acquire().await;
    let acquired = Instant::now();
    *broken.lock().expect("nobody panics here") = true;
    let lost = first.hold(lease, CancellationToken::new()).await.expect_err("it cannot be renewed");
    assert!(acquired.elapsed() < duration, "{:?}", acquired.elapsed());
    assert!(lost.to_string().contains("etcd is away"), "{lost}");
}

#[tokio::test]
async fn a_renewal_that_failed_once_is_no_loss() {
    let kept = Kept::default();
    let (keeping, puts) = (kept.clone(), Arc::new(Mutex::new(0)));
    let counted = puts.clone();
    let api = FakeApi::new(move |asked| {
        let mut puts = counted.lock().expect("nobody panics here");
        *puts += u32::from(asked.method == "PUT");
        if asked.method == "PUT" && *puts == 1 { refusal(500, "a hiccup") } else { keeping.answer(asked) }
    })
    .await;
    let first = candidate(&api, "first", Duration::from_secs(1));
    let lease = first.acquire().await;
    let stop = CancellationToken::new();
    let watching = async {
        while *puts.lock().expect("nobody panics here") < 3 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (held, ()) = futures::future::join(first.hold(lease, stop.clone()), watching).await;
    held.expect("it goes on");
    assert_eq!(kept.holder(), "");
}
