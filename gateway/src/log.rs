//! The process's log, on standard error: text on a terminal, JSON otherwise. The level is live.

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogConfig, LogFormat};

/// Changes what is logged while it is being logged.
#[derive(Clone)]
pub struct Log(Handle<LevelFilter, Registry>);

// === impl Log ===

impl Log {
    /// Begins to log; the first call in a process wins.
    pub fn start(config: &LogConfig) -> Log {
        let (filter, handle) = reload::Layer::new(LevelFilter::from_level(config.level));
        let is_text = match config.format {
            Some(format) => format == LogFormat::Text,
            None => stderr().is_terminal(),
        };
        let lines = fmt::layer().with_writer(stderr).with_target(false);
        let lines = if is_text {
            lines.with_ansi(stderr().is_terminal()).boxed()
        } else {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        };
        // A test may have begun to log before.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Log(handle)
    }

    /// Logs from `level` on.
    pub fn set_level(&self, level: Level) {
        // It fails only after the log has ended, when nobody reads it.
        let _ = self.0.modify(|filter| *filter = LevelFilter::from_level(level));
    }
}
