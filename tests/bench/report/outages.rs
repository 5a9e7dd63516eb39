//! The tables of outages: one for each way in which the database went away.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::table;
use crate::kind::Kind;
use crate::recovery::{Fault, Outage, PACE, PEERS};
use crate::results::{Results, Spread};

type Figure = fn(&Outage) -> f64;

/// What is told of an outage, and with how many decimals.
const COLUMNS: [(&str, Figure, usize); 5] = [
    ("database away, s", |outage| outage.away, 2),
    ("longest gap, s", |outage| outage.gap, 2),
    ("longer than away, s", Outage::late, 2),
    ("gap of one peer, s", |outage| outage.worst, 2),
    ("errors", |outage| f64::from(outage.errors), 0),
];

/// What is measured, in two sentences.
pub(super) fn head() -> String {
    format!(
        "An application of {PEERS} peers writes a row every {} ms each, and connects again after an error. The database is \
         away while one who asks it directly has no answer; the gap is the longest time without an answer to any peer.",
        PACE.as_millis()
    )
}

/// All tables.
pub(super) fn outages(results: &Results) -> String {
    let titles = COLUMNS.map(|(title, ..)| title.to_owned());
    let mut text = String::new();
    for fault in Fault::value_variants() {
        table(&mut text, fault.story(), &titles, |kind, column| {
            let cannot =
                results.inabilities.iter().any(|inability| (inability.fault, inability.target) == (*fault, kind));
            if cannot {
                return (column == 1).then(|| "cannot".to_owned());
            }
            let (_, figure, decimals) = COLUMNS[column];
            let of_kind = results.outages.iter().filter(|outage| (outage.fault, outage.target) == (*fault, kind));
            Spread::of(of_kind.map(figure).collect()).map(|spread| spread.text(decimals))
        });
        text.push_str(&told(results, *fault));
    }
    text
}

/// What the application was told, over all rounds.
fn told(results: &Results, fault: Fault) -> String {
    let mut lines = String::new();
    for kind in Kind::all() {
        let of_kind = results.outages.iter().filter(|outage| (outage.fault, outage.target) == (fault, *kind));
        let mut counts = BTreeMap::<_, u32>::new();
        for (cause, count) in of_kind.flat_map(|outage| &outage.causes) {
            *counts.entry(cause).or_default() += count;
        }
        if !counts.is_empty() {
            let counts: Vec<_> = counts.iter().map(|(cause, count)| format!("{count} x {cause}")).collect();
            let _ = writeln!(lines, "- {}: {}", kind.name(), counts.join(", "));
        }
    }
    if lines.is_empty() { lines } else { format!("\nWhat the application was told, over all rounds:\n\n{lines}") }
}

/// One outage, for programs.
pub(super) fn json(outage: &Outage) -> Value {
    let Outage { round, fault, target, away, gap, worst, errors, causes } = outage;
    json!({
        "round": round + 1, "fault": fault.name(), "target": target.name(), "awaySeconds": away, "gapSeconds": gap,
        "worstPeerSeconds": worst, "errors": errors, "causes": causes,
    })
}
