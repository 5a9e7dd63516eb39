//! The process's log, on standard error: text on a terminal, JSON otherwise. The level is live, and the pod's word on it
//! counts more than the configuration's.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write, stderr};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::reload::MAX_POD_FILE;
use crate::config::{LogConfig, LogFormat};

mod events;

pub use events::{Event, Events};

/// Changes what is logged while it is being logged.
pub struct Log {
    handle: Handle<LevelFilter, Registry>,
    format: LogFormat,
    /// The last lines.
    events: Events,
    /// What the configuration asks for.
    configured: Cell<Level>,
    /// What the pod asks for, if anything.
    asked: Cell<Option<Level>>,
}

/// Standard error, on which each line stays one and does nothing to a terminal, whatever peers and databases have said.
struct Lines {
    /// Whether the log itself colours its lines.
    is_coloured: bool,
}

/// Of a word that is no level this much is repeated.
const MOST_REPEATED: usize = 40;

// === impl Log ===

impl Log {
    /// Begins to log; the first call in a process wins.
    pub fn start(config: &LogConfig) -> Log {
        let (filter, handle) = reload::Layer::new(LevelFilter::from_level(config.level));
        let format = form(config.format);
        let is_coloured = format == LogFormat::Text && stderr().is_terminal();
        let lines = fmt::layer().with_writer(move || Lines { is_coloured }).with_target(false);
        let lines = match format {
            LogFormat::Text => lines.with_ansi(is_coloured).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        };
        let events = Events::default();
        // A test may have begun to log before.
        let _ = tracing_subscriber::registry().with(filter).with(lines).with(events.clone()).try_init();
        Log { handle, format, events, configured: Cell::new(config.level), asked: Cell::default() }
    }

    /// The form in which this process logs.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// The last lines that were logged.
    pub fn events(&self) -> &Events {
        &self.events
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

// === impl Lines ===

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stderr().write_all(harmless(&String::from_utf8_lossy(line), self.is_coloured).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

/// The line with what ends lines or moves a terminal written as JSON writes it, in text as well.
fn harmless(line: &str, is_coloured: bool) -> Cow<'_, str> {
    let (said, end) = line.strip_suffix('\n').map_or((line, ""), |said| (said, "\n"));
    let is_harmful = |letter: char| is_obeyed(letter) && !(is_coloured && letter == '\u{1b}');
    if !said.contains(is_harmful) {
        return line.into();
    }
    let mut harmless = String::with_capacity(2 * line.len());
    for letter in said.chars() {
        if is_harmful(letter) {
            // A String takes whatever is written.
            let _ = write!(harmless, "\\u{:04x}", u32::from(letter));
        } else {
            harmless.push(letter);
        }
    }
    (harmless + end).into()
}

/// Control characters, and those that end a line or turn its direction round.
fn is_obeyed(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn a_line_stays_one_and_moves_no_terminal() {
        let coloured = "\u{1b}[31mERROR\u{1b}[0m said\n";
        assert_eq!(harmless("as it is \u{e4}\n", false), "as it is \u{e4}\n");
        assert_eq!(harmless("a\nb\r\tc\n", false), "a\\u000ab\\u000d\\u0009c\n");
        assert_eq!(harmless("\u{9b}2J\u{7f}\u{202e}\u{2028}", true), "\\u009b2J\\u007f\\u202e\\u2028");
        assert_eq!((harmless(coloured, true), harmless("\u{1b}[2J", false)), (coloured.into(), "\\u001b[2J".into()));
        // In JSON it means the same as before.
        let record = "{\"message\":\"\u{9b}2J\"}\n";
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(read(&harmless(record, false)), read(record));
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
