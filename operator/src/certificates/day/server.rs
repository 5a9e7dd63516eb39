//! An API server that has one Secret and one webhook configuration, and time that is simulated: calls take a while, fail,
//! or are carried out without an answer; watches lag, fall silent and end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, unfold};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// The kinds, as they are called in paths.
pub(super) const SECRETS: &str = "secrets";
pub(super) const CONFIGURATIONS: &str = "mutatingwebhookconfigurations";

/// A watch is behind by at most this, when it is not silent.
const LAG: u64 = 2_000;
/// Nobody notices for so long that a watch is silent.
const SILENCE: u64 = 65_000;
/// A watch ends by itself.
const WATCH: u64 = 290_000;

/// The API server; cheap to clone.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// The number of the last change.
    version: watch::Sender<usize>,
}

struct State {
    chance: u64,
    objects: HashMap<&'static str, Value>,
    /// Each change: its kind, what happened, and the object as it is then.
    changes: Vec<(&'static str, &'static str, Value)>,
    /// Of a thousand calls that write this kind, so many fail.
    failures: HashMap<&'static str, u64>,
}

type Answer = (u16, Value);

// === impl Server ===

impl Server {
    /// With a webhook configuration that trusts nobody yet.
    pub(super) fn new(seed: u64, configuration: Value) -> Self {
        let state = State {
            chance: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            objects: HashMap::new(),
            changes: Vec::new(),
            failures: HashMap::new(),
        };
        let server = Self(Arc::new(Inner { state: Mutex::new(state), version: watch::Sender::new(0) }));
        server.put(CONFIGURATIONS, "ADDED", configuration);
        server
    }

    /// A client of it, for one replica.
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "postern-system")
    }

    /// From now on so many of a thousand writes of this kind fail.
    pub(super) fn fail(&self, kind: &'static str, of_thousand: u64) {
        self.state().failures.insert(kind, of_thousand);
    }

    /// An object as it is now.
    pub(super) fn object(&self, kind: &str) -> Option<Value> {
        self.state().objects.get(kind).cloned()
    }

    /// How often something was written.
    pub(super) fn writes(&self) -> usize {
        self.state().changes.len()
    }

    /// A number below `limit`, from the seed.
    pub(super) fn below(&self, limit: u64) -> u64 {
        let mut state = self.state();
        state.chance ^= state.chance << 13;
        state.chance ^= state.chance >> 7;
        state.chance ^= state.chance << 17;
        (state.chance.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % limit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Body>) -> Response<StreamBody<BoxStream<'static, Line>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let kind = if path.contains(CONFIGURATIONS) { CONFIGURATIONS } else { SECRETS };
        if query.contains("watch=") {
            return respond(200, self.watch(kind, version_in(query)));
        }
        sleep(Duration::from_millis(1 + self.below(50))).await;
        let writes = head.method != Method::GET;
        let fate = if writes { self.fate(kind) } else { Fate::Answered };
        let (code, value) = match fate {
            Fate::Refused => refusal(500),
            Fate::Answered => self.obey(&head.method, kind, !path.ends_with(kind), &body),
            Fate::Lost => {
                self.obey(&head.method, kind, true, &body);
                // Longer than anybody waits.
                sleep(Duration::from_secs(30)).await;
                refusal(504)
            }
        };
        respond(code, futures::stream::iter([line(&value)]).boxed())
    }

    fn fate(&self, kind: &str) -> Fate {
        let failures = self.state().failures.get(kind).copied().unwrap_or_default();
        match self.below(1000) {
            chance if chance >= failures => Fate::Answered,
            chance if chance % 4 == 0 && failures < 1000 => Fate::Lost,
            _ => Fate::Refused,
        }
    }

    fn obey(&self, method: &Method, kind: &'static str, is_named: bool, body: &[u8]) -> Answer {
        let there = self.object(kind);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method.as_str(), there) {
            ("GET", there) if !is_named => {
                let version = self.writes().to_string();
                let items: Vec<_> = there.into_iter().collect();
                (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
                )
            }
            ("GET", Some(there)) => (200, there),
            ("POST", None) => (201, self.put(kind, "ADDED", body)),
            ("PUT", Some(there)) if there["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"] => {
                (200, self.put(kind, "MODIFIED", body))
            }
            ("POST" | "PUT", Some(_)) => refusal(409),
            ("PATCH", Some(mut there)) => {
                let patch = serde_json::from_value::<json_patch::Patch>(body);
                match patch.map(|patch| json_patch::patch(&mut there, &patch)) {
                    Ok(Ok(())) => (200, self.put(kind, "MODIFIED", there)),
                    _ => refusal(422),
                }
            }
            _ => refusal(404),
        }
    }

    fn put(&self, kind: &'static str, what: &'static str, mut object: Value) -> Value {
        let mut state = self.state();
        let version = state.changes.len() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state.objects.insert(kind, object.clone());
        state.changes.push((kind, what, object.clone()));
        drop(state);
        self.0.version.send_replace(version);
        object
    }

    /// What happens after `version`, each thing a while after it has happened, until the watch ends.
    fn watch(&self, kind: &'static str, version: usize) -> BoxStream<'static, Line> {
        let end = Instant::now() + Duration::from_millis(30_000 + self.below(WATCH));
        let (server, news) = (self.clone(), self.0.version.subscribe());
        let events = unfold((server, news, version), move |(server, mut news, mut seen)| async move {
            loop {
                let next = server.state().changes.get(seen).cloned();
                if let Some((of, what, object)) = next {
                    seen += 1;
                    if of == kind {
                        sleep(server.lag()).await;
                        return Some((line(&json!({"type": what, "object": object})), (server, news, seen)));
                    }
                } else if news.changed().await.is_err() {
                    return None;
                }
            }
        });
        events.take_until(sleep_until(end)).boxed()
    }

    /// Now and then a watch is silent for as long as nobody notices.
    fn lag(&self) -> Duration {
        let most = if self.below(10) == 0 { SILENCE } else { LAG };
        Duration::from_millis(self.below(most))
    }
}

/// What becomes of a write.
enum Fate {
    Answered,
    Refused,
    /// It is carried out, and nobody hears of it.
    Lost,
}

type Line = Result<Frame<Bytes>, Infallible>;

#[expect(clippy::unnecessary_wraps, reason = "a body is made of results")]
fn line(value: &Value) -> Line {
    Ok(Frame::data(Bytes::from(format!("{value}\n"))))
}

fn respond(code: u16, lines: BoxStream<'static, Line>) -> Response<StreamBody<BoxStream<'static, Line>>> {
    let mut response = Response::new(StreamBody::new(lines));
    *response.status_mut() = hyper::StatusCode::from_u16(code).expect("it is one");
    response
}

fn refusal(code: u16) -> Answer {
    crate::fake::refusal(code, "it does not want to")
}

fn version_in(query: &str) -> usize {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}
