//! What the gateway is meant to reach, and whether it does.

use std::fmt;

use crate::idle::MANY;
use crate::kind::Kind::{
    Direct, Gateway, Passthrough, PgbouncerScram, PgbouncerTransaction, Relay, Scram, Session, Transaction,
};
use crate::results::{COST, Idle, RATE, Results, Spread};
use crate::suite::Suite;
use crate::workload::{ALONE, BUSY, Workload};

use Limit::{AtLeast, AtMost, Below};

/// One goal, and what was measured.
#[derive(Debug)]
pub(crate) struct Goal {
    /// What is compared.
    pub(crate) claim: String,
    /// What it is meant to be, and of what.
    pub(crate) wanted: (Limit, &'static str),
    /// What it is, unless it was not measured.
    pub(crate) measured: Option<Spread>,
}

/// On which side of a number a figure is meant to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

/// All goals of a part, in the order of the tables.
pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    match results.suite {
        Suite::Opaque => opaque(results),
        Suite::Postgres => postgres(results),
        Suite::Recovery | Suite::Growth => Vec::new(),
    }
}

/// Without a protocol: hardly more than the relay.
fn opaque(results: &Results) -> Vec<Goal> {
    let workloads = results.suite.contests().into_iter().map(|(workload, _)| workload);
    let selects: Vec<_> = workloads.filter(|workload| matches!(workload, Workload::Select { .. })).collect();
    let ratio = |workload, base, figure| results.ratio(workload, (Gateway, base), figure);
    let mut goals = Vec::new();
    for &workload in &selects {
        let measured = ratio(workload, Relay, COST);
        goals.push(goal(format!("CPU per transaction, {workload}"), (AtMost(1.15), "of the relay's"), measured));
    }
    for &workload in &selects {
        let measured = ratio(workload, Relay, RATE);
        goals.push(goal(format!("throughput, {workload}"), (AtLeast(0.95), "of the relay's"), measured));
    }
    goals.push(goal("COPY out", (AtLeast(0.95), "of direct"), ratio(Workload::Copy, Direct, RATE)));
    let idle = |figure| results.idle(Gateway, figure);
    goals.push(goal("resident when idle", (Below(4096.0), "KiB"), idle(|idle| idle.fresh)));
    goals.push(goal(format!("each of {MANY} idle sessions"), (Below(8.0), "KiB"), idle(Idle::per_session_of_many)));
    goals
}

/// With `protocol: postgres`: what PgBouncer does at no more than PgBouncer costs, and passing on at little more than the relay.
fn postgres(results: &Results) -> Vec<Goal> {
    let select = |prepared, clients| Workload::Select { prepared, clients };
    let mut goals = Vec::new();
    for workload in [select(false, 8), select(false, 32), select(true, 8), select(true, 32)] {
        let ratio = |figure| results.ratio(workload, (Transaction, PgbouncerTransaction), figure);
        let claim = format!("transaction: CPU, {workload}");
        goals.push(goal(claim, (AtMost(1.0), "of PgBouncer's"), ratio(COST)));
        let claim = format!("transaction: throughput, {workload}");
        goals.push(goal(claim, (AtLeast(1.0), "of PgBouncer's"), ratio(RATE)));
    }
    for workload in [1, 8, 32].map(|clients| select(false, clients)) {
        let cost = results.ratio(workload, (Passthrough, Relay), COST);
        goals.push(goal(format!("passthrough: CPU, {workload}"), (AtMost(1.25), "of the relay's"), cost));
    }
    goals.extend(logins(results));
    goals.extend(sizes(results));
    goals
}

/// A connection for each transaction.
fn logins(results: &Results) -> impl Iterator<Item = Goal> {
    let rate = |kinds| results.ratio(Workload::Connect, kinds, RATE);
    let login = results.spread(Workload::Connect, Scram, COST).map(|spread| spread.scaled(0.001));
    [
        goal("session: connections a second", (AtLeast(15.0), "times direct"), rate((Session, Direct))),
        goal("transaction: connections a second", (AtLeast(15.0), "times direct"), rate((Transaction, Direct))),
        goal("scram: connections a second", (AtLeast(0.97), "of PgBouncer's"), rate((Scram, PgbouncerScram))),
        goal("scram: CPU of a login", (AtMost(0.25), "ms"), login),
    ]
    .into_iter()
}

