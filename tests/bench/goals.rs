//! What the gateway is meant to reach, and whether it does.

use crate::idle::MANY;
use crate::results::{COST, Idle, RATE, Results, Spread};
use crate::target::Kind;
use crate::workload::Workload;

/// Processor time per transaction, at most so many times the relay's.
const CPU: f64 = 1.15;

/// Throughput, at least so much of the relay's; for COPY, of a direct connection's.
const THROUGHPUT: f64 = 0.95;

/// Resident memory of an idle gateway stays below so many KiB.
const IDLE: f64 = 4.0 * 1024.0;

/// And below so many more for each idle session.
const SESSION: f64 = 8.0;

/// One goal, and what was measured.
#[derive(Debug)]
pub(crate) struct Goal {
    /// What is compared.
    pub(crate) claim: String,
    /// What it is meant to be.
    pub(crate) wanted: String,
    /// What it is, unless it was not measured.
    pub(crate) measured: Option<Spread>,
    limit: Limit,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

/// All goals, in the order of the tables.
pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    let selects = || Workload::all().into_iter().filter(|workload| matches!(workload, Workload::Select { .. }));
    let to = |base| (Kind::Gateway, base);
    let cpu = selects().map(|workload| Goal {
        claim: format!("CPU per transaction, {workload}"),
        wanted: format!("at most {CPU} of the relay's"),
        measured: results.ratio(workload, to(Kind::Relay), COST),
        limit: Limit::AtMost(CPU),
    });
    let throughput = selects().map(|workload| Goal {
        claim: format!("throughput, {workload}"),
        wanted: format!("at least {THROUGHPUT} of the relay's"),
        measured: results.ratio(workload, to(Kind::Relay), RATE),
        limit: Limit::AtLeast(THROUGHPUT),
    });
    let copy = Goal {
        claim: "COPY out".to_owned(),
        wanted: format!("at least {THROUGHPUT} of direct"),
        measured: results.ratio(Workload::Copy, to(Kind::Direct), RATE),
        limit: Limit::AtLeast(THROUGHPUT),
    };
    cpu.chain(throughput).chain([copy]).chain(memory(results)).collect()
}

fn memory(results: &Results) -> [Goal; 2] {
    [
        Goal {
            claim: "resident when idle, KiB".to_owned(),
            wanted: format!("below {IDLE:.0}"),
            measured: results.idle(Kind::Gateway, |idle| idle.fresh),
            limit: Limit::Below(IDLE),
        },
        Goal {
            claim: format!("KiB for each of {MANY} idle sessions"),
            wanted: format!("below {SESSION:.0}"),
            measured: results.idle(Kind::Gateway, Idle::per_session_of_many),
            limit: Limit::Below(SESSION),
        },
    ]
}

// === impl Goal ===

impl Goal {
    /// Whether the median reaches it, unless it was not measured.
    pub(crate) fn holds(&self) -> Option<bool> {
        let median = self.measured?.median;
        Some(match self.limit {
            Limit::AtMost(limit) => median <= limit,
            Limit::AtLeast(limit) => median >= limit,
            Limit::Below(limit) => median < limit,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Run;

    #[test]
    fn a_goal_is_judged_by_the_median_and_only_if_measured() {
        let mut results = Results::new(3, 10);
        let workload = Workload::Select { prepared: false, clients: 8 };
        let run = |target, rate, cost| Run { round: 0, workload, target, rate, cost: Some(cost) };
        results.runs = vec![run(Kind::Relay, 100.0, 10.0), run(Kind::Gateway, 96.0, 12.0)];
        let goals = goals(&results);
        let verdict = |claim: &str| goals.iter().find(|goal| goal.claim == claim).and_then(Goal::holds);
        assert_eq!(verdict("throughput, simple:8"), Some(true));
        assert_eq!(verdict("CPU per transaction, simple:8"), Some(false));
        assert_eq!(verdict("COPY out"), None);
        assert_eq!(goals.len(), 15);
    }
}
