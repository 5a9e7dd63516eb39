//! Peers that ask without a pause, and take note of what they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use cast::Frontend;
use cast::frontend::{Message, query};
use cast::wire::Address;

/// What one peer saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The tokens that were acknowledged.
    pub(crate) acknowledged: Vec<String>,
    /// The SQLSTATE of each failure; empty where the connection just ended.
    pub(crate) failures: Vec<String>,
}

/// Writers that run until they are told to stop.
pub(crate) struct Writers {
    is_over: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    peers: Vec<JoinHandle<Seen>>,
}

/// Creates what the writers write to.
pub(crate) const TABLE: &str = "create table tokens (token text)";

// === impl Writers ===

impl Writers {
    /// Begins to write tokens through `address`, each once: what fails is never written again.
    pub(crate) fn start(address: &Address, count: usize) -> Writers {
        let (is_over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let peers = (0..count).map(|number| {
            let (address, is_over, written) = (address.clone(), is_over.clone(), written.clone());
            std::thread::spawn(move || {
                let (mut seen, mut peer) = (Seen::default(), Frontend::login(&address));
                for turn in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let token = format!("{number}-{turn}");
                    match write(&mut peer, &token, turn) {
                        Ok(()) => {
                            seen.acknowledged.push(token);
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            seen.failures.push(failure);
                            peer = Frontend::login(&address);
                        }
                    }
                }
                seen
            })
        });
        let peers = peers.collect();
        Writers { is_over, written, peers }
    }

    /// How many tokens were acknowledged until now.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Ends them, and what each has seen.
    pub(crate) fn end(self) -> Vec<Seen> {
        self.is_over.store(true, Ordering::Relaxed);
        self.peers.into_iter().map(|peer| peer.join().unwrap()).collect()
    }
}

/// Writes one token, in a transaction of one statement or of three messages, by turns.
fn write(peer: &mut Frontend, token: &str, turn: usize) -> Result<(), String> {
    let insert = format!("insert into tokens values ('{token}')");
    let steps = if turn.is_multiple_of(2) { vec![insert.as_str()] } else { vec!["begin", &insert, "commit"] };
    for step in steps {
        peer.send(&query(step));
        let answer = peer.until_ready(1);
        if let Some(failure) = failure_of(&answer) {
            return Err(failure);
        }
    }
    Ok(())
}

/// The SQLSTATE of the error in an answer, or an empty one where the answer was not finished.
pub(crate) fn failure_of(answer: &[Message]) -> Option<String> {
    let is_finished = answer.last().is_some_and(|message| message.tag == b'Z');
    answer.iter().find_map(Message::sqlstate).or_else(|| (!is_finished).then(String::new))
}
