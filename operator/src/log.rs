//! The process's log, on standard error: text on a terminal, JSON otherwise.

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Begins to log from `level` on; the first call in a process wins. What is logged for every request by the libraries
/// below us is left out unless everything is asked for.
pub fn start(level: Level) {
    let others = if level == Level::TRACE { level } else { level.min(Level::WARN) };
    let mut filter = Targets::new().with_default(others).with_target("operator", level);
    if level != Level::TRACE {
        // What fails is told by who wanted it, in one sentence.
        filter = filter.with_targets(["kube_client", "kube_runtime"].map(|target| (target, LevelFilter::OFF)));
    }
    let is_terminal = stderr().is_terminal();
    let lines = fmt::layer().with_writer(stderr).with_target(false);
    let lines = if is_terminal {
        lines.with_ansi(true).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    // A test may have begun to log before.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}
