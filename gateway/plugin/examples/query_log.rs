//! Logs what is asked, by fingerprints: statements that differ in nothing but their literals have the same, and literals,
//! which may be anybody's data, stay out of the log.
//!
//! `config: {once: true}` logs each fingerprint once a session, and counts it every time.

use std::collections::BTreeSet;

use postern_plugin::sql::Fingerprint;
use postern_plugin::{Chunk, Interests, Plugin, Session, StatementVerdict, host};
use serde::Deserialize;

/// Fingerprints of a session that are remembered.
const MAX_SEEN: usize = 256;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether a fingerprint is logged only once a session.
    once: bool,
}

#[derive(Default)]
struct QueryLog {
    settings: Settings,
    peer: String,
    seen: BTreeSet<u64>,
}

impl QueryLog {
    /// The line to log for `statement`, if any.
    fn line(&mut self, statement: &str) -> Option<String> {
        let Fingerprint { hash, text } = Fingerprint::of(statement);
        let is_new = self.seen.len() < MAX_SEEN && self.seen.insert(hash);
        let is_due = is_new || !self.settings.once;
        is_due.then(|| format!("{hash:016x} from {}: {text}", self.peer))
    }

    fn note(&mut self, statement: &dyn Chunk) -> StatementVerdict {
        host::counter("statements", 1);
        if let Some(line) = self.line(&statement.text()) {
            host::log(host::Level::Info, &line);
        }
        StatementVerdict::Pass
    }
}

impl Plugin for QueryLog {
    fn configure(&mut self, config: &str) -> Result<Interests, String> {
        self.settings = serde_json::from_str(config).map_err(|error| error.to_string())?;
        Ok(Interests::ON_OPENING | Interests::QUERY | Interests::PARSE)
    }

    fn on_opening(&mut self, session: &Session) {
        self.peer.clone_from(&session.peer);
    }

    fn query(&mut self, statement: &dyn Chunk) -> StatementVerdict {
        self.note(statement)
    }

    fn parse(&mut self, _name: &str, statement: &dyn Chunk) -> StatementVerdict {
        self.note(statement)
    }
}

fn main() {
    postern_plugin::run(QueryLog::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_logged_and_no_literal() {
        let mut log = QueryLog { peer: "127.0.0.1:5".into(), ..QueryLog::default() };
        let line = log.line("SELECT name FROM people WHERE card = '4111'").expect("it is logged");
        assert!(line.ends_with("from 127.0.0.1:5: select name from people where card = ?"), "{line}");
        assert!(log.line("SELECT name FROM people WHERE card = '4222'").is_some());
    }

    #[test]
    fn once_is_once_a_session() {
        let mut log = QueryLog::default();
        log.configure("{\"once\": true}").expect("it is valid");
        assert!(log.line("select 1").is_some());
        assert_eq!(log.line("select 2"), None);
        assert!(log.configure("{\"twice\": true}").is_err());
    }
}
