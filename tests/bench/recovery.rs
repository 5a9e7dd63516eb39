//! Time to recover: a steady application asks through a target while the database goes away and comes back.

mod fault;
mod scene;
mod application;
mod record;

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::results::Results;
use crate::rounds::{Progress, Stop};
use crate::stage::Programs;

pub(crate) use application::{PACE, PEERS};
pub(crate) use fault::Fault;
use scene::Scene;

/// What was seen of one outage.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    /// The round, from 0.
    pub(crate) round: u32,
    /// What happened.
    pub(crate) fault: Fault,
    /// What the application asked through.
    pub(crate) target: Kind,
    /// For how many seconds the database was away for who asks it directly.
    pub(crate) away: f64,
    /// The longest time without an answer to any peer of the application, in seconds.
    pub(crate) gap: f64,
    /// The longest time without an answer to one of its peers, in seconds.
    pub(crate) worst: f64,
    /// How many times a peer was told of an error, or could not connect.
    pub(crate) errors: u32,
    /// The same by cause.
    pub(crate) causes: BTreeMap<String, u32>,
}

/// What a target has no means for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inability {
    /// What it does not get over.
    pub(crate) fault: Fault,
    /// Which one.
    pub(crate) target: Kind,
    /// The reason, in a sentence.
    pub(crate) why: &'static str,
}

/// Takes the database away from each target in turn, in each way.
pub(crate) fn measure(contests: &[(Fault, Vec<Kind>)], programs: &Programs, stop: &Stop, results: &mut Results) {
    let runs: usize = contests.iter().map(|(fault, kinds)| able(*fault, kinds).len()).sum();
    let mut progress = Progress::of(runs, results.length.rounds);
    for (fault, kinds) in contests.iter().filter(|(_, kinds)| !kinds.is_empty()) {
        if stop.is_wanted() {
            return;
        }
        let inability =
            |target: &Kind| Some(Inability { fault: *fault, target: *target, why: fault.inability(*target)? });
        results.inabilities.extend(kinds.iter().filter_map(inability));
        match Scene::set(*fault, programs) {
            Ok(mut scene) => scene.play(&able(*fault, kinds), stop, (results, &mut progress)),
            Err(error) => results.fail(&fault.name(), &error),
        }
    }
}

/// Those that have means for it.
fn able(fault: Fault, kinds: &[Kind]) -> Vec<Kind> {
    kinds.iter().copied().filter(|kind| fault.inability(*kind).is_none()).collect()
}

// === impl Outage ===

impl Outage {
    /// How many seconds longer than the database itself the application was without any answer.
    pub(crate) fn late(&self) -> f64 {
        self.gap - self.away
    }
}
