//! The parts of the benchmark, which can be run apart: which workloads run through which targets.

use clap::ValueEnum;

use crate::kind::Kind::{
    self, Before, Direct, Gateway, GatewayUnix, Haproxy, Passthrough, Pgbouncer, PgbouncerScram, PgbouncerTransaction,
    Relay, RelayAgain, Scram, Session, Transaction, TransactionBefore,
};
use crate::workload::{ALONE, Workload};

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// The gateway without a protocol, beside the minimal relay.
    Opaque,
    /// The gateway with `protocol: postgres`, beside the relay, PgBouncer and HAProxy.
    Postgres,
    /// How long an application waits when the database goes away and comes back; only when asked for.
    Recovery,
    /// What each further peer, client and proxy adds; only when asked for.
    Growth,
}

/// Who takes part in something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Who always does.
    pub(crate) usual: &'static [Kind],
    /// Who does when asked for.
    pub(crate) others: &'static [Kind],
}

/// How often each workload runs, and for how many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    /// How often.
    pub(crate) rounds: u32,
    /// How long one run takes.
    pub(crate) seconds: u32,
}

// === impl Length ===

impl Length {
    /// How often memory is looked at: it hardly varies.
    pub(crate) fn looks(self) -> u32 {
        self.rounds.div_ceil(3).min(3)
    }
}

// === impl Suite ===

impl Suite {
    /// What the command line and the report call it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it is run unless others are asked for.
    pub(crate) fn is_usual(self) -> bool {
        matches!(self, Self::Opaque | Self::Postgres)
    }

    /// What is run for some seconds, in the order of the tables.
    pub(crate) fn contests(self) -> Vec<(Workload, Field)> {
        let select = |prepared, clients| Workload::Select { prepared, clients };
        match self {
            Self::Opaque => {
                let workloads = [false, true].map(|prepared| [1, 8, 32].map(|clients| select(prepared, clients)));
                let workloads = workloads.into_iter().flatten().chain([Workload::Copy, Workload::Connect]);
                workloads.map(|workload| (workload, OPAQUE)).collect()
            }
            Self::Postgres => vec![
                (select(false, 1), PASSING),
                (select(false, 8), SIMPLE),
                (select(false, 32), SIMPLE),
                (select(true, 8), PREPARED),
                (select(true, 32), PREPARED),
                (ALONE, POOLING),
                (Workload::Crowd, POOLING),
                (Workload::Copy, RESULTS),
                (Workload::Connect, LOGINS),
            ],
            Self::Recovery | Self::Growth => Vec::new(),
        }
    }

    /// Whose memory is looked at.
    pub(crate) fn memory(self) -> Field {
        match self {
            Self::Opaque => Field { usual: &[Relay, Gateway], others: OPAQUE.others },
            Self::Postgres => MEMORY,
            Self::Recovery | Self::Growth => NOBODY,
        }
    }

    /// How long it is, or is for a first impression only.
    pub(crate) fn length(self, quick: bool) -> Length {
        match (self, quick) {
            (Self::Opaque, false) => Length { rounds: 9, seconds: 10 },
            (Self::Opaque, true) => Length { rounds: 3, seconds: 3 },
            (Self::Postgres, false) => Length { rounds: 7, seconds: 5 },
            (Self::Postgres, true) => Length { rounds: 3, seconds: 2 },
            (Self::Recovery, false) => Length { rounds: 5, seconds: 3 },
            (Self::Recovery, true) => Length { rounds: 1, seconds: 2 },
            // Its looks take as long as they take.
            (Self::Growth, false) => Length { rounds: 3, seconds: 0 },
            (Self::Growth, true) => Length { rounds: 1, seconds: 0 },
        }
    }
}

const OPAQUE: Field =
    Field { usual: &[Direct, Relay, Gateway], others: &[RelayAgain, GatewayUnix, Before, Pgbouncer, Haproxy] };

const NOBODY: Field = Field { usual: &[], others: &[] };

/// One peer has nobody to share a pool with.
const PASSING: Field = Field {
    usual: &[Relay, Passthrough],
    others: &[Direct, RelayAgain, Transaction, TransactionBefore, PgbouncerTransaction, Haproxy],
};

const SIMPLE: Field = Field {
    usual: &[Relay, Passthrough, Transaction, PgbouncerTransaction, Haproxy],
    others: &[Direct, RelayAgain, Session, TransactionBefore],
};

const PREPARED: Field = Field {
    usual: &[Transaction, PgbouncerTransaction, Haproxy],
    others: &[Direct, Relay, RelayAgain, Passthrough, Session, TransactionBefore],
};

const POOLING: Field = Field { usual: &[Transaction, PgbouncerTransaction], others: &[TransactionBefore] };

const RESULTS: Field = Field {
    usual: &[Direct, Transaction],
    others: &[Relay, RelayAgain, Passthrough, Session, TransactionBefore, PgbouncerTransaction, Haproxy],
};

const LOGINS: Field = Field {
    usual: &[Direct, Session, Transaction, PgbouncerTransaction, Scram, PgbouncerScram],
    others: &[Relay, RelayAgain, Passthrough, TransactionBefore, Haproxy],
};

const MEMORY: Field = Field {
    usual: &[Transaction, PgbouncerTransaction],
    others: &[Relay, RelayAgain, Passthrough, TransactionBefore, Haproxy],
};
