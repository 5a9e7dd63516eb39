//! The ways in which a database goes away and comes back.

use std::mem;
use std::time::Duration;

use cast::Namespace;
use cast::time::pause;
use clap::ValueEnum;

use crate::kind::Kind::{
    self, Direct, Gateway, Haproxy, HaproxyTuned, Passthrough, Pgbouncer, PgbouncerTransaction, PgbouncerTuned, Relay,
    Session, Transaction, TransactionBefore,
};
use crate::stage::Stage;
use crate::suite::Field;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// It is stopped (fast), is down for a while, and is started.
    Restart,
    /// All of its processes are killed, and it is started again at once.
    Kill,
    /// Packets to its host are lost for a while.
    Hole,
    /// It is stopped, its standby is promoted, and it comes back as the standby.
    Switchover,
}

// === impl Fault ===

impl Fault {
    /// What the command line and the tables call it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What happens, for the title of a table.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Self::Restart => "Restart: stopped, down for a while, started",
            Self::Kill => "Kill: all processes at once, then started again",
            Self::Hole => "Black hole: packets to its host are lost for a while",
            Self::Switchover => "Switchover: stopped, and its standby promoted",
        }
    }

    /// Through what the application asks meanwhile.
    pub(crate) fn field(self) -> Field {
        match self {
            Self::Switchover => Field {
                usual: &[
                    Direct,
                    Gateway,
                    Passthrough,
                    Session,
                    Transaction,
                    Pgbouncer,
                    PgbouncerTransaction,
                    Haproxy,
                    HaproxyTuned,
                ],
                others: &[TransactionBefore],
            },
            _ => Field {
                usual: &[
                    Direct,
                    Gateway,
                    Passthrough,
                    Session,
                    Transaction,
                    Pgbouncer,
                    PgbouncerTransaction,
                    PgbouncerTuned,
                    Haproxy,
                ],
                others: &[Relay, TransactionBefore],
            },
        }
    }

    /// Why a target has no means to get over it, if it has none.
    pub(super) fn inability(self, kind: Kind) -> Option<&'static str> {
        match kind {
            _ if self != Self::Switchover => None,
            Gateway | Passthrough => {
                Some("without a login of its own the gateway cannot tell a primary from a standby")
            }
            kind if kind.is_pgbouncer() => {
                Some("it does not look for the primary: somebody has to edit its file and say RELOAD")
            }
            _ => None,
        }
    }

    /// Lets it happen, and returns when it is over; `far` is the database's host, where it has one.
    pub(super) fn strike(self, stage: &mut Stage, far: Option<&Namespace>, length: Duration) {
        match self {
            Self::Restart => {
                stage.postgres.stop();
                pause(length);
                stage.postgres.start_again();
            }
            Self::Kill => {
                stage.postgres.kill_all();
                stage.postgres.start_again();
            }
            Self::Hole => {
                let far = far.expect("a scene with a hole has two hosts");
                far.swallow_packets();
                pause(length);
                far.pass_packets();
            }
            Self::Switchover => {
                let standby = stage.standby.as_mut().expect("a scene with a switchover has a standby");
                stage.postgres.stop();
                standby.promote();
                stage.postgres.follow(standby);
                mem::swap(&mut stage.postgres, standby);
            }
        }
    }
}
