//! What was measured, and the figures drawn from it: medians of ratios within one round.

use crate::kind::Kind;
use crate::recovery::{Inability, Outage};
use crate::rounds::say;
use crate::scale::Point;
use crate::stage::Absence;
use crate::suite::{Length, Suite};
use crate::workload::Workload;

/// Everything that was measured in one part of the benchmark.
#[derive(Debug)]
pub(crate) struct Results {
    /// Which one.
    pub(crate) suite: Suite,
    /// How many rounds were wanted, and how long one run took.
    pub(crate) length: Length,
    /// The version of the database.
    pub(crate) postgres: String,
    /// The share of the machine that was busy with something else meanwhile.
    pub(crate) others: f64,
    /// Whether somebody stopped it before its end.
    pub(crate) stopped: bool,
    /// The runs, in the order in which they took place.
    pub(crate) runs: Vec<Run>,
    /// Idle memory, one entry for each look at a target.
    pub(crate) idle: Vec<(Kind, Idle)>,
    /// KiB that a process grew by while 1 GiB passed, one entry for each look.
    pub(crate) growth: Vec<(Kind, f64)>,
    /// Looks at processes that had more and more of something, in the order in which they took place.
    pub(crate) points: Vec<Point>,
    /// The outages, in the order in which they took place.
    pub(crate) outages: Vec<Outage>,
    /// The outages that some targets have no means for.
    pub(crate) inabilities: Vec<Inability>,
    /// Who did not take part.
    pub(crate) absences: Vec<Absence>,
    /// What failed.
    pub(crate) failures: Vec<String>,
}

/// One run of a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The round, from 0.
    pub(crate) round: u32,
    /// What ran.
    pub(crate) workload: Workload,
    /// On what.
    pub(crate) target: Kind,
    /// Transactions, or megabytes, per second.
    pub(crate) rate: f64,
    /// Milliseconds of the target's processor time per 1000 transactions, or per gigabyte.
    pub(crate) cost: Option<f64>,
}

/// Resident memory of one process, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    /// At default settings, after a single query.
    pub(crate) fresh: f64,
    /// The same when set up for many sessions.
    pub(crate) none: f64,
    /// With a hundred idle sessions.
    pub(crate) few: f64,
    /// With a thousand.
    pub(crate) many: f64,
    /// After they have left.
    pub(crate) after: f64,
}

/// The median of some values, and between which they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The lowest.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
}

/// What of a run is looked at.
pub(crate) type Figure = fn(&Run) -> Option<f64>;

/// Its rate.
pub(crate) const RATE: Figure = |run| Some(run.rate);

/// The cost of it for the target's process.
pub(crate) const COST: Figure = |run| run.cost;

// === impl Results ===

impl Results {
    /// Nothing yet.
    pub(crate) fn new(suite: Suite, length: Length) -> Self {
        Self {
            suite,
            length,
            postgres: String::new(),
            others: 0.0,
            stopped: false,
            runs: Vec::new(),
            idle: Vec::new(),
            growth: Vec::new(),
            points: Vec::new(),
            outages: Vec::new(),
            inabilities: Vec::new(),
            absences: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Writes down, and says at once, that something failed.
    pub(crate) fn fail(&mut self, what: &str, error: &anyhow::Error) {
        let failure = format!("{what}: {error:#}");
        say(&failure);
        self.failures.push(failure);
    }

    /// The workloads that ran, in the order of the tables.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let ran = |workload: &Workload| self.runs.iter().any(|run| run.workload == *workload);
        self.suite.contests().into_iter().map(|(workload, _)| workload).filter(ran).collect()
    }

    /// A figure over all rounds.
    pub(crate) fn spread(&self, workload: Workload, target: Kind, figure: Figure) -> Option<Spread> {
        Spread::of(self.of(workload, target).filter_map(figure).collect())
    }

    /// A figure's ratio to that of `base` in the same round, over all rounds in which both ran.
    pub(crate) fn ratio(&self, workload: Workload, (target, base): (Kind, Kind), figure: Figure) -> Option<Spread> {
        self.ratio_of((workload, target), (workload, base), figure)
    }

    /// The same of any two.
    pub(crate) fn ratio_of(&self, one: (Workload, Kind), base: (Workload, Kind), figure: Figure) -> Option<Spread> {
        let ratio = |run: &Run| {
            let other = self.of(base.0, base.1).find(|other| other.round == run.round)?;
            Some(figure(run)? / figure(other)?)
        };
        Spread::of(self.of(one.0, one.1).filter_map(ratio).collect())
    }

    /// A figure of idle memory over all looks at `target`.
    pub(crate) fn idle(&self, target: Kind, figure: fn(&Idle) -> f64) -> Option<Spread> {
        Spread::of(self.idle.iter().filter(|(kind, _)| *kind == target).map(|(_, idle)| figure(idle)).collect())
    }

    /// What `target` grew by.
    pub(crate) fn growth(&self, target: Kind) -> Option<Spread> {
        Spread::of(self.growth.iter().filter(|(kind, _)| *kind == target).map(|(_, kib)| *kib).collect())
    }

    fn of(&self, workload: Workload, target: Kind) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.workload == workload && run.target == target)
    }
}

// === impl Spread ===

impl Spread {
    /// That of `values`, if there are any.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, min, max })
    }

    /// The same in another unit.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        let Self { median, min, max } = self;
        Self { median: median * factor, min: min * factor, max: max * factor }
    }

    /// As a table has it.
    pub(crate) fn text(self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(rates: &[(u32, Kind, f64)]) -> Results {
        let mut results = Results::new(Suite::Opaque, Suite::Opaque.length(true));
        let run = |&(round, target, rate)| Run { round, workload: Workload::Copy, target, rate, cost: None };
        results.runs = rates.iter().map(run).collect();
        results
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(vec![9.0, 1.0, 2.0, 4.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_ratio_compares_runs_of_the_same_round_only() {
        let results = results(&[
            (0, Kind::Relay, 10.0),
            (0, Kind::Gateway, 9.0),
            (1, Kind::Relay, 100.0),
            (1, Kind::Gateway, 120.0),
            (2, Kind::Gateway, 5.0),
        ]);
        let ratio = results.ratio(Workload::Copy, (Kind::Gateway, Kind::Relay), RATE).expect("two rounds have both");
        assert!((ratio.min - 0.9).abs() < 1e-9 && (ratio.max - 1.2).abs() < 1e-9 && (ratio.median - 1.05).abs() < 1e-9);
        assert_eq!(results.ratio(Workload::Copy, (Kind::Gateway, Kind::Relay), COST), None);
    }
}