/// Large results, and many peers.
fn sizes(results: &Results) -> impl Iterator<Item = Goal> {
    let copy = results.ratio(Workload::Copy, (Transaction, Direct), RATE);
    let each = results.idle(Transaction, Idle::per_session_of_many);
    let beside = results.ratio_of((Workload::Crowd, Transaction), (ALONE, Transaction), RATE);
    [
        goal("transaction: COPY out", (AtLeast(0.95), "of direct"), copy),
        goal("transaction: growth while 1 GiB passes", (AtMost(2048.0), "KiB"), results.growth(Transaction)),
        goal(format!("transaction: each of {MANY} idle peers"), (AtMost(5.0), "KiB"), each),
        goal(
            format!("transaction: throughput of {BUSY} peers beside {MANY} idle ones"),
            (AtLeast(0.95), "of that without"),
            beside,
        ),
    ]
    .into_iter()
}

fn goal(claim: impl Into<String>, wanted: (Limit, &'static str), measured: Option<Spread>) -> Goal {
    Goal { claim: claim.into(), wanted, measured }
}

// === impl Goal ===

impl Goal {
    /// What it is meant to be, in words.
    pub(crate) fn wanted(&self) -> String {
        let (limit, unit) = self.wanted;
        format!("{limit} {unit}")
    }

    /// Whether the median reaches it, unless it was not measured.
    pub(crate) fn holds(&self) -> Option<bool> {
        let median = self.measured?.median;
        Some(match self.wanted.0 {
            AtMost(limit) => median <= limit,
            AtLeast(limit) => median >= limit,
            Below(limit) => median < limit,
        })
    }

    /// The verdict in a word.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.holds() {
            Some(true) => "holds",
            Some(false) => "**missed**",
            None => "not measured",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtMost(limit) => write!(f, "at most {limit}"),
            AtLeast(limit) => write!(f, "at least {limit}"),
            Below(limit) => write!(f, "below {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::results::Run;

    fn verdict(results: &Results, claim: &str) -> Option<bool> {
        let goals = goals(results);
        goals.iter().find(|goal| goal.claim == claim).unwrap_or_else(|| panic!("no goal {claim}: {goals:?}")).holds()
    }

    fn results(suite: Suite, runs: &[(Workload, Kind, f64, f64)]) -> Results {
        let mut results = Results::new(suite, suite.length(true));
        let run = |&(workload, target, rate, cost)| Run { round: 0, workload, target, rate, cost: Some(cost) };
        results.runs = runs.iter().map(run).collect();
        results
    }

    #[test]
    fn a_goal_is_judged_by_the_median_and_only_if_measured() {
        let eight = Workload::Select { prepared: false, clients: 8 };
        let results = results(Suite::Opaque, &[(eight, Relay, 100.0, 10.0), (eight, Gateway, 96.0, 12.0)]);
        assert_eq!(verdict(&results, "throughput, simple:8"), Some(true));
        assert_eq!(verdict(&results, "CPU per transaction, simple:8"), Some(false));
        assert_eq!(verdict(&results, "COPY out"), None);
        assert_eq!(goals(&results).len(), 15);
    }

    #[test]
    fn what_pools_is_compared_with_pgbouncer_and_what_passes_with_the_relay() {
        let eight = Workload::Select { prepared: false, clients: 8 };
        let results = results(
            Suite::Postgres,
            &[
                (eight, Relay, 100.0, 10.0),
                (eight, Passthrough, 90.0, 12.6),
                (eight, Transaction, 99.0, 20.0),
                (eight, PgbouncerTransaction, 100.0, 20.0),
                (Workload::Connect, Direct, 500.0, 0.0),
                (Workload::Connect, Session, 7500.0, 40.0),
                (Workload::Connect, Scram, 600.0, 240.0),
                (ALONE, Transaction, 1000.0, 20.0),
                (Workload::Crowd, Transaction, 940.0, 20.0),
            ],
        );
        for (claim, holds) in [
            ("transaction: CPU, simple:8", Some(true)),
            ("transaction: throughput, simple:8", Some(false)),
            ("transaction: CPU, prepared:32", None),
            ("passthrough: CPU, simple:8", Some(false)),
            ("session: connections a second", Some(true)),
            ("scram: CPU of a login", Some(true)),
            ("scram: connections a second", None),
            ("transaction: throughput of 64 peers beside 1000 idle ones", Some(false)),
        ] {
            assert_eq!(verdict(&results, claim), holds, "{claim}");
        }
        assert_eq!(goals(&results).len(), 19);
    }
}
