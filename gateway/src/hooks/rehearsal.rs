//! `gateway plugin test`: plays a recorded session to the hooks of a configuration, and tells what becomes of it.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;

use super::plugin::Loader;
use super::{Hooks, Judgement, Moment, Session, Verdict};
use crate::config::{Config, Protocol};
use crate::metrics::Metrics;
use crate::net::Endpoint;
use crate::postgres::frames::{Frames, Sender, Step};
use crate::postgres::wire::{ErrorResponse, HEADER, Version, message, packet, split_text, tag, text};
use crate::proxy::relay::Direction;
use crate::random::Random;

/// A recorded session.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Recorded {
    /// Of which proxy; by default the first.
    proxy: Option<String>,
    /// What was said, in order.
    events: Vec<Event>,
}

/// Something that one side says. Those of the first two are any bytes, the others messages of PostgreSQL.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
enum Event {
    Client(String),
    Server(String),
    Startup {
        user: String,
        database: String,
    },
    Query(String),
    Parse {
        name: String,
        statement: String,
    },
    Sync(()),
    /// `idle`, `transaction` or `failed`.
    Ready(String),
    Error {
        code: String,
        message: String,
    },
    /// The columns of a result, by name; their values are text.
    Columns(Vec<String>),
    Row(Vec<Option<String>>),
    Complete(String),
}

/// What was said by whom, and in which form.
struct Said {
    direction: Direction,
    bytes: Vec<u8>,
}

/// Bytes of which more are not shown.
const MOST_SHOWN: usize = 160;

