//! Where an outage takes place: a database of its own, with a standby or on a host of its own where that is needed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use cast::process::is_root;
use cast::{Namespace, Postgres, install};

use super::application::{self, Sight};
use super::{Fault, Outage};
use crate::kind::Kind;
use crate::results::Results;
use crate::rounds::{Progress, Stop, order};
use crate::stage::{Programs, Stage};
use crate::target::{Room, Target};

/// Where the database of a scene with two hosts listens.
const PORT: u16 = 5432;

/// The scene of one fault, for all targets and rounds.
pub(super) struct Scene {
    fault: Fault,
    stage: Stage,
    /// Near, where the application and the targets are, and far, where the database is.
    hosts: Option<(Namespace, Namespace)>,
}

/// What a run needs beside its target.
struct Ground<'a> {
    fault: Fault,
    stage: &'a mut Stage,
    far: Option<&'a Namespace>,
    stop: &'a Stop,
}

// === impl Scene ===

impl Scene {
    /// Sets it.
    pub(super) fn set(fault: Fault, programs: &Programs) -> Result<Self> {
        let hosts = if fault == Fault::Hole { Some(hosts()?) } else { None };
        let postgres = match &hosts {
            Some((_, far)) => Postgres::inside(far.entering(), SocketAddr::new(far.ip(), PORT), &[]),
            // A standby is made by the system's pg_basebackup, which goes with no other version.
            None => Postgres::of_the_system(&[]),
        };
        application::prepare(&postgres);
        let mut stage = Stage::around(postgres, programs.clone())?;
        stage.standby = (fault == Fault::Switchover).then(|| stage.postgres.standby());
        Ok(Self { fault, stage, hosts })
    }

    /// Plays it through each target in each round.
    pub(super) fn play(&mut self, kinds: &[Kind], stop: &Stop, told: (&mut Results, &mut Progress)) {
        let Self { fault, stage, hosts } = self;
        let hosts = hosts.as_ref();
        told.0.postgres = stage.postgres.query("show server_version");
        let far = hosts.map(|(_, far)| far);
        let ground = Ground { fault: *fault, stage, far, stop };
        match hosts {
            // Whatever is started in there lives on that host, and no longer than this.
            Some((near, _)) => near.within(|| ground.rounds(kinds, told)),
            None => ground.rounds(kinds, told),
        }
    }
}

/// Two hosts with a cable between them, of which packets can be lost.
fn hosts() -> Result<(Namespace, Namespace)> {
    ensure!(is_root(), "only root can make a network in which packets are lost");
    install::ensure_installed(install::FOR_A_NETWORK)?;
    Ok(Namespace::pair())
}

// === impl Ground ===

impl Ground<'_> {
    fn rounds(mut self, kinds: &[Kind], (results, progress): (&mut Results, &mut Progress)) {
        let rounds = results.length.rounds;
        for round in 0..rounds {
            for place in order(round, kinds.len()) {
                if self.stop.is_wanted() {
                    return;
                }
                let (kind, fault) = (kinds[place], self.fault.name());
                let length = Duration::from_secs(results.length.seconds.into());
                let said = match self.run(kind, length) {
                    // What was cut short says nothing.
                    _ if self.stop.is_wanted() => return,
                    Ok(sight) => {
                        let outage = outage(round, (self.fault, kind), &sight);
                        let said = format!("{:.2} s longer, {} errors", outage.late(), outage.errors);
                        results.outages.push(outage);
                        said
                    }
                    Err(error) => {
                        results.fail(&format!("{fault} on {}, round {}", kind.name(), round + 1), &error);
                        "failed".to_owned()
                    }
                };
                progress.step(&format!("round {}/{rounds} {fault:<11} {:<21} {said}", round + 1, kind.name()));
            }
        }
    }

    /// One outage, as it is seen through one target.
    fn run(&mut self, kind: Kind, length: Duration) -> Result<Sight> {
        let target = Target::start(kind, self.stage, Room::Default)?;
        let databases = self.stage.addresses();
        let asked = if kind == Kind::Direct { databases.clone() } else { vec![target.address.clone()] };
        application::watch(&asked, &databases, self.stop, || self.fault.strike(self.stage, self.far, length))
    }
}

fn outage(round: u32, (fault, target): (Fault, Kind), sight: &Sight) -> Outage {
    let seconds = |duration: Duration| duration.as_secs_f64();
    Outage {
        round,
        fault,
        target,
        away: seconds(sight.away()),
        gap: seconds(sight.gap()),
        worst: seconds(sight.worst()),
        errors: sight.causes().values().sum(),
        causes: sight.causes(),
    }
}
