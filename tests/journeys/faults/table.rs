//! The table of the README's section "Reliability": checked in each run, written by the one that measures.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use cast::workspace;

use crate::sight::Sight;
use crate::{FAULTS, Fault};

const BEGIN: &str = "<!-- faults:begin -->\n";
const END: &str = "<!-- faults:end -->";

/// The table of what was seen.
pub(crate) fn table(rows: &[(&Fault, Vec<Sight>)]) -> String {
    let mut table =
        "| fault | how | mode | what peers see | where its operator sees it |\n|---|---|---|---|---|\n".to_owned();
    for (fault, sights) in rows {
        let (mut name, mut done) = (fault.name, fault.done);
        for Sight { mode, seen, told } in sights {
            writeln!(table, "| {name} | {done} | {mode} | {seen} | {told} |").expect("a string grows");
            // The next mode has the same.
            (name, done) = ("", "");
        }
    }
    table
}

/// Puts `table` into the README.
pub(crate) fn write(table: &str) {
    let readme = fs::read_to_string(readme()).unwrap();
    let (before, _, after) = parts(&readme);
    fs::write(self::readme(), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
}

fn readme() -> PathBuf {
    workspace::root().join("README.md")
}

/// What is before the table, the table, and what is after it.
fn parts(readme: &str) -> (&str, &str, &str) {
    let (before, rest) = readme.split_once(BEGIN).expect("README.md marks where the faults begin");
    let (table, after) = rest.split_once(END).expect("README.md marks where the faults end");
    (before, table, after)
}

#[test]
fn the_readmes_table_has_each_fault_as_it_is_made() {
    let readme = fs::read_to_string(readme()).unwrap();
    let rows = parts(&readme).1.lines().skip(2).filter(|row| !row.starts_with("|  |"));
    let rows: Vec<_> = rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>()).collect();
    let faults: Vec<_> = FAULTS.iter().map(|fault| vec![format!("| {}", fault.name), fault.done.to_owned()]).collect();
    assert_eq!(rows, faults, "POSTERN_WRITE_FAULTS=1 cargo verify -- faults writes README.md anew");
}
