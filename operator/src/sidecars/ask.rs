//! Asking one sidecar what it serves: one request on a connection of its own, bounded in time and size.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::cut;
use crate::fetch;

/// How long one question may take, from dialing to the last byte.
const LIMIT: Duration = Duration::from_secs(1);
/// Bytes that are read of an answer.
const MAX_ANSWER: usize = 64 * 1024;
/// Characters that are kept of a sentence in it.
const MAX_SENTENCE: usize = 1024;
/// Sentences that are kept of what waits for a restart.
const MAX_SENTENCES: usize = 16;

/// What a sidecar says that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The hash of the file that it serves; empty if it never had one that it could serve.
    #[serde(default)]
    pub hash: String,
    /// Whether the file's last change is served.
    pub state: State,
    /// The change that is not served, and why.
    #[serde(default)]
    pub refused: Option<Refused>,
    /// What of the file takes effect in a new pod only, a sentence each.
    #[serde(default)]
    pub restart_required: Vec<String>,
    /// The gateway's version.
    #[serde(default)]
    pub version: Option<String>,
}

/// Whether the file's last change is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is.
    #[default]
    Applied,
    /// It was refused; what came before it is served.
    Refused,
}

/// A change that is not served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// The hash of the file.
    #[serde(default)]
    pub hash: String,
    /// What is wrong with it, in the gateway's words.
    #[serde(default)]
    pub reason: String,
}

/// Asks the sidecar at `address`.
///
/// # Errors
/// One sentence on why that cannot be known; it says nothing about whether the sidecar works.
pub async fn ask(address: SocketAddr) -> Result<Report, String> {
    match timeout(LIMIT, converse(address)).await {
        Ok(answer) => answer.map(Report::bounded),
        Err(_) => {
            Err(format!("{address} does not answer within {LIMIT:?}; does a NetworkPolicy or a mesh keep us out?"))
        }
    }
}

async fn converse(address: SocketAddr) -> Result<Report, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address} cannot be reached: {error}"))?;
    let answer = fetch::get(stream, (&address.to_string(), "/config"), MAX_ANSWER).await;
    let (status, body) = answer.map_err(|error| odd(address, &*error))?;
    if status != StatusCode::OK {
        return Err(format!("{address} answers {status} to /config; is it a Postern gateway?"));
    }
    serde_json::from_slice(&body).map_err(|error| odd(address, &error))
}

fn odd(address: SocketAddr, error: &dyn Error) -> String {
    format!("{address} gives no answer that we understand: {}", cut(&error.to_string(), 200))
}

// === impl Report ===

impl Report {
    /// Nothing in it is longer than what we keep.
    pub(crate) fn bounded(mut self) -> Report {
        let shorten = |text: &mut String| *text = cut(text, MAX_SENTENCE);
        shorten(&mut self.hash);
        self.version.iter_mut().for_each(shorten);
        if let Some(refused) = &mut self.refused {
            shorten(&mut refused.hash);
            shorten(&mut refused.reason);
        }
        self.restart_required.truncate(MAX_SENTENCES);
        self.restart_required.iter_mut().for_each(shorten);
        self
    }
}

#[cfg(test)]
mod tests;
