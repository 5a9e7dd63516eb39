//! The rounds: each workload on all targets in turn, in another order each time, so that a drift of the machine
//! meets all of them alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use cast::time::Stopwatch;
use tokio::signal::unix::{SignalKind, signal};

use crate::kind::Kind;
use crate::results::{Results, Run};
use crate::stage::Stage;
use crate::target::{Room, Target};
use crate::workload::Workload;

/// Whether somebody wants the benchmark to end early; what was measured until then is reported.
#[derive(Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// How far the benchmark has come.
pub(crate) struct Progress {
    watch: Stopwatch,
    done: u32,
    steps: u32,
}

// === impl Stop ===

impl Stop {
    /// Wanted by SIGINT (Ctrl-C) and SIGTERM.
    pub(crate) fn on_signals() -> Result<Self> {
        let wanted = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&wanted);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        drop(guard);
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
            });
            say("stopping after this run");
            told.store(true, Ordering::Relaxed);
        });
        Ok(Self(wanted))
    }

    /// Whether it is time to stop.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Progress ===

impl Progress {
    /// So many runs in each round are to come.
    pub(crate) fn of(runs: usize, rounds: u32) -> Self {
        let steps = u32::try_from(runs).unwrap_or(u32::MAX).saturating_mul(rounds);
        Self { watch: Stopwatch::start(), done: 0, steps }
    }

    /// One more step is done, and this is what it was.
    pub(crate) fn step(&mut self, what: &str) {
        self.done += 1;
        let elapsed = self.watch.elapsed();
        let left = elapsed / self.done * (self.steps - self.done);
        say(&format!("[{}, {} left] {what}", clock(elapsed), clock(left)));
    }
}

/// Runs all rounds: each workload through its targets.
pub(crate) fn measure(contests: &[(Workload, Vec<Kind>)], stage: &Stage, stop: &Stop, results: &mut Results) {
    let mut targets = start(contests, stage, results);
    let contests: Vec<_> = contests.iter().map(|(workload, kinds)| (*workload, among(&targets, kinds))).collect();
    let rounds = results.length.rounds;
    let mut progress = Progress::of(contests.iter().map(|(_, indices)| indices.len()).sum(), rounds);
    for round in 0..rounds {
        for (workload, indices) in &contests {
            for place in order(round, indices.len()) {
                if stop.is_wanted() {
                    return;
                }
                let what = run(*workload, &mut targets[indices[place]], round, (stage, results));
                progress.step(&format!("round {}/{rounds} {workload:<11} {what}", round + 1));
            }
        }
    }
}

/// Starts whoever has something to run; all of them stay until the end.
fn start(contests: &[(Workload, Vec<Kind>)], stage: &Stage, results: &mut Results) -> Vec<Target> {
    let mut targets = Vec::new();
    for kind in Kind::all().iter().filter(|kind| contests.iter().any(|(_, kinds)| kinds.contains(kind))) {
        match Target::start(*kind, stage, Room::Default) {
            Ok(target) => targets.push(target),
            Err(error) => results.fail(&kind.name(), &error),
        }
    }
    targets
}

/// Where those of `kinds` are that have started.
fn among(targets: &[Target], kinds: &[Kind]) -> Vec<usize> {
    (0..targets.len()).filter(|index| kinds.contains(&targets[*index].kind)).collect()
}

/// Backwards every second round, and rotated after each two: six rounds of three targets are all their orders, and two
/// targets take turns at being the first.
pub(crate) fn order(round: u32, targets: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..targets).collect();
    order.rotate_left(usize::try_from(round / 2).unwrap_or_default() % targets.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn run(workload: Workload, target: &mut Target, round: u32, (stage, results): (&Stage, &mut Results)) -> String {
    let name = target.kind.name();
    match workload.run(target, stage, results.length.seconds) {
        Ok(gain) => {
            results.runs.push(Run { round, workload, target: target.kind, rate: gain.rate, cost: gain.cost });
            let cost = gain.cost.map(|cost| format!(", {cost:.2} ms CPU per {}", workload.thousand()));
            format!("{name:<21} {:.0} {}{}", gain.rate, workload.unit(), cost.unwrap_or_default())
        }
        Err(error) => {
            results.fail(&format!("{workload} on {name}, round {}", round + 1), &error);
            revive(target, stage);
            format!("{name:<21} failed: {error:#}")
        }
    }
}

/// A target whose process has ended gets another one, so that one crash is one lost run.
fn revive(target: &mut Target, stage: &Stage) {
    if target.runs() {
        return;
    }
    match Target::start(target.kind, stage, Room::Default) {
        Ok(fresh) => *target = fresh,
        Err(error) => say(&format!("{error:#}")),
    }
}

/// Tells the person who waits.
pub(crate) fn say(text: &str) {
    eprintln!("bench-db: {text}");
}

fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_rounds_of_three_targets_are_all_their_orders() {
        let mut orders: Vec<_> = (0..6).map(|round| order(round, 3)).collect();
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn every_target_is_the_first_as_often_as_any_other() {
        for targets in 2..7 {
            let firsts: Vec<_> = (0..2 * targets).map(|round| order(round, targets as usize)[0]).collect();
            let times = |target| firsts.iter().filter(|first| **first == target).count();
            assert!((0..targets as usize).all(|target| times(target) == 2), "{targets}: {firsts:?}");
        }
    }
}
