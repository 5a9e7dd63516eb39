//! The targets by name.

use clap::ValueEnum;

/// What a workload runs through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The database itself, over TCP: what ratios refer to.
    Direct,
    /// The minimal relay.
    Relay,
    /// The minimal relay a second time: what two runs of the same program differ by.
    RelayAgain,
    /// The gateway over TCP, without a protocol.
    Gateway,
    /// The gateway with Unix sockets on both sides.
    GatewayUnix,
    /// Another build of the gateway.
    Before,
    /// The gateway with `protocol: postgres`, where the database asks for the password.
    Passthrough,
    /// The gateway that logs in itself and lends a client for a session.
    Session,
    /// The gateway that logs in itself and lends a client for a transaction.
    Transaction,
    /// Another build of the gateway, lending for a transaction.
    TransactionBefore,
    /// The gateway that lends for a transaction and asks peers for their password.
    Scram,
    /// PgBouncer in session mode.
    Pgbouncer,
    /// PgBouncer in transaction mode, with prepared statements.
    PgbouncerTransaction,
    /// The same, asking peers for their password.
    PgbouncerScram,
    /// PgBouncer in transaction mode that tries a database again after a second, not after fifteen.
    PgbouncerTuned,
    /// HAProxy, for TCP.
    Haproxy,
    /// HAProxy that looks at its servers twice a second, and believes the first look.
    HaproxyTuned,
}

// === impl Kind ===

impl Kind {
    /// All, in the order of the tables.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// What the command line and the tables call it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it needs the gateway's program.
    pub(crate) fn is_gateway(self) -> bool {
        use Kind::{Gateway, GatewayUnix, Passthrough, Scram, Session, Transaction};
        matches!(self, Gateway | GatewayUnix | Passthrough | Session | Transaction | Scram)
    }

    /// Whether it needs the other build of the gateway.
    pub(crate) fn is_before(self) -> bool {
        matches!(self, Self::Before | Self::TransactionBefore)
    }

    /// Whether it is a gateway that logs in itself.
    pub(crate) fn is_managed(self) -> bool {
        matches!(self, Self::Session | Self::Transaction | Self::TransactionBefore | Self::Scram)
    }

    /// Whether it needs PgBouncer.
    pub(crate) fn is_pgbouncer(self) -> bool {
        use Kind::{Pgbouncer, PgbouncerScram, PgbouncerTransaction, PgbouncerTuned};
        matches!(self, Pgbouncer | PgbouncerTransaction | PgbouncerScram | PgbouncerTuned)
    }

    /// Whether it needs HAProxy.
    pub(crate) fn is_haproxy(self) -> bool {
        matches!(self, Self::Haproxy | Self::HaproxyTuned)
    }

    /// The PgBouncer that asks peers for as much as it does.
    pub(crate) fn rival(self) -> Self {
        if matches!(self, Self::Scram | Self::PgbouncerScram) {
            Self::PgbouncerScram
        } else {
            Self::PgbouncerTransaction
        }
    }
}
