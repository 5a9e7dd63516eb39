//! Idle memory: what a fresh process holds resident, without sessions and with idle ones that each ran one query.

use std::time::Duration;

use anyhow::{Context, Result};
use cast::time::pause;

use crate::kind::Kind;
use crate::results::{Idle, Results};
use crate::rounds::{Stop, say};
use crate::session::Session;
use crate::stage::Stage;
use crate::target::{Room, Target};
use crate::usage::resident_kib;

/// How many idle sessions are looked at.
pub(crate) const FEW: u16 = 100;

/// And how many in the end.
pub(crate) const MANY: u16 = 1000;

/// What targets are set up for: some more than the sessions.
const ROOM: u32 = 1100;

/// How long a process gets to settle before its memory is read.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// Measures all targets that are a process.
pub(crate) fn measure(targets: &[Kind], stage: &Stage, stop: &Stop, results: &mut Results) {
    for round in 0..results.length.looks() {
        for kind in targets.iter().filter(|kind| **kind != Kind::Direct) {
            if stop.is_wanted() {
                return;
            }
            match look(*kind, stage) {
                Ok(idle) => {
                    say(&format!(
                        "{:<21} memory: {:.0} KiB idle, {:.0} KiB with {MANY} sessions",
                        kind.name(),
                        idle.fresh,
                        idle.many
                    ));
                    results.idle.push((*kind, idle));
                }
                Err(error) => results.fail(&format!("memory of {}, round {}", kind.name(), round + 1), &error),
            }
        }
    }
}

fn look(kind: Kind, stage: &Stage) -> Result<Idle> {
    let fresh = settled(&Target::start(kind, stage, Room::Default)?)?;
    let target = Target::start(kind, stage, Room::For(ROOM))?;
    let none = settled(&target)?;
    let first = Session::several(FEW, &target.address)?;
    let few = settled(&target)?;
    let others = Session::several(MANY - FEW, &target.address)?;
    let many = settled(&target)?;
    first.into_iter().chain(others).for_each(Session::close);
    let after = settled(&target)?;
    Ok(Idle { fresh, none, few, many, after })
}

fn settled(target: &Target) -> Result<f64> {
    pause(SETTLE);
    resident_kib(target.pid().context("a target with a process")?)
}

// === impl Idle ===

impl Idle {
    /// KiB for each of a hundred sessions.
    pub(crate) fn per_session_of_few(&self) -> f64 {
        (self.few - self.none) / f64::from(FEW)
    }

    /// KiB for each of a thousand.
    pub(crate) fn per_session_of_many(&self) -> f64 {
        (self.many - self.none) / f64::from(MANY)
    }
}
