//! `cargo demo`: the whole journey on a real one-node Kubernetes: the chart, a database, an application with a sidecar, a
//! migration, a live edit, a restart of the database, a refused edit, the end.
//!
//! `cargo demo -- local` shows the gateway alone, between psql and PostgreSQL. With `--keep` either leaves all of it
//! running to play with, until Ctrl-C.

use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};

mod screen;
mod cluster;
mod local;

use screen::Screen;

const USAGE: &str = "Usage: cargo demo [-- [local] [--keep]]

           the whole journey on a real one-node Kubernetes (needs root, and Go to build it)
  local    the gateway alone, between psql and PostgreSQL
  --keep   leave it running to play with, until Ctrl-C";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--").collect();
    if words.iter().any(|word| word != "--keep" && word != "local") {
        eprintln!("{USAGE}");
        return if words.iter().any(|word| word == "--help") { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let (play, keep): (fn(&Screen, bool) -> Result<()>, _) =
        (if has("local") { local::play } else { cluster::play }, has("--keep"));
    let interrupted = Arc::new(AtomicBool::new(false));
    listen_for_ctrl_c(&interrupted);
    // A broken stage panics with a sentence; a person shall see that sentence and no trace of the program.
    panic::set_hook(Box::new(|_| {}));
    let screen = Screen::new(Arc::clone(&interrupted));
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| play(&screen, keep)));
    let outcome = outcome.unwrap_or_else(|cause| Err(sentence_of(&*cause)));
    screen.clear_status();
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
