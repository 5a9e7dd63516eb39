//! The results for people, as Markdown tables, and for programs, as JSON.

mod outages;
mod scale;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::goals::{Goal, goals};
use crate::idle::{FEW, MANY};
use crate::kind::Kind;
use crate::place::Place;
use crate::results::{COST, Idle, RATE, Results, Spread};
use crate::suite::{Length, Suite};
use crate::workload::Workload;

/// A machine that is busier than this with other things is not a quiet one.
const QUIET: f64 = 0.1;

/// The whole report, a chapter for each part.
pub(crate) fn markdown(results: &[Results]) -> String {
    results.iter().map(chapter).collect::<Vec<_>>().join("\n")
}

fn chapter(results: &Results) -> String {
    let mut text = head(results);
    let workloads = results.workloads();
    let names: Vec<_> = workloads.iter().map(Workload::to_string).collect();
    let ratio = |base: fn(Kind) -> Kind, figure| {
        let workloads = &workloads;
        move |target, column: usize| {
            results.ratio(workloads[column], (target, base(target)), figure).map(|spread| spread.text(2))
        }
    };
    let spread = |figure, decimals| {
        let workloads = &workloads;
        move |target, column: usize| {
            results.spread(workloads[column], target, figure).map(|spread| spread.text(decimals))
        }
    };
    table(&mut text, "Throughput, as a ratio to direct", &names, ratio(|_| Kind::Direct, RATE));
    table(&mut text, "Throughput, as a ratio to the relay", &names, ratio(|_| Kind::Relay, RATE));
    table(&mut text, "Throughput, as a ratio to PgBouncer", &names, ratio(Kind::rival, RATE));
    table(&mut text, "CPU of the proxy, as a ratio to the relay's", &names, ratio(|_| Kind::Relay, COST));
    table(&mut text, "CPU of the proxy, as a ratio to PgBouncer's", &names, ratio(Kind::rival, COST));
    table(&mut text, "CPU of the proxy, ms per 1000 transactions (copy: per GB)", &names, spread(COST, 2));
    table(&mut text, "Transactions per second (copy: MB/s)", &names, spread(RATE, 0));
    text.push_str(&memory(results));
    text.push_str(&outages::outages(results));
    text.push_str(&scale::scales(results));
    let absences = results.absences.iter().map(|absence| format!("{}: {}", absence.kind.name(), absence.why));
    let inabilities = results
        .inabilities
        .iter()
        .map(|inability| format!("{}, {} cannot: {}", inability.fault.name(), inability.target.name(), inability.why));
    list(&mut text, "Left out", absences.chain(inabilities));
    list(&mut text, "Failures", results.failures.iter().cloned());
    text.push_str(&verdicts(&goals(results)));
    text
}

fn head(results: &Results) -> String {
    let Results { length: Length { rounds, seconds }, postgres, others, stopped, .. } = results;
    let mut text = format!("# bench-db, {}\n\n{rounds} rounds", results.suite.name());
    if *seconds > 0 {
        let _ = write!(text, " of {seconds} s; PostgreSQL {postgres}");
    }
    let _ = writeln!(text, ". {}, which the database, the proxy and its clients share.", Place::here().caption());
    text.push_str("Every figure is the median of all rounds (lowest–highest)");
    let _ = match results.suite {
        Suite::Opaque | Suite::Postgres => writeln!(text, "; a ratio compares two runs of the same round."),
        Suite::Recovery => writeln!(text, ". {}", outages::head()),
        Suite::Growth => writeln!(text, ". {}", scale::HEAD),
    };
    let verdict = if *others > QUIET { "**take the figures for noise**" } else { "it was quiet" };
    let _ = writeln!(text, "Other things kept {:.0} % of the machine busy meanwhile: {verdict}.", others * 100.0);
    if *stopped {
        text.push_str("\n**It was stopped early: this is what had been measured until then.**\n");
    }
    text
}

fn list(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<_> = lines.collect();
    if !lines.is_empty() {
        let _ = writeln!(text, "\n## {title}\n\n- {}", lines.join("\n- "));
    }
}

