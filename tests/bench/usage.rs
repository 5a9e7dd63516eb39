//! What the kernel says about a process from outside: processor time to the nanosecond, resident memory to the page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The processor time of each thread of a process at one moment.
///
/// `/proc/PID/stat` counts in ticks of 10 ms; the scheduler's own account of each thread is exact.
#[derive(Debug)]
pub(crate) struct CpuClock(BTreeMap<u32, Duration>);

// === impl CpuClock ===

impl CpuClock {
    /// Reads it now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/task");
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("no process {pid}"))? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            // A thread may have ended since it was listed.
            let Ok(account) = fs::read_to_string(format!("{folder}/{name}/schedstat")) else { continue };
            let nanoseconds = account.split_whitespace().next().and_then(|field| field.parse().ok());
            let spent = nanoseconds.map(Duration::from_nanos).context("the kernel keeps no schedstat")?;
            threads.insert(name.parse()?, spent);
        }
        Ok(Self(threads))
    }

    /// The time that its threads have spent since `earlier`; a thread that has ended in between counts no more.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let spent =
            |(thread, now): (&u32, &Duration)| now.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default());
        self.0.iter().map(spent).sum()
    }
}

/// The memory that a process holds resident, in KiB: counted page by page, where `VmRSS` is an estimate.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("no process {pid}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("the kernel tells no Rss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What the machine's processors have done since its start, in ticks: all of it, the busy part, and our own part,
/// which is that of this process and of all that descend from it.
#[derive(Debug)]
pub(crate) struct Machine {
    all: f64,
    busy: f64,
    ours: f64,
}

/// What a process has spent, and who started it.
struct Account {
    parent: u32,
    /// In ticks, with what its children have spent that it has seen end.
    ticks: f64,
}

// === impl Machine ===

impl Machine {
    /// Looks now.
    pub(crate) fn look() -> Result<Self> {
        let numbers = |fields: &[&str]| fields.iter().map(|field| field.parse::<f64>()).collect::<Result<Vec<_>, _>>();
        let text = fs::read_to_string("/proc/stat").context("the kernel keeps no account of its processors")?;
        let fields: Vec<_> = text.lines().next().unwrap_or_default().split_whitespace().collect();
        // User, nice, system, idle, waiting for the disk, interrupts (two), stolen; guests are counted as users already.
        let ticks = numbers(fields.get(1..9).context("/proc/stat has eight fields")?)?;
        let idle: f64 = ticks[3..5].iter().sum();
        let all: f64 = ticks.iter().sum();
        let ours = spent_by(std::process::id(), &accounts()?);
        Ok(Self { all, busy: all - idle, ours })
    }

    /// The share of the machine that was busy with something else than us since `earlier`.
    pub(crate) fn others_since(&self, earlier: &Self) -> f64 {
        let others = (self.busy - earlier.busy) - (self.ours - earlier.ours);
        (others / (self.all - earlier.all).max(1.0)).max(0.0)
    }
}

/// The accounts of all processes.
fn accounts() -> Result<BTreeMap<u32, Account>> {
    let folders = fs::read_dir("/proc").context("the kernel tells of no process")?;
    // A process may have ended since it was listed; what it spent is its parent's then.
    let account = |folder: &Path| {
        let text = fs::read_to_string(folder.join("stat")).ok()?;
        // The program's name stands in brackets, and may have any in it.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        Some(Account { parent: fields.get(1)?.parse().ok()?, ticks })
    };
    let numbered =
        folders.flatten().filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    Ok(numbered.filter_map(|(pid, folder)| Some((pid, account(&folder)?))).collect())
}

/// What a process has spent, and all that descend from it.
fn spent_by(pid: u32, accounts: &BTreeMap<u32, Account>) -> f64 {
    let children = accounts.iter().filter(|(_, account)| account.parent == pid);
    accounts.get(&pid).map_or(0.0, |account| account.ticks)
        + children.map(|(child, _)| spent_by(*child, accounts)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_spent_in_between_counts() {
        let clock = |threads: &[(u32, u64)]| {
            CpuClock(threads.iter().map(|(thread, spent)| (*thread, Duration::from_millis(*spent))).collect())
        };
        let (before, after) = (clock(&[(1, 500), (2, 70)]), clock(&[(1, 510), (3, 5)]));
        assert_eq!(after.since(&before), Duration::from_millis(15));
    }

    #[test]
    fn what_is_ours_is_not_counted_as_others() {
        let (before, after) =
            (Machine { all: 100.0, busy: 50.0, ours: 20.0 }, Machine { all: 300.0, busy: 150.0, ours: 100.0 });
        assert!((after.others_since(&before) - 0.1).abs() < 1e-9);
        assert!(Machine::look().is_ok_and(|machine| machine.all > machine.busy));
    }

    #[test]
    fn what_descends_from_us_is_ours_and_nobody_else_is() {
        let accounts = [(1, 0, 1.0), (7, 1, 10.0), (8, 7, 100.0), (9, 8, 1000.0), (10, 1, 10_000.0)];
        let accounts = accounts.map(|(pid, parent, ticks)| (pid, Account { parent, ticks })).into();
        assert!((spent_by(7, &accounts) - 1110.0).abs() < 1e-9);
        assert!((spent_by(2, &accounts)).abs() < 1e-9);
    }

    #[test]
    fn our_own_process_can_be_read() {
        let us = std::process::id();
        assert!(accounts().is_ok_and(|accounts| accounts.contains_key(&us)));
        assert!(resident_kib(us).is_ok_and(|kib| kib > 100.0));
        assert!(CpuClock::of(us).is_ok_and(|clock| !clock.0.is_empty()));
    }
}
