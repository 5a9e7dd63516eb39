//! A look at one target at all sizes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cast::time::{Stopwatch, comes_true, pause};
use rustix::process::{Resource, getrlimit};

use super::{Dimension, Point};
use crate::idle::SETTLE;
use crate::kind::Kind;
use crate::session::Session;
use crate::stage::Stage;
use crate::target::{Room, Target};
use crate::usage::{CpuClock, resident_kib};

/// How many queries tell what one costs.
const QUERIES: u32 = 3000;

/// How long a process may take until it has all its clients.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a process that starts is dialed.
const GLANCE: Duration = Duration::from_millis(1);

/// Files that a process has open beside those of its peers.
const OTHER_FILES: u64 = 200;

/// What is seen in one glance.
struct Glance {
    /// In KiB.
    memory: f64,
    /// Of a query, in microseconds.
    cost: f64,
}

/// Takes it through all sizes.
pub(super) fn look(dimension: Dimension, target: Kind, round: u32, stage: &Stage) -> Result<Vec<Point>> {
    let sizes: Vec<_> = dimension.sizes().iter().map(|size| (*size).min(most(target))).collect();
    let point = |size, Glance { memory, cost }, start| Point { round, dimension, target, size, memory, cost, start };
    if dimension == Dimension::Peers {
        let seen = crowd(target, &sizes, stage)?;
        return Ok(sizes.into_iter().zip(seen).map(|(size, seen)| point(size, seen, None)).collect());
    }
    let grown = |size| {
        let room = if dimension == Dimension::Clients { Room::Clients(size) } else { Room::Proxies(size) };
        let (seen, start) = fresh(target, room, size, stage).with_context(|| format!("{size} {}", dimension.name()))?;
        Ok(point(size, seen, Some(start)))
    };
    sizes.into_iter().map(grown).collect()
}

/// As many peers as the limit of open files lets come; who shares no connections needs two files for each.
fn most(kind: Kind) -> u32 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    let shares = kind.is_managed() || kind.is_pgbouncer();
    u32::try_from(if shares { limit } else { limit / 2 }).unwrap_or(u32::MAX)
}

/// One process while more and more peers come.
fn crowd(kind: Kind, sizes: &[u32], stage: &Stage) -> Result<Vec<Glance>> {
    let most = sizes.iter().max().copied().unwrap_or_default();
    let target = Target::start(kind, stage, Room::For(most))?;
    let mut peers = Vec::new();
    let mut seen = Vec::new();
    for size in sizes {
        let missing = usize::try_from(*size)?.saturating_sub(peers.len());
        peers.extend(Session::several(u16::try_from(missing)?, &target.address)?);
        // One of them asks what is counted, so that it is nobody more.
        let asking = peers.last_mut().context("there is a peer")?;
        seen.push(glance(&target, asking).with_context(|| format!("{size} peers"))?);
    }
    peers.into_iter().for_each(Session::close);
    Ok(seen)
}

/// A process that is started for a size, and how many milliseconds it took until it let somebody in.
fn fresh(kind: Kind, room: Room, size: u32, stage: &Stage) -> Result<(Glance, f64)> {
    let watch = Stopwatch::start();
    let target = Target::launch(kind, stage, room)?;
    let mut session = loop {
        match Session::open(&target.address, 1024) {
            Ok(session) => break session,
            Err(error) => ensure!(watch.elapsed() < PATIENCE, "it does not start: {error:#}"),
        }
        pause(GLANCE);
    };
    let start = watch.elapsed().as_secs_f64() * 1000.0;
    // Each client is a file, and so is the listener of each proxy.
    ensure!(comes_true(PATIENCE, || open_files(&target) > size), "not all of them come");
    let seen = glance(&target, &mut session)?;
    session.close();
    Ok((seen, start))
}

fn glance(target: &Target, asking: &mut Session) -> Result<Glance> {
    pause(SETTLE);
    let pid = target.pid().context("a target with a process")?;
    let memory = resident_kib(pid)?;
    let before = CpuClock::of(pid)?;
    for _ in 0..QUERIES {
        asking.query("select 1")?;
    }
    let spent = CpuClock::of(pid)?.since(&before);
    Ok(Glance { memory, cost: spent.as_secs_f64() * 1e6 / f64::from(QUERIES) })
}

fn open_files(target: &Target) -> u32 {
    let files = target.pid().and_then(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    files.and_then(|files| u32::try_from(files.count()).ok()).unwrap_or_default()
}
