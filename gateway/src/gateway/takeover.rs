//! Whether every worker serves the configuration that it was given last: only then does it count as applied.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::config::Config;
use crate::server::{Bound, Place, Unserved};
use crate::worker::{Command, Handle, Update};

/// How far the workers are with the configuration that they were given last.
#[derive(Debug, Default)]
pub(super) struct TakeOver {
    /// One for each worker.
    workers: Vec<Progress>,
    /// The sockets that no thread could take over.
    unserved: Vec<Unserved>,
}

/// How far one worker is.
#[derive(Debug)]
enum Progress {
    /// It has not answered yet.
    Asked(oneshot::Receiver<Vec<Unserved>>),
    /// It serves the configuration.
    Serves,
    /// It is gone, and will never serve it.
    Ended,
}

// === impl TakeOver ===

impl TakeOver {
    /// Gives `config` to every worker, and the sockets to the first.
    pub(super) fn begin(workers: &[Handle], config: &Arc<Config>, mut opened: Vec<(Place, Bound)>) -> TakeOver {
        let ask = |worker: &Handle| {
            let (done, answer) = oneshot::channel();
            let update = Update { config: config.clone(), opened: std::mem::take(&mut opened) };
            // Who is gone drops the question, and is known by that.
            worker.send(Command::Apply(update, done));
            Progress::Asked(answer)
        };
        TakeOver { workers: workers.iter().map(ask).collect(), unserved: Vec::new() }
    }

    /// Waits until every worker has answered or is gone; cancel-safe.
    pub(super) async fn answered(&mut self) {
        for progress in &mut self.workers {
            if let Progress::Asked(answer) = progress {
                // Cancel-safe: the answer is noted before the next await.
                let answer = answer.await.ok();
                *progress = Progress::after(answer, &mut self.unserved);
            }
        }
    }

    /// Adds sockets that the main thread could not take over.
    pub(super) fn add(&mut self, unserved: Vec<Unserved>) {
        self.unserved.extend(unserved);
    }

    /// The sockets that no thread could take over, as far as is known now.
    pub(super) fn unserved(&mut self) -> &[Unserved] {
        for progress in &mut self.workers {
            if let Progress::Asked(answer) = progress {
                match answer.try_recv() {
                    Ok(answer) => *progress = Progress::after(Some(answer), &mut self.unserved),
                    Err(TryRecvError::Closed) => *progress = Progress::Ended,
                    Err(TryRecvError::Empty) => {}
                }
            }
        }
        &self.unserved
    }

    /// Why not every worker serves the configuration, if that is so.
    pub(super) fn shortfall(&mut self) -> Option<String> {
        if let Some(Unserved { place, why }) = self.unserved().first() {
            return Some(format!("cannot listen on {place}: {why}; restart the gateway"));
        }
        let workers = self.workers.len();
        self.workers.iter().enumerate().find_map(|(index, progress)| {
            let worker = index + 1;
            match progress {
                Progress::Serves => None,
                Progress::Asked(_) => {
                    Some(format!("worker {worker} of {workers} does not answer, so it may serve what came before"))
                }
                Progress::Ended => Some(format!("worker {worker} of {workers} has ended; restart the gateway")),
            }
        })
    }
}

// === impl Progress ===

impl Progress {
    /// How far a worker is that answered this, or nothing because it is gone.
    fn after(answer: Option<Vec<Unserved>>, unserved: &mut Vec<Unserved>) -> Progress {
        let Some(answer) = answer else { return Progress::Ended };
        unserved.extend(answer);
        Progress::Serves
    }
}
