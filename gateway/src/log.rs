//! The process's log, on standard error: text on a terminal, JSON otherwise. The level is live, and the pod's word on it
//! counts more than the configuration's.

use std::cell::Cell;
use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::reload::MAX_POD_FILE;
use crate::config::{LogConfig, LogFormat};

/// Changes what is logged while it is being logged.
pub struct Log {
    handle: Handle<LevelFilter, Registry>,
    format: LogFormat,
    /// What the configuration asks for.
    configured: Cell<Level>,
    /// What the pod asks for, if anything.
    asked: Cell<Option<Level>>,
}

/// Of a word that is no level this much is repeated.
const MOST_REPEATED: usize = 40;

// === impl Log ===

impl Log {
    /// Begins to log; the first call in a process wins.
    pub fn start(config: &LogConfig) -> Log {
        let (filter, handle) = reload::Layer::new(LevelFilter::from_level(config.level));
        let format = form(config.format);
        let lines = fmt::layer().with_writer(stderr).with_target(false);
        let lines = match format {
            LogFormat::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        };
        // A test may have begun to log before.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Log { handle, format, configured: Cell::new(config.level), asked: Cell::default() }
    }

    /// The form in which this process logs.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Logs from `level` on, unless the pod asks for another one.
    pub fn set_level(&self, level: Level) {
        self.configured.set(level);
        self.filter();
    }

    /// Logs from `asked` on, whatever the configuration says; `None` ends that.
    pub fn ask_for(&self, asked: Option<Level>) {
        self.asked.set(asked);
        self.filter();
    }

    fn filter(&self) {
        let level = self.asked.get().unwrap_or(self.configured.get());
        // It fails only after the log has ended, when nobody reads it.
        let _ = self.handle.modify(|filter| *filter = LevelFilter::from_level(level));
    }
}

/// The form that `written` comes to.
pub fn form(written: Option<LogFormat>) -> LogFormat {
    written.unwrap_or(if stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json })
}

/// The level that a pod asks for; nothing where it says nothing.
///
/// # Errors
/// One sentence that says what it should have asked for.
pub fn asked_level(bytes: &[u8]) -> Result<Option<Level>, String> {
    const LEVELS: [(&str, Level); 5] = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let known = LEVELS.map(|(name, _)| name).join(", ");
    if bytes.len() > MAX_POD_FILE {
        return Err(format!("more than {MAX_POD_FILE} bytes are no log level; write one of {known}"));
    }
    let text = String::from_utf8_lossy(bytes);
    let word = text.trim();
    let found = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    match found {
        Some((_, level)) => Ok(Some(*level)),
        None if word.is_empty() => Ok(None),
        None => {
            let start: String = word.chars().take(MOST_REPEATED).collect();
            let rest = if start.len() < word.len() { "..." } else { "" };
            Err(format!("{start:?}{rest} is no log level; write one of {known}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_asks_for_a_level_or_for_none() {
        for (text, level) in [("debug", Some(Level::DEBUG)), (" WARN\n", Some(Level::WARN)), ("", None), (" \n", None)]
        {
            assert_eq!(asked_level(text.as_bytes()), Ok(level), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_level_gets_one_sentence() {
        let known = "write one of error, warn, info, debug, trace";
        let long = "\u{e4}".repeat(100);
        for (bytes, start) in [
            (&b"loud"[..], "\"loud\" is no log level"),
            (b"a\nb", "\"a\\nb\" is no log level"),
            (b"\xff\xfe", "\"\u{fffd}\u{fffd}\" is no log level"),
            (long.as_bytes(), &format!("\"{}\"... is no log level", "\u{e4}".repeat(40))),
            (&[b'x'; MAX_POD_FILE + 1], "more than 256 bytes are no log level"),
        ] {
            assert_eq!(asked_level(bytes), Err(format!("{start}; {known}")));
        }
    }
}
