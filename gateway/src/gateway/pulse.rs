//! Asks every worker, and waits a little for the answers: who is alive answers at once.

use tokio::sync::oneshot;

use super::HEARTBEAT;
use crate::clock::{Instant, timeout};
use crate::view::ProxyView;
use crate::worker::{Command, Commands, Handle};

/// A way to every worker that keeps none of them running.
#[derive(Clone, Default)]
pub struct Pulse(Vec<Commands>);

// === impl Pulse ===

impl Pulse {
    pub(super) fn of(workers: &[Handle]) -> Pulse {
        Pulse(workers.iter().map(Handle::commands).collect())
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// Whether every worker is alive.
    pub async fn is_alive(&self) -> bool {
        self.ask(Command::Ping).await.iter().all(Option::is_some)
    }

    /// What each worker tells of its proxies; nothing where it does not answer.
    pub async fn view(&self) -> Vec<Option<Vec<ProxyView>>> {
        self.ask(Command::View).await
    }

    /// Asks all of them at once; within one heartbeat each has answered, or is taken for dead.
    async fn ask<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<Option<T>> {
        let ask = |worker: &Commands| {
            let (answer, answered) = oneshot::channel();
            // Who is gone drops the question, and is known by that.
            worker.send(question(answer));
            answered
        };
        let asked: Vec<_> = self.0.iter().map(ask).collect();
        let limit = Instant::now() + HEARTBEAT;
        let mut answers = Vec::new();
        for answered in asked {
            let left = limit.saturating_duration_since(Instant::now());
            answers.push(timeout(left, answered).await.ok().and_then(Result::ok));
        }
        answers
    }
}
