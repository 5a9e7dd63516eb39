//! The way into a pod: the API server forwards a connection to the gateway's own loopback, where it tells everything.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Portforwarder;
use kube::{Api, Client};
use tokio::io::DuplexStream;
use tokio::time::timeout;

use super::live::{Live, State};
use super::snapshot::Known;
use crate::api::{cut, within};
use crate::fetch;
use crate::sidecars::ask::Report;
use crate::sidecars::pod::Seen;

/// How long one question may take, with the way there.
const LIMIT: Duration = Duration::from_secs(8);
/// Bytes that are read of an answer: a thousand sessions and clients, each some hundred, and metrics.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Who is asked: a gateway answers everything to its own loopback only.
const HOST: &str = "localhost";
/// Characters of a sentence that came from elsewhere.
const MAX_SENTENCE: usize = 300;

/// A connection into a pod.
pub struct Open {
    /// The connection.
    pub stream: DuplexStream,
    /// What passes it on; it ends with this.
    forwarder: Portforwarder,
}

/// The gateway of one pod.
#[derive(Clone)]
pub struct Gateway {
    pods: Api<Pod>,
    pod: String,
    port: u16,
}

// === impl Gateway ===

impl Gateway {
    /// The gateway of the pod that was `seen`; the reason where it cannot be asked.
    pub fn of(client: &Client, seen: &Seen) -> Known<Self> {
        let port = seen.address.map(|address| address.port()).ok_or("its gateway does not run")?;
        let pods = Api::namespaced(client.clone(), &seen.key.namespace);
        Ok(Self { pods, pod: seen.key.name.to_string(), port })
    }

    /// Whatever answers on a port of a pod.
    pub fn at(client: &Client, namespace: &str, pod: &str, port: u16) -> Self {
        Self { pods: Api::namespaced(client.clone(), namespace), pod: pod.to_owned(), port }
    }

    /// A connection to it, and what keeps it open.
    pub async fn open(&self) -> Known<Open> {
        let begun = within(LIMIT, self.pods.portforward(&self.pod, &[self.port])).await;
        let mut forwarder = begun.map_err(|error| {
            let hint = if error.is_forbidden() { " (it needs the right to create pods/portforward)" } else { "" };
            format!("the API server forwards no port: {error}{hint}")
        })?;
        let stream = forwarder.take_stream(self.port).ok_or("the API server forwards no port")?;
        Ok(Open { stream, forwarder })
    }

    /// What it does right now; from one that is too old for that, which configuration it serves.
    pub async fn live(&self) -> Known<Live> {
        let (status, body) = self.get("/state").await?;
        if status == StatusCode::OK {
            let state: State = serde_json::from_slice(&body).map_err(|error| odd(&error.to_string()))?;
            return Ok(Live { report: state.config.clone().bounded(), state: Some(state) });
        }
        let body = self.text("/config").await?;
        let report: Report = serde_json::from_str(&body).map_err(|error| odd(&error.to_string()))?;
        Ok(Live { report: report.bounded(), state: None })
    }

    /// What it says on `path`.
    pub async fn text(&self, path: &str) -> Known<String> {
        match self.get(path).await? {
            (StatusCode::OK, body) => Ok(String::from_utf8_lossy(&body).into_owned()),
            (status, _) => Err(format!("it answers {status} to {path}")),
        }
    }

    async fn get(&self, path: &str) -> Known<(StatusCode, Bytes)> {
        match timeout(LIMIT, Box::pin(self.converse(path))).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("it does not answer within {LIMIT:?} through the API server's port-forward")),
        }
    }

    async fn converse(&self, path: &str) -> Known<(StatusCode, Bytes)> {
        let Open { stream, mut forwarder } = self.open().await?;
        let error = forwarder.take_error(self.port);
        match fetch::get(stream, (HOST, path), MAX_ANSWER).await {
            Ok(answer) => Ok(answer),
            Err(broken) => {
                forwarder.abort();
                let said = match error {
                    Some(error) => error.await,
                    None => None,
                };
                Err(odd(&said.unwrap_or_else(|| broken.to_string())))
            }
        }
    }
}

fn odd(why: &str) -> String {
    format!("its gateway gives no answer that we understand: {}", cut(why, MAX_SENTENCE))
}
