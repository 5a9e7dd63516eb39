//! What a fault looks like: to peers, in words that are the same in each run, and to the operator of the gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use cast::Gateway;
use cast::time::found;

use crate::load::{REFUSED, Seen};
use crate::stage::MODES;

/// What was seen in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// The mode; empty where it makes no difference.
    pub(crate) mode: &'static str,
    /// What peers saw.
    pub(crate) seen: String,
    /// Where the operator sees it.
    pub(crate) told: String,
}

/// What a database itself says to whoever reaches it while it starts.
const STARTING: &str = "57P03";

/// Longer than this after the end of a fault nobody may wait, on however busy a machine.
const TOO_LONG: Duration = Duration::from_secs(20);

/// Waits are told as one of these, so that two runs say the same.
const STEPS: [f64; 7] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0];

/// What peers saw of an outage that lasted so long.
pub(crate) fn seen_by(mode: &str, seen: &[Seen], outage: Duration) -> String {
    let longest = seen.iter().map(|seen| seen.longest).max().unwrap_or_default();
    format!("{}; {}", failures(mode, seen), waited(longest, outage))
}

/// Which failures there were, and how often each peer met them.
fn failures(mode: &str, seen: &[Seen]) -> String {
    let mut kinds: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, seen) in seen.iter().enumerate() {
        for failure in &seen.failures {
            kinds.entry(failure).or_insert_with(|| vec![0; number + 1]).resize(number + 1, 0);
            kinds.entry(failure).and_modify(|counts| counts[number] += 1);
        }
    }
    if mode == "opaque" {
        // Whether somebody comes at that moment differs from one run to the next.
        kinds.remove(STARTING);
    }
    let was_refused = kinds.remove(REFUSED).is_some();
    if kinds.is_empty() && !was_refused {
        return "no error".to_owned();
    }
    let told = kinds.iter().map(|(kind, counts)| {
        let (least, most) = (counts.iter().min(), counts.iter().max());
        let often = match (counts.len() == seen.len(), least, most) {
            (true, Some(1), Some(1)) => "once each",
            (_, _, Some(1 | 2)) => "once or twice",
            _ => "again and again",
        };
        format!("`{kind}` {often}")
    });
    let told = told.chain(was_refused.then(|| "no connection meanwhile".to_owned()));
    told.collect::<Vec<_>>().join(", ")
}

/// How long somebody waited, where the fault lasted so long.
fn waited(longest: Duration, outage: Duration) -> String {
    assert!(longest < outage + TOO_LONG, "a peer waited for {longest:?} of an outage of {outage:?}");
    let (longest, outage) = (longest.as_secs_f64(), outage.as_secs_f64());
    if outage > 0.0 && longest > outage * 0.9 {
        return format!("answered within {} s of its end", step(longest - outage));
    }
    format!("longest wait {} s", step(longest))
}

fn step(seconds: f64) -> f64 {
    STEPS.into_iter().find(|step| seconds <= *step).unwrap_or(f64::INFINITY)
}

/// A log record of this mode's proxy, or of none, that is there: as the table names it.
#[track_caller]
pub(crate) fn logs(gateway: &Gateway, mode: &str, message: &str) -> String {
    found(&format!("{mode}: the gateway says {message:?}"), || {
        let is_it = |record: &serde_json::Value| {
            record["message"].as_str().is_some_and(|text| text.starts_with(message))
                && record["proxy"].as_str().is_none_or(|proxy| proxy == mode)
        };
        gateway.log().into_iter().find(is_it)
    });
    format!("log `{message}`")
}

/// A metric of this mode's proxy, or of the process where it is empty, that becomes more than zero: as the table names it.
#[track_caller]
pub(crate) fn counts(gateway: &Gateway, mode: &str, name: &str, label: Option<(&str, &str)>) -> String {
    let labels: Vec<_> = [("proxy", mode)].into_iter().filter(|(_, mode)| !mode.is_empty()).chain(label).collect();
    found(&format!("{name}{labels:?} is more than zero"), || (gateway.metric(name, &labels) > 0.0).then_some(()));
    let label = label.map(|(key, value)| format!("{{{key}=\"{value}\"}}")).unwrap_or_default();
    format!("`{name}{label}`")
}

/// That the database never counted as away: nothing is to be seen.
#[track_caller]
pub(crate) fn stays_up(gateway: &Gateway, mode: &str) -> String {
    let labels = [("proxy", mode)];
    assert!(gateway.metric("postern_database_up", &labels) > 0.0, "{mode}: the database is up");
    let recoveries = gateway.metric("postern_recovery_seconds_count", &labels);
    assert!(recoveries == 0.0, "{mode}: the database was away {recoveries} times");
    "`postern_database_up` stays 1".to_owned()
}

/// One sight for each mode, or a single one where both are the same.
pub(crate) fn sights(seen: [String; 2], told: [String; 2]) -> Vec<Sight> {
    let sights: Vec<_> = MODES.into_iter().zip(seen.into_iter().zip(told)).collect();
    let sights = sights.into_iter().map(|(mode, (seen, told))| Sight { mode, seen, told });
    let mut sights: Vec<_> = sights.collect();
    if sights[0].seen == sights[1].seen && sights[0].told == sights[1].told {
        sights.truncate(1);
        sights[0].mode = "both";
    }
    sights
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that met these failures and waited for so many seconds.
    fn peer(failures: &[&str], seconds: f64) -> Seen {
        let failures = failures.iter().map(|&failure| failure.to_owned()).collect();
        Seen { failures, longest: Duration::from_secs_f64(seconds), ..Seen::default() }
    }

    #[test]
    fn what_peers_saw_is_told_in_the_same_words_whatever_the_run() {
        let told = |seen: &[Seen]| seen_by("transaction", seen, Duration::from_secs(3));
        assert_eq!(told(&[peer(&[], 0.02), peer(&[], 0.07)]), "no error; longest wait 0.5 s");
        assert_eq!(told(&[peer(&[], 0.02), peer(&[], 3.3)]), "no error; answered within 0.5 s of its end");
        let once = [peer(&["08006"], 0.02), peer(&["08006"], 1.4)];
        assert_eq!(told(&once), "`08006` once each; longest wait 2 s");
        assert_eq!(told(&[peer(&["08006"], 0.02), peer(&[], 0.02)]), "`08006` once or twice; longest wait 0.5 s");
        let refused = [peer(&["reset", REFUSED, REFUSED], 3.0), peer(&["reset"], 3.0)];
        assert_eq!(told(&refused), "`reset` once each, no connection meanwhile; answered within 0.5 s of its end");
    }

    #[test]
    fn only_an_opaque_peer_may_hear_that_the_database_starts() {
        let seen = [peer(&[STARTING], 0.02)];
        assert_eq!(seen_by("opaque", &seen, Duration::ZERO), "no error; longest wait 0.5 s");
        assert_eq!(seen_by("transaction", &seen, Duration::ZERO), "`57P03` once each; longest wait 0.5 s");
    }

    #[test]
    #[should_panic(expected = "a peer waited for")]
    fn nobody_may_wait_for_long_after_the_end() {
        seen_by("transaction", &[peer(&[], 24.0)], Duration::from_secs(3));
    }
}
