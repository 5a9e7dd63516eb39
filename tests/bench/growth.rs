//! Memory under way: what a process grows by while one large result passes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cast::time::pause;

use crate::idle::SETTLE;
use crate::kind::Kind;
use crate::results::Results;
use crate::rounds::{Stop, say};
use crate::session::Session;
use crate::stage::Stage;
use crate::target::{Room, Target};
use crate::usage::resident_kib;
use crate::workload::COPY_BUFFER;

/// A result of 1 GiB: its messages are 1 kB each.
const RESULT: &str = "copy (select repeat('x', 1000) from generate_series(1, 1070000)) to stdout";

/// How often the memory is read meanwhile.
const GLANCE: Duration = Duration::from_millis(20);

/// Measures all targets that are a process.
pub(crate) fn measure(targets: &[Kind], stage: &Stage, stop: &Stop, results: &mut Results) {
    for round in 0..results.length.looks() {
        for kind in targets.iter().filter(|kind| **kind != Kind::Direct) {
            if stop.is_wanted() {
                return;
            }
            match look(*kind, stage) {
                Ok(kib) => {
                    say(&format!("{:<21} memory: {kib:.0} KiB more while 1 GiB passes", kind.name()));
                    results.growth.push((*kind, kib));
                }
                Err(error) => results.fail(&format!("growth of {}, round {}", kind.name(), round + 1), &error),
            }
        }
    }
}

fn look(kind: Kind, stage: &Stage) -> Result<f64> {
    let target = Target::start(kind, stage, Room::Default)?;
    let pid = target.pid().context("a target with a process")?;
    let mut session = Session::open(&target.address, COPY_BUFFER)?;
    session.query("select 1")?;
    pause(SETTLE);
    let before = resident_kib(pid)?;
    let over = AtomicBool::new(false);
    let peak = thread::scope(|scope| {
        let highest = scope.spawn(|| highest(pid, &over));
        let copied = session.query(RESULT);
        over.store(true, Ordering::Relaxed);
        copied.and(highest.join().unwrap_or_else(|_| anyhow::bail!("the look at its memory failed")))
    })?;
    session.close();
    Ok(peak - before)
}

/// The most memory that the process has had until it is over.
fn highest(pid: u32, over: &AtomicBool) -> Result<f64> {
    let mut highest = resident_kib(pid)?;
    while !over.load(Ordering::Relaxed) {
        pause(GLANCE);
        highest = highest.max(resident_kib(pid)?);
    }
    Ok(highest)
}