/// Plays the session that `recorded` has, which is YAML, and tells what becomes of it.
///
/// # Errors
/// A sentence: the recording is not understood, or a hook cannot be made.
pub fn rehearse(config: &Config, (plugins, metrics): (&Loader, &Metrics), recorded: &str) -> Result<String, String> {
    let recorded: Value = serde_yaml::from_str(recorded).map_err(|error| error.to_string())?;
    let recorded = Recorded::deserialize(recorded).map_err(|error| error.to_string())?;
    let mut proxies = config.proxies.iter();
    let proxy = match &recorded.proxy {
        Some(name) => {
            proxies.find(|proxy| *proxy.name == **name).ok_or_else(|| format!("there is no proxy {name:?}"))?
        }
        None => proxies.next().ok_or("there is no proxy")?,
    };
    let loaded = plugins.load(&config.hooks).map_err(|refused| refused.to_string())?;
    let hooks = Hooks::new(&config.hooks, &loaded, &Random::from_seed(0))?;
    let session = Session { id: 1, proxy: proxy.name.clone(), protocol: proxy.protocol, peer: Endpoint::Unnamed };
    let (chain, session_metrics) = (hooks.chain(&session), metrics.proxy(&proxy.name).session);
    let mut story = String::new();
    let is_let_in = chain.open(&session, &session_metrics).is_ok()
        && chain.notify(Moment::Opened, &session, &session_metrics)
        && chain.notify(Moment::Traffic, &session, &session_metrics);
    if !is_let_in {
        return Ok("a hook failed that closes on errors; the session does not begin\n".to_owned());
    }
    for event in recorded.events {
        let Said { direction, bytes } = event.said()?;
        let whose = if direction == Direction::ToDatabase { "peer" } else { "database" };
        let Judgement { verdict, .. } = chain.judge(direction, &bytes, &session, &session_metrics);
        let shown = |direction, bytes: &[u8]| show(proxy.protocol, direction, bytes);
        let outcome = match &verdict {
            Verdict::Pass | Verdict::Delay(_) => "passes".to_owned(),
            Verdict::Replace(other) if other.is_empty() => "is kept for now".to_owned(),
            Verdict::Replace(other) => format!("goes on as {}", shown(direction, other)),
            Verdict::Reply(reply) => format!("is answered with {}", shown(direction.opposite(), reply)),
            Verdict::Close => "ends the session".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(story, "{whose}: {}\n  {outcome}", shown(direction, &bytes));
        let passed = match verdict {
            Verdict::Pass | Verdict::Delay(_) => bytes,
            Verdict::Replace(other) => other,
            Verdict::Reply(_) => continue,
            Verdict::Close => break,
        };
        if !passed.is_empty() && !chain.notify(Moment::Sent(direction, &passed), &session, &session_metrics) {
            let _ = writeln!(story, "  a hook failed that closes on errors");
            break;
        }
    }
    for moment in [Moment::Closing, Moment::Closed] {
        chain.notify(moment, &session, &session_metrics);
    }
    let counted = metrics.encode().map_err(|error| error.to_string())?;
    let counted = counted.lines().filter(|line| line.starts_with("postern_plugin_") && !line.contains("_seconds"));
    let counted = counted.filter(|line| !line.ends_with(" 0") && !line.contains("_bucket"));
    Ok(counted.fold(story, |story, line| story + line + "\n"))
}

// === impl Event ===

impl Event {
    fn said(self) -> Result<Said, String> {
        let mut bytes = Vec::new();
        let direction = match self {
            Event::Client(_) | Event::Startup { .. } | Event::Query(_) | Event::Parse { .. } | Event::Sync(()) => {
                Direction::ToDatabase
            }
            _ => Direction::ToPeer,
        };
        match self {
            Event::Client(said) | Event::Server(said) => bytes.extend_from_slice(said.as_bytes()),
            Event::Startup { user, database } => packet(&mut bytes, |out| {
                out.extend_from_slice(&Version::V3_0.0.to_be_bytes());
                for word in ["user", &user, "database", &database, ""] {
                    text(out, word);
                }
            }),
            Event::Query(query) => message(&mut bytes, tag::QUERY, |out| text(out, &query)),
            Event::Parse { name, statement } => message(&mut bytes, tag::PARSE, |out| {
                text(out, &name);
                text(out, &statement);
                out.extend_from_slice(&[0, 0]);
            }),
            Event::Sync(()) => message(&mut bytes, tag::SYNC, |_| ()),
            Event::Ready(status) => {
                let status = match status.as_str() {
                    "idle" => b'I',
                    "transaction" => b'T',
                    "failed" => b'E',
                    other => return Err(format!("ready: {other:?} is none of idle, transaction and failed")),
                };
                message(&mut bytes, tag::READY_FOR_QUERY, |out| out.push(status));
            }
            Event::Error { code, message } => ErrorResponse::error(&code, message).write(&mut bytes),
            Event::Columns(names) => message(&mut bytes, tag::ROW_DESCRIPTION, |out| {
                count(out, names.len());
                for name in &names {
                    text(out, name);
                    // No table; type text, of any length, in text.
                    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
                }
            }),
            Event::Row(values) => message(&mut bytes, tag::DATA_ROW, |out| {
                count(out, values.len());
                for value in &values {
                    let length = value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
                }
            }),
            Event::Complete(complete) => message(&mut bytes, tag::COMMAND_COMPLETE, |out| text(out, &complete)),
        }
        Ok(Said { direction, bytes })
    }
}

fn count(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
}

/// Bytes, or messages, as a person reads them.
fn show(protocol: Protocol, direction: Direction, bytes: &[u8]) -> String {
    let sender = if direction == Direction::ToDatabase { Sender::Entrant } else { Sender::Database };
    let messages = (protocol == Protocol::Postgres).then(|| messages(sender, bytes)).flatten();
    messages.unwrap_or_else(|| shortened(bytes))
}

fn shortened(bytes: &[u8]) -> String {
    let rest = bytes.len().saturating_sub(MOST_SHOWN);
    let shown = bytes[..bytes.len() - rest].escape_ascii();
    if rest > 0 { format!("\"{shown}\" and {rest} bytes more") } else { format!("\"{shown}\"") }
}

/// Whole messages: their types, and what they say.
fn messages(sender: Sender, mut bytes: &[u8]) -> Option<String> {
    let (mut frames, mut shown) = (Frames::new(sender), Vec::new());
    while let Some(Step::Head { tag, body, .. }) = frames.step(bytes).ok()? {
        let body = bytes.get(HEADER..HEADER + body)?;
        frames.pass_body();
        bytes = &bytes[HEADER + body.len()..];
        shown.push(match (sender, tag) {
            (Sender::Database, tag::ERROR_RESPONSE) => format!("ErrorResponse {}", ErrorResponse::read(body)),
            (_, tag::QUERY) => format!("Query {}", shortened(split_text(body)?.0)),
            _ => format!("{} {}", tag.escape_ascii(), shortened(body)),
        });
    }
    (bytes.is_empty() && !shown.is_empty()).then(|| shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_without_hooks_passes_as_it_is() {
        let document = "{apiVersion: postern.dev/v1alpha1, kind: GatewayConfig, spec: {proxies: [{name: db, protocol: \
                        postgres, client: {addresses: ['db:9']}}]}}";
        let config = crate::config::load(document.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Metrics::new().expect("metrics");
        let plugins = crate::gateway::tests::plugins_nowhere(&metrics);
        let recorded =
            "events: [{startup: {user: app, database: db}}, {query: select 1}, {columns: [a]}, {row: [null]}]";
        let story = rehearse(&config, (&plugins, &metrics), recorded).expect("it is understood");
        let expected = "database: T \"\\x00\\x01a";
        assert!(story.contains("peer: Query \"select 1\"\n  passes\n") && story.contains(expected), "{story}");
        for wrong in ["events: 1", "proxy: other\nevents: []", "events: [{say: 1}]", "events: [{ready: never}]"] {
            assert!(rehearse(&config, (&plugins, &metrics), wrong).is_err(), "{wrong}");
        }
    }
}
