//! The end of the process: the first signal begins the drain, the second ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long before `drainTimeout` sessions begin to be closed at their boundaries.
pub const CLOSING_TIME: Duration = Duration::from_secs(5);

/// How far the drain is; every session watches it.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    closing: CancellationToken,
    over: CancellationToken,
    /// What `closing` says, to be read for every byte.
    is_closing: Arc<AtomicBool>,
    /// Whether the application is gone: who has closed its half reads nothing any more.
    is_orphaned: Arc<AtomicBool>,
}

/// The signals that end the process, and the one that reloads.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

// === impl Drain ===

impl Drain {
    /// One that follows this one; each worker has its own, so that they share no lock.
    #[must_use]
    pub fn child(&self) -> Drain {
        Drain {
            begun: self.begun.child_token(),
            closing: self.closing.child_token(),
            over: self.over.child_token(),
            is_closing: self.is_closing.clone(),
            is_orphaned: self.is_orphaned.clone(),
        }
    }

    /// The first signal has come; serving goes on.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether the first signal has come.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits for the first signal.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Sessions close at their next boundary from now on.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.closing.cancel();
    }

    /// The application is gone, as it is when a sidecar is asked to end.
    pub fn orphan(&self) {
        self.is_orphaned.store(true, Ordering::Release);
    }

    /// Whether the application is gone.
    pub fn is_orphaned(&self) -> bool {
        self.is_orphaned.load(Ordering::Acquire)
    }

    /// Sessions end now, wherever they are.
    pub fn end(&self) {
        self.close();
        self.over.cancel();
    }

    /// Whether sessions are to close at their boundaries; costs nothing.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Waits until sessions are to close at their boundaries.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Waits until sessions are to end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

// === impl Signals ===

impl Signals {
    /// Listens to the signals instead of dying of them.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal; cancel-safe.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            // Ending comes before anything else.
            biased;
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.reload.recv() => Asked::Reload,
        }
    }
}
