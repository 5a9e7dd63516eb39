//! Peers that are in the middle of something when a fault strikes.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use cast::frontend::query;
use cast::wire::Address;
use cast::{Frontend, Postgres, eventually};

use crate::load::failure_of;

/// One peer in an open transaction, and one in the middle of a statement.
pub(crate) struct Amid {
    transaction: JoinHandle<Option<String>>,
    statement: JoinHandle<Option<String>>,
    /// Tells the first to commit.
    commit: Sender<()>,
}

/// How long the statement takes, in seconds.
const SECONDS: u32 = 3;

// === impl Amid ===

impl Amid {
    /// Lets both begin, through `address`.
    #[track_caller]
    pub(crate) fn begin(address: &Address, postgres: &Postgres) -> Self {
        let mut peer = Frontend::login(address);
        for statement in ["begin", "insert into tokens values ('in a transaction')"] {
            assert_eq!(failure_of(&asked(&mut peer, statement)), None, "{statement}");
        }
        let (commit, commits) = channel();
        let transaction = std::thread::spawn(move || {
            // Committed as well where the one who tells has gone.
            let _ = commits.recv();
            failure_of(&asked(&mut peer, "commit"))
        });
        let mut peer = Frontend::login(address);
        let sleeps = format!("insert into tokens select 'in a statement' from pg_sleep({SECONDS})");
        let statement = std::thread::spawn(move || failure_of(&asked(&mut peer, &sleeps)));
        let runs = "select count(*) from pg_stat_activity where query like 'insert%pg_sleep%' and state = 'active'";
        eventually("the statement runs", || postgres.query(runs) != "0");
        Self { transaction, statement, commit }
    }

    /// Lets the transaction end: what each was told. What was answered was done.
    #[track_caller]
    pub(crate) fn end(self, postgres: &Postgres) -> String {
        drop(self.commit);
        let told = [("in a transaction", self.transaction), ("in a statement", self.statement)].map(|(token, peer)| {
            let Some(failure) = peer.join().unwrap() else {
                let written = postgres.query(&format!("select count(*) from tokens where token = '{token}'"));
                assert_eq!(written, "1", "acknowledged {token}");
                return "an answer".to_owned();
            };
            format!("`{failure}`")
        });
        let [transaction, statement] = told;
        if transaction == statement {
            return format!("in a transaction or statement: {transaction}");
        }
        format!("in a transaction: {transaction}; in a statement: {statement}")
    }
}

fn asked(peer: &mut Frontend, statement: &str) -> Vec<cast::frontend::Message> {
    peer.send(&query(statement));
    peer.until_ready(1)
}
