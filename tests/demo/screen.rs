//! What a person sees: events one below the other, and on a terminal one line that always tells how it stands.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use cast::Stopwatch;
use rustix::termios::tcgetwinsize;

/// How often the status is written where lines cannot be rewritten.
const STATUS_LINES_EVERY: Duration = Duration::from_secs(2);

/// The terminal, or a file or pipe that is read later.
pub(crate) struct Screen {
    watch: Stopwatch,
    is_terminal: bool,
    has_colour: bool,
    status_shown: Cell<bool>,
    last_status: RefCell<Option<Stopwatch>>,
    interrupted: Arc<AtomicBool>,
}

// === impl Screen ===

impl Screen {
    pub(crate) fn new(interrupted: Arc<AtomicBool>) -> Self {
        let is_terminal = stdout().is_terminal();
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
        let (status_shown, last_status) = (Cell::new(false), RefCell::new(None));
        Self { watch: Stopwatch::start(), is_terminal, has_colour, status_shown, last_status, interrupted }
    }

    /// Fails once somebody has pressed Ctrl-C.
    pub(crate) fn check(&self) -> Result<()> {
        if self.interrupted.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// The name of it all, or of a scene.
    pub(crate) fn title(&self, text: &str) {
        self.line(&format!("\n{}", self.painted("1", text)));
    }

    /// An indented remark.
    pub(crate) fn note(&self, text: &str) {
        self.line(&format!("  {text}"));
    }

    /// Something that `who` does or says.
    pub(crate) fn event(&self, who: &str, text: &str) {
        let colour = match who {
            "database" => "34",
            "gateway" => "32",
            "application" => "36",
            "-" => "31",
            "+" => "33",
            _ => "2",
        };
        let time = self.painted("2", &format!("{:6.1} s", self.watch.elapsed().as_secs_f64()));
        self.line(&format!("{time}  {}  {text}", self.painted(colour, &format!("{who:11}"))));
    }

    /// How it stands right now.
    pub(crate) fn status(&self, text: &str) {
        if self.is_terminal {
            // A line that wraps could not be rewritten.
            let text: String = text.chars().take(width().saturating_sub(3)).collect();
            Self::write(&format!("\r\x1b[2K{}", self.painted("7", &format!(" {text} "))));
            self.status_shown.set(true);
            return;
        }
        let mut last = self.last_status.borrow_mut();
        if last.is_none_or(|last| last.elapsed() >= STATUS_LINES_EVERY) {
            *last = Some(Stopwatch::start());
            drop(last);
            self.event("", text);
        }
    }

    /// Takes the status line away.
    pub(crate) fn clear_status(&self) {
        if self.status_shown.replace(false) {
            Self::write("\r\x1b[2K");
        }
    }

    fn line(&self, text: &str) {
        self.clear_status();
        Self::write(&format!("{text}\n"));
    }

    fn write(text: &str) {
        let mut out = stdout().lock();
        // Who closes the pipe wants to see no more.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    pub(crate) fn painted(&self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The terminal's columns, or the usual number where it does not know.
fn width() -> usize {
    tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear_status();
    }
}
