//! The last lines of the log, for who looks at a running gateway: as many as fit on a screen, whatever they say.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::harmless;
use crate::clock::Instant;

/// The last lines at level info or above; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<VecDeque<Event>>>);

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was logged.
    pub at: Instant,
    /// How grave it is.
    pub level: Level,
    /// The proxy that it is about, if it says so.
    pub proxy: Option<String>,
    /// Its message, and its fields.
    pub text: String,
}

/// Reads the fields of one line.
#[derive(Default)]
struct Reader {
    proxy: Option<String>,
    message: String,
    fields: String,
    error: Option<String>,
}

/// So many lines are kept.
const MOST_EVENTS: usize = 64;
/// Of one line so much, in characters: sentences are shorter.
const MOST_TEXT: usize = 500;
/// What is told in a place of its own, or says nothing to a reader.
const NO_FIELDS: [&str; 1] = ["side"];

// === impl Events ===

impl Events {
    /// The lines that are kept, the oldest first.
    pub fn last(&self) -> Vec<Event> {
        self.lock().iter().cloned().collect()
    }

    fn add(&self, event: Event) {
        let mut events = self.lock();
        if events.len() >= MOST_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // Nothing panics while it holds it; should it, the lines are still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::INFO {
            return;
        }
        let mut reader = Reader::default();
        event.record(&mut reader);
        let (proxy, text) = reader.told();
        self.add(Event { at: Instant::now(), level, proxy, text });
    }
}

// === impl Reader ===

impl Reader {
    /// The proxy, and the line as a person reads it.
    fn told(self) -> (Option<String>, String) {
        let mut text = self.message;
        if let Some(error) = self.error {
            text = format!("{text}: {error}");
        }
        if !self.fields.is_empty() {
            text = format!("{text} ({})", self.fields);
        }
        if text.chars().count() > MOST_TEXT {
            text = text.chars().take(MOST_TEXT).chain("...".chars()).collect();
        }
        (self.proxy, harmless(&text, false).into_owned())
    }
}

impl Visit for Reader {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "proxy" => self.proxy = Some(format!("{value:?}")),
            "error" => self.error = Some(format!("{value:?}")),
            name if NO_FIELDS.contains(&name) => {}
            name => {
                let comma = if self.fields.is_empty() { "" } else { ", " };
                // A String takes whatever is written.
                let _ = write!(self.fields, "{comma}{name} {value:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn logged(log: impl FnOnce()) -> Vec<Event> {
        let events = Events::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(events.clone()), log);
        events.last()
    }

    #[test]
    fn a_line_is_told_with_its_proxy_and_what_it_says() {
        let events = logged(|| {
            warn!(proxy = %"db", error = %"refused", side = "database", attempt = 2, "The database is away");
            debug!("nobody wants to know");
            info!(address = %"127.0.0.1:5432", "Listening");
        });
        let told: Vec<_> =
            events.iter().map(|event| (event.level, event.proxy.as_deref(), event.text.as_str())).collect();
        let expected = [
            (Level::WARN, Some("db"), "The database is away: refused (attempt 2)"),
            (Level::INFO, None, "Listening (address 127.0.0.1:5432)"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn neither_many_lines_nor_long_or_hostile_ones_take_more() {
        let events = logged(|| {
            (0..100).for_each(|line| info!("line {line}"));
            warn!("{}", "\u{1b}[2J".repeat(1000));
        });
        assert_eq!((events.len(), events[0].text.as_str()), (MOST_EVENTS, "line 37"));
        let last = &events[MOST_EVENTS - 1].text;
        assert!(last.starts_with("\\u001b[2J") && last.ends_with("..."), "{last}");
        assert!(last.len() < 6 * MOST_TEXT, "{}", last.len());
    }
}
