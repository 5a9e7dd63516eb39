//! `cargo demo`: a real PostgreSQL, the gateway in front of it, and an application that queries all the time, while
//! the database restarts, the configuration is edited and the gateway ends.
//!
//! `cargo demo -- --keep` leaves all of it running to play with, until Ctrl-C.

use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};
use cast::{gateway, install};

mod screen;
mod app;
mod stage;
mod story;

use screen::Screen;
use stage::Stage;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--").collect();
    let keep = words.iter().any(|word| word == "--keep");
    if let Some(other) = words.iter().find(|word| *word != "--keep") {
        eprintln!("Usage: cargo demo [-- --keep]\n\n  --keep   leave it running to play with, until Ctrl-C");
        return if other == "--help" { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    listen_for_ctrl_c(&interrupted);
    // A broken stage panics with a sentence; a person shall see that sentence and no trace of the program.
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(|| play(keep, &interrupted)).unwrap_or_else(|cause| Err(sentence_of(&*cause)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupted.load(Ordering::SeqCst) => {
            eprintln!("\nEnded by Ctrl-C; everything is cleaned up.");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("\nThe demonstration stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(keep: bool, interrupted: &Arc<AtomicBool>) -> Result<()> {
    let screen = Screen::new(Arc::clone(interrupted));
    screen.title("Postern: a database gateway");
    screen.note("A real PostgreSQL, the gateway in front of it, and an application that queries all the time.\n");
    screen.event("tools", "looking for PostgreSQL, and installing it where that is possible");
    install::ensure_installed(install::FOR_THE_DEMO)?;
    screen.event("build", "the gateway, as it is released (minutes the first time, then nothing)");
    gateway::find_or_build()?;
    let mut stage = Stage::set(&screen)?;
    if keep { story::keep(&mut stage) } else { story::tell(&mut stage) }
}

fn sentence_of(cause: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = cause.downcast_ref::<String>().cloned();
    let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    anyhow!(text.unwrap_or_else(|| "for a reason that nobody wrote down".to_owned()))
}

/// Ctrl-C asks for the end; what was started is then cleaned up as at any other end. A second one ends at once, and
/// the kernel cleans up the processes.
fn listen_for_ctrl_c(interrupted: &Arc<AtomicBool>) {
    let interrupted = Arc::clone(interrupted);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if interrupted.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
            }
        });
    });
}
