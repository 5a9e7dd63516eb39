//! The tables.

use super::{ConfigRow, DatabaseRow, PodRow, Status};
use crate::kubectl::advice::Advice;
use crate::kubectl::print::{self, Cell, Paint, Tone};
use crate::kubectl::words::{short, span};

/// What stands where nothing is known.
const NOTHING: &str = "-";

// === impl Status ===

impl Status {
    /// The tables, and below them what is left to say.
    pub fn text(&self, scope: Option<&str>, paint: Paint) -> String {
        let mut text = String::new();
        if self.configs.is_empty() {
            let place = scope.map_or_else(|| "in any namespace".to_owned(), |name| format!("in namespace {name}"));
            text = format!("There is no GatewayConfig {place}.\n");
        } else {
            let headings = [
                "NAMESPACE",
                "CONFIG",
                "ACCEPTED",
                "PROGRAMMED",
                "PODS",
                "UP-TO-DATE",
                "CONNECTIONS",
                "HASH",
                "REASON",
            ];
            let rows: Vec<Vec<Cell>> = self.configs.iter().map(ConfigRow::cells).collect();
            text += &print::table(&headings, &rows, paint);
        }
        if !self.pods.is_empty() {
            let headings =
                ["NAMESPACE", "POD", "CONFIG", "READY", "UP-TO-DATE", "HASH", "DATABASES", "POOLS", "REASON"];
            let rows: Vec<Vec<Cell>> = self.pods.iter().map(PodRow::cells).collect();
            text.push('\n');
            text += &print::table(&headings, &rows, paint);
        }
        if !self.advice.is_empty() {
            text.push('\n');
            text += &print::advice(&self.advice, paint);
        }
        text
    }
}

// === impl ConfigRow ===

impl ConfigRow {
    fn cells(&self) -> Vec<Cell> {
        let condition = |status: &Option<String>| match status.as_deref() {
            Some("True") => Cell::new("True", Tone::Good),
            Some(other) => Cell::new(other, Tone::Bad),
            None => Cell::new(NOTHING, Tone::Odd),
        };
        let is_all = self.up_to_date == self.pods;
        vec![
            Cell::plain(&self.namespace),
            Cell::plain(&self.name),
            condition(&self.accepted),
            condition(&self.programmed),
            Cell::plain(self.pods.to_string()),
            Cell::new(self.up_to_date.to_string(), if is_all { Tone::Plain } else { Tone::Odd }),
            Cell::plain(self.connections.to_string()),
            Cell::plain(self.hash.as_deref().map_or(NOTHING, short)),
            reason(&self.advice),
        ]
    }
}

// === impl PodRow ===

impl PodRow {
    fn cells(&self) -> Vec<Cell> {
        let yes = |is: bool| if is { Cell::new("yes", Tone::Good) } else { Cell::new("no", Tone::Bad) };
        let is_without = self.config.is_none();
        vec![
            Cell::plain(&self.namespace),
            Cell::plain(&self.name),
            self.config.as_ref().map_or_else(|| Cell::new("(no gateway)", Tone::Odd), Cell::plain),
            if is_without { Cell::plain(NOTHING) } else { yes(self.is_ready) },
            self.is_up_to_date.map_or_else(|| Cell::plain(NOTHING), yes),
            Cell::plain(self.hash.as_deref().filter(|hash| !hash.is_empty()).map_or(NOTHING, short)),
            databases(self.databases.as_deref()),
            pools(self.databases.as_deref()),
            reason(&self.advice),
        ]
    }
}

/// The first thing that somebody should do.
fn reason(advice: &[Advice]) -> Cell {
    match advice.first() {
        None => Cell::plain(""),
        Some(one) => {
            let tone = if one.is_problem() { Tone::Bad } else { Tone::Odd };
            Cell::new(format!("{}: {}", one.reason, one.sentence), tone)
        }
    }
}

fn databases(rows: Option<&[DatabaseRow]>) -> Cell {
    let Some(rows) = rows.filter(|rows| !rows.is_empty()) else { return Cell::plain(NOTHING) };
    let shown: Vec<String> = rows
        .iter()
        .map(|row| match row.state.as_str() {
            "unknown" => format!("{} unknown", row.proxy),
            state => format!("{} {state} {}", row.proxy, span(row.since_seconds)),
        })
        .collect();
    let tone = if rows.iter().all(|row| row.state == "up") { Tone::Good } else { Tone::Bad };
    Cell::new(shown.join(", "), tone)
}

/// Of each pool how much is lent, and who waits.
fn pools(rows: Option<&[DatabaseRow]>) -> Cell {
    let Some(rows) = rows.filter(|rows| !rows.is_empty()) else { return Cell::plain(NOTHING) };
    let shown: Vec<String> = rows
        .iter()
        .map(|row| {
            let waits = if row.waiting > 0 { format!(" ({} wait)", row.waiting) } else { String::new() };
            format!("{}/{}{waits}", row.lent, row.size)
        })
        .collect();
    let tone = if rows.iter().any(|row| row.waiting > 0) { Tone::Odd } else { Tone::Plain };
    Cell::new(shown.join(", "), tone)
}