/// A line for each target that has something in one of the columns, without the columns that nobody has anything in.
fn table(text: &mut String, title: &str, columns: &[String], cell: impl Fn(Kind, usize) -> Option<String>) {
    let cells = |kind| (0..columns.len()).map(|column| cell(kind, column)).collect::<Vec<_>>();
    let mut rows: Vec<_> = Kind::all().iter().map(|kind| (kind.name(), cells(*kind))).collect();
    rows.retain(|(_, cells)| cells.iter().any(Option::is_some));
    if rows.is_empty() {
        return;
    }
    let filled: Vec<_> = (0..columns.len()).filter(|column| rows.iter().any(|row| row.1[*column].is_some())).collect();
    let titles: Vec<_> = filled.iter().map(|column| columns[*column].as_str()).collect();
    let _ = writeln!(text, "\n## {title}\n\n| | {} |\n|---|{}", titles.join(" | "), "---:|".repeat(titles.len()));
    for (name, mut cells) in rows {
        let cells: Vec<_> = filled.iter().map(|column| cells[*column].take().unwrap_or_default()).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
}

type MemoryFigure = fn(&Idle) -> f64;

fn memory(results: &Results) -> String {
    let columns: [(String, MemoryFigure, usize); 7] = [
        ("idle, default settings".to_owned(), |idle| idle.fresh, 0),
        ("idle, room for sessions".to_owned(), |idle| idle.none, 0),
        (format!("{FEW} sessions"), |idle| idle.few, 0),
        (format!("{MANY} sessions"), |idle| idle.many, 0),
        ("after they left".to_owned(), |idle| idle.after, 0),
        (format!("per session of {FEW}"), Idle::per_session_of_few, 2),
        (format!("per session of {MANY}"), Idle::per_session_of_many, 2),
    ];
    let titles = columns.clone().map(|(title, ..)| title);
    let mut text = String::new();
    table(&mut text, "Resident memory, KiB", &titles, |kind, column| {
        let &(_, figure, decimals) = &columns[column];
        results.idle(kind, figure).map(|spread| spread.text(decimals))
    });
    let title = ["while 1 GiB passes".to_owned()];
    table(&mut text, "Resident memory, KiB more", &title, |kind, _| results.growth(kind).map(|spread| spread.text(0)));
    text
}

fn verdicts(goals: &[Goal]) -> String {
    if goals.is_empty() {
        return String::new();
    }
    let mut text = "\n## Goals of the gateway\n".to_owned();
    let measured: Vec<_> = goals.iter().filter_map(|goal| Some((goal, goal.measured?))).collect();
    if !measured.is_empty() {
        text.push_str("\n| what | goal | measured | |\n|---|---|---:|---|\n");
    }
    for (goal, spread) in measured {
        let _ = writeln!(text, "| {} | {} | {} | {} |", goal.claim, goal.wanted(), spread.text(2), goal.verdict());
    }
    let count = |verdict| goals.iter().filter(|goal| goal.holds() == verdict).count();
    let _ = writeln!(
        text,
        "\n{} of {} goals hold, {} are missed, {} were not measured.",
        count(Some(true)),
        goals.len(),
        count(Some(false)),
        count(None)
    );
    text
}

/// The same with every single run.
pub(crate) fn json(results: &[Results]) -> Value {
    json!({"place": Place::here().json(), "parts": results.iter().map(part).collect::<Value>()})
}

fn part(results: &Results) -> Value {
    let runs = results.runs.iter().map(|run| {
        json!({
            "round": run.round + 1, "workload": run.workload.to_string(), "target": run.target.name(),
            "rate": run.rate, "unit": run.workload.unit(), "cpuMilliseconds": run.cost, "per": run.workload.thousand(),
        })
    });
    let idle = results.idle.iter().map(|(kind, idle)| {
        let Idle { fresh, none, few, many, after } = idle;
        json!({"target": kind.name(), "kib": {"fresh": fresh, "none": none, "few": few, "many": many, "after": after}})
    });
    let growth = results.growth.iter().map(|(kind, kib)| json!({"target": kind.name(), "kib": kib}));
    let outages = results.outages.iter().map(outages::json);
    let points = results.points.iter().map(scale::json);
    let absences = results.absences.iter().map(|absence| json!({"target": absence.kind.name(), "why": absence.why}));
    let goals = goals(results).into_iter().map(|goal| {
        let (holds, wanted) = (goal.holds(), goal.wanted());
        let Goal { claim, measured, .. } = goal;
        json!({"claim": claim, "wanted": wanted, "measured": measured.map(numbers), "holds": holds})
    });
    let Length { rounds, seconds } = results.length;
    json!({
        "part": results.suite.name(), "rounds": rounds, "seconds": seconds, "postgres": results.postgres,
        "stoppedEarly": results.stopped, "others": results.others, "leftOut": absences.collect::<Value>(),
        "runs": runs.collect::<Value>(), "idle": idle.collect::<Value>(), "growth": growth.collect::<Value>(),
        "outages": outages.collect::<Value>(), "points": points.collect::<Value>(), "slopes": scale::slopes(results),
        "goals": goals.collect::<Value>(), "failures": results.failures,
    })
}

fn numbers(Spread { median, min, max }: Spread) -> Value {
    json!({"median": median, "min": min, "max": max})
}
