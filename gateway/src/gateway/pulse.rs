//! Asks every worker, and waits a little for the answers: who is alive answers at once.

use tokio::sync::oneshot;

use super::HEARTBEAT;
use crate::clock::{Instant, timeout};
use crate::console::{Proxies, Victims};
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

    /// Pauses these proxies; returns when no client of theirs is lent any more.
    pub(crate) async fn pause(&self, which: &Proxies) {
        for paused in self.put(|answer| Command::Pause(which.clone(), answer)) {
            // A worker that is gone lends nothing.
            let _ = paused.await;
        }
    }

    /// Resumes these proxies.
    pub(crate) async fn resume(&self, which: &Proxies) {
        self.ask(|answer| Command::Resume(which.clone(), answer)).await;
    }

    /// Replaces the clients of these proxies.
    pub(crate) async fn reconnect(&self, which: &Proxies) {
        self.ask(|answer| Command::Reconnect(which.clone(), answer)).await;
    }

    /// Ends these sessions; how many there were.
    pub(crate) async fn kill(&self, victims: &Victims) -> usize {
        self.ask(|answer| Command::Kill(victims.clone(), answer)).await.into_iter().flatten().sum()
    }

    /// Asks all of them at once; within one heartbeat each has answered, or is taken for dead.
    async fn ask<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<Option<T>> {
        let asked = self.put(question);
        let limit = Instant::now() + HEARTBEAT;
        let mut answers = Vec::new();
        for answered in asked {
            let left = limit.saturating_duration_since(Instant::now());
            answers.push(timeout(left, answered).await.ok().and_then(Result::ok));
        }
        answers
    }

    /// Puts a question to all of them.
    fn put<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<oneshot::Receiver<T>> {
        let put = |worker: &Commands| {
            let (answer, answered) = oneshot::channel();
            // Who is gone drops the question, and is known by that.
            worker.send(question(answer));
            answered
        };
        self.0.iter().map(put).collect()
    }
}
