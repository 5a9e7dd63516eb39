//! The console that PostgreSQL's people know: whoever connects with psql to the database that `server.console` names finds
//! PgBouncer's commands there. A proxy converses with it (`proxy/console`); what it asks is read, answered and done here.
//!
//! A worker knows its own part of the gateway only, so questions go to the desk on the main thread.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::postgres::wire::ErrorResponse;

pub mod command;
pub(crate) mod table;
mod tables;
mod stamp;
mod usage;
mod samples;
mod settings;
mod desk;

pub(crate) use command::Command;
pub use command::{Proxies, Victims};
pub(crate) use desk::{Desk, Reload};
use table::Row;

/// The consoles' way to the desk; cheap to clone.
#[derive(Clone, Debug)]
pub struct Console {
    asks: mpsc::Sender<Question>,
    places: Arc<Semaphore>,
}

/// What a console asks, and where the answer goes; who waits no longer has closed that.
#[derive(Debug)]
pub(crate) struct Question {
    command: Command,
    answer: oneshot::Sender<Answer>,
}

/// The rows of a table, none where nothing is to be told, or why it cannot be done.
pub(crate) type Answer = Result<Vec<Row>, Box<ErrorResponse>>;

/// Consoles at one time: some people, and some exporters.
const MOST_CONSOLES: usize = 8;

// === impl Console ===

impl Console {
    fn new(asks: mpsc::Sender<Question>) -> Console {
        Console { asks, places: Arc::new(Semaphore::new(MOST_CONSOLES)) }
    }

    /// One with nobody at the other end, for a gateway without a desk.
    pub fn unanswered() -> Console {
        Console::new(mpsc::channel(1).0)
    }

    /// A place for one more console, for as long as it is kept.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// What the desk answers; cancel-safe: a question that nobody waits for is dropped, and a pause with it.
    pub(crate) async fn ask(&self, command: Command) -> Answer {
        let (answer, answered) = oneshot::channel();
        // Without a desk the answer is dropped.
        let _ = self.asks.send(Question { command, answer }).await;
        answered.await.unwrap_or_else(|_| Err(Box::new(ErrorResponse::error("57P01", "the gateway is shutting down"))))
    }
}
